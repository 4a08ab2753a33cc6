"""What a run tells while it goes on: lines for the observer, and the page, rewritten after generations."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from vlmerge.recording import write_run

if TYPE_CHECKING:
    from vlmerge.bench import Observer
    from vlmerge.generation import Tried
    from vlmerge.loggers import Logbook
    from vlmerge.run_folder import RunFolder
    from vlmerge.search import Optimizer, Stage
    from vlmerge.store import Trial

SHARE_OF_TIME = 0.005
"""The page is rewritten after a generation unless that would take more than this share of the run's time."""


class Watch:
    """Tells an observer about a run and keeps its page fresh.

    Args:
        folder: The run folder.
        observer: Who watches.
        lang: Language of the page.
        clock: Seconds that only grow.
        logbook: Where else the run is watched.
    """

    def __init__(
        self,
        folder: RunFolder,
        observer: Observer,
        lang: str,
        clock: Callable[[], float] = time.monotonic,
        logbook: Logbook | None = None,
    ) -> None:
        self._folder = folder
        self._observer = observer
        self._lang = lang
        self._now = clock
        self._logbook = logbook
        self._best: float | None = None
        self._reported_at: float | None = None
        self._report_took = 0.0

    @contextlib.contextmanager
    def step(self, what: str, total: int, done: int = 0) -> Generator[None]:
        """A long step with a progress bar."""
        self._observer.begin(what, total)
        if done:
            self._observer.advance(done)
        try:
            yield
        finally:
            self._observer.end()

    def say(self, line: str) -> None:
        """One line."""
        self._observer.say(line)

    def tried(self, trial: Trial, score: float | None) -> None:
        """A recipe was scored, or failed.

        Raises:
            KeyboardInterrupt: Somebody who watches the run asked it to stop: what is finished is kept, as after Ctrl-C.
        """
        ended = f"failed: {trial.reason}" if trial.status != "stopped" else trial.reason
        self._observer.advance(1, f"{trial.label} {ended if score is None else f'{100 * score:.1f}'}")
        self.asked_a_part()

    def asked_a_part(self) -> None:
        """Questions were asked, and answers are written: a place to stop.

        Raises:
            KeyboardInterrupt: As in `tried`.
        """
        if self._folder.stop_asked():
            self._observer.say("the run was asked to stop (`vlmerge watch`)")
            raise KeyboardInterrupt

    def generation(self, stage: Stage, generation: int, tried: Tried, optimizer: Optimizer, seconds: float) -> None:
        """A generation was told: one line, and the page again."""
        told = [score for at, score in enumerate(tried.fitness) if at not in tried.stopped]
        scores = [100 * score for score in told if score is not None]
        failed, stopped = len(told) - len(scores), len(tried.stopped)
        mean = math.fsum(scores) / len(scores) if scores else math.nan
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores)) if scores else math.nan
        left = (stage.generations - generation) * seconds
        self._observer.say(
            f"{stage.name} {generation}/{stage.generations}  best {max(scores, default=math.nan):.1f} "
            f"(so far {self._best_with(scores):.1f})  mean {mean:.1f} ± {deviation:.1f}  step {optimizer.sigma:.3f}  "
            f"{seconds:.0f} s, stage done in {_clock(left)}"
            + (f"  {stopped} stopped" if stopped else "")
            + (f"  {failed} failed" if failed else "")
        )
        write_run(self._folder)  # Batches may have been halved.
        self.log()
        self._folder.publish()
        self.report()

    def log(self, *, finished: bool = False) -> None:
        """Brings loggers up to what the store holds; none of them can stop the run."""
        if self._logbook is not None:
            self._logbook.tell(finished=finished)

    def _best_with(self, scores: Sequence[float]) -> float:
        """Best score of a searched candidate, 0 to 100, these included; NaN where there is none."""
        if self._best is None:  # From the store: a run that went on has forgotten nothing.
            told = [one.fitness for one in self._folder.store.generations() if one.fitness is not None]
            self._best = max((100 * score for fitness in told for score in fitness if score is not None), default=-math.inf)
        self._best = max(self._best, *scores) if scores else self._best
        return self._best if math.isfinite(self._best) else math.nan

    def report(self, *, final: bool = False) -> None:
        """Rewrites the page and the figures."""
        from vlmerge.report import write_report

        now, first = self._now(), self._reported_at is None
        if not final and not first and self._report_took > SHARE_OF_TIME * (now - (self._reported_at or 0.0)):
            return
        write_report(self._folder.path, lang="ja" if self._lang == "ja" else "en", store=self._folder.store)
        self._reported_at = self._now()
        # The first one imports what draws and looks for fonts: it tells nothing of the next.
        self._report_took = 0.0 if first else self._reported_at - now


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
