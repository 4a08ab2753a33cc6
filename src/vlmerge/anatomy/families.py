"""The families vlmerge knows: where decoder, vision tower and projector live in the files of each. One row adds a family.

Facts checked against transformers 5.23; `tests/anatomy/test_family_defaults.py` holds the class defaults to its classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vlmerge.errors import MismatchError

Part = Literal["decoder", "vision", "projector"]


@dataclass(frozen=True)
class Layout:
    """One way in which a family's tensors are named on disk or in memory.

    Attributes:
        name: Short name for people, e.g. `hf`.
        decoder: Prefix of `embed_tokens`, `layers.N` and `norm`.
        head: Prefix of `lm_head`.
        vision: Prefixes of the vision tower, longest first.
        projector: Prefixes of the projector.
        renames: Projector submodule here → the canonical one.
    """

    name: str
    decoder: str
    head: str = ""
    vision: tuple[str, ...] = ()
    projector: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Family:
    """An architecture, as config.json and tensor names show it.

    Attributes:
        name: Key of this row, and the name that people read.
        model_types: Values of config.json's `model_type`.
        is_vlm: Whether it sees.
        text_key: Where the decoder's settings are: a key of config.json, or None for the top level.
        vision_key: Where the vision tower's settings are, or None.
        needs: The family is meant if config.json has one of these keys (all rows of one model_type are asked in order).
        decoders: model_types that the decoder may have; the first is the class default where config.json omits it.
        layouts: Known namings, the hub's first.
    """

    name: str
    model_types: tuple[str, ...]
    is_vlm: bool
    text_key: str | None
    vision_key: str | None
    needs: tuple[str, ...]
    decoders: tuple[str, ...]
    layouts: tuple[Layout, ...]

    @property
    def original_llava(self) -> bool:
        """LLaVA as its authors save it, which transformers cannot load as it is."""
        return self.is_vlm and self.text_key is None

    @property
    def summary(self) -> str:
        """The namings, for a table."""
        return ", ".join(f"{layout.name} ({layout.decoder}…)" for layout in self.layouts)


LLAVA_HF = Layout(
    name="hf",
    decoder="language_model.model.",
    head="language_model.",
    vision=("vision_tower.vision_model.", "vision_tower."),
    projector=("multi_modal_projector.",),
)
LLAVA_HF_NEW = Layout(
    name="hf since 4.52",
    decoder="model.language_model.",
    vision=("model.vision_tower.vision_model.", "model.vision_tower."),
    projector=("model.multi_modal_projector.",),
)
LLAVA_ORIGINAL = Layout(
    name="original",
    decoder="model.",
    vision=("model.vision_tower.vision_tower.vision_model.", "model.vision_tower.vision_tower.", "model.vision_tower."),
    projector=("model.mm_projector.",),
    renames={"0": "linear_1", "2": "linear_2"},
)
PLAIN_LM = Layout(name="plain", decoder="model.")

FAMILIES: dict[str, Family] = {
    "LLaVA": Family(
        name="LLaVA",
        model_types=("llava",),
        is_vlm=True,
        text_key="text_config",
        vision_key="vision_config",
        needs=("text_config", "vision_config"),
        decoders=("llama",),
        layouts=(LLAVA_HF, LLAVA_HF_NEW),
    ),
    "LLaVA (original)": Family(
        name="LLaVA (original)",
        model_types=("llava", "llava_llama"),
        is_vlm=True,
        text_key=None,
        vision_key=None,
        needs=("mm_vision_tower", "mm_projector_type", "mm_hidden_size"),
        decoders=("llama", "llava", "llava_llama"),
        layouts=(LLAVA_ORIGINAL,),
    ),
    "Llama": Family(
        name="Llama",
        model_types=("llama",),
        is_vlm=False,
        text_key=None,
        vision_key=None,
        needs=(),
        decoders=("llama",),
        layouts=(PLAIN_LM,),
    ),
}

# What a config class fills in where config.json says nothing (hub files leave out what equals the default). Sizes that tensor
# shapes tell are read from the shapes; these are the rest, by the decoder's model_type.
CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-06,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "max_position_embeddings": 2048,
    },
}


def family_of(config: Mapping[str, Any], where: str) -> Family:
    """The family that a config.json describes.

    Args:
        config: config.json as it stands.
        where: The model, for the message.

    Raises:
        MismatchError: A model_type, or a decoder inside a VLM, that is in no row of `FAMILIES`.
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
    raise MismatchError(
        f"models of the type {model_type!r} are not supported",
        where=f"{where}: config.json, model_type",
        expected=supported(),
        found=f"{model_type!r} ({', '.join(config.get('architectures') or ['no architectures named'])})",
        remedy="use models of a supported family; `vlmerge families` lists them",
    )


def text_config(family: Family, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The decoder's part of config.json, defaults not filled in."""
    if family.text_key is None:
        return config
    inner: Mapping[str, Any] | None = config.get(family.text_key)
    return inner if inner is not None else {}


def decoder_type(family: Family, config: Mapping[str, Any]) -> str:
    """model_type of the decoder, by which `CLASS_DEFAULTS` is asked."""
    if family.text_key is None:
        return family.decoders[0]
    return str(text_config(family, config).get("model_type") or family.decoders[0])


def supported() -> str:
    """All supported model_types, for a message."""
    return ", ".join(f"{family.name} (model_type {' or '.join(family.model_types)})" for family in FAMILIES.values())


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
