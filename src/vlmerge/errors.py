"""Errors that say what to do: what happened, where, what was expected, what was found, what to do now."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130

MAX_PART = 4000
"""Characters of one part of a message that are shown."""


def printable(text: str) -> str:
    """Text that a terminal shows: names from files may hold codes that it would obey instead (colours, its title, worse)."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)


def _cut(text: str) -> str:
    """A part of a message, no longer than anybody reads: names from files have any length."""
    return text if len(text) <= MAX_PART else text[:MAX_PART] + " …"


class UserError(Exception):
    """Something that the person at the keyboard can mend. The command line prints it without a traceback, exit code 2.

    Args:
        what: What happened, one sentence without a full stop at its end.
        where: File, tensor, question or key it happened at.
        expected: What would have been right.
        found: What was there instead.
        remedy: What to do now.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.found, self.remedy = what, where, expected, found, remedy
        super().__init__(self.message())

    def message(self) -> str:
        """The whole message, one labelled line for each part that is known."""
        parts = [
            ("where", self.where),
            ("expected", self.expected),
            ("found", self.found),
            ("what to do", self.remedy),
        ]
        return printable("\n".join([self.what, *(f"  {label}: {_cut(text)}" for label, text in parts if text)]))


class ConfigError(UserError):
    """A YAML file (recipe or run) that cannot be used as it is."""


class CheckpointError(UserError):
    """A model folder or hub repository that is missing, incomplete, gated or unsafe."""


class MismatchError(UserError):
    """Models that cannot be merged with each other."""


class TaskError(UserError):
    """Questions that cannot be asked: an empty task, a broken picture, a leak between the sets."""


class EndpointError(UserError):
    """A server that was asked over the network and cannot be, or does not answer as it should; or a budget that is used up."""


class RunFolderError(UserError):
    """A run folder that is locked, belongs to another configuration, or cannot be written."""


class CandidateFailure(Exception):  # noqa: N818 - a result, not an error
    """A candidate that failed for a reason of its own: NaN weights, out of memory. It is data, not a bug."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class NoResult(CandidateFailure):
    """Tensors for which a method has no result, whatever its numbers can hold."""
