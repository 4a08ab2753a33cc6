"""A checkpoint on disk → a live transformers model with its processor.

The original LLaVA layout, which transformers does not read, is loaded through transformers' own LLaVA class by renaming. A
model whose processor cannot be loaded is loaded all the same: it can be merged, and says what it lacks when it is asked.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vlmerge.errors import CheckpointError
from vlmerge.runtime.live_tensors import live_tensors
from vlmerge.runtime.loaded import Loaded
from vlmerge.runtime.processors import LOCAL_ONLY, load_processor
from vlmerge.runtime.ways import whole_because

if TYPE_CHECKING:
    from vlmerge.anatomy import Anatomy
    from vlmerge.checkpoint import Checkpoint

VICUNA = ("LLaVA", "LLaVA (original)")
"""Families whose checkpoints without chat template were trained with LLaVA-1.5's prompt."""


def load(checkpoint: Checkpoint, anatomy: Anatomy, *, device: torch.device, dtype: torch.dtype) -> Loaded:
    """Loads weights and processor from local files only; nothing from the checkpoint is executed.

    Raises:
        CheckpointError: transformers cannot load it.
    """
    _transformers().utils.logging.set_verbosity_error()
    _transformers().utils.logging.disable_progress_bar()
    try:
        if anatomy.family.original_llava:
            from vlmerge.runtime.original_llava import load_original

            loaded = load_original(checkpoint, anatomy, dtype)
        elif anatomy.is_vlm:
            loaded = _load_vlm(checkpoint.path, dtype, _straight_to(device))
        else:
            loaded = _load_lm(checkpoint.path, dtype, _straight_to(device))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CheckpointError(
            "transformers cannot load this checkpoint",
            where=str(checkpoint.path),
            expected="a checkpoint that its model and processor classes read",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            remedy="check that config, tokenizer and processor files belong together",
        ) from error
    loaded.model.eval().to(device)
    _merge_adapter(loaded.model, checkpoint, anatomy)
    loaded.model.requires_grad_(False)
    bare = "plain" if anatomy.is_vlm and anatomy.family.name not in VICUNA else "vicuna_v1"
    return replace(loaded, whole_because=whole_because(anatomy, checkpoint.config), bare=bare)


def _merge_adapter(model: Any, checkpoint: Checkpoint, anatomy: Anatomy) -> None:
    """Writes the tensors that an adapter changes over those that transformers read from the model's own files."""
    if checkpoint.adapter is None:
        return
    live = live_tensors(model)
    with torch.no_grad():
        for role, name in anatomy.roles.items():
            if checkpoint.adapter.changes(name) and role in live:
                live[role].copy_(checkpoint.read(name))


def _straight_to(device: torch.device) -> dict[str, Any]:
    """Arguments that read weights to a GPU one by one, so that host memory need not hold the model; needs accelerate."""
    if device.type == "cpu" or importlib.util.find_spec("accelerate") is None:
        return {}
    return {"device_map": {"": device}}


def _load_vlm(path: Path, dtype: torch.dtype, where: dict[str, Any]) -> Loaded:
    # Without `attn_implementation`: transformers knows which decoders (Gemma 2) are wrong with PyTorch's own attention.
    model = _transformers().AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, **where, **LOCAL_ONLY)
    placeholder = model.config.image_token_id
    try:
        processor = load_processor(path)
    except CheckpointError as error:
        return Loaded(model, None, None, placeholder, cannot_ask=error)
    return Loaded(model, processor, processor.tokenizer, placeholder)


def _load_lm(path: Path, dtype: torch.dtype, where: dict[str, Any]) -> Loaded:
    tokenizer = _transformers().AutoTokenizer.from_pretrained(path, **LOCAL_ONLY)
    model = _transformers().AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **where, **LOCAL_ONLY)
    return Loaded(model, None, tokenizer, None)


def _transformers() -> Any:
    """transformers, whose own types leave most of it open."""
    import transformers

    return transformers
