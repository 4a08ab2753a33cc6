"""Runs over paths, alone and behind a search of weights: whole, killed and taken up again, and what they export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmerge.check import check
from vlmerge.config import ModelRef, dump_run
from vlmerge.config.recipe import load_recipe
from vlmerge.config.run import load_run
from vlmerge.errors import RunFolderError, TaskError, UserError
from vlmerge.evaluate import evaluate
from vlmerge.evolve import evolve
from vlmerge.export import export
from vlmerge.merge import merge, prepare_models
from vlmerge.report.phrases import read_phrases
from vlmerge.run_folder import ask_to_stop
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.store import Store
from vlmerge.tasks.sets import load_sets
from vlmerge.web.progress import Progress

from .conftest import FAMILY, ForkedRuns, Quiet, contents, load, small_run, task, write_run
from .test_killed import killed

VLM, JA = (str(FAMILY / name) for name in ("vlm", "ja"))
SMALL: dict[str, Any] = {
    "tasks": [task("search", 3)], "validation": [task("validation", 2)], "holdout": [task("holdout", 2)],
    "search": {"max_fevals": 6, "population": 3}, "decoding": {"max_new_tokens": 6},
}  # fmt: skip
MERGED = {"models": [VLM, JA]}


def path_run(**path: Any) -> dict[str, Any]:
    return small_run(**SMALL, merge=None, path={"models": [VLM, JA], "scale": True, **path})


def hybrid_run() -> dict[str, Any]:
    return small_run(**{**SMALL, "search": {"max_fevals": 3, "global_fevals": 3, "population": 3}},
                     merge=MERGED, path={"models": ["winner", JA], "repeats": 2, "max_fevals": 6})  # fmt: skip


class Stopping(Quiet):
    """Asks the run to stop when it has told of so many candidates, as a page would; what the page shows then is kept."""

    def __init__(self, run: Path, after: int) -> None:
        super().__init__()
        self.page = Progress(run)
        self.left = after
        self.shown: list[dict[str, Any]] = []

    def advance(self, by: int = 1, note: str | None = None) -> None:
        self.left -= by if note is not None else 0
        if not self.left:
            ask_to_stop(self.page.folder)
            self.shown.append(self.page.read(read_phrases("en", "vlmerge.web")))


def results(run: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads((run / "results.json").read_text(encoding="utf-8"))["rows"]
    return {row["candidate"]: row for row in rows if row["set"] == "holdout" and row["task"] == "all"}


def test_a_run_over_paths_from_check_to_export(tmp_path: Path) -> None:
    config = load(tmp_path, path_run())
    found = check(config)
    assert found.plan is not None
    assert [(stage.name, stage.genes) for stage in found.plan.stages] == [("path", 12)]
    assert found.plan.baselines == ("host",)
    out = evolve(config, tmp_path / "out", Quiet())
    assert {"winner", "best", "mean", "host"} <= results(out).keys()
    assert yaml.safe_load((out / "run.yaml").read_text(encoding="utf-8"))["path"]["layers"] == [6, 6]
    with Store.read_only(out / "run.sqlite") as store:
        standing = store.get("standing")
        paths = {trial.recipe for trial in store.trials() if trial.kind == "searched"}
        scored = {each.question: each.text for each in store.answers(standing["winner"], "holdout")}
        assert store.get("left_out")["equal"] == "a `path:` run puts layers one after another, and merges no weights"
    assert len(paths) > 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '<ol class="path"' in page
    assert (out / "figures" / "recipe.png").is_file()
    # Any path, reloaded from what was exported, gives the answers that were scored.
    models = prepare_models([ModelRef(str(out / "model"))])
    again = LiveModel.load_single(models, choose_placement("cpu", batch_size=8, host_dtype="float16"))
    assert {each.question: each.text for each in evaluate(again, load_sets(config).holdout, "holdout")} == scored


def test_the_first_of_two_parts_is_watched_stopped_and_gone_on_with(tmp_path: Path) -> None:
    out, versions = tmp_path / "out", []
    for tried, config in ((1, load(tmp_path, hybrid_run())), (2, None)):
        observer = Stopping(out, tried)
        with pytest.raises(KeyboardInterrupt):
            evolve(config or load_run(out / "run.yaml"), out, observer)
        (shown,) = observer.shown
        assert (shown["name"], shown["state"], shown["tried"]) == ("out", "stopping", tried)
        assert (shown["first_part"], shown["where"].startswith("part 1 of 2")) == (True, True)
        assert observer.page.read(read_phrases("en", "vlmerge.web"))["state"] == "stopped"
        versions.append(observer.page.version())
    assert versions[0] != versions[1]
    # A start that cannot be takes away what it wrote.
    with pytest.raises(RunFolderError, match="another configuration"):
        evolve(load(tmp_path / "changed", {**hybrid_run(), "merge": {**MERGED, "normalize": True}}), out, Quiet())
    assert load_run(out / "run.yaml").hybrid
    missing = load(tmp_path / "missing", {**hybrid_run(), "merge": {"models": [VLM, str(tmp_path / "nowhere")]}})
    with pytest.raises(UserError):
        evolve(missing, tmp_path / "never", Quiet())
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
def test_two_parts_killed_again_and_again_equal_an_uninterrupted_run(forked_runs: ForkedRuns, tmp_path: Path) -> None:
    run = write_run(tmp_path, hybrid_run())
    whole, out = tmp_path / "whole" / "small", tmp_path / "killed" / "small"
    whole.parent.mkdir()
    out.parent.mkdir()
    evolve(load(tmp_path, hybrid_run()), whole, Quiet())
    # In the first part a trial and the export, in the second its setting and a trial.
    for place, count in (("in-trial", 5), ("in-export", 1), ("in-setting", 1), ("in-trial", 3)):
        assert killed(forked_runs, place, count, run, out)
    # Elsewhere it goes on, also where it is killed while it finds that out; nothing names the place where it was.
    out = out.parent.rename(tmp_path / "moved-away") / "small"
    assert killed(forked_runs, "in-moving", 1, run, out)
    assert not killed(forked_runs, "never", 1, run, out)

    def told(folder: Path) -> str:
        parts = contents(folder), contents(folder / "merged")
        del parts[0]["model"]["recipe.yaml"]  # A hash; the text itself, which names the first part's folder, is among the rest.
        return json.dumps(parts, sort_keys=True, default=bytes.hex).replace(str(folder), "")  # Pictures are bytes.

    assert told(out) == told(whole)
    rows = results(whole)
    assert {"winner", "merged", "host", "best", "mean"} <= rows.keys()
    assert rows["merged"]["winner_minus_row"] is not None or rows["merged"]["trial"] == rows["winner"]["trial"]
    with Store.read_only(whole / "merged" / "run.sqlite") as store:
        assert not store.questions("holdout")
        assert not store.get("holdout_views")
    # Moved when it is finished, it exports the same weights, and its recipe.yaml finds the models.
    whole = whole.rename(tmp_path / "whole-moved")
    export(whole, tmp_path / "exported")
    merge(load_recipe(whole / "recipe.yaml"), tmp_path / "merged")
    for name in (path.name for path in (whole / "model").glob("*.safetensors")):
        assert (tmp_path / "exported" / name).read_bytes() == (whole / "model" / name).read_bytes()
        assert (tmp_path / "merged" / name).read_bytes() == (whole / "model" / name).read_bytes()
    # Another search of weights is another run; without the first part's folder the finished whole stays what it is.
    changed = {**hybrid_run(), "merge": {**MERGED, "normalize": True}}
    with pytest.raises(RunFolderError, match="another configuration"):
        evolve(load(tmp_path / "changed", changed), whole, Quiet())
    shutil.rmtree(whole / "merged")
    assert evolve(load(tmp_path / "again", hybrid_run()), whole, Quiet()) == whole


def test_a_plan_of_two_parts_tells_of_both(tmp_path: Path) -> None:
    found = check(load(tmp_path, hybrid_run()))
    assert found.plan is not None
    assert [stage.name for stage in found.plan.stages] == ["global", "path"]
    assert {row.name for row in found.models} == {VLM, JA}
    assert {"merged", "host"} <= set(found.plan.baselines)


def test_a_folder_of_a_run_of_one_part_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Store.create(out / "run.sqlite") as store:
        for key in ("config_asked", "config"):
            store.set(key, dump_run(load(tmp_path, path_run())))
    with pytest.raises(RunFolderError, match="another configuration"):
        evolve(load(tmp_path, hybrid_run()), out, Quiet())


def test_a_holdout_that_is_searched_is_refused_before_the_first_part(tmp_path: Path) -> None:
    config = load(tmp_path, {**hybrid_run(), "holdout": [task("search", 2)]})
    with pytest.raises(TaskError):
        evolve(config, tmp_path / "out", Quiet())
    assert not (tmp_path / "out").exists()
