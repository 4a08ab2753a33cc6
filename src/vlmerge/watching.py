"""What a run tells while it goes on: lines for the observer, and the page, rewritten after generations."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from vlmerge.aims import undominated
from vlmerge.fitness import outside, plain_scores
from vlmerge.recording import write_run

if TYPE_CHECKING:
    from vlmerge.bench import Observer
    from vlmerge.loggers import Logbook
    from vlmerge.run_folder import RunFolder
    from vlmerge.search import Optimizer, Stage
    from vlmerge.store import Generation, Trial

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

    def generation(self, stage: Stage, generation: int, optimizer: Optimizer, seconds: float) -> None:
        """A generation was told: one line, and the page again."""
        told = [each for each in self._folder.store.generations() if each.fitness is not None]
        found, out = plain_scores(self._folder.store, told[-1]), outside(self._folder.store, told[-1])
        scores = [100 * score for score in found if score is not None]
        kept = [100 * score for score, broken in zip(found, out, strict=True) if score is not None and not broken]
        stopped = len(self._folder.store.stopped(told[-1].stage, told[-1].generation))
        failed, broken = len(found) - len(scores) - stopped, len(scores) - len(kept)
        mean = math.fsum(scores) / len(scores) if scores else math.nan
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores)) if scores else math.nan
        further = optimizer.left // optimizer.population
        left = further * seconds
        self._observer.say(
            f"{stage.name} {generation}/{generation + further}  best {max(kept, default=math.nan):.1f} "
            f"(so far {self._best_with(told):.1f})  mean {mean:.1f} ± {deviation:.1f}  step {optimizer.sigma:.3f}  "
            f"{seconds:.0f} s, stage done in {_clock(left)}"
            + (f"  front of {_front_size(told)}" if stage.several else "")
            + (f"  {broken} outside the constraints" if broken else "")
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

    def _best_with(self, told: Sequence[Generation]) -> float:
        """Best score of a candidate that keeps the constraints, 0 to 100, of these generations; NaN where there is none."""
        # From the store: a run that went on has forgotten nothing.
        for one in told if self._best is None else told[-1:]:
            scores = zip(plain_scores(self._folder.store, one), outside(self._folder.store, one), strict=True)
            kept = [100 * score for score, broken in scores if score is not None and not broken]
            self._best = max(-math.inf if self._best is None else self._best, *kept, -math.inf)
        return self._best if self._best is not None and math.isfinite(self._best) else math.nan

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


def _front_size(told: Sequence[Generation]) -> int:
    """Candidates of these generations that no other one dominates."""
    every = [fitness for one in told for fitness in one.fitness or () if isinstance(fitness, tuple)]
    return len(undominated(dict(enumerate(every))))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
