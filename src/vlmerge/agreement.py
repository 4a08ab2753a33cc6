"""Whether fresh questions agree that a stage of the search found something: then a finer one follows, else the search ends.

A stage's mean is compared with the mean of the stage before, on the validation questions, paired, whole picture groups drawn
with replacement. The decision is written down before anything is done about it: a run that goes on does not decide again.
What using validation for it means for the claim stands in docs/search.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from vlmerge.paired import paired

if TYPE_CHECKING:
    from vlmerge.bench import Bench
    from vlmerge.search import Stage
    from vlmerge.store import Store, Trial
    from vlmerge.watching import Watch


@dataclass(frozen=True)
class Agreement:
    """One comparison of two stages' means, in points of 100.

    Attributes:
        stage: The later stage's name.
        before: The earlier one's.
        difference: Later minus earlier; None where one of them failed.
        low: Lower end of the paired interval; None where a single picture group says nothing of spread.
        high: Upper end.
        share: Of the resamples in which the later one is better.
        least: The share that is asked for.
        questions: How many were asked.
        pictures: Picture groups among them.
        agreed: Whether the later stage is worth following up.
    """

    stage: str
    before: str
    difference: float | None
    low: float | None
    high: float | None
    share: float
    least: float
    questions: int
    pictures: int
    agreed: bool

    def line(self, following: str | None) -> str:
        """For people.

        Args:
            following: Name of the stage that would come next; None: this was the last one.
        """
        if self.difference is None:
            found = "failed on the validation questions"
        else:
            span = "" if self.low is None or self.high is None else f" ({self.low:+.1f} to {self.high:+.1f})"
            found = (
                f"{self.difference:+.1f}{span} over {self.before} on {self.questions} validation questions, better in "
                f"{100 * self.share:.0f} % of the resamples"
            )
        if following is None:
            return f"{self.stage}: {found}"
        if self.agreed:
            return f"{self.stage}: {found}: on to {following}"
        return f"{self.stage}: {found}, and {100 * self.least:.0f} % are asked for: the search ends here, without {following}"


def go_on(number: int, planned: Sequence[Stage], least: float, store: Store, bench: Bench, watch: Watch) -> bool:
    """Whether the stage after this one is to be searched.

    Args:
        number: Of the stage that has just ended, from 0; the first has nothing before it, and is followed in any case.
        planned: All stages.
        least: Share of the resamples that is asked for.
        store: The run's store; a decision that it holds is kept.
        bench: Asks the validation questions; they are those of the election, which asks nothing twice.
        watch: Who is told.
    """
    left = planned[number + 1 :]
    if not number or not store.tasks("validation"):
        return bool(left)
    stored = cast("list[Mapping[str, Any]]", store.get("agreements", []))
    known = next((Agreement(**each) for each in stored if each["stage"] == planned[number].name), None)
    if known is None:
        before, after = (store.trial(stage.row) for stage in planned[number - 1 : number + 1])
        assert before is not None
        assert after is not None
        names = (planned[number - 1].name, planned[number].name)
        known = compare(names, before, after, least, store, bench)
        reason = f"validation questions did not agree that {known.stage} found more than {known.before}"
        with store.transaction():
            store.set("agreements", [*stored, asdict(known)])
            if not known.agreed and left:
                done = planned[: number + 1]
                store.set("left_out", {**store.get("left_out", {}), **{stage.row: reason for stage in left}})
                store.set("budget", sum(stage.budget for stage in done))
                store.set("stages", [{"name": stage.name, "budget": stage.budget} for stage in done])
    watch.say(known.line(left[0].name if left else None))
    return bool(left) and known.agreed


def compare(names: tuple[str, str], before: Trial, after: Trial, least: float, store: Store, bench: Bench) -> Agreement:
    """Compares two trials on the validation questions, asking them if that was not done yet.

    Args:
        names: Of the stages, the earlier first.
        before: The earlier mean.
        after: The later mean.
        least: Share of the resamples in which it has to be better.
        store: The run's store.
        bench: Asks.
    """
    if any(bench.score(trial, "validation") is None for trial in (before, after)):
        counted = {task.task for task in store.tasks("validation") if task.weight}
        asked = [question.group for question in store.questions("validation") if question.task in counted]
        return Agreement(names[1], names[0], None, None, None, 0.0, least, len(asked), len(set(asked)), agreed=not least)
    both = paired(store, "validation", before.trial, after.trial)
    found, share = both.points(), both.better
    return Agreement(
        names[1], names[0], found.mean, found.low, found.high, share, least, both.questions, both.pictures, share >= least
    )
