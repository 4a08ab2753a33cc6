"""Batches that out of memory has halved belong to the run's record, and a run that goes on keeps them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vlmerge.config.run import load_run
from vlmerge.errors import RunFolderError
from vlmerge.evolve import evolve
from vlmerge.runtime.live import LiveModel

from .conftest import Quiet, contents, load, small_run, task

ROOM = 4
"""Questions that fit into memory here."""


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def batch_size(run: Path) -> int:
    return yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))["runtime"]["batch_size"]


def test_run_yaml_shows_the_batches_in_use_and_every_run_yaml_of_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = LiveModel._generate
    asked: list[int] = []

    def cramped(self: LiveModel, questions: Any, *rest: Any) -> Any:
        asked.append(len(questions))
        if len(questions) > ROOM:
            raise torch.cuda.OutOfMemoryError
        return generate(self, questions, *rest)

    monkeypatch.setattr(LiveModel, "_generate", cramped)
    search = {"max_fevals": 4, "global_fevals": 4, "population": 4}
    run = small_run(
        tasks=[task("search", 8)], validation={"fraction": 0}, holdout=None, search=search,
        runtime={"device": "cpu", "threads": 1, "batch_size": 8},
    )  # fmt: skip
    config = load(tmp_path, run)
    straight = evolve(config, tmp_path / "straight" / "run", Quiet())

    folder = tmp_path / "broken" / "run"
    with monkeypatch.context() as patch:
        patch.setattr(import_module("vlmerge.evolve"), "elect", interrupt)
        patch.setattr(import_module("vlmerge.evolve"), "try_baselines", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evolve(config, folder, Quiet())
    assert batch_size(folder) == 8
    before = load_run(folder / "run.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(import_module("vlmerge.evolve"), "elect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evolve(before, folder, Quiet())
    assert batch_size(folder) == ROOM

    other = load(tmp_path / "other", {**run, "runtime": {"device": "cpu", "threads": 1, "batch_size": 2}})
    with pytest.raises(RunFolderError, match=r"runtime\.batch_size"):
        evolve(other, folder, Quiet())
    asked.clear()
    for known in (before, load_run(folder / "run.yaml")):
        with monkeypatch.context() as patch:
            patch.setattr(import_module("vlmerge.evolve"), "elect", interrupt)
            with pytest.raises(KeyboardInterrupt):
                evolve(known, folder, Quiet())
    evolve(config, folder, Quiet())
    assert not [size for size in asked if size > ROOM]
    assert contents(folder) == contents(straight)
    assert (folder / "run.yaml").read_text() == (straight / "run.yaml").read_text()
