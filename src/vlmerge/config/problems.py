"""What is wrong with a file, told to the person who wrote it: every mistake at once, each with its line and its remedy."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vlmerge.errors import ConfigError

Location = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top of the file."""

LineOf = Callable[[Location], int | None]
"""Line (from 1) of a location in the file; None where there is no file or no such line."""

NOT_YET = "valid in mergekit, not supported yet"


@dataclass(frozen=True)
class Problem:
    """One mistake."""

    what: str
    at: Location
    expected: str | None = None
    found: str | None = None
    remedy: str | None = None


def no_lines(location: Location) -> int | None:  # noqa: ARG001 - one signature with the lines of a real file
    """For data that come from no file."""
    return None


def refuse(problems: Sequence[Problem], where: str, line_of: LineOf = no_lines) -> None:
    """Raises one ConfigError about all of the problems; does nothing where there are none."""
    if not problems:
        return
    first = problems[0]
    if len(problems) == 1:
        place = _place(first, where, line_of)
        raise ConfigError(first.what, where=place, expected=first.expected, found=first.found, remedy=first.remedy)
    raise ConfigError(
        f"{len(problems)} things cannot be used:\n" + "\n".join(_paragraph(p, line_of) for p in problems),
        where=where,
        remedy="mend these and try again",
    )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def unknown(kind: str, word: str, known: Iterable[str], at: Location) -> Problem:
    """An unknown key, method or parameter, with the nearest known one."""
    names = sorted(set(known))
    close = nearest(word, names)
    return Problem(
        f"unknown {kind} `{word}`",
        at,
        expected=("one of " + ", ".join(names)) if names else f"no {kind} at all here",
        found=word,
        remedy=f"did you mean `{close}`?" if close else "take it out",
    )


def dotted(location: Location) -> str:
    """`models[0].parameters.weight`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def _place(problem: Problem, where: str, line_of: LineOf) -> str:
    line = line_of(problem.at)
    parts = [where, f"line {line}" if line else "", dotted(problem.at)]
    return ", ".join(part for part in parts if part)


def _paragraph(problem: Problem, line_of: LineOf) -> str:
    lines = [f"- {problem.what} ({_place(problem, '', line_of) or 'top level'})"]
    for label, text in (("expected", problem.expected), ("found", problem.found), ("what to do", problem.remedy)):
        if text:
            lines.append(f"    {label}: {text}")
    return "\n".join(lines)
