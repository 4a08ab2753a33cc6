"""The original LLaVA layout (LlavaLlamaForCausalLM) in transformers' own LLaVA class: same weights, other names.

Its vision tower is mostly not in the checkpoint but named there (`mm_vision_tower`), and comes from its own repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from vlmerge.adapters import open_model
from vlmerge.anatomy.decoders import kind_of
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError
from vlmerge.runtime.live_tensors import live_tensors
from vlmerge.runtime.loaded import Loaded

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.anatomy import Anatomy
    from vlmerge.checkpoint import Checkpoint

PICTURE_TOKEN = "<unk>"
"""Stands for a picture token. The layout has no row for one; a byte-fallback tokenizer never emits this for text."""


def load_original(checkpoint: Checkpoint, anatomy: Anatomy, dtype: torch.dtype) -> Loaded:
    """Builds transformers' LLaVA from an original checkpoint and its vision tower.

    Args:
        checkpoint: In the original layout.
        anatomy: Its anatomy.
        dtype: dtype of the live weights.

    Raises:
        CheckpointError: A decoder or projector of another kind, pictures in tiles, or a vision tower that cannot be found.
    """
    import transformers as untyped
    from transformers.initialization import no_init_weights

    transformers: Any = untyped
    config = checkpoint.config
    _check_supported(config, checkpoint)
    tower = open_model(_tower_ref(config, checkpoint))
    text_config = transformers.LlamaConfig(**_text_keys(config))
    # Given its config, AutoTokenizer does not read config.json, which it would take for transformers' own LLaVA.
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        checkpoint.path, config=text_config, local_files_only=True, trust_remote_code=False
    )
    picture_token = _picture_token(tokenizer, checkpoint)
    strategy = "default" if config.get("mm_vision_select_feature", "patch") == "patch" else "full"
    llava = transformers.LlavaConfig(
        vision_config=tower.config.get("vision_config", tower.config) | {"model_type": "clip_vision_model"},
        text_config=text_config,
        image_token_index=picture_token,
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy=strategy,
    )
    processor = transformers.LlavaProcessor(
        image_processor=_image_processor(transformers, config, tower),
        tokenizer=tokenizer,
        patch_size=llava.vision_config.patch_size,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
        image_token=PICTURE_TOKEN,
    )
    # Made in its dtype, not cast to it: a cast would round the rotary frequencies too.
    with no_init_weights():
        model = transformers.AutoModelForImageTextToText.from_config(llava, dtype=dtype, attn_implementation="sdpa")
    _fill(model, checkpoint, anatomy, tower)
    model.generation_config = transformers.GenerationConfig(eos_token_id=config.get("eos_token_id", tokenizer.eos_token_id))
    return Loaded(model, processor, tokenizer, picture_token)


def _text_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The decoder's keys, which stand at the top level between the others."""
    foreign = ("model_type", "architectures", "rope_scaling" if config.get("rope_scaling") is None else "")
    return {key: value for key, value in config.items() if not key.startswith("mm_") and key not in foreign}


def _picture_token(tokenizer: Any, checkpoint: Checkpoint) -> int:
    token: int | None = tokenizer.get_vocab().get(PICTURE_TOKEN)
    if token is None:
        raise CheckpointError(
            "the tokenizer has no token that can stand for a picture",
            where=str(checkpoint.path),
            expected=f"{PICTURE_TOKEN}, as in Llama's tokenizer",
            found=f"{len(tokenizer)} tokens without it",
            remedy="use the tokenizer files that were published with the checkpoint",
        )
    return token


def _image_processor(transformers: Any, config: Mapping[str, Any], tower: Checkpoint) -> Any:
    """CLIP's, after padding to a square where the checkpoint was trained so."""
    text = (tower.path / "preprocessor_config.json").read_text(encoding="utf-8")
    settings = {key: value for key, value in json.loads(text).items() if not key.endswith("_type")}
    if config.get("image_aspect_ratio") == "pad":
        return transformers.LlavaImageProcessorPil(**settings | {"do_pad": True})
    return transformers.CLIPImageProcessorPil(**settings)


def _fill(model: Any, checkpoint: Checkpoint, anatomy: Anatomy, tower: Checkpoint) -> None:
    live = live_tensors(model)
    filled: set[str] = set()
    with torch.no_grad():
        for role, tensor in (*_from_tower(tower), *_from_checkpoint(checkpoint, anatomy)):
            if role in live:
                live[role].copy_(tensor)
                filled.add(role)
    empty = [role for role in live if role not in filled]
    if empty:
        raise CheckpointError(
            "neither the checkpoint nor its vision tower has a tensor that the model needs",
            where=str(checkpoint.path),
            expected=empty[0],
            found=f"{len(filled)} of {len(live)} tensors",
            remedy="check mm_vision_tower in config.json, and that the checkpoint is whole",
        )


def _from_tower(tower: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    for name in tower.tensors:
        if "text_model." not in name:
            yield f"vision.{name.removeprefix('vision_model.')}", tower.read(name)


def _from_checkpoint(checkpoint: Checkpoint, anatomy: Anatomy) -> Iterator[tuple[str, Tensor]]:
    for role, name in anatomy.roles.items():
        yield role, checkpoint.read(name)


def _tower_ref(config: Mapping[str, Any], checkpoint: Checkpoint) -> ModelRef:
    named = config.get("mm_vision_tower")
    if not isinstance(named, str) or not named:
        raise CheckpointError(
            "the checkpoint does not say which vision tower it was trained with",
            where=str(checkpoint.path / "config.json"),
            expected="`mm_vision_tower`: a folder or a hub id",
            found=repr(named),
            remedy="add the key; LLaVA-1.5 uses openai/clip-vit-large-patch14-336",
        )
    return ModelRef.parse(named).relative_to(checkpoint.path)


def _check_supported(config: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    kind, shape = config.get("mm_projector_type", "linear"), config.get("image_aspect_ratio", "square")
    decoder = kind_of(str(config.get("model_type")))
    if decoder != "llama":
        what, expected, found = "kind of decoder", "llama", decoder
    elif kind != "mlp2x_gelu":
        what, expected, found = "kind of projector", "mm_projector_type: mlp2x_gelu", f"mm_projector_type: {kind}"
    elif shape not in (None, "square", "pad"):
        what, expected, found = "way of cutting pictures up", "image_aspect_ratio: pad", f"image_aspect_ratio: {shape}"
    else:
        return
    raise CheckpointError(
        f"models with this {what} cannot be asked questions yet",
        where=str(checkpoint.path / "config.json"),
        expected=f"{expected} (LLaVA-1.5)",
        found=found,
        remedy="merge it to disk with `vlmerge merge`, or use a LLaVA-1.5 checkpoint",
    )
