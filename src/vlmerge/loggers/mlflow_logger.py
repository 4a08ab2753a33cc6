"""MLflow: one run there for one run here, by its client alone (no global state). `mlflow ui --backend-store-uri DIR/mlruns`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from vlmerge.loggers.figures import flat, markdown
from vlmerge.loggers.logger import Begun

EXPERIMENT = "vlmerge"
LONGEST = 500
"""Characters of a parameter: what every tracking server takes."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Unless the person says otherwise: with MLflow's own settings a run would wait four minutes for a server that is away."""
AT_ONCE = 100
"""Parameters of one request: what every tracking server takes."""


class MLflow:
    """A run of MLflow's. A step that its record has already is not written again."""

    def __init__(self, begun: Begun) -> None:
        uri = begun.spec.uri or os.environ.get("MLFLOW_TRACKING_URI") or (begun.folder / "mlruns").as_uri()
        if uri.startswith("file:") or "://" not in uri:
            # Of the run's own folder files are right: it is copied and moved as one. MLflow wants to be told so.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric: Any = Metric
        self._client: Any = MlflowClient(tracking_uri=uri)
        if begun.known_as is None:
            name = begun.spec.project or EXPERIMENT
            experiment = self._client.get_experiment_by_name(name)
            place = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
            self._id = str(self._client.create_run(place, run_name=begun.name).info.run_id)
            params = [Param(key, str(value)[:LONGEST]) for key, value in flat(begun.config).items()]
            for start in range(0, len(params), AT_ONCE):
                self._client.log_batch(self._id, params=params[start : start + AT_ONCE])
        else:
            self._id = begun.known_as
            self._client.update_run(self._id, status="RUNNING")
        history = self._client.get_metric_history(self._id, "search/candidates")
        self._last = max((int(metric.step) for metric in history), default=0)

    @property
    def known_as(self) -> str:
        return self._id

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if step > self._last:
            self._write(figures, step)
            self._last = step

    def finish(self, figures: Mapping[str, float], head: Sequence[str], table: Sequence[Sequence[str | float | None]]) -> None:
        self._write(figures, self._last)
        self._client.log_text(self._id, markdown(head, table), "table.md")

    def _write(self, figures: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        # In one request: a step is there with all its figures, or not at all.
        self._client.log_batch(self._id, [self._metric(key, value, now, step) for key, value in figures.items()])

    def flush(self) -> None:
        """Every request is answered when it returns."""

    def close(self, *, whole: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if whole else "KILLED")


def open_logger(begun: Begun) -> MLflow:
    """Begins a run of MLflow's, or goes on with it."""
    return MLflow(begun)
