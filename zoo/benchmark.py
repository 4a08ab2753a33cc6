"""The benchmark: three disjoint sets of pictures with questions, written as PNG files and JSON lines.

Takes concepts and sprites; gives `bench/{search,validation,holdout}/NNN.png` and `questions.jsonl`, and
`bench/scenes.jsonl`, which records for every picture what it shows and to which set it belongs.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zoo.grammar import Question, ask
from zoo.names_and_artwork import COLOUR_TRAINING_VENDORS, HELD_OUT_VENDORS, Concept
from zoo.renderer import Renderer
from zoo.scenes import Scene, draw_scene

PICTURE_PIXELS = 192
QUESTIONS_PER_SCENE = 3


@dataclass(frozen=True)
class QuestionSet:
    """One set: how many scenes, drawn by which vendors, from which seed."""

    name: str
    scenes: int
    vendors: tuple[int, ...]
    seed: int


SETS = (
    QuestionSet("search", 64, COLOUR_TRAINING_VENDORS, seed=4001),
    QuestionSet("holdout", 140, HELD_OUT_VENDORS, seed=4002),
    QuestionSet("validation", 64, COLOUR_TRAINING_VENDORS, seed=4003),
)
"""In the order of drawing: a scene that an earlier set has is drawn again."""
FRESH = QuestionSet("holdout", 256, HELD_OUT_VENDORS, seed=4104)
"""A larger holdout for comparing searches: no scene of the three sets is in it."""


@dataclass(frozen=True)
class AskedScene:
    """A scene with its questions; no two questions of a scene have the same wording."""

    scene: Scene
    questions: tuple[Question, ...]


def choose_scenes(concepts: tuple[Concept, ...]) -> dict[str, tuple[AskedScene, ...]]:
    """The scenes and questions of every set. No scene is in two sets, or twice in one."""
    taken: set[object] = set()
    return {one.name: _choose(one, concepts, taken) for one in SETS}


def _choose(question_set: QuestionSet, concepts: tuple[Concept, ...], taken: set[object]) -> tuple[AskedScene, ...]:
    """A set's scenes, none of them taken; they are taken from then on."""
    rng = random.Random(question_set.seed)
    asked: list[AskedScene] = []
    while len(asked) < question_set.scenes:
        scene = draw_scene(rng, concepts)
        if scene.identity in taken:
            continue
        taken.add(scene.identity)
        asked.append(AskedScene(scene, _distinct_questions(scene, rng)))
    return tuple(asked)


def identities(concepts: tuple[Concept, ...]) -> frozenset[object]:
    """Identities of all scenes of the benchmark; training never draws one of these."""
    return frozenset(a.scene.identity for asked in choose_scenes(concepts).values() for a in asked)


def draw_pictures(question_set: QuestionSet, asked: tuple[AskedScene, ...], sprites: np.ndarray) -> np.ndarray:
    """uint8 [scene, 192, 192, 3]; drawn on the CPU so that the same seed gives the same pixels anywhere."""
    renderer = Renderer(sprites[:, list(question_set.vendors)], "cpu")
    rows = torch.tensor([a.scene.as_row() for a in asked])
    generator = torch.Generator().manual_seed(question_set.seed)
    pictures, _ = renderer.draw(rows, generator, augment=False, pixels=PICTURE_PIXELS)
    return (pictures.permute(0, 2, 3, 1) * 255).round().byte().numpy()


def write(folder: Path, concepts: tuple[Concept, ...], sprites: np.ndarray) -> None:
    """Writes all three sets under `folder`."""
    chosen = choose_scenes(concepts)
    scene_lines = [line for one in SETS for line in _write_set(folder, one, chosen[one.name], sprites)]
    _write_lines(folder / "scenes.jsonl", scene_lines)


def write_fresh(folder: Path, concepts: tuple[Concept, ...], sprites: np.ndarray) -> None:
    """Writes the larger holdout under `folder`."""
    _write_set(folder, FRESH, _choose(FRESH, concepts, set(identities(concepts))), sprites)


def _write_set(folder: Path, question_set: QuestionSet, asked: tuple[AskedScene, ...], sprites: np.ndarray) -> list[str]:
    """Pictures and questions of one set; gives its lines of `scenes.jsonl`."""
    target = folder / question_set.name
    target.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(draw_pictures(question_set, asked, sprites)):
        Image.fromarray(picture).save(target / _file_name(number), optimize=True)
    questions = [
        _question_line(question_set.name, number, position, question)
        for number, one in enumerate(asked)
        for position, question in enumerate(one.questions)
    ]
    _write_lines(target / "questions.jsonl", questions)
    return [_scene_line(question_set.name, number, one.scene) for number, one in enumerate(asked)]


def _distinct_questions(scene: Scene, rng: random.Random) -> tuple[Question, ...]:
    questions: dict[str, Question] = {}
    while len(questions) < QUESTIONS_PER_SCENE:
        question = ask(scene, rng)
        questions.setdefault(question.english.question, question)
    return tuple(questions.values())


def _file_name(number: int) -> str:
    return f"{number:03d}.png"


def _scene_line(set_name: str, number: int, scene: Scene) -> str:
    things = [{"name": c.english, "place": p.name} for c, p in scene.things]
    return json.dumps({"set": set_name, "image": _file_name(number), "things": things, "background": scene.background.name})


def _question_line(set_name: str, number: int, position: int, question: Question) -> str:
    return json.dumps(
        {
            "id": f"{set_name}-{number:03d}-{position}",
            "image": _file_name(number),
            "kind": question.kind,
            "question_ja": question.japanese.question,
            "answer_ja": question.japanese.answer,
            "question_en": question.english.question,
            "answer_en": question.english.answer,
            "concepts": [concept.english for concept in question.concepts],
        },
        ensure_ascii=False,
    )


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
