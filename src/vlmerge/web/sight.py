"""What may be seen of a run: the holdout's questions, pictures and answers only once the run itself has looked at them."""

from __future__ import annotations

from vlmerge.store import SPLITS, QuestionRecord, Split, Store


def visible_sets(store: Store) -> tuple[Split, ...]:
    """The sets that a person who watches may look into, in the run's order."""
    looked = bool(store.get("holdout_views"))
    there = {task.split for task in store.tasks()}
    return tuple(split for split in SPLITS if split in there and (split != "holdout" or looked))


def visible_questions(store: Store) -> list[QuestionRecord]:
    """All questions of the visible sets."""
    return [question for split in visible_sets(store) for question in store.questions(split)]


def visible_picture(store: Store, digest: str) -> bytes | None:
    """JPEG bytes of a picture, if a visible question is about it."""
    if not any(digest in question.pictures for question in visible_questions(store)):
        return None
    return store.thumbnail(digest)
