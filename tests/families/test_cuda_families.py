"""Every family on a GPU: merges are the CPU's up to one unit in the last place, answers are `generate`'s on the same device."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from askable import StandIn, make_loud, paint, write_askable_lm, write_tokenizer
from tiny_families import TINY, Config, Tiny, write_host

from vlmerge.anatomy import dissect, live_roles
from vlmerge.checkpoint import resolve
from vlmerge.config import ModelRef, Recipe
from vlmerge.merge import Prepared, prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.loading import load
from vlmerge.types import Decoding, Picture, Question

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning"),
]
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
"""Heads as the fused path takes them; those of tiny models are smaller than any real one's."""
FUSED = {
    "llava-llama": "the real thing", "llava-qwen2": "biases", "llava-next-llama": "tiles", "llava-next-qwen2": "tiles, biases",
    "llava-onevision": "a tied head", "internvl": "pixel shuffle", "internvl-llama": "pixel shuffle", "idefics3": "connector",
    "smolvlm": "connector", "pixtral-12b": "sizes of pictures", "mistral3": "patch merger",
}  # fmt: skip
OTHERS = (
    "internvl-qwen3",
    "ministral3",
    "qwen2-vl",
    "qwen2.5-vl",
    "qwen3-vl",
    "paligemma",
    "gemma3",
    "mllama",
    "aya-vision-cohere",
)
ASKED = (((0,), "▁w3 ▁w7"), ((1,), "▁w3 ▁w7"), ((0,), "▁w9 ▁w2 ▁w1 ▁w4"), ((1, 2), "▁w5"), ((), "▁w6 ▁w6 ▁w8"))


def roomy(config: Config) -> Config:
    """The same with heads of 16."""
    changed = deepcopy(config)
    text = changed.get("text_config", changed)
    text.update(HEADS)
    return changed


def tiny_of(name: str) -> Tiny:
    tiny = TINY[name]
    return replace(tiny, config=roomy(tiny.config), lm=roomy(tiny.lm)) if name in FUSED else tiny


@pytest.fixture(scope="module", params=[*FUSED, *OTHERS])
def kin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder, tiny = tmp_path_factory.mktemp(request.param), tiny_of(request.param)
    make_loud(write_host(folder / "host", tiny, seed=4))
    write_tokenizer(folder / "host", ("<image>", *(f"▁x{index}" for index in range(29, tiny.rows[0]))), ())
    write_askable_lm(folder / "lm", tiny.lm, seed=2)
    return request.param, folder


def models(folder: Path) -> Prepared:
    return prepare_models([ModelRef(str(folder / name)) for name in ("host", "lm")])


def recipe(folder: Path, **keys: Any) -> Recipe:
    host, lm = str(folder / "host"), str(folder / "lm")
    listed = [{"model": host, "parameters": {"weight": 0.7}}, {"model": lm, "parameters": {"weight": 0.4}}]
    return Recipe.model_validate({"merge_method": "linear", "models": listed, "parameters": {"normalize": False}, **keys})


def live_on(device: str, folder: Path, dtype: str) -> LiveModel:
    return LiveModel.load(models(folder), choose_placement(device, dtype, batch_size=3, host_dtype=dtype))


def weights_of(live: LiveModel) -> dict[str, torch.Tensor]:
    parameters = dict(live._model.named_parameters())
    return {role: parameters[name].detach() for role, name in live_roles(parameters).items()}


@pytest.mark.parametrize("method", ["linear", "ties", "della", "svd_linear"])
def test_merges_are_the_cpus(kin: tuple[str, Path], method: str) -> None:
    _, folder = kin
    keys: dict[str, Any] = {"merge_method": method, "out_dtype": "bfloat16"}
    if method != "linear":
        keys |= {"base_model": str(folder / "lm"), "models": [{"model": str(folder / "host"), "parameters": {"weight": 0.6}}],
                 "parameters": {"rank" if method == "svd_linear" else "density": 0.5}}  # fmt: skip
    here, there = live_on("cpu", folder, "bfloat16"), live_on("cuda", folder, "bfloat16")
    for live in (here, there):
        live.merge(recipe(folder, **keys))
    found = weights_of(there)
    for role, wanted in weights_of(here).items():
        got, expected = found[role].cpu().double(), wanted.double()
        unit = torch.finfo(torch.bfloat16).eps * torch.maximum(got.abs(), expected.abs())
        assert bool(((got - expected).abs() <= unit + 2.0**-18 * expected.abs().max()).all()), role


def test_answers_are_those_of_generate(kin: tuple[str, Path]) -> None:
    from transformers import AutoTokenizer

    name, folder = kin
    if name == "mllama":
        pytest.skip("what its processor gives has no stand-in; on a CPU it is asked through the processor itself")
    tokenizer = AutoTokenizer.from_pretrained(folder / "host")
    checkpoint = resolve(ModelRef(str(folder / "host")))
    loaded = load(checkpoint, dissect(checkpoint), device=torch.device("cuda"), dtype=torch.float32)
    processor = StandIn(tiny_of(name), tokenizer)
    able = replace(loaded, processor=processor, tokenizer=tokenizer, cannot_ask=None, bare="plain")
    live = LiveModel(able, choose_placement("cuda", "float32", batch_size=3, host_dtype="float32"))
    pictures = paint(folder / "pictures")
    asked = [
        Question(str(number), "t", words, tuple(Picture(pictures[each]) for each in shown), ("",))
        for number, (shown, words) in enumerate(ASKED)
    ]
    expected: dict[str, str] = {}
    for question in asked:
        inputs = processor([live.prompt(question)], [picture.open() for picture in question.pictures])
        inputs = {key: tensor.cuda() for key, tensor in inputs.items()}
        with torch.inference_mode():
            ids = live._model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected[question.id] = tokenizer.decode(ids, skip_special_tokens=True)
    assert (live._fused is not None) == (name in FUSED), live.plain_because or live.whole_because
    for batch_size in (1, 16):
        live.batch_size = batch_size
        found = {answer.question.id: answer.text for answer in live.answer(asked, Decoding(max_new_tokens=10))}
        assert found == expected
    assert len(set(expected.values())) > 2
