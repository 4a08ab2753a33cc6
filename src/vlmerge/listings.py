"""What is built in, as tables: tasks, metrics and presets, merge methods, model families. Nothing is loaded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmerge.config.method_table import ParameterSpec


@dataclass(frozen=True)
class Listing:
    """One table.

    Attributes:
        heads: Names of its columns.
        rows: Cells, one per column.
    """

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def plain(self) -> list[dict[str, str]]:
        """For JSON."""
        return [dict(zip(self.heads, row, strict=True)) for row in self.rows]


def tasks() -> Listing:
    """Built-in tasks."""
    from vlmerge.tasks import describe_tasks

    return Listing(
        ("task", "what", "languages", "metric", "licence", "good for"),
        [
            (task.name, task.what, ", ".join(task.languages), task.metric, task.licence, task.good_for)
            for task in describe_tasks()
        ],
    )


def metrics() -> Listing:
    """How answers are scored."""
    from vlmerge.tasks import JUDGE, JUDGE_DESCRIPTION, METRICS

    rows = [(name, metric.description) for name, metric in METRICS.items()]
    return Listing(("metric", "what it measures"), [*rows, (JUDGE, JUDGE_DESCRIPTION)])


def judge_prompts() -> Listing:
    """Prompts of judges."""
    from vlmerge.tasks import JUDGE_PROMPTS

    rows = [(each.name, f"{each.low:g} to {each.high:g}", each.source) for each in JUDGE_PROMPTS.values()]
    return Listing(("prompt of a judge", "points", "from"), rows)


def presets() -> Listing:
    """Protocols of published experiments."""
    from vlmerge.tasks import PRESETS

    return Listing(("preset", "protocol"), [(name, preset.description) for name, preset in PRESETS.items()])


def methods() -> Listing:
    """Merge methods, the available ones first."""
    from vlmerge.config.method_table import METHODS

    return Listing(
        ("method", "what it does", "base", "parameters (default)"),
        [
            (
                spec.name,
                spec.summary,
                spec.base,
                ", ".join(
                    f"{parameter.name} ({'required' if parameter.required else parameter.default})"
                    for parameter in spec.parameters.values()
                    if not parameter.ignored
                ),
            )
            for spec in METHODS.values()
        ],
    )


def methods_table() -> str:
    """The methods with formulas and origins as a table in Markdown: what docs/methods.md holds."""
    from vlmerge.config.method_table import METHODS

    lines = ["| method | result | parameters (default) | base | from |", "|---|---|---|---|---|"]
    for spec in METHODS.values():
        parameters = [
            f"`{each.name}`{' of each source' if each.per_source else ''} ({_default(each)})"
            for each in spec.parameters.values()
            if not each.ignored
        ]
        base = {"required": "required", "optional": "if it is given", "ordinary": "one more source, if it is given"}[spec.base]
        formula = spec.formula.replace("|", "\\|")
        lines.append(f"| `{spec.name}` | {formula} | {', '.join(parameters) or 'none'} | {base} | {spec.origin} |")
    return "\n".join(lines) + "\n"


def _default(parameter: ParameterSpec) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.default, bool):
        return str(parameter.default).lower()
    return "none" if parameter.default is None else f"{parameter.default:g}"


def families() -> Listing:
    """Model families and their layouts on disk."""
    from vlmerge.anatomy import FAMILIES

    return Listing(
        ("family", "model_type", "sees", "pairs with", "layouts (prefix of the decoder)"),
        [
            (
                family.name,
                ", ".join(family.model_types) or "any other",
                "yes" if family.is_vlm else "no",
                ", ".join(family.pairs_with) or "its own model_type",
                family.summary,
            )
            for family in FAMILIES.values()
        ],
    )
