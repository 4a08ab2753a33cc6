"""The shipped VLM as LLaVA's authors save theirs: other names, no picture token, its vision tower in a folder of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

HOST = Path(__file__).parents[2] / "src" / "vlmerge" / "demo" / "vlm"
TOWER = "vision_tower."


def write_original(path: Path, tower: Path, *, storage: Literal["safetensors", "bin"] = "safetensors", **keys: Any) -> Path:
    """The same model in the original layout.

    Args:
        path: Folder to make.
        tower: Folder to make for its vision tower, which config.json names.
        storage: One safetensors file each; or pickles, the model's in two shards.
        keys: More keys of config.json.
    """
    weights = load_file(HOST / "model.safetensors")
    config = json.loads((HOST / "config.json").read_text(encoding="utf-8"))
    _write_tower(tower, {name: tensor for name, tensor in weights.items() if name.startswith(TOWER)}, config, storage)
    path.mkdir(parents=True)
    _write_weights(path, {_original(name): t for name, t in weights.items() if not name.startswith(TOWER)}, storage)
    text = config["text_config"]
    same = (
        "hidden_act", "hidden_size", "initializer_range", "intermediate_size", "max_position_embeddings", "num_attention_heads",
        "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "vocab_size", "bos_token_id", "eos_token_id",
        "pad_token_id", "pretraining_tp", "tie_word_embeddings", "use_cache",
    )  # fmt: skip
    # The rest as in liuhaotian/llava-v1.5-7b.
    original = {key: text[key] for key in same} | {
        "_name_or_path": "llava-v1.5-7b", "architectures": ["LlavaLlamaForCausalLM"], "freeze_mm_mlp_adapter": False,
        "freeze_mm_vision_resampler": False, "image_aspect_ratio": "pad", "image_grid_pinpoints": None, "max_length": 4096,
        "mm_hidden_size": config["vision_config"]["hidden_size"], "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None, "mm_use_im_patch_token": False, "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch", "mm_vision_select_layer": config["vision_feature_layer"],
        "mm_vision_tower": str(tower), "model_type": "llava", "rope_scaling": None, "torch_dtype": "float16",
        "transformers_version": "4.31.0", "tune_mm_mlp_adapter": False, "tune_mm_vision_resampler": False,
        "unfreeze_mm_vision_tower": False, "use_mm_proj": True,
    }  # fmt: skip
    _dump(path / "config.json", original | keys)
    shutil.copyfile(HOST / "generation_config.json", path / "generation_config.json")
    tokenizer = (HOST / "tokenizer.json").read_text(encoding="utf-8").replace('"<image>"', '"<unk>"')
    (path / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    settings = json.loads((HOST / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["image_token"], settings["processor_class"]
    _dump(path / "tokenizer_config.json", settings | {"unk_token": "<unk>"})
    return path


def _original(name: str) -> str:
    for here, there in (
        ("language_model.", ""),
        ("multi_modal_projector.linear_1", "model.mm_projector.0"),
        ("multi_modal_projector.linear_2", "model.mm_projector.2"),
    ):
        if name.startswith(here):
            return there + name.removeprefix(here)
    raise LookupError(name)


def _write_tower(path: Path, weights: dict[str, torch.Tensor], config: dict[str, Any], storage: str) -> None:
    """A whole CLIP as it is on the hub: a text model beside the vision model, an integer buffer among the weights."""
    path.mkdir(parents=True)
    named = {f"vision_model.{name.removeprefix(TOWER)}": tensor for name, tensor in weights.items()}
    named["vision_model.embeddings.position_ids"] = torch.arange(65).view(1, 65)
    named["text_model.encoder.layers.0.layer_norm1.bias"] = torch.full((8,), torch.nan)
    named["logit_scale"] = torch.tensor(4.6)
    named["visual_projection.weight"] = torch.zeros(64, 192)
    if storage == "bin":
        torch.save(named, path / "pytorch_model.bin")
    else:
        save_file(named, path / "model.safetensors", metadata={"format": "pt"})
    vision = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
    _dump(path / "config.json", {"architectures": ["CLIPModel"], "model_type": "clip", "vision_config": vision})
    # As CLIP's repositories have it: sizes are numbers, and the class has its old name.
    processor = json.loads((HOST / "processor_config.json").read_text(encoding="utf-8"))["image_processor"]
    old = processor | {"crop_size": 96, "size": 96, "feature_extractor_type": "CLIPFeatureExtractor"}
    _dump(path / "preprocessor_config.json", {key: value for key, value in old.items() if key != "image_processor_type"})


def _write_weights(path: Path, weights: dict[str, torch.Tensor], storage: str) -> None:
    if storage == "safetensors":
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(weights)
    shards = {
        f"pytorch_model-{number:05d}-of-00002.bin": part
        for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1)
    }
    for file, part in shards.items():
        torch.save({name: weights[name] for name in part}, path / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    _dump(path / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": weight_map})


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
