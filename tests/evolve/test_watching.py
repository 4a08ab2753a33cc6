"""What watching a run costs it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from vlmerge.run_folder import open_run
from vlmerge.watching import SHARE_OF_TIME, Watch


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize("generation_takes", [0.5, 10.0, 4000.0])
def test_the_page_takes_its_share_of_the_runs_time_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation_takes: float
) -> None:
    clock, page_takes, written = Clock(), 2.0, 0

    def write_report(*_: object, **__: object) -> None:
        nonlocal written
        written += 1
        clock.seconds += page_takes

    monkeypatch.setattr(import_module("vlmerge.report"), "write_report", write_report)
    with open_run(tmp_path / "run") as folder:
        watch = Watch(folder, None, "en", clock)  # type: ignore[arg-type]
        generations = 2000
        for _ in range(generations):
            clock.seconds += generation_takes
            watch.report()
        # The first two are free: the first imports what draws, and only the second can be timed.
        assert 2 <= written <= 2 + SHARE_OF_TIME * generations * generation_takes / page_takes
        assert generation_takes < page_takes / SHARE_OF_TIME or written == generations
        before = written
        watch.report(final=True)
        assert written == before + 1
