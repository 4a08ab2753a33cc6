"""LLaVA as its authors save it, which transformers does not load, says what the same model says in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image

from vlmerge.ask import ask
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.run import RuntimeSpec
from vlmerge.errors import CheckpointError
from vlmerge.merge import Prepared, prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.types import Decoding, Picture, Question

from .conftest import FAMILY, questions
from .original_layout import write_original

# The shipped family is at a loss with LLaVA's own prompt, and all the more sensitive to the smallest difference.
GREEDY = Decoding(max_new_tokens=24)
BEAMS = Decoding(max_new_tokens=12, num_beams=2)


def opened(path: Path) -> Prepared:
    return prepare_models([ModelRef(str(path))])


def loaded(path: Path, dtype: str = "auto") -> LiveModel:
    placement = choose_placement("cpu", dtype, batch_size=4, host_dtype="float16")
    return LiveModel.load_single(opened(path), placement, template="vicuna_v1")


@pytest.fixture(scope="module")
def hf() -> LiveModel:
    return loaded(FAMILY / "vlm")


@pytest.mark.parametrize("storage", ["safetensors", "bin"])
def test_answers_are_those_of_the_same_model_in_the_other_layout(
    storage: Literal["safetensors", "bin"], hf: LiveModel, tmp_path: Path
) -> None:
    original = loaded(write_original(tmp_path / "llava", tmp_path / "clip", storage=storage))
    asked = questions("holdout", "ja", 8) + questions("search", "en", 4)
    for decoding in (GREEDY, BEAMS):
        expected, answers = (list(live.answer(asked, decoding)) for live in (hf, original))
        assert answers == expected
        assert len({answer.text for answer in answers}) > 2
    assert "<unk>\n" in original.prompt(asked[0])


def test_half_precision_touches_the_weights_alone(tmp_path: Path) -> None:
    """Rotary frequencies, which no file holds, stay as precise as transformers itself keeps them."""
    original = loaded(write_original(tmp_path / "llava", tmp_path / "clip"), "float16")
    expected = dict(loaded(FAMILY / "vlm", "float16")._model.named_buffers())
    buffers = dict(original._model.named_buffers())
    assert buffers.keys() == expected.keys()
    for name, buffer in buffers.items():
        assert buffer.dtype == expected[name].dtype, name
        assert torch.equal(buffer, expected[name]), name
    assert {parameter.dtype for parameter in original._model.parameters()} == {torch.float16}


@pytest.mark.parametrize(("aspect", "padded"), [("pad", True), ("square", False), (None, False)])
def test_pictures_are_padded_where_the_model_was_trained_so(aspect: str | None, padded: bool, tmp_path: Path) -> None:
    """LLaVA-1.5 lays an oblong picture on a square of the mean colour; CLIP's own processor cuts its ends off."""
    wide = Image.new("RGB", (96, 48), (250, 20, 20))
    wide.paste((20, 20, 250), (0, 0, 24, 48))
    wide.save(tmp_path / "wide.png")
    square = Image.new("RGB", (96, 96), (127, 127, 127))
    square.paste(wide, (0, 24))
    square.save(tmp_path / "square.png")
    live = loaded(write_original(tmp_path / "llava", tmp_path / "clip", image_aspect_ratio=aspect))
    asked = [Question(name, "t", "?", (Picture(tmp_path / f"{name}.png"),), ("",)) for name in ("wide", "square")]
    one, other = (live.prompter.encode(question)[1]["pixel_values"] for question in asked)
    assert torch.equal(one, other) is padded


def test_the_tower_may_lie_beside_the_checkpoint(tmp_path: Path) -> None:
    path = write_original(tmp_path / "llava", tmp_path / "llava-clip", mm_vision_tower="../llava-clip")
    picture = str(FAMILY / "bench" / "holdout" / "000.png")
    answers = {
        ask(str(model), [picture], "What is this?", GREEDY, RuntimeSpec(device="cpu"), template="vicuna_v1").text
        for model in (path, FAMILY / "vlm")
    }
    assert len(answers) == 1
    assert answers != {""}


def test_a_tower_inside_the_checkpoint_goes_before_the_one_outside(tmp_path: Path) -> None:
    """LLaVA-1.6 tuned its tower, and has it among its own weights."""
    from safetensors.torch import load_file, save_file

    path = write_original(tmp_path / "llava", tmp_path / "clip")
    weights = load_file(path / "model.safetensors")
    own = {f"model.vision_tower.vision_tower.{n}": t for n, t in load_file(tmp_path / "clip" / "model.safetensors").items()}
    bias = "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias"
    own = {name: tensor for name, tensor in own.items() if ".vision_model." in name} | {bias: own[bias] + 1}
    save_file(weights | own, path / "model.safetensors", metadata={"format": "pt"})
    live = loaded(path)
    assert torch.equal(live._model.model.vision_tower.pre_layrnorm.bias, own[bias].float())


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"mm_projector_type": "linear"}, "kind of projector cannot be asked"),
        ({"model_type": "llava_mistral"}, "kind of decoder cannot be asked"),
        ({"image_aspect_ratio": "anyres"}, "cutting pictures up cannot be asked"),
        ({"mm_vision_tower": None}, "which vision tower"),
        ({"mm_vision_tower": "./gone"}, "gone"),
    ],
)
def test_what_it_cannot_be_asked_with_is_named(keys: dict[str, object], complaint: str, tmp_path: Path) -> None:
    path = write_original(tmp_path / "llava", tmp_path / "clip", **keys)
    with pytest.raises(CheckpointError, match=complaint):
        loaded(path)


def test_a_tower_without_its_processor_is_named(tmp_path: Path) -> None:
    path = write_original(tmp_path / "llava", tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        loaded(path)


def test_a_tokenizer_without_the_unknown_token_is_named(tmp_path: Path) -> None:
    path = write_original(tmp_path / "llava", tmp_path / "clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (path / name).read_text(encoding="utf-8").replace('"<unk>"', '"<what>"')
        (path / name).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="<unk>"):
        loaded(path)
