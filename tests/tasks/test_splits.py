"""The split keeps pictures whole whatever the order; contamination finds what stands on both sides."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vlmerge.errors import TaskError
from vlmerge.tasks import contamination, split_by_image, units
from vlmerge.types import Picture, Question


def ask(number: int, *pictures: Path, text: str | None = None, task: str = "t") -> Question:
    shown = tuple(Picture(path=path, origin=path.name) for path in pictures)
    return Question(str(number), task, text or f"question {number}", shown, ("x",))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths: list[Path] = []
    for index in range(24):
        paths.append(folder / f"{index}.png")
        Image.new("RGB", (5, 5), (index * 10, 7, 99)).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def questions(pictures: list[Path]) -> list[Question]:
    """Three about each of 24 pictures."""
    return [ask(3 * index + turn, path) for index, path in enumerate(pictures) for turn in range(3)]


@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(0.01, 0.99), seed=st.integers(1, 10_000), shuffler=st.randoms(use_true_random=False))
def test_split_law(questions: list[Question], fraction: float, seed: int, shuffler: random.Random) -> None:
    search, validation = split_by_image(questions, fraction, seed)
    assert sorted([*search, *validation], key=lambda q: int(q.id)) == questions  # nothing lost, nothing twice
    assert {q.group for q in search}.isdisjoint({q.group for q in validation})
    assert len(validation) == 3 * min(max(round(fraction * 24), 1), 23)
    assert contamination(search, validation, []) == ()

    shuffled = list(questions)
    shuffler.shuffle(shuffled)
    again_search, again_validation = split_by_image(shuffled, fraction, seed)
    assert {q.id for q in again_validation} == {q.id for q in validation}
    assert list(again_search) == [q for q in shuffled if q.id in {s.id for s in search}]  # each side in the order given


def test_the_seed_decides(questions: list[Question]) -> None:
    assert len({tuple(q.id for q in split_by_image(questions, 0.25, seed)[1]) for seed in range(1, 9)}) > 4


def test_fraction_0_leaves_validation_empty(questions: list[Question]) -> None:
    assert split_by_image(questions, 0, 1) == (tuple(questions), ())


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(questions: list[Question], fraction: float) -> None:
    with pytest.raises(TaskError, match="expected: 0 or more"):
        split_by_image(questions, fraction, 1)


def test_questions_that_cannot_be_parted_are_refused(pictures: list[Path]) -> None:
    with pytest.raises(TaskError, match="cannot be cut"):
        split_by_image([ask(1, pictures[0]), ask(2, pictures[0])], 0.25, 1)


@pytest.mark.parametrize("seed", range(1, 13))
def test_pictures_that_are_shown_together_stay_together(pictures: list[Path], seed: int) -> None:
    pairs = [ask(1, pictures[0], pictures[1]), ask(2, pictures[1], pictures[2]), ask(3, pictures[2]), ask(4, pictures[0])]
    alone = [ask(5, pictures[5]), ask(6, pictures[6])]
    for side in split_by_image([*pairs, *alone], 0.4, seed):
        assert len({q.id for q in side} & {"1", "2", "3", "4"}) in (0, 4)


def test_hash_seeds_and_file_names_change_nothing(pictures: list[Path], questions: list[Question], tmp_path: Path) -> None:
    moved: list[Question] = []
    for index, question in enumerate(questions):
        copy = tmp_path / f"{len(questions) - index}.png"
        source = question.pictures[0].path
        assert source
        copy.write_bytes(source.read_bytes())
        moved.append(replace(question, pictures=(Picture(path=copy),)))
    expected = [q.id for q in split_by_image(questions, 0.25, 7)[1]]
    assert [q.id for q in split_by_image(moved, 0.25, 7)[1]] == expected

    code = (
        "import sys; from pathlib import Path; from vlmerge.tasks import split_by_image; from vlmerge.types import *\n"
        "qs = [Question(str(3*i+t), 't', f'question {3*i+t}', (Picture(path=Path(p)),), ('x',))"
        " for i, p in enumerate(sys.argv[1:]) for t in range(3)]\n"
        "print(*[q.id for q in split_by_image(qs, 0.25, 7)[1]])"
    )
    for hash_seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, pictures)], env=environment, capture_output=True, text=True
        )
        assert done.stdout.split() == expected, done.stderr


def test_the_same_pixels_in_another_file_are_the_same_picture(pictures: list[Path], tmp_path: Path) -> None:
    image = Image.open(pictures[3])
    note = PngInfo()
    note.add_text("Comment", "another camera")
    image.save(tmp_path / "noted.png", pnginfo=note, compress_level=0)
    image.save(tmp_path / "same.bmp")
    image.save(tmp_path / "same.webp", lossless=True)
    for name in ("noted.png", "same.bmp", "same.webp"):
        copy = tmp_path / name
        assert copy.read_bytes() != pictures[3].read_bytes()
        (leak,) = contamination([ask(1, pictures[3])], [], [ask(2, copy, task="held")])
        assert (leak.sets, leak.tasks, leak.units, leak.same_questions) == (("search", "holdout"), ("t", "held"), 1, 0)
        assert name in str(leak)


def test_every_pair_of_sets_and_tasks_is_compared(pictures: list[Path]) -> None:
    search = [ask(1, pictures[0]), ask(2, pictures[1]), ask(3, text="1+1?", task="words")]
    validation = [ask(4, pictures[1])]
    holdout = [ask(2, pictures[1], task="copy"), ask(9, pictures[9], task="copy"), ask(5, text="1+1?", task="copy")]
    leaks = contamination(search, validation, holdout)
    assert [(leak.sets, leak.tasks, leak.units, leak.questions, leak.same_questions) for leak in leaks] == [
        (("search", "validation"), ("t", "t"), 1, (1, 1), 0),
        (("search", "holdout"), ("t", "copy"), 1, (1, 1), 1),
        (("search", "holdout"), ("words", "copy"), 1, (1, 1), 1),
        (("validation", "holdout"), ("t", "copy"), 1, (1, 1), 0),
    ]
    assert contamination(search[:1], validation, holdout[1:2]) == ()


def test_a_picture_inside_a_pair_is_found(pictures: list[Path]) -> None:
    (leak,) = contamination([ask(1, pictures[0], pictures[1])], [], [ask(2, pictures[1])])
    assert leak.units == 1


def test_a_text_is_not_a_picture(pictures: list[Path]) -> None:
    shown, told = ask(1, pictures[0], text="何?"), ask(2, text="何?")
    assert set(units(shown)).isdisjoint(units(told))
