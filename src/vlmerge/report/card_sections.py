"""What the cards of runs and of single merges share: front matter, recipe, tensors, models; Markdown's escapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from vlmerge.licences import apart, duties, verdict

CARD = "README.md"
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
"""What the hub takes as the name of a base model; local folders are named in the text alone."""
MERGED_LICENCES = "merged_licences"
"""Key of the front matter: parent → its licence, null where none is stated. `vlmerge push` reads it."""
HUB_LICENCE = re.compile(r"^[a-z0-9.-]+$")
"""What the hub takes as a licence: an identifier, not the heading of a text."""


@dataclass(frozen=True)
class Parent:
    """A model that takes part.

    Attributes:
        name: As the recipe says.
        label: As tables say.
        role: `host`, `base`, `source`, or `tokenizer`, whose tokenizer alone counts.
        licence: Of the model and its adapter, as one text.
        revision: Commit on the hub.
        fingerprint: Of its contents; None where it was not taken.
        adapted: Whether an adapter stands behind the model's name.
    """

    name: str
    label: str
    role: str
    licence: str | None
    revision: str | None
    fingerprint: str | None
    adapted: bool

    def parts(self) -> tuple[str, ...]:
        """The model and, if there is one, its adapter, as recipes name each."""
        if not self.adapted:
            return (self.name,)
        own, _, adapter = self.name.rpartition("+")
        return own, adapter

    def hub_names(self) -> list[str]:
        """The hub ids among a model and its adapter."""
        return [name for part in self.parts() if HUB_ID.match(name := part.partition("@")[0])]


def front_matter(
    models: Sequence[Parent],
    pipeline: str | None,
    languages: Sequence[str] = (),
    *,
    tags: Sequence[str] = (),
    results: Sequence[Mapping[str, object]] = (),
) -> str:
    """What the hub reads.

    Args:
        models: The parents.
        pipeline: What the model is for, in the hub's words.
        languages: Codes.
        tags: Further tags.
        results: The `model-index`.
    """
    licences = list(dict.fromkeys(one for model in models for one in apart(model.licence)))
    only = licences[0] if len(licences) == 1 else None
    asked = {duty.kind for duty in duties({model.label: model.licence for model in models})}
    marks = [kind for kind in ("non-commercial",) if kind in asked]
    fields: dict[str, object] = {"library_name": "transformers", "tags": ["vlmerge", "merge", *marks, *tags]}
    if only is not None and HUB_LICENCE.match(only):
        fields["license"] = only
    else:
        fields |= {"license": "other", "license_name": "licences-of-the-merged-models"}
    if pipeline is not None:
        fields["pipeline_tag"] = pipeline
    hub = dict.fromkeys(name for model in models for name in model.hub_names())
    if hub:
        fields |= {"base_model": list(hub), "base_model_relation": "merge"}
    if languages:
        fields["language"] = list(languages)
    fields[MERGED_LICENCES] = {model.label: model.licence for model in models}
    if results:
        fields["model-index"] = list(results)
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def introduction(models: Iterable[Parent], method: str, ending: str) -> str:
    """What was merged, and how."""
    return f"A merge of {', '.join(code(model.label) for model in models)} by the method {code(method)}{ending}"


def recipe_section(models: Sequence[Parent], recipe: str) -> str:
    """The recipe, in which folders of the machine that made it are named by their headings alone."""
    text, moved = recipe, False
    labels = {part: Path(part).name for model in models for part in model.parts()}
    labels |= {model.name: model.label for model in models if model.name in labels}
    for name, label in sorted(labels.items(), key=lambda pair: -len(pair[0])):
        if not HUB_ID.match(name.partition("@")[0]):
            text, moved = text.replace(name, f"./{label.strip('./')}"), True
    note = "\n\nModels that are folders are written as if they lay beside the recipe." if moved else ""
    return f"## Recipe\n\n{fenced(text, 'yaml')}{note}"


def tensors_section(models: Sequence[Parent], merged: int, kept: Mapping[str, int], over: str = "") -> str:
    """What merges and what is the host's.

    Args:
        models: The parents, the host among them.
        merged: Tensors that are merged, wholly or in some rows.
        kept: Why → number of tensors that are, wholly or in part, the host's.
        over: A sentence before the numbers.
    """
    host = next(model.label for model in models if model.role == "host")
    lines = ["## Tensors", "", *([over, ""] if over else []), f"- {merged} are merged"]
    for reason, count in kept.items():
        for model in sorted(models, key=lambda model: -len(model.name)):
            reason = reason.replace(model.name, model.label)
        lines.append(f"- {count} are, wholly or in part, those of {code(host)}: {plain(reason)}")
    return "\n".join(lines)


def pictures_section(pictures: Mapping[str, str]) -> str:
    """Pictures that lie beside the card.

    Args:
        pictures: File → what it shows.
    """
    return "\n\n".join(f"![{plain(text)}]({file})" for file, text in pictures.items())


def models_section(models: Sequence[Parent]) -> str:
    """The parents, and what their licences ask together."""
    told = any(model.fingerprint is not None for model in models)
    head = ["model", "role", "licence", "revision", *(["fingerprint"] if told else [])]
    lines = ["## Models", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for model in models:
        cells = [plain(model.label), model.role, plain(model.licence or "not recorded"), plain(model.revision or "–")]
        cells += [f"`{(model.fingerprint or '–')[:16]}`"] if told else []
        lines.append(f"| {' | '.join(cells)} |")
    asked = duties({model.label: model.licence for model in models})
    lines += ["", f"The result is bound by the licences of all of them: {plain(verdict(asked))}.", ""]
    lines += [f"- {plain(duty.line())}" for duty in asked]
    return "\n".join([*lines, "", "This list is a reading aid and no legal advice: what counts are the licences' texts."])


def page_of(sections: Iterable[str]) -> str:
    """The card of its sections; empty ones are left out."""
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def plain(text: str) -> str:
    """Text that Markdown takes as text."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """A code span that its own backticks cannot end."""
    flat = " ".join(text.split())
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", flat)), default=0) + 1)
    space = " " if "`" in flat else ""
    return f"{ticks}{space}{flat}{space}{ticks}"


def fenced(text: str, language: str) -> str:
    """A block that its own backticks cannot end."""
    ticks = "`" * max(3, max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return f"{ticks}{language}\n{text.strip()}\n{ticks}"
