"""The model card of a trial: README.md with the front matter that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import yaml

from vlmerge.errors import RunFolderError
from vlmerge.report.card_index import model_index
from vlmerge.report.card_pictures import PICTURES
from vlmerge.report.card_sections import (
    Parent,
    code,
    front_matter,
    introduction,
    models_section,
    page_of,
    pictures_section,
    plain,
    recipe_section,
    tensors_section,
)
from vlmerge.report.claim import Claim, read_claim
from vlmerge.report.phrases import read_phrases
from vlmerge.report.results import ALL, Difference, Row, is_hand_set, rows, standing, trial_rows
from vlmerge.store import ModelRecord, Store, Trial


def model_card(store: Store, trial: int | None = None, pictures: Collection[str] = ()) -> str:
    """Writes the card of a trial.

    Args:
        store: The run's store.
        trial: Number of the trial; None: the winner.
        pictures: Which of `card_pictures` lie beside it.

    Returns:
        Markdown with YAML front matter.

    Raises:
        RunFolderError: There is no such trial, or no winner yet.
    """
    found = rows(store)
    winner = standing(store).get("winner")
    chosen = _chosen(store, winner if trial is None else trial)
    models = [_parent(model) for model in store.models()]
    is_winner = chosen.trial == winner
    title = f"{store.get('name') or store.path.absolute().parent.name}, {'winner' if is_winner else f'trial {chosen.trial}'}"
    pipeline = "image-text-to-text" if any(question.pictures for question in store.questions()) else None
    method = str(yaml.safe_load(chosen.recipe).get("merge_method", ""))
    return page_of(
        [
            front_matter(
                models,
                pipeline,
                _languages(store),
                tags=["contaminated-evaluation"] if store.get("contaminated") else [],
                results=model_index(store, chosen, title, pipeline),
            ),
            f"# {plain(title)}",
            introduction(models, method, ", found with vlmerge. No weight was trained."),
            _scores(store, found, chosen, read_claim(store, found, finished=True) if is_winner else None),
            pictures_section({file: text for file, text in PICTURES.items() if file in pictures}),
            recipe_section(models, chosen.recipe),
            _tensors(store, models),
            models_section(models),
            _rebuild(chosen, is_winner),
        ]
    )


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


def _parent(model: ModelRecord) -> Parent:
    return Parent(
        name=model.name,
        label=model.label,
        role="host" if model.is_host else "base" if model.is_base else "source",
        licence=model.licence,
        revision=model.revision,
        fingerprint=model.fingerprint,
        adapted="+/" in model.path,
    )


def _tensors(store: Store, models: Sequence[Parent]) -> str:
    """What merges and what is the host's, as the run noted it over all its models."""
    notes = store.get("notes")
    if not notes or all(model.role != "host" for model in models):
        return ""
    return tensors_section(models, notes["tensors_merged"], notes["kept"], "Over all models of the run:")


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


def _scores(store: Store, found: Sequence[Row], trial: Trial, claim: Claim | None) -> str:
    contaminated = bool(store.get("contaminated"))
    own = [row for row in trial_rows(store, trial.trial) if row.task == ALL or _weight(store, row) == 0]
    if not own:
        return "## Scores\n\nThis trial has no scores."
    lines = ["## Scores", ""]
    if contaminated:
        lines += ["**CONTAMINATED**: " + plain("; ".join(store.get("contaminated"))) + ". These scores are not a claim.", ""]
    elif not any(row.set == "holdout" for row in own):
        lines += ["**No claim**: this model was not scored on questions apart from those that chose it.", ""]
    mark = " (CONTAMINATED)" if contaminated else ""
    lines += [f"| set | task | metric | score{mark} | 95 % interval | questions |", "|---|---|---|---|---|---|"]
    for row in own:
        cells = [
            row.set,
            plain(row.task),
            plain(row.metric),
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
        f"- {code(task.task)}: metric {code(task.metric)}, {task.decoding}, prompt {code(task.prompt)}"
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
        name = plain(say.candidate(row.candidate))
        lines.append(f"| {name} | {row.score:.1f} | {_range(row.low, row.high)} | {_difference(row.winner_minus_row)} |")
    views = int(store.get("holdout_views") or 0)
    if claim.set == "holdout":
        times = f"{views} time{'' if views == 1 else 's'}"
        lines += ["", f"When this was written, the holdout had been looked at {times}; the winner was chosen without it."]
    return lines


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
