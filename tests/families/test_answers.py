"""Every family answers as its own `generate` does, asked one question at a time: before a merge, after it, from disk.

Families whose processors need torchvision are asked through a stand-in that gives what their processors would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from askable import ASKABLE, STAND_INS, StandIn, make_loud, paint, write_askable, write_askable_lm, write_tokenizer
from safetensors.torch import load_file
from tiny_families import TINY, write_host

from vlmerge.anatomy import FAMILIES, dissect, live_roles
from vlmerge.checkpoint import resolve
from vlmerge.config import ModelRef, Recipe
from vlmerge.errors import CheckpointError, TaskError
from vlmerge.merge import Prepared, merge, prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.loading import load
from vlmerge.runtime.ways import WHOLE_BECAUSE, sliding_window, whole_because
from vlmerge.types import Answer, Decoding, Picture, Question

pytestmark = [
    # PaliGemma's processor makes labels for training in a way that NumPy will not have for long; Mllama's tower is renamed.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning"),
]
GREEDY = Decoding(max_new_tokens=10)
BEAMS = Decoding(max_new_tokens=6, num_beams=2)
ASKED = (((0,), "▁w3 ▁w7"), ((1,), "▁w3 ▁w7"), ((0,), "▁w9 ▁w2 ▁w1 ▁w4"), ((1, 2), "▁w5"), ((), "▁w6 ▁w6 ▁w8"))
"""Pictures and words of the questions."""
WHOLE = ("Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL", "PaliGemma", "Gemma 3", "Mllama")
LMS = {
    "llama": TINY["llava-llama"].lm, "mistral": TINY["llava-mistral"].lm, "ministral3": TINY["ministral3"].lm,
    "qwen2": TINY["llava-qwen2"].lm,
    "qwen3": TINY["qwen3-vl"].lm, "gemma": TINY["paligemma"].lm, "gemma2": TINY["paligemma2"].lm,
    "gemma3_text": TINY["gemma3"].lm, "cohere": TINY["aya-vision-cohere"].lm, "cohere2": TINY["aya-vision"].lm,
    "phi3": {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 64, "intermediate_size": 48,
             "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32,
             "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "torch_dtype": "float32"},
}  # fmt: skip


def questions(pictures: Sequence[Path], *, text: bool = True) -> list[Question]:
    """All of them, or those about pictures."""
    return [
        Question(str(number), "t", words, tuple(Picture(pictures[each]) for each in shown), ("",))
        for number, (shown, words) in enumerate(ASKED)
        if text or shown
    ]


@dataclass(frozen=True)
class Kin:
    """A VLM that can be asked, its language model, and pictures."""

    name: str
    folder: Path
    pictures: list[Path]

    @property
    def asked(self) -> list[Question]:
        """PaliGemma's processor wants a picture beside every text."""
        return questions(self.pictures, text=not self.name.startswith("paligemma"))

    def models(self, *names: str) -> Prepared:
        return prepare_models([ModelRef(str(self.folder / name)) for name in names])

    def live(self, *names: str, batch_size: int = 3) -> LiveModel:
        return LiveModel.load(self.models(*names), choose_placement("cpu", batch_size=batch_size, host_dtype="float32"))

    def recipe(self, **weights: float) -> Recipe:
        models = [{"model": str(self.folder / name), "parameters": {"weight": weight}} for name, weight in weights.items()]
        return Recipe.model_validate({"merge_method": "linear", "models": models, "parameters": {"normalize": False}})


@pytest.fixture(scope="module", params=ASKABLE)
def kin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kin:
    from transformers import AutoProcessor

    folder = tmp_path_factory.mktemp(request.param)
    write_askable(folder / "host", request.param)
    try:
        AutoProcessor.from_pretrained(folder / "host")
    except ValueError as error:
        if "torchvision" not in str(error):
            raise
        pytest.skip("in this version of transformers its processor needs torchvision")
    write_askable_lm(folder / "lm", ASKABLE[request.param].tiny.lm, seed=2)
    return Kin(request.param, folder, paint(folder / "pictures"))


def said(live: LiveModel, asked: Sequence[Question], decoding: Decoding = GREEDY) -> dict[str, tuple[str, int]]:
    def key(answer: Answer) -> tuple[str, int]:
        return answer.text, answer.tokens

    return {answer.question.id: key(answer) for answer in live.answer(asked, decoding)}


def generated(kin: Kin, checkpoint: str, decoding: Decoding = GREEDY) -> dict[str, tuple[str, int]]:
    """By transformers alone, from disk, as a person would: its processor's own template, one question at a time."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = kin.folder / checkpoint
    processor = AutoProcessor.from_pretrained(folder)
    model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
    found: dict[str, tuple[str, int]] = {}
    for question in kin.asked:
        images = [picture.open() for picture in question.pictures]
        if ASKABLE[kin.name].template:
            content = [*({"type": "image", "image": each} for each in images), {"type": "text", "text": question.text}]
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
            )  # fmt: skip
        else:
            inputs = processor(text=["<image>" * len(images) + question.text], images=images, return_tensors="pt")
        how = {"max_new_tokens": decoding.max_new_tokens, "num_beams": decoding.num_beams, "do_sample": False}
        with torch.inference_mode():
            ids = model.generate(**inputs, **how)[0, inputs["input_ids"].shape[1] :].tolist()
        found[question.id] = _read(processor.tokenizer, ids)
    return found


def _read(tokenizer: Any, ids: list[int]) -> tuple[str, int]:
    """Text and number of tokens, the end among them, as answers count."""
    end = ids.index(2) + 1 if 2 in ids else len(ids)
    return tokenizer.decode(ids[:end], skip_special_tokens=True), end


def weights_of(live: LiveModel) -> dict[str, torch.Tensor]:
    parameters = dict(live._model.named_parameters())
    return {role: parameters[name].detach() for role, name in live_roles(parameters).items()}


def count_looks(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts what goes through the tower from now on."""
    looks: list[int] = []
    tower = live._tower
    assert tower is not None
    see = tower.see

    def counting(pixels: Sequence[Any]) -> Any:
        looks.extend(1 for _ in pixels)
        return see(pixels)

    monkeypatch.setattr(tower, "see", counting)
    return looks


# ── families with a processor ──


def test_answers_are_those_of_generate(kin: Kin) -> None:
    expected = generated(kin, "host")
    live = kin.live("host")
    assert (live.whole_because is not None) == (ASKABLE[kin.name].tiny.family in WHOLE or kin.name == "aya-vision")
    assert said(live, kin.asked) == expected
    for batch_size in (1, 16):
        live.batch_size = batch_size
        assert said(live, kin.asked) == expected
    assert len({text for text, _ in expected.values()}) == len(expected)  # pictures and words count


def test_beams_are_those_of_generate(kin: Kin) -> None:
    """Older versions of transformers lose track of whose a second picture or tile is: there, texts alone are compared."""
    from transformers import GenerationMixin

    found, expected = said(kin.live("host"), kin.asked, BEAMS), generated(kin, "host", BEAMS)
    keeps_track = hasattr(GenerationMixin, "_expand_multimodal_outputs")
    assert found.keys() == expected.keys()
    assert all(found[each.id] == expected[each.id] for each in kin.asked if keeps_track or not each.pictures)


def test_what_is_scored_in_place_is_what_is_written(kin: Kin) -> None:
    live, recipe = kin.live("host", "lm"), kin.recipe(host=0.7, lm=0.4)
    before = said(live, kin.asked)
    live.merge(recipe)
    merge(recipe, kin.folder / "merged", prepared=kin.models("host", "lm"))
    assert said(live, kin.asked) == generated(kin, "merged") != before
    written = load_file(kin.folder / "merged" / "model.safetensors")
    names = dissect(resolve(ModelRef(str(kin.folder / "merged")))).roles
    assert all(torch.equal(tensor, written[names[role]]) for role, tensor in weights_of(live).items())
    live.merge(kin.recipe(host=1, lm=0))
    assert said(live, kin.asked) == before


def test_the_tower_looks_once_at_what_candidates_share(kin: Kin, monkeypatch: pytest.MonkeyPatch) -> None:
    live = kin.live("host", "lm")
    looks = count_looks(live, monkeypatch)
    for weight in (0.3, 0.5, 0.7):
        live.merge(kin.recipe(host=weight, lm=1 - weight))
        said(live, kin.asked)
    assert len(looks) == 3  # pictures 0, 1, and 1 with 2


def test_a_tower_that_changes_looks_again(kin: Kin, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (kin.folder / "other").is_dir():
        write_askable(kin.folder / "other", kin.name, seed=5)
    live = kin.live("host", "other")
    looks = count_looks(live, monkeypatch)
    for weight in (0.6, 0.5):
        recipe = kin.recipe(host=weight, other=1 - weight)
        live.merge(recipe)
        found = said(live, kin.asked)
    assert len(looks) == 6
    merge(recipe, kin.folder / "two", prepared=kin.models("host", "other"))
    assert found == generated(kin, "two")


def test_a_question_without_picture_is_refused_where_the_processor_wants_one(tmp_path: Path) -> None:
    write_askable(tmp_path / "host", "paligemma")
    live = Kin("paligemma", tmp_path, []).live("host")
    with pytest.raises(TaskError, match=r"processor does not take(.|\n)*0 picture(.|\n)*take the question out"):
        said(live, [Question("1", "t", "▁w3", (), ("",))])


def test_a_prompt_without_template_is_the_processors_plain_form(tmp_path: Path) -> None:
    for name, expected in (("paligemma", "<image><image>▁w5"), ("mllama", "<|image|><|image|>▁w5")):
        write_askable(tmp_path / name, name)
        (tmp_path / name / "chat_template.json").unlink(missing_ok=True)
        live = Kin(name, tmp_path, []).live(name)
        assert live.prompt(questions(paint(tmp_path / "pictures"))[3]) == expected


# ── families whose processors need torchvision ──


@pytest.mark.parametrize("name", STAND_INS)
def test_a_family_without_processor_merges_and_says_what_it_lacks(name: str, tmp_path: Path) -> None:
    write_host(tmp_path / "host", TINY[name])
    write_askable_lm(tmp_path / "lm", TINY[name].lm, seed=2)
    kin = Kin(name, tmp_path, paint(tmp_path / "pictures"))
    live, recipe = kin.live("host", "lm"), kin.recipe(host=0.7, lm=0.4)
    live.merge(recipe)
    merge(recipe, tmp_path / "out")
    written, names = load_file(tmp_path / "out" / "model.safetensors"), dissect(resolve(ModelRef(str(tmp_path / "out")))).roles
    assert all(torch.equal(tensor, written[names[role]]) for role, tensor in weights_of(live).items())
    for ask in (lambda: said(live, kin.asked), lambda: live.prompt(kin.asked[0])):
        with pytest.raises(CheckpointError, match=r"merged but not be asked(.|\n)*no preprocessor_config.json"):
            ask()


@pytest.mark.parametrize("name", STAND_INS)
def test_its_answers_are_those_of_generate_once_there_is_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    tiny = TINY[name]
    make_loud(write_host(tmp_path / "host", tiny, seed=4))
    write_tokenizer(tmp_path / "host", ("<image>", *(f"▁x{index}" for index in range(29, tiny.rows[0]))), ())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "host")
    checkpoint = resolve(ModelRef(str(tmp_path / "host")))
    placement = choose_placement("cpu", batch_size=3, host_dtype="float32")
    loaded = load(checkpoint, dissect(checkpoint), device=torch.device("cpu"), dtype=torch.float32)
    processor = StandIn(tiny, tokenizer)
    live = LiveModel(replace(loaded, processor=processor, tokenizer=tokenizer, cannot_ask=None, bare="plain"), placement)
    asked = questions(paint(tmp_path / "pictures"))
    expected: dict[str, tuple[str, int]] = {}
    for question in asked:
        inputs = processor([live.prompt(question)], [picture.open() for picture in question.pictures])
        with torch.inference_mode():
            ids = live._model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected[question.id] = _read(tokenizer, ids.tolist())
    assert (live.whole_because is not None) == (tiny.family in WHOLE or name == "cohere2-vision")
    looks = count_looks(live, monkeypatch)
    assert said(live, asked) == said(live, asked) == expected
    assert len(looks) == 3
    assert len({text for text, _ in expected.values()}) > 2


# ── language models ──


@pytest.mark.parametrize("name", LMS)
def test_language_models_merge_and_answer_without_eyes(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for number in (1, 2):
        write_askable_lm(tmp_path / f"lm{number}", LMS[name], seed=number)
    kin = Kin(name, tmp_path, [])
    live, recipe = kin.live("lm1", "lm2"), kin.recipe(lm1=0.7, lm2=0.4)
    asked = [Question(str(n), "t", words, (), ("",)) for n, words in enumerate(("▁w3", "▁w7 ▁w2 ▁w9", "▁w5 ▁w5"))]
    before = said(live, asked)
    live.merge(recipe)
    merge(recipe, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    expected: dict[str, tuple[str, int]] = {}
    for question in asked:
        inputs = tokenizer([live.prompt(question)], return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected[question.id] = _read(tokenizer, ids.tolist())
    assert said(live, asked) == expected != before


# ── which way ──


def test_every_family_that_sees_has_its_way() -> None:
    assert {name for name, family in FAMILIES.items() if family.is_vlm} <= WHOLE_BECAUSE.keys() <= FAMILIES.keys()


@pytest.mark.parametrize("name", [*TINY, *LMS])
def test_windows_are_those_of_the_config_class(name: str, tmp_path: Path) -> None:
    from transformers import CONFIG_MAPPING

    config = TINY[name].config if name in TINY else LMS[name]
    text = CONFIG_MAPPING[config["model_type"]](**config).get_text_config()
    inner = config.get("text_config", config)
    window = sliding_window(inner["model_type"].removesuffix("_vl_text").replace("_vl", ""), inner)
    assert (window is None) == (getattr(text, "sliding_window", None) is None)
    if name in TINY:
        write_host(tmp_path / "host", TINY[name])
    else:
        write_askable_lm(tmp_path / "host", config, seed=1)
    reason = whole_because(dissect(resolve(ModelRef(str(tmp_path / "host")))), config)
    assert (reason is not None) >= (window is not None)
