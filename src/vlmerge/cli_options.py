"""What several commands of the command line share: options, examples in their help, lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmerge.errors import ConfigError

if TYPE_CHECKING:
    from vlmerge.listings import Listing


class Device(StrEnum):
    """Where models run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the model runs.")]
SearchPath = Annotated[
    list[Path] | None,
    typer.Option(help="A folder with tasks of lm-eval (their Python code is run); may be repeated."),
]
SplitOption = Annotated[str | None, typer.Option(help="Split of the data set.")]
LimitOption = Annotated[int | None, typer.Option(help="Only the first so many questions.")]
MetricOption = Annotated[str | None, typer.Option(help="Default: the task's own.")]
FieldOption = Annotated[list[str] | None, typer.Option(metavar="OURS=THEIRS", help="Field names of one's own data.")]


def example(*lines: str) -> str:
    """Examples for the end of a command's help."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def refuse_idle(context: typer.Context, how: str, names: Collection[str]) -> None:
    """Raises ConfigError for arguments of the command line that change nothing here: who gave them means something else.

    Args:
        context: Of the command.
        how: The way that it is about to go, by the option that says so: `with --web`, `without --web`.
        names: Parameters that say nothing about it.
    """
    given: list[str] = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name) if parameter.name in names else None
        if source is not None and source.name == "COMMANDLINE":
            given.append(parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper())
    if given:
        them = "it" if len(given) == 1 else "them"
        raise ConfigError(
            f"{' and '.join(given)} {'changes' if len(given) == 1 else 'change'} nothing {how}",
            where=context.command_path,
            remedy=f"leave {them} out; `{context.command_path} --help` says what goes with what",
        )


def show_lists(listings: Sequence[Listing], as_json: bool) -> None:
    """Prints lists for a person; as JSON the first one alone."""
    from vlmerge.terminal import print_json, print_listing

    if as_json:
        print_json(listings[0].plain())
        return
    for listing in listings:
        print_listing(listing)


def field_pairs(fields: list[str]) -> dict[str, str]:
    """Our field names → those of one's own data, from OURS=THEIRS."""
    pairs: dict[str, str] = {}
    for field in fields:
        ours, equals, theirs = field.partition("=")
        if not equals or not theirs:
            raise ConfigError(
                "a field is not named in full", where="--field", expected="OURS=THEIRS, e.g. question=question_ja", found=field
            )
        pairs[ours] = theirs
    return pairs
