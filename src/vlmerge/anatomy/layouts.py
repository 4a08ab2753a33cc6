"""How tensors are named: prefixes of decoder, vision tower and projector, on disk and in transformers' memory.

Facts checked against transformers 5.23; `tests/families` holds each layout to its classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layout:
    """One way in which a family's tensors are named on disk or in memory.

    Attributes:
        name: Short name for people, e.g. `hf`.
        decoder: Prefix of `embed_tokens`, `layers.N` and `norm`.
        head: Prefix of `lm_head`.
        vision: Prefixes of the vision tower, longest first.
        projector: Prefixes of the projector. They are asked before the tower's, of which they may be a part.
        renames: Projector submodule here → the canonical one.
        singles: Names of tensors outside these parts → their roles.
    """

    name: str
    decoder: str
    head: str = ""
    vision: tuple[str, ...] = ()
    projector: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict[str, str])
    singles: Mapping[str, str] = field(default_factory=dict[str, str])


NEWLINE = "projector.image_newline"
"""Role of the row that ends a line of picture tokens, in families that cut pictures into tiles."""

HF = Layout(
    name="hf",
    decoder="language_model.model.",
    head="language_model.",
    vision=("vision_tower.vision_model.", "vision_tower."),
    projector=("multi_modal_projector.",),
    singles={"image_newline": NEWLINE},
)
HF_NEW = Layout(
    name="hf since 4.52",
    decoder="model.language_model.",
    vision=("model.vision_tower.vision_model.", "model.vision_tower."),
    projector=("model.multi_modal_projector.",),
    singles={"model.image_newline": NEWLINE},
)
LLAVA_ORIGINAL = Layout(
    name="original",
    decoder="model.",
    vision=("model.vision_tower.vision_tower.vision_model.", "model.vision_tower.vision_tower.", "model.vision_tower."),
    projector=("model.mm_projector.",),
    renames={"0": "linear_1", "2": "linear_2"},
    singles={"model.image_newline": NEWLINE},
)
QWEN_VL = Layout(name="hf", decoder="model.", vision=("visual.",), projector=("visual.merger.",))
QWEN_VL_NEW = Layout(
    name="hf since 4.52",
    decoder="model.language_model.",
    vision=("model.visual.",),
    projector=("model.visual.merger.",),
)
IDEFICS = Layout(name="hf", decoder="model.text_model.", vision=("model.vision_model.",), projector=("model.connector.",))
MLLAMA = Layout(
    name="hf",
    decoder="language_model.model.",
    head="language_model.",
    vision=("vision_model.",),
    projector=("multi_modal_projector.",),
)
MLLAMA_NEW = Layout(
    name="hf since 4.52",
    decoder="model.language_model.",
    vision=("model.vision_model.",),
    projector=("model.multi_modal_projector.",),
)
PLAIN_LM = Layout(name="plain", decoder="model.")

LIVE_LAYOUTS = (
    Layout(
        name="live",
        decoder="model.language_model.",
        vision=(*HF_NEW.vision, *MLLAMA_NEW.vision, *QWEN_VL_NEW.vision),
        projector=(*HF_NEW.projector, *QWEN_VL_NEW.projector),
        singles=HF_NEW.singles,
    ),
    IDEFICS,
    PLAIN_LM,
)
"""How transformers names parameters in memory, whatever the files are called: of a VLM, of Idefics3's kin, of a plain LM."""
