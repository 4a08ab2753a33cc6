"""A path as a picture: one box for each layer, in its model's colour, with what its last projections are multiplied by."""

from __future__ import annotations

from vlmerge.config import ModelRef, dump_recipe, parse_recipe
from vlmerge.report.figure_path import draw_path
from vlmerge.report.path_picture import path_picture
from vlmerge.report.phrases import read_phrases
from vlmerge.search.path_space import Block, path_recipe

VLM, LM = ModelRef("org/vlm"), ModelRef("org/lm")


def test_a_path_is_read_layer_by_layer() -> None:
    steps = [(Block(VLM, 0, 2), 1.0), (Block(LM, 1, 2), 2.0), (Block(VLM, 1, 3), 0.5)]
    found = path_picture(dump_recipe(path_recipe(VLM, steps)), {"org/lm": "Japanese"})
    assert found is not None
    assert [(step.model, step.layer, step.scale, step.again) for step in found.steps] == [
        ("vlm", 0, 1.0, False), ("vlm", 1, 1.0, False), ("Japanese", 1, 0.5, False), ("vlm", 1, 2.0, True),
        ("vlm", 2, 2.0, False),
    ]  # fmt: skip
    assert list(found.models) == ["vlm", "Japanese"]
    assert len({step.colour for step in found.steps}) == 2
    assert found.scaled


def test_other_recipes_are_no_paths() -> None:
    sources = [{"model": "org/vlm", "parameters": {"weight": 1}}]
    assert path_picture(dump_recipe(parse_recipe({"merge_method": "linear", "models": sources}, "a test")), {}) is None


def test_the_figure_has_a_box_for_each_layer_in_rows() -> None:
    found = path_picture(dump_recipe(path_recipe(VLM, [(Block(VLM, 0, 20), 1.0), (Block(LM, 0, 1), 2.0)])), {})
    assert found is not None
    (axes,) = draw_path(found, read_phrases("en"), contaminated=False).axes
    assert len(axes.patches) == 21
    written = [text.get_text() for text in axes.texts]
    assert {"0", "19", "×0.50", "■ vlm", "■ lm"} <= set(written)
    assert axes.get_ylim()[0] == 2
