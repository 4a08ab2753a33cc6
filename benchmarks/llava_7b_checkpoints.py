"""Random checkpoints with LLaVA-1.5-7B's shapes, names, tokenizer size and processor files: a host and two Llama decoders.

Nothing is downloaded. The weights are noise, so the answers are too; the time that they take is that of the real models. Names
on disk are those of the hub's files (`language_model.model.layers…`), configs leave out what equals the class default, weights
are sharded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\\n' }}{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
PLAIN_ROWS = 32000
IMAGE_TOKEN = 32000
PAD_TOKEN = 32001
HOST_ROWS = 32064


@dataclass(frozen=True)
class Sizes:
    """Widths and depths of the three parts."""

    layers: int = 32
    hidden: int = 4096
    middle: int = 11008
    heads: int = 32
    vision_layers: int = 24
    vision_hidden: int = 1024
    vision_middle: int = 4096
    vision_heads: int = 16
    picture: int = 336
    patch: int = 14


REAL = Sizes()
TINY = Sizes(
    layers=2,
    hidden=64,
    middle=128,
    heads=4,
    vision_layers=3,
    vision_hidden=32,
    vision_middle=64,
    vision_heads=2,
    picture=28,
    patch=14,
)


def build(folder: Path, sizes: Sizes, dtype: torch.dtype) -> dict[str, Path]:
    """Writes `host`, `ja` and `base` under the folder; what stands there complete already is kept.

    Returns:
        Name → checkpoint folder.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made: dict[str, Path] = {}
    for number, name in enumerate(("base", "ja", "host")):
        path = made[name] = folder / name
        if (path / "complete").exists():
            continue
        path.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator(device).manual_seed(1)  # the three share their ancestor …
        difference = torch.Generator(device).manual_seed(100 + number)  # … and differ from it by a little
        shapes = shapes_of(sizes, is_host=name == "host")
        tensors = ((n, _noise(n, s, generator, difference, dtype, device)) for n, s in shapes)
        write_shards(path, tensors)
        write_configs(path, sizes, dtype, is_host=name == "host")
        write_tokenizer(path, is_host=name == "host")
        (path / "complete").touch()
    return made


def shapes_of(s: Sizes, *, is_host: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Names on disk and shapes, in the files' order."""
    if not is_host:
        return list(_decoder(s, PLAIN_ROWS))
    decoder = [(f"language_model.{name}", shape) for name, shape in _decoder(s, HOST_ROWS)]
    return [*decoder, *_vision(s), *_projector(s)]


def write_configs(path: Path, s: Sizes, dtype: torch.dtype, *, is_host: bool) -> None:
    """config.json, generation_config.json and, of a host, the processor's files."""
    write_json_file(path / "config.json", _host_config(s, dtype) if is_host else _plain_config(s, dtype))
    write_json_file(
        path / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PAD_TOKEN if is_host else 0}
    )
    if is_host:
        _write_processor(path, s)


def _noise(
    name: str, shape: tuple[int, ...], generator: torch.Generator, difference: torch.Generator, dtype: torch.dtype, device: str
) -> Tensor:
    if name.endswith(("layernorm.weight", "norm.weight", "layrnorm.weight", "layer_norm1.weight", "layer_norm2.weight")):
        return torch.ones(shape, dtype=dtype, device=device)
    if name.endswith("bias"):
        return torch.zeros(shape, dtype=dtype, device=device)
    # Rows beyond the plain vocabulary come last, so that the shared part is the same in host and plain models.
    shared = torch.empty((PLAIN_ROWS, *shape[1:]) if shape[0] == HOST_ROWS else shape, dtype=torch.float32, device=device)
    shared.normal_(0, 0.02, generator=generator)
    if shape[0] == HOST_ROWS:
        shared = torch.cat([shared, shared[: HOST_ROWS - PLAIN_ROWS]])
    own = torch.empty(shape, dtype=torch.float32, device=device).normal_(0, 0.002, generator=difference)
    return shared.add_(own).to(dtype)


def _decoder(s: Sizes, rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (rows, s.hidden)
    for layer in range(s.layers):
        at = f"model.layers.{layer}"
        for projection in "qkvo":
            yield f"{at}.self_attn.{projection}_proj.weight", (s.hidden, s.hidden)
        yield f"{at}.mlp.gate_proj.weight", (s.middle, s.hidden)
        yield f"{at}.mlp.up_proj.weight", (s.middle, s.hidden)
        yield f"{at}.mlp.down_proj.weight", (s.hidden, s.middle)
        yield f"{at}.input_layernorm.weight", (s.hidden,)
        yield f"{at}.post_attention_layernorm.weight", (s.hidden,)
    yield "model.norm.weight", (s.hidden,)
    yield "lm_head.weight", (rows, s.hidden)


def _vision(s: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    at, width = "vision_tower.vision_model", s.vision_hidden
    yield f"{at}.embeddings.class_embedding", (width,)
    yield f"{at}.embeddings.patch_embedding.weight", (width, 3, s.patch, s.patch)
    yield f"{at}.embeddings.position_embedding.weight", ((s.picture // s.patch) ** 2 + 1, width)
    for layer in range(s.vision_layers):
        block = f"{at}.encoder.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{block}.self_attn.{projection}.weight", (width, width)
            yield f"{block}.self_attn.{projection}.bias", (width,)
        yield f"{block}.mlp.fc1.weight", (s.vision_middle, width)
        yield f"{block}.mlp.fc1.bias", (s.vision_middle,)
        yield f"{block}.mlp.fc2.weight", (width, s.vision_middle)
        yield f"{block}.mlp.fc2.bias", (width,)
        for norm in ("layer_norm1", "layer_norm2"):
            yield f"{block}.{norm}.weight", (width,)
            yield f"{block}.{norm}.bias", (width,)
    for norm in ("pre_layrnorm", "post_layernorm"):
        yield f"{at}.{norm}.weight", (width,)
        yield f"{at}.{norm}.bias", (width,)


def _projector(s: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "multi_modal_projector.linear_1.weight", (s.hidden, s.vision_hidden)
    yield "multi_modal_projector.linear_1.bias", (s.hidden,)
    yield "multi_modal_projector.linear_2.weight", (s.hidden, s.hidden)
    yield "multi_modal_projector.linear_2.bias", (s.hidden,)


def write_shards(path: Path, tensors: Iterator[tuple[str, Tensor]], shard_bytes: int = 4_000_000_000) -> None:
    """Writes tensors as they come, never more than one shard in memory."""
    parts: list[tuple[Path, list[str]]] = []
    total = 0
    pending: dict[str, Tensor] = {}
    size = 0

    def flush() -> None:
        nonlocal pending, size
        partial = path / f"part-{len(parts)}.safetensors"
        save_file(pending, partial, metadata={"format": "pt"})
        parts.append((partial, list(pending)))
        pending, size = {}, 0

    for name, tensor in tensors:
        pending[name] = tensor.cpu().contiguous()
        size += tensor.nbytes
        total += tensor.nbytes
        if size >= shard_bytes:
            flush()
    if pending:
        flush()
    weight_map: dict[str, str] = {}
    for number, (partial, names) in enumerate(parts, 1):
        final = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        partial.rename(path / final)
        weight_map |= dict.fromkeys(names, final)
    write_json_file(path / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def _text_config(s: Sizes) -> dict[str, Any]:
    # What equals the class default is left out, as on the hub.
    config: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-05}
    if s is not REAL:
        config |= {
            "hidden_size": s.hidden,
            "intermediate_size": s.middle,
            "num_attention_heads": s.heads,
            "num_key_value_heads": s.heads,
            "num_hidden_layers": s.layers,
        }
    return config


def _plain_config(s: Sizes, dtype: torch.dtype) -> dict[str, Any]:
    named = {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": s.hidden,
        "intermediate_size": s.middle,
        "num_attention_heads": s.heads,
        "num_hidden_layers": s.layers,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vocab_size": PLAIN_ROWS,
    }
    return _text_config(s) | named


def _host_config(s: Sizes, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": IMAGE_TOKEN,
        "image_seq_length": (s.picture // s.patch) ** 2,
        "model_type": "llava",
        "pad_token_id": PAD_TOKEN,
        "projector_hidden_act": "gelu",
        "text_config": _text_config(s) | {"vocab_size": HOST_ROWS},
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vision_config": {
            "hidden_size": s.vision_hidden,
            "image_size": s.picture,
            "intermediate_size": s.vision_middle,
            "model_type": "clip_vision_model",
            "num_attention_heads": s.vision_heads,
            "num_hidden_layers": s.vision_layers,
            "patch_size": s.patch,
            "projection_dim": 768,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }


def write_tokenizer(path: Path, *, is_host: bool) -> None:
    """A byte-fallback BPE of Llama 2's size: its bytes, the printable ASCII characters, and fillers for the rest."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *(chr(code) for code in range(33, 127))]
    words += [f"▁filler{number}" for number in range(PLAIN_ROWS - len(words))]
    vocabulary = {word: row for row, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    extra: dict[str, Any] = {}
    if is_host:
        tokenizer.add_special_tokens([AddedToken("<image>", normalized=False), AddedToken("<pad>", normalized=False)])
        extra = {"pad_token": "<pad>", "extra_special_tokens": {"image_token": "<image>"}}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="left", **extra
    )
    fast.save_pretrained(path)


def _write_processor(path: Path, s: Sizes) -> None:
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    write_json_file(
        path / "preprocessor_config.json",
        {
            "crop_size": {"height": s.picture, "width": s.picture},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": mean,
            "image_processor_type": "CLIPImageProcessor",
            "image_std": deviation,
            "processor_class": "LlavaProcessor",
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": s.picture},
        },
    )
    write_json_file(
        path / "processor_config.json",
        {
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": s.patch,
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": "default",
        },
    )
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_json_file(path / "chat_template.json", {"chat_template": CHAT_TEMPLATE})


def write_json_file(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
