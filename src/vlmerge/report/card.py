"""The model card of an exported merge: README.md with the front matter that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from vlmerge.errors import RunFolderError
from vlmerge.licences import duties, verdict
from vlmerge.report.claim import Claim, read_claim
from vlmerge.report.phrases import read_phrases
from vlmerge.report.results import ALL, Difference, Row, is_hand_set, rows, standing, trial_rows
from vlmerge.store import ModelRecord, Store, Trial

HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
"""What the hub takes as the name of a base model; local folders are named in the text alone."""


def model_card(store: Store, trial: int | None = None) -> str:
    """Writes the card of a trial.

    Args:
        store: The run's store.
        trial: Number of the trial; None: the winner.

    Returns:
        Markdown with YAML front matter.

    Raises:
        RunFolderError: There is no such trial, or no winner yet.
    """
    found = rows(store)
    winner = standing(store).get("winner")
    chosen = _chosen(store, winner if trial is None else trial)
    models = store.models()
    is_winner = chosen.trial == winner
    title = f"{store.get('name') or store.path.absolute().parent.name}, {'winner' if is_winner else f'trial {chosen.trial}'}"
    sections = [
        _front_matter(store, models),
        f"# {_plain(title)}",
        _introduction(models, chosen),
        _scores(store, found, chosen, read_claim(store, found, finished=True) if is_winner else None),
        _recipe(models, chosen),
        _tensors(store, models),
        _models(models),
        _rebuild(chosen, is_winner),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _chosen(store: Store, number: int | None) -> Trial:
    chosen = None if number is None else store.trial(int(number))
    if chosen is None:
        raise RunFolderError(
            "there is no such trial",
            where=str(store.path),
            expected="the number of a trial, or a run that has a winner",
            found="no winner yet" if number is None else f"trial {number}",
            remedy="choose a number from results.json",
        )
    return chosen


def _front_matter(store: Store, models: Sequence[ModelRecord]) -> str:
    licences = list(dict.fromkeys(model.licence for model in models))
    known = [licence for licence in licences if licence]
    fields: dict[str, object] = {
        "library_name": "transformers",
        "tags": ["vlmerge", "merge"],
        "license": known[0] if len(licences) == 1 and known else "other",
    }
    if fields["license"] == "other":
        fields["license_name"] = "licences-of-the-merged-models"
    if any(question.pictures for question in store.questions()):
        fields["pipeline_tag"] = "image-text-to-text"
    hub = dict.fromkeys(name for model in models for name in _hub_names(model))
    if hub:
        fields |= {"base_model": list(hub), "base_model_relation": "merge"}
    languages = _languages(store)
    if languages:
        fields["language"] = languages
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _parts(model: ModelRecord) -> tuple[str, ...]:
    """The model and, if there is one, its adapter, as recipes name each."""
    if "+/" not in model.path:
        return (model.name,)
    own, _, adapter = model.name.rpartition("+")
    return own, adapter


def _hub_names(model: ModelRecord) -> list[str]:
    """The hub ids among a model and its adapter."""
    return [name for part in _parts(model) if HUB_ID.match(name := part.partition("@")[0])]


def _languages(store: Store) -> list[str]:
    """Languages of the reference answers: Japanese where there are kana, English where a task has none but Latin letters."""
    found: dict[str, None] = {}
    for task in dict.fromkeys(task.task for task in store.tasks()):
        text = " ".join(reference for question in store.questions(task=task)[:50] for reference in question.references)
        if re.search(r"[\u3040-\u30ff]", text):
            found["ja"] = None
        elif re.search(r"[A-Za-z]", text) and text.isascii():
            found["en"] = None
    return list(found)


def _introduction(models: Sequence[ModelRecord], trial: Trial) -> str:
    method = yaml.safe_load(trial.recipe).get("merge_method", "")
    names = ", ".join(_code(model.label) for model in models)
    return f"A merge of {names} by the method `{method}`, found with vlmerge. No weight was trained."


def _tensors(store: Store, models: Sequence[ModelRecord]) -> str:
    """What merges and what is the host's, as the run noted it over all its models."""
    notes, host = store.get("notes"), next((model.label for model in models if model.is_host), None)
    if not notes or host is None:
        return ""
    lines = ["## Tensors", "", "Over all models of the run:", "", f"- {notes['tensors_merged']} are merged"]
    for reason, count in notes["kept"].items():
        for model in sorted(models, key=lambda model: -len(model.name)):
            reason = reason.replace(model.name, model.label)
        lines.append(f"- {count} are, wholly or in part, those of {_code(host)}: {_plain(reason)}")
    return "\n".join(lines)


def _scores(store: Store, found: Sequence[Row], trial: Trial, claim: Claim | None) -> str:
    contaminated = bool(store.get("contaminated"))
    own = [row for row in trial_rows(store, trial.trial) if row.task == ALL or _weight(store, row) == 0]
    if not own:
        return "## Scores\n\nThis trial has no scores."
    lines = ["## Scores", ""]
    if contaminated:
        lines += ["**CONTAMINATED**: " + _plain("; ".join(store.get("contaminated"))) + ". These scores are not a claim.", ""]
    elif not any(row.set == "holdout" for row in own):
        lines += ["**No claim**: this model was not scored on questions apart from those that chose it.", ""]
    mark = " (CONTAMINATED)" if contaminated else ""
    lines += [f"| set | task | metric | score{mark} | 95 % interval | questions |", "|---|---|---|---|---|---|"]
    for row in own:
        cells = [
            row.set,
            _plain(row.task),
            _plain(row.metric),
            f"{row.score:.1f}",
            _range(row.low, row.high),
            str(row.questions),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if claim is not None and claim.winner is not None:
        lines += ["", *_comparison(store, found, claim, mark)]
    tasks = {(task.task, task.metric, task.decoding): task for task in store.tasks()}
    lines += ["", "Protocol:", ""]
    lines += [
        f"- {_code(task.task)}: metric {_code(task.metric)}, {task.decoding}, prompt {_code(task.prompt)}"
        for task in tasks.values()
    ]
    lines.append("- intervals: bootstrap over pictures, not over questions; differences are paired")
    return "\n".join(lines)


def _comparison(store: Store, found: Sequence[Row], claim: Claim, mark: str) -> list[str]:
    say = read_phrases("en")
    others = [row for row in found if row.set == claim.set and row.task == ALL and row.candidate != "winner"]
    lines = [
        f"On the {claim.set} questions, beside what needs no search{mark}:",
        "",
        "| row | score | 95 % interval | winner − row |",
    ]
    lines.append("|---|---|---|---|")
    for row in [row for row in others if is_hand_set(row.candidate) or row.candidate == "global"]:
        name = _plain(say.candidate(row.candidate))
        lines.append(f"| {name} | {row.score:.1f} | {_range(row.low, row.high)} | {_difference(row.winner_minus_row)} |")
    views = int(store.get("holdout_views") or 0)
    if claim.set == "holdout":
        lines += ["", f"The holdout was looked at {views} time{'' if views == 1 else 's'}; the winner was chosen without it."]
    return lines


def _recipe(models: Sequence[ModelRecord], trial: Trial) -> str:
    """The recipe, in which folders of the machine that made it are named by their headings alone."""
    text, moved = trial.recipe, False
    labels = {part: Path(part).name for model in models for part in _parts(model)}
    labels |= {model.name: model.label for model in models if model.name in labels}
    for name, label in sorted(labels.items(), key=lambda pair: -len(pair[0])):
        if not HUB_ID.match(name.partition("@")[0]):
            text, moved = text.replace(name, f"./{label.strip('./')}"), True
    note = "\n\nModels that are folders are written as if they lay beside the recipe." if moved else ""
    return f"## Recipe\n\n{_fenced(text, 'yaml')}{note}"


def _models(models: Sequence[ModelRecord]) -> str:
    lines = ["## Models", "", "| model | role | licence | revision | fingerprint |", "|---|---|---|---|---|"]
    for model in models:
        role = "host" if model.is_host else "base" if model.is_base else "source"
        cells = [_plain(model.label), role, _plain(model.licence or "not recorded"), _plain(model.revision or "–")]
        lines.append(f"| {' | '.join(cells)} | `{model.fingerprint[:16]}` |")
    asked = duties({model.label: model.licence for model in models})
    lines += ["", f"The result is bound by the licences of all of them: {_plain(verdict(asked))}.", ""]
    lines += [f"- {_plain(duty.line())}" for duty in asked]
    return "\n".join([*lines, "", "This list is a reading aid and no legal advice: what counts are the licences' texts."])


def _rebuild(trial: Trial, is_winner: bool) -> str:
    option = "" if is_winner else f" --trial {trial.trial}"
    return "\n".join(
        [
            "## Build it again",
            "",
            "Save the recipe above as `recipe.yaml`, then `vlmerge merge recipe.yaml OUT`;",
            f"or, from the run's folder, `vlmerge export RUN OUT{option}`. Both give these weights bit for bit.",
            'Talk to it with `vlmerge ask OUT IMAGE "…?"`.',
        ]
    )


def _weight(store: Store, row: Row) -> float:
    return next((task.weight for task in store.tasks(row.set) if task.task == row.task), 1.0)


def _range(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.1f}–{high:.1f}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.1f}"
    return f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


def _plain(text: str) -> str:
    """Text that Markdown takes as text."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """A code span that its own backticks cannot end."""
    flat = " ".join(text.split())
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", flat)), default=0) + 1)
    space = " " if "`" in flat else ""
    return f"{ticks}{space}{flat}{space}{ticks}"


def _fenced(text: str, language: str) -> str:
    ticks = "`" * max(3, max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return f"{ticks}{language}\n{text.strip()}\n{ticks}"
