"""What verbs give back in Python: small values that name the files and say the figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlmerge.errors import RunFolderError
from vlmerge.report import results_table
from vlmerge.report.results import RESULTS_NAME, Difference, Row
from vlmerge.store import STORE_NAME, Store
from vlmerge.types import size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vlmerge.check import CheckResult
    from vlmerge.loaded import Model
    from vlmerge.outlook import Outlook
    from vlmerge.store import Split

FRESHEST: tuple[Split, ...] = ("holdout", "validation", "search")
"""Sets, the one that says most first."""
COLUMNS = 140


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder and its figures. `print(run)` shows its table.

    Attributes:
        path: The folder.
        rows: Every candidate on every set and task, as in results.json; scores are points of 100.
        trials: Searched candidates.
        lang: Language of its table.
    """

    path: Path
    rows: tuple[Row, ...]
    trials: int
    lang: Literal["en", "ja"] = "en"

    @classmethod
    def read(cls, path: Path, lang: Literal["en", "ja"] = "en") -> Run:
        """Reads what the page of a run was last written with."""
        told: dict[str, Any] = json.loads((path / RESULTS_NAME).read_text(encoding="utf-8"))
        return cls(path, tuple(_row(row) for row in told["rows"]), told["trials"], lang)

    @property
    def page(self) -> Path:
        """report.html."""
        return self.path / "report.html"

    @property
    def model(self) -> Path | None:
        """The winner as a checkpoint; None while the run goes on."""
        folder = self.path / "model"
        return folder if folder.is_dir() else None

    @property
    def recipe(self) -> Path | None:
        """The winner's recipe; None while the run goes on."""
        file = self.path / "recipe.yaml"
        return file if file.is_file() else None

    def row(self, candidate: str = "winner", set: Split | None = None, task: str = "all") -> Row:
        """One line of the table.

        Args:
            candidate: `winner`, `host`, `global`, `equal`, `swap:NAME`, …
            set: `search`, `validation` or `holdout`; None: the freshest that it was asked.
            task: A task's name, or `all`.

        Raises:
            RunFolderError: There is no such line (yet).
        """
        for split in FRESHEST if set is None else (set,):
            for row in self.rows:
                if (row.candidate, row.set, row.task) == (candidate, split, task):
                    return row
        there = ", ".join(dict.fromkeys(f"{row.candidate} ({row.set})" for row in self.rows if row.task == task))
        raise RunFolderError(
            "the run has no such row",
            where=str(self.path),
            expected=there or "rows; there are none yet",
            found=f"{candidate}{f' ({set})' if set else ''}, task {task}",
        )

    def load(self, device: Literal["auto", "cpu", "cuda"] = "auto") -> Model:
        """The winner, to ask it."""
        return _load(self.path, device)

    def __repr__(self) -> str:
        known = any(row.candidate == "winner" for row in self.rows)
        score = f"winner {_figure(self.row())}" if known else "no winner yet"
        return f"Run('{self.path}': {score}, {self.trials} candidates)"

    def __str__(self) -> str:
        with Store.read_only(self.path / STORE_NAME) as store:
            return _text(results_table(store, lang=self.lang))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


@dataclass(frozen=True, repr=False)
class Merged:
    """A checkpoint that was written, and verified.

    Attributes:
        path: Its folder.
        merged: Tensors that were merged, wholly or in some rows.
        kept: Tensors that are the host's.
        bytes: Size of its tensors.
        seconds: How long it took.
        terms: The strictest terms of the parents' licences together, in one sentence.
        notes: What a person should know.
    """

    path: Path
    merged: int
    kept: int
    bytes: int
    seconds: float
    terms: str
    notes: tuple[str, ...]

    def load(self, device: Literal["auto", "cpu", "cuda"] = "auto") -> Model:
        """The model, to ask it."""
        return _load(self.path, device)

    def __repr__(self) -> str:
        kept = f", {self.kept} kept from the host" if self.kept else ""
        return f"Merged('{self.path}': {self.merged} tensors{kept}; {size(self.bytes)} in {self.seconds:.1f} s)"


@dataclass(frozen=True, repr=False)
class Exported:
    """A trial of a run that was written as a checkpoint, and verified.

    Attributes:
        path: Its folder.
        trial: Number of the trial.
        label: Name of the trial.
    """

    path: Path
    trial: int
    label: str

    def load(self, device: Literal["auto", "cpu", "cuda"] = "auto") -> Model:
        """The model, to ask it."""
        return _load(self.path, device)

    def __repr__(self) -> str:
        return f"Exported('{self.path}': trial {self.trial}, {self.label})"


@dataclass(frozen=True, repr=False)
class Checked:
    """What a merge or a run would do. `print(checked)` shows it as `vlmerge check` does.

    Attributes:
        found: Models, tensors, memory, disk, licences.
        ahead: Of a run: its questions, disk and time.
    """

    found: CheckResult
    ahead: Outlook | None

    def __repr__(self) -> str:
        found = self.found
        merged = "" if found.merged is None else f", {found.merged} tensors would be merged"
        notes = f", {len(found.warnings)} notes" if found.warnings else ""
        return f"Checked({len(found.models)} models, host {found.host}{merged}, result {size(found.output_bytes)}{notes})"

    def __str__(self) -> str:
        from vlmerge.check import render

        lines = [] if self.ahead is None else self.ahead.lines()
        return "\n".join([_text(render(self.found)), *lines])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def _load(path: Path, device: Literal["auto", "cpu", "cuda"]) -> Model:
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.loaded import Model

    return Model(str(path), RuntimeSpec(device=device))


def _row(told: dict[str, Any]) -> Row:
    rest = dict(told)
    behind = rest.pop("winner_minus_row")
    return Row(**rest, winner_minus_row=None if behind is None else Difference(**behind))


def _figure(row: Row) -> str:
    between = "" if row.low is None or row.high is None else f" [{row.low:.1f}, {row.high:.1f}]"
    return f"{row.score:.1f}{between} on {row.set}"


def _text(shown: RenderableType) -> str:
    """What rich would print in a wide terminal, without colours."""
    from rich.console import Console

    screen = Console(width=COLUMNS, color_system=None, force_terminal=False, force_jupyter=False, highlight=False)
    with screen.capture() as captured:
        screen.print(shown)
    return captured.get().rstrip("\n")
