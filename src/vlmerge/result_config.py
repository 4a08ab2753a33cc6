"""config.json of a result: the host's, with only what the recipe changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from vlmerge.anatomy import Anatomy, Pairing, host_layers, layer_types
from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    from vlmerge.checkpoint import Checkpoint
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Recipe

SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Keys that name tokens by number."""
PER_LAYER = ("layer_types",)
"""Keys of a decoder's config that hold one entry per layer."""


def edited_config(
    recipe: Recipe, pairing: Pairing, host: Anatomy, checkpoints: Mapping[ModelRef, Checkpoint]
) -> dict[str, Any]:
    """The dtype where it is said, layers where they move, and the vocabulary where the result has one of its own.

    Args:
        recipe: The recipe.
        pairing: Its pairing.
        host: The host taken apart.
        checkpoints: All models: the vocabulary may be another model's.

    Raises:
        MismatchError: A list of one entry for each layer that is none.
    """
    edited = copy.deepcopy(dict(checkpoints[pairing.host].config))
    text_key, vision_key = host.family.text_key, host.family.vision_key
    dtype = recipe.out_dtype or recipe.dtype
    if dtype is not None:
        inner = [edited.get(key) for key in (text_key, vision_key) if key is not None]
        for part in (edited, *(each for each in inner if each is not None)):
            for key in ("dtype", "torch_dtype"):
                if part.get(key) is not None:
                    part[key] = dtype
    if pairing.vocabulary is not None:
        text = _decoders(edited, host)
        text["vocab_size"] = pairing.vocabulary.rows
        if text is not edited and "vocab_size" in edited:
            edited["vocab_size"] = pairing.vocabulary.rows
        if pairing.vocabulary.owner != pairing.host:
            owners = checkpoints[pairing.vocabulary.owner].config
            known: dict[str, Any] = {**owners, **(owners.get("text_config") or {})}
            text.update({key: known[key] for key in SPECIAL_TOKENS if key in known})
    taken = host_layers(pairing.segments, pairing.host, host.layers)
    if taken != list(range(host.layers)):
        _move_layers(_decoders(edited, host), taken, host)
    return edited


def _decoders(edited: dict[str, Any], host: Anatomy) -> dict[str, Any]:
    """The part of a config that is about the decoder; made where it is missing."""
    key = host.family.text_key
    if key is None or (host.family.flat and key not in edited):
        return edited
    if edited.get(key) is None:
        edited[key] = {}
    return edited[key]


def _move_layers(text: dict[str, Any], taken: list[int], host: Anatomy) -> None:
    if len(taken) != host.layers:
        text["num_hidden_layers"] = len(taken)
    types = layer_types(host.facts.kind, text, host.layers)
    if types is not None:
        text["layer_types"] = types
    for key in PER_LAYER:
        value: object = text.get(key)
        if value is None:
            continue
        if not isinstance(value, list) or len(cast("list[object]", value)) != host.layers:
            raise MismatchError(
                "config.json does not fit its layers",
                where=f"{host.where}: config.json, {key}",
                expected=f"a list with one entry for each of {host.layers} layers",
                found=f"{value!r}"[:200],
                remedy="take config.json from the model's own repository",
            )
        entries = cast("list[object]", value)
        text[key] = [entries[layer] for layer in taken]
