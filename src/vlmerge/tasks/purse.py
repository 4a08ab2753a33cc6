"""How many verdicts a judge may still be asked for."""

from __future__ import annotations

from collections.abc import Callable

from vlmerge.errors import EndpointError


class Purse:
    """How many verdicts may still be asked for. What is kept costs nothing; a request that was tried again counts once.

    Args:
        limit: Most; None: any number.
        spent: How many were asked for before.
        remember: Told the new number before each request, and after one that was given back.
    """

    def __init__(self, limit: int | None, spent: int = 0, remember: Callable[[int], None] | None = None) -> None:
        self.limit, self.spent = limit, spent
        self._remember = remember

    def take(self) -> None:
        """Counts one request.

        Raises:
            EndpointError: The budget is used up.
        """
        if self.limit is not None and self.spent >= self.limit:
            raise EndpointError(
                "the judge's budget is used up",
                expected=f"at most {self.limit} verdicts (`judge.budget`)",
                found=f"{self.spent} asked for, and more to ask",
                remedy="raise `judge.budget` and start the same command again: it goes on where it stopped, and every verdict "
                "and score so far is kept",
            )
        self._now(self.spent + 1)

    def give_back(self) -> None:
        """Takes back one that was counted, and that nobody worked on: a server that was not there, a request it refused."""
        self._now(self.spent - 1)

    def _now(self, spent: int) -> None:
        self.spent = spent
        if self._remember is not None:
            self._remember(spent)
