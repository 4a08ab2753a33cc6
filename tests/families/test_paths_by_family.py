"""Paths through layers, family by family: live, on disk and by transformers alone the same; and which decoders are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from askable import StandIn, make_loud, paint, write_askable, write_askable_lm, write_tokenizer
from safetensors.torch import load_file
from tiny_families import TINY, write_host, write_lm

from vlmerge.anatomy import dissect, live_roles
from vlmerge.checkpoint import resolve
from vlmerge.config import ModelRef, PathSpec, Recipe
from vlmerge.errors import MismatchError
from vlmerge.merge import Prepared, merge, prepare_paths
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.loading import load
from vlmerge.runtime.parents import Parents
from vlmerge.search.path_space import Block, path_recipe
from vlmerge.types import Decoding, Picture, Question

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
GREEDY = Decoding(max_new_tokens=8)
CPU = torch.device("cpu")


def path_of(models: Prepared, *steps: tuple[str, int, float]) -> Recipe:
    """A path through layers (model, layer, product of the factors so far)."""
    refs = {ref.name: ref for ref in models.checkpoints}
    return path_recipe(models.host, [(Block(refs[name], layer, layer + 1), product) for name, layer, product in steps])


STEPS = (("host", 0, 1.0), ("lm", 0, 1.25), ("lm", 1, 1.25), ("host", 0, 0.8), ("lm", 1, 1.25), ("host", 1, 0.5))
"""Layers of two models, some of them twice, factors up and down."""


def models_of(folder: Path) -> Prepared:
    return prepare_paths(PathSpec(models=(ModelRef(str(folder / "host")), ModelRef(str(folder / "lm")))))


def require_equal(live: LiveModel, out: Path) -> None:
    """Every tensor of the live model, layers that share theirs too, is the exported one."""
    held = {name: each.detach() for name, each in live._model.named_parameters(remove_duplicate=False)}
    written, names = load_file(out / "model.safetensors"), dissect(resolve(ModelRef(str(out)))).roles
    roles = live_roles(held)
    assert len([role for role in roles if role.startswith("layers.")]) == len([role for role in names if role[:7] == "layers."])
    for role, name in roles.items():
        assert role not in names or torch.equal(held[name], written[names[role]]), role


@pytest.mark.parametrize("name", ["llava-llama", "paligemma"])
def test_a_path_is_what_transformers_alone_makes_of_its_files(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    write_askable(tmp_path / "host", name)
    from askable import ASKABLE

    write_askable_lm(tmp_path / "lm", ASKABLE[name].tiny.lm, seed=2)
    models = models_of(tmp_path)
    live = LiveModel.load(models, choose_placement("cpu", batch_size=3, host_dtype="float32"))
    picture = Picture(paint(tmp_path / "pictures")[0])
    asked = [Question(str(n), "t", words, (picture,), ("",)) for n, words in enumerate(("▁w3 ▁w7", "▁w9 ▁w2 ▁w1"))]
    host = [answer.text for answer in live.answer(asked, GREEDY)]
    recipe = path_of(models, *STEPS)
    live.merge(recipe)
    merge(recipe, tmp_path / "out", prepared=models)
    require_equal(live, tmp_path / "out")

    processor, plain = (each.from_pretrained(tmp_path / "out") for each in (AutoProcessor, AutoModelForImageTextToText))
    assert plain.config.get_text_config().num_hidden_layers == len(STEPS)
    found = list(live.answer(asked, GREEDY))
    for answer in found:
        inputs: Any = processor(
            text=[live.prompt(answer.question)],
            images=[picture.open()],
            return_tensors="pt",
            add_special_tokens=name != "llava-llama",
        )
        with torch.inference_mode():
            ids = plain.eval().generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
        assert answer.text == processor.tokenizer.decode(ids[: ids.index(2)] if 2 in ids else ids, skip_special_tokens=True)
    assert [answer.text for answer in found] != host
    live.merge(path_of(models, ("host", 0, 1.0), ("host", 1, 1.0)))
    assert [answer.text for answer in live.answer(asked, GREEDY)] == host


def test_a_path_keeps_positions_in_three_parts(tmp_path: Path) -> None:
    """Qwen2-VL, asked through a stand-in for its processor, which needs torchvision."""
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    tiny = TINY["qwen2-vl"]
    make_loud(write_host(tmp_path / "host", tiny, seed=4))
    write_tokenizer(tmp_path / "host", ("<image>", *(f"▁x{index}" for index in range(29, tiny.rows[0]))), ())
    write_askable_lm(tmp_path / "lm", tiny.lm, seed=2)
    models = models_of(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "host")
    loaded = load(models.checkpoints[models.host], models.anatomies[models.host], device=CPU, dtype=torch.float32)
    processor = StandIn(tiny, tokenizer)
    live = LiveModel(
        replace(loaded, processor=processor, tokenizer=tokenizer, cannot_ask=None, bare="plain"),
        choose_placement("cpu", batch_size=3, host_dtype="float32"),
    )
    live._parents = Parents.read(models, live._model, CPU)
    recipe = path_of(models, *STEPS)
    live.merge(recipe)
    merge(recipe, tmp_path / "out", prepared=models)
    require_equal(live, tmp_path / "out")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()
    for question in [Question("1", "t", "▁w9 ▁w2 ▁w1", (Picture(paint(tmp_path / "pictures")[0]),), ("",))]:
        inputs = processor([live.prompt(question)], [picture.open() for picture in question.pictures])
        with torch.inference_mode():
            ids = plain.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
        (answer,) = live.answer([question], GREEDY)
        assert answer.text == tokenizer.decode(ids[: ids.index(2)] if 2 in ids else ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("name", "scaled", "said"),
    [
        ("paligemma2", False, "several kinds: sliding_attention, full_attention"),
        ("mllama", False, "cross-attention"),
        ("aya-vision-cohere", True, "cannot be folded"),
        ("qwen3-vl", True, "cannot be folded"),
    ],
)
def test_decoders_that_a_path_would_break_are_refused(name: str, scaled: bool, said: str, tmp_path: Path) -> None:
    write_host(tmp_path / "host", TINY[name])
    spec = PathSpec.model_validate({"models": [str(tmp_path / "host")], "scale": scaled})
    with pytest.raises(MismatchError, match=said):
        prepare_paths(spec)


def test_without_factors_a_parallel_block_is_on_a_path(tmp_path: Path) -> None:
    write_host(tmp_path / "host", TINY["aya-vision-cohere"])
    assert prepare_paths(PathSpec(models=(ModelRef(str(tmp_path / "host")),))).pairing.layers == 3


def test_models_of_another_width_are_refused_and_of_another_depth_not(tmp_path: Path) -> None:
    tiny = TINY["llava-llama"]
    write_host(tmp_path / "host", tiny)
    write_lm(tmp_path / "lm", {**tiny.lm, "num_hidden_layers": 3}, seed=2)
    assert models_of(tmp_path).pairing.layers == 2 + 3 + 1
    write_lm(tmp_path / "wide", {**tiny.lm, "intermediate_size": 96}, seed=2)
    with pytest.raises(MismatchError, match="different shapes"):
        prepare_paths(PathSpec(models=(ModelRef(str(tmp_path / "host")), ModelRef(str(tmp_path / "wide")))))
