"""Weights & Biases: one run there for one run here, gone on with under its id. Offline with WANDB_MODE=offline."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from vlmerge.loggers.logger import Begun

PROJECT = "vlmerge"
PATIENCE = 30
"""Seconds to wait for the server when the logging begins."""


class WeightsAndBiases:
    """A run of wandb's; its own service process sends what it is given, so the search does not wait for the network."""

    def __init__(self, begun: Begun) -> None:
        import wandb

        module: Any = wandb
        settings = module.Settings(console="off", silent=True, init_timeout=PATIENCE)
        if module.setup().settings.mode not in ("offline", "disabled"):
            _require_login(module)
        known_as = begun.known_as or secrets.token_hex(4)
        self._run: Any = module.init(
            project=begun.spec.project or PROJECT,
            entity=begun.spec.entity,
            name=begun.name,
            id=known_as,
            resume="allow",
            dir=str(begun.folder),
            config=dict(begun.config),
            reinit="create_new",
            settings=settings,
        )
        self._table: Any = module.Table
        # What the server has already: one step more than remembered, where the run was killed in between.
        self._first = max(begun.step + 1, int(self._run.step or 0))

    @property
    def known_as(self) -> str:
        return str(self._run.id)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if step >= self._first:
            self._run.log(dict(figures), step=step, commit=True)

    def finish(self, figures: Mapping[str, float], head: Sequence[str], table: Sequence[Sequence[str | float | None]]) -> None:
        self._run.summary.update(dict(figures))
        self._run.log({"table": self._table(columns=list(head), data=[list(row) for row in table])})

    def flush(self) -> None:
        """wandb's service writes what it is given to disk by itself."""

    def close(self, *, whole: bool) -> None:
        self._run.finish(exit_code=0 if whole else 1)


def _require_login(wandb: Any) -> None:
    """wandb would ask for a key at the terminal, and the run would stand still."""
    # Older versions have another way to find out.
    asks_nobody = "prompt" in inspect.signature(wandb.login).parameters
    if not (wandb.login(prompt=False) if asks_nobody else wandb.api.api_key):
        raise RuntimeError("not logged in: run `wandb login`, or set WANDB_MODE=offline")


def open_logger(begun: Begun) -> WeightsAndBiases:
    """Begins a run of wandb's, or goes on with it."""
    return WeightsAndBiases(begun)
