"""Which family a checkpoint belongs to, by its config.json and, for language models that no row names, by its tensor names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vlmerge.anatomy.decoders import CLASS_DEFAULTS, UNKNOWN, kind_of
from vlmerge.anatomy.families import FAMILIES, OTHER, Family
from vlmerge.anatomy.layouts import PLAIN_LM
from vlmerge.anatomy.roles import EMBEDDING, is_decoder, role_of
from vlmerge.errors import MismatchError

NOT_YET: dict[str, str] = {
    **dict.fromkeys(("phi4_multimodal", "phi4mm"), "its decoder holds LoRA tensors beside the weights"),
    **dict.fromkeys(
        ("qwen3_vl_moe", "llama4", "glm4v_moe", "ernie4_5_vl_moe"),
        "its experts are stacked in other ways on disk than in memory",
    ),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe"), "its decoder mixes kinds of attention"),
    **dict.fromkeys(
        ("internvl_chat", "minicpmv", "minicpmo", "qwen", "cogvlm", "phi3_v", "deepseek_vl_v2", "NVLM_D", "ovis"),
        "it needs code of its own repository; where transformers has a class for it (OpenGVLab's `-hf` models), use that one",
    ),
}
"""model_type → why it is refused, where that is known."""

SEES = ("vision_config", "visual", "vision_model", "vision_tower", "mm_vision_tower", "img_processor", "vision_cfg")
"""Keys of config.json that only a model with eyes has."""


def family_of(config: Mapping[str, Any], where: str, names: Iterable[str] = ()) -> Family:
    """The family that a checkpoint belongs to.

    Args:
        config: config.json as it stands.
        where: The model, for the message.
        names: Its tensors; empty where they are not known yet.

    Raises:
        MismatchError: A model_type, or a decoder inside a VLM, that is in no row of `FAMILIES`, and whose names are not a
            plain language model's.
    """
    model_type = config.get("model_type")
    rows = [family for family in FAMILIES.values() if model_type in family.model_types]
    for family in rows:
        if not family.needs or any(key in config for key in family.needs):
            _check_decoder(family, config, where)
            return family
    if rows:
        keys = "; or ".join(f"{' or '.join(family.needs)} ({family.name})" for family in rows)
        raise MismatchError(
            f"config.json says model_type {model_type!r}, but not which kind of it",
            where=where,
            expected=f"one of the keys {keys}",
            found=f"the keys {', '.join(sorted(config))}",
            remedy="take config.json from the model's own repository",
        )
    listed = list(names)
    if model_type is not None and model_type not in NOT_YET and not any(config.get(key) for key in SEES) and _is_plain(listed):
        return FAMILIES[OTHER]
    why = NOT_YET.get(str(model_type))
    raise MismatchError(
        f"models of the type {model_type!r} are not supported" + (f": {why}" if why else ""),
        where=f"{where}: config.json, model_type",
        expected=supported(),
        found=f"{model_type!r} ({', '.join(config.get('architectures') or ['no architectures named'])})"
        + ("" if listed else ", its tensor names not known before it is downloaded"),
        remedy="use models of a supported family; `vlmerge families` lists them",
    )


def text_config(family: Family, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The decoder's part of config.json, defaults not filled in."""
    inner: Mapping[str, Any] | None = None if family.text_key is None else config.get(family.text_key)
    if inner is not None:
        return inner
    return config if family.text_key is None or family.flat else {}


def decoder_type(family: Family, config: Mapping[str, Any]) -> str:
    """model_type of the decoder, by which `CLASS_DEFAULTS` is asked."""
    if family.original_llava:
        return kind_of(str(config.get("model_type")))
    text = text_config(family, config)
    said = text.get("model_type")
    if text is config:
        return str(said) if not family.is_vlm else family.decoders[0]
    return str(said or family.decoders[0])


def class_defaults(family: Family, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the decoder's config class fills in."""
    kind = decoder_type(family, config)
    return CLASS_DEFAULTS.get(kind) or CLASS_DEFAULTS.get(kind_of(kind), UNKNOWN)


def says_tied(family: Family, config: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding by config.json, its classes' defaults filled in."""
    for said in (config.get("tie_word_embeddings"), text_config(family, config).get("tie_word_embeddings"), family.tied):
        if said is not None:
            return bool(said)
    return bool(class_defaults(family, config)["tie_word_embeddings"])


def supported() -> str:
    """All supported model_types, for a message."""
    named = (
        f"{family.name} (model_type {' or '.join(family.model_types)})" for family in FAMILIES.values() if family.model_types
    )
    return ", ".join(named)


def _is_plain(names: list[str]) -> bool:
    """Whether all of them are the names of a plain language model."""
    return f"{PLAIN_LM.decoder}{EMBEDDING}" in names and all(is_decoder(role_of(name, PLAIN_LM)) for name in names)


def _check_decoder(family: Family, config: Mapping[str, Any], where: str) -> None:
    if family.text_key is None:
        return
    found = decoder_type(family, config)
    if found not in family.decoders:
        raise MismatchError(
            f"{family.name} models with a decoder of the type {found!r} are not supported",
            where=f"{where}: config.json, {family.text_key}.model_type",
            expected=" or ".join(family.decoders),
            found=found,
            remedy="use models of a supported family; `vlmerge families` lists them",
        )
