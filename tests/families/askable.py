"""Tiny checkpoints that can be asked: tokenizer, processor, chat template and generation settings beside the weights.

Image processors are as small as the towers, their settings as the hub has them. Imports nothing of vlmerge.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_families import IMAGE, TINY, WORDS, Config, Tiny, write_host, write_lm

TURN = "▁w24"
"""What a chat template puts where the answer begins."""


@dataclass(frozen=True)
class Askable:
    """What a family needs beside its weights.

    Attributes:
        tiny: Its weights.
        processor: processor_config.json.
        images: preprocessor_config.json.
        token: What stands for a picture in a prompt.
        tokens: Tokens behind the words, the first with the id of a picture token.
        named: Tokens that the tokenizer knows by an attribute.
        template: Whether the checkpoint has a chat template.
    """

    tiny: Tiny
    processor: Config
    images: Config
    token: str = "<image>"
    tokens: tuple[str, ...] = ("<image>", "<more>")
    named: tuple[tuple[str, str], ...] = ()
    template: bool = True


def _square(side: int) -> Config:
    return {"height": side, "width": side}


def _edited(name: str, **keys: Any) -> Tiny:
    """A family with other keys in its config; inner configs are updated."""
    config = deepcopy(TINY[name].config)
    for key, value in keys.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return replace(TINY[name], config=config)


HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
PINPOINTS = [[16, 16], [8, 16], [16, 8]]
CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size": _square(8), **HALF}
LLAVA = {
    "patch_size": 4,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
    "image_token": "<image>",
}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": _square(8), "image_seq_length": 4, **HALF}
AYA = (
    {"processor_class": "AyaVisionProcessor", "patch_size": 4, "img_size": 8, "downsample_factor": 2},
    {"image_processor_type": "GotOcr2ImageProcessor", "size": _square(8), "min_patches": 1, "max_patches": 4, **HALF},
)
AYA_TOKENS = ("<|IMG_PATCH|>", "<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>")

ASKABLE: dict[str, Askable] = {
    "llava-llama": Askable(TINY["llava-llama"], {"processor_class": "LlavaProcessor", **LLAVA}, CLIP),
    "llava-next": Askable(
        _edited("llava-next", image_grid_pinpoints=PINPOINTS),
        {"processor_class": "LlavaNextProcessor", **LLAVA},
        {**CLIP, "image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": PINPOINTS, "do_pad": True},
    ),
    "idefics3": Askable(
        TINY["idefics3"],
        {"processor_class": "Idefics3Processor", "image_seq_len": 1},
        {"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 16}, "max_image_size": {"longest_edge": 8},
         "do_image_splitting": True, **HALF},
        tokens=("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<row_1_col_1>"),
    ),
    "paligemma": Askable(TINY["paligemma"], {"processor_class": "PaliGemmaProcessor"}, SIGLIP, template=False,
                         named=(("image_token", "<image>"),)),
    "paligemma2": Askable(TINY["paligemma2"], {"processor_class": "PaliGemmaProcessor"}, SIGLIP, template=False,
                          named=(("image_token", "<image>"),)),
    "gemma3": Askable(
        TINY["gemma3"],
        {"processor_class": "Gemma3Processor", "image_seq_length": 4},
        {"image_processor_type": "Gemma3ImageProcessor", "size": _square(8), **HALF},
        token="<start_of_image>", tokens=("<image_soft_token>", "<start_of_image>", "<end_of_image>"),
        named=(("image_token", "<image_soft_token>"), ("boi_token", "<start_of_image>"), ("eoi_token", "<end_of_image>")),
    ),
    "mllama": Askable(
        _edited("mllama", vision_config={"max_num_tiles": 2, "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]}),
        {"processor_class": "MllamaProcessor"},
        {"image_processor_type": "MllamaImageProcessor", "size": _square(8), "max_image_tiles": 2, "do_pad": True, **HALF},
        token="<|image|>", tokens=("<|image|>",),
    ),
    "aya-vision": Askable(TINY["aya-vision"], *AYA, tokens=AYA_TOKENS),
    "aya-vision-cohere": Askable(TINY["aya-vision-cohere"], *AYA, tokens=AYA_TOKENS),
}  # fmt: skip
"""Families whose processors need no torchvision."""


def write_askable(folder: Path, name: str, seed: int = 1) -> Path:
    """The VLM with all that it needs to be asked."""
    one = ASKABLE[name]
    make_loud(write_host(folder, one.tiny, seed))
    more = [f"▁x{index}" for index in range(IMAGE + len(one.tokens), one.tiny.rows[0])]
    write_tokenizer(folder, (*one.tokens, *more), one.named)
    write_json(folder / "preprocessor_config.json", one.images)
    write_json(folder / "processor_config.json", one.processor)
    if one.template:
        parts = "{% for part in message['content'] %}{{ IMAGE if part['type'] == 'image' else ' ' + part['text'] }}{% endfor %}"
        template = "{{ bos_token }}{% for message in messages %}" + parts + "{% endfor %} " + TURN
        write_json(folder / "chat_template.json", {"chat_template": template.replace("IMAGE", repr(one.token))})
    return folder


def write_askable_lm(folder: Path, config: Config, seed: int) -> Path:
    """A plain language model with a tokenizer that marks beginnings."""
    make_loud(write_lm(folder, config, seed))
    more = [f"▁y{index}" for index in range(IMAGE, config["vocab_size"])]
    write_tokenizer(folder, tuple(more), (), words=WORDS[: config["vocab_size"]])
    return folder


def make_loud(folder: Path) -> None:
    """Makes what layers, towers and projectors add larger: pictures and words that hardly count would hide mistakes."""
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if "_gate" in name and tensor.ndim == 1:
            tensor.fill_(1)  # Mllama's, through which pictures come in.
        elif tensor.ndim > 1 and tensor.is_floating_point() and "embed" not in name and "lm_head" not in name:
            tensor.mul_(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_tokenizer(
    folder: Path, tokens: tuple[str, ...], named: tuple[tuple[str, str], ...], words: list[str] = WORDS
) -> None:
    """A tokenizer of whole words, that puts a beginning before each text."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    whole = [*words, *tokens]
    tokenizer = Tokenizer(WordLevel({token: index for index, token in enumerate(whole)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in whole if token[0] == "<"])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
            "pad_token": "</s>", "extra_special_tokens": dict(named)}  # fmt: skip
    write_json(folder / "tokenizer_config.json", said)
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def paint(folder: Path) -> list[Path]:
    """Three pictures: wide, tall, square."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(1)
    files: list[Path] = []
    for number, (width, height) in enumerate(((24, 10), (9, 16), (16, 16))):
        coarse = generator.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        file = folder / f"{number}.png"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).save(file)
        files.append(file)
    return files


class StandIn:
    """In place of a processor that needs torchvision: gives what it would give, of pictures that differ in brightness alone."""

    image_token = "<image>"
    chat_template = None

    def __init__(self, tiny: Tiny, tokenizer: Any) -> None:
        self.tiny, self.tokenizer = tiny, tokenizer

    def __call__(self, text: list[str], images: list[Image.Image] | None, **_: Any) -> dict[str, torch.Tensor]:
        """One prompt: each picture's token multiplied, its pixels as the family's tower wants them."""
        pixels, placeholders = self.tiny.inputs()
        prompt = text[0].replace(self.image_token, f" ▁w1 {self.image_token * placeholders} ▁w2 ")
        ids = torch.tensor([self.tokenizer.encode(prompt)])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **self.tiny.more(ids)}
        if images:
            shown = [self._shaded(pixels, float(np.asarray(image).mean()) / 255) for image in images]
            side = 1 if pixels["pixel_values"].ndim == 5 and "image_sizes" not in pixels else 0
            given |= {name: torch.cat([one[name] for one in shown], side if name == "pixel_values" else 0) for name in pixels}
        return given

    @staticmethod
    def _shaded(pixels: dict[str, torch.Tensor], shade: float) -> dict[str, torch.Tensor]:
        return {name: tensor * shade if tensor.is_floating_point() else tensor for name, tensor in pixels.items()}


STAND_INS = (
    "llava-onevision", "qwen2-vl", "qwen2.5-vl", "qwen3-vl", "internvl", "smolvlm", "pixtral-12b", "mistral3", "ministral3",
    "cohere2-vision",
)  # fmt: skip
"""Families whose processors need torchvision."""
