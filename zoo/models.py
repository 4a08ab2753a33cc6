"""The shapes of a family: a small decoder, and a LLaVA around it with a five-layer CLIP vision tower.

Base and ja are the decoder alone (the demo's: 3.34 M parameters); vlm has a tower and a projector besides (2.03 M parameters).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

from zoo.tokenizer import BOS, EOS, IMAGE, PAD

IMAGE_PIXELS = 96
PATCH_PIXELS = 12
IMAGE_TOKENS = (IMAGE_PIXELS // PATCH_PIXELS) ** 2
TOWER_HIDDEN = 192

DECODER, TOWER, PROJECTOR = "decoder", "tower", "projector"
_MARKS = {
    DECODER: ("language_model", "lm_head"),
    TOWER: ("vision_tower",),
    PROJECTOR: ("multi_modal_projector",),
}


@dataclass(frozen=True)
class Shape:
    """A decoder.

    Attributes:
        config: Llama's, or Qwen2's (biases at queries, keys and values).
        layers: How many.
        heads: Of the queries.
        key_value_heads: Of keys and values.
        hidden: Width.
        intermediate: Width inside the MLPs.
    """

    config: type[LlamaConfig | Qwen2Config] = LlamaConfig
    layers: int = 6
    heads: int = 6
    key_value_heads: int = 6
    hidden: int = 192
    intermediate: int = 512


SHAPES: Mapping[str, Shape] = {
    "demo": Shape(),
    "qwen2": Shape(Qwen2Config, layers=9, heads=6, key_value_heads=2, intermediate=400),
}
"""What can be built: the demo's family, and a deeper, narrower one with grouped queries."""


def create(vocabulary: int, shape: Shape) -> LlavaForConditionalGeneration:
    """A VLM with random weights (torch's global seed), in float32 on the CPU."""
    text = shape.config(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    vision = CLIPVisionConfig(
        hidden_size=TOWER_HIDDEN,
        intermediate_size=576,
        num_hidden_layers=5,
        num_attention_heads=6,
        image_size=IMAGE_PIXELS,
        patch_size=PATCH_PIXELS,
        projection_dim=64,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        image_token_index=IMAGE,
        image_seq_length=IMAGE_TOKENS,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    return LlavaForConditionalGeneration(config)


def parameters_of(model: nn.Module, *parts: str) -> dict[str, nn.Parameter]:
    """Named parameters of the given parts (`DECODER`, `TOWER`, `PROJECTOR`), in the model's own order."""
    marks = tuple(mark for part in parts for mark in _MARKS[part])
    return {name: p for name, p in model.named_parameters() if any(mark in name for mark in marks)}


def save_parts(model: nn.Module, path: Path, *parts: str) -> None:
    """Writes the float32 parameters of the given parts as safetensors."""
    tensors = {name: p.detach().float().cpu().contiguous() for name, p in parameters_of(model, *parts).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def load_parts(model: nn.Module, *paths: Path) -> None:
    """Reads files of `save_parts` into the model, later files over earlier ones."""
    for path in paths:
        write_into(model, load_file(path))


@torch.no_grad()
def write_into(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies tensors into the model's parameters of the same names."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)


def train_only(model: nn.Module, names: Iterable[str]) -> None:
    """Freezes every parameter but the named ones."""
    trained = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def normalise(pixels: Tensor) -> Tensor:
    """What the image processor does to pixels 0..1 (mean and deviation 0.5)."""
    return (pixels - 0.5) / 0.5


def see(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Normalised pixels [n, 3, 96, 96] to projected image tokens [n, 64, hidden]."""
    return model.model.multi_modal_projector(patch_features(model, pixels))


def patch_features(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Normalised pixels [n, 3, 96, 96] to the tower's patch features [n, 64, 192], class token dropped."""
    hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    return hidden[-1][:, 1:]
