"""The families vlmerge knows: where decoder, vision tower and projector live in the files of each. One row adds a family."""

from __future__ import annotations

from dataclasses import dataclass

from vlmerge.anatomy.decoders import kind_of
from vlmerge.anatomy.layouts import (
    HF,
    HF_NEW,
    IDEFICS,
    LLAVA_ORIGINAL,
    MLLAMA,
    MLLAMA_NEW,
    PLAIN_LM,
    QWEN_VL,
    QWEN_VL_NEW,
    Layout,
)


@dataclass(frozen=True)
class Family:
    """An architecture, as config.json and tensor names show it.

    Attributes:
        name: Key of its row, and the name that people read.
        model_types: Values of config.json's `model_type`; empty for the row of all other language models.
        decoders: model_types that the decoder may have; the first is the class default where config.json omits it.
        layouts: Known namings, the hub's first.
        is_vlm: Whether it sees.
        text_key: Where the decoder's settings are: a key of config.json, or None for the top level.
        vision_key: Where the vision tower's settings are, or None.
        flat: The decoder's settings are at the top level where `text_key` is missing.
        needs: The family is meant if config.json has one of these keys (all rows of one model_type are asked in order).
        tied: Whether the head is the embedding where config.json does not say; None: as the decoder's class says.
        head: What is known of the published models' heads, for people.
        kept: What stays the host's in a merge with language models, and what else is special, for people.
    """

    name: str
    model_types: tuple[str, ...]
    decoders: tuple[str, ...]
    layouts: tuple[Layout, ...]
    is_vlm: bool = True
    text_key: str | None = "text_config"
    vision_key: str | None = "vision_config"
    flat: bool = False
    needs: tuple[str, ...] = ()
    tied: bool | None = None
    head: str = "its own"
    kept: str = ""

    @property
    def original_llava(self) -> bool:
        """LLaVA as its authors save it, which transformers cannot load as it is."""
        return self.is_vlm and self.text_key is None

    @property
    def pairs_with(self) -> tuple[str, ...]:
        """model_types of the plain LMs that pair with its decoders."""
        return tuple(dict.fromkeys(map(kind_of, self.decoders)))

    @property
    def summary(self) -> str:
        """The namings, for a table."""
        return ", ".join(f"{layout.name} ({layout.decoder}…)" for layout in self.layouts)


def _vlm(
    name: str,
    model_types: str,
    decoders: str,
    layouts: tuple[Layout, ...],
    *,
    head: str,
    kept: str,
    tied: bool | None = False,
    flat: bool = False,
    needs: tuple[str, ...] = (),
) -> Family:
    """A row of a VLM in transformers' layout; names parted by spaces."""
    types, kinds = tuple(model_types.split()), tuple(decoders.split())
    return Family(name, types, kinds, layouts, flat=flat, needs=needs, tied=tied, head=head, kept=kept)


def _lm(name: str, model_types: str, *, head: str, kept: str = "") -> Family:
    """A row of plain language models."""
    types = tuple(model_types.split())
    return Family(name, types, types, (PLAIN_LM,), is_vlm=False, text_key=None, vision_key=None, head=head, kept=kept)


BOTH = (HF, HF_NEW)
TIED = "the embedding"
SMALL_TIED = "its own; the embedding in small models"

_ROWS = (
    _vlm(
        "LLaVA", "llava", "llama mistral qwen2", BOTH, needs=("text_config", "vision_config"), head="its own",
        kept="the tower (CLIP, SigLIP or Pixtral), the projector, the rows of `<image>` and of padding",
    ),
    Family(
        "LLaVA (original)", ("llava", "llava_llama", "llava_mistral", "llava_qwen"), ("llama", "mistral", "qwen2"),
        (LLAVA_ORIGINAL,),
        text_key=None, vision_key=None, needs=("mm_vision_tower", "mm_projector_type", "mm_hidden_size"),
        kept="the projector, and the tower where the files hold it; the placeholder -200 of a picture has no row",
    ),
    _vlm(
        "LLaVA-NeXT", "llava_next", "llama mistral qwen2", BOTH, head="its own",
        kept="as LLaVA, and `image_newline`",
    ),
    _vlm(
        "LLaVA-OneVision", "llava_onevision", "qwen2", BOTH, head=SMALL_TIED,
        kept="as LLaVA, and `image_newline`",
    ),
    _vlm(
        "Qwen2-VL", "qwen2_vl", "qwen2_vl_text", (QWEN_VL, QWEN_VL_NEW), flat=True, head=SMALL_TIED,
        kept="`visual`, of which the projector is `visual.merger`; the host's three-part rotary positions are no difference",
    ),
    _vlm(
        "Qwen2.5-VL", "qwen2_5_vl", "qwen2_5_vl_text", (QWEN_VL, QWEN_VL_NEW), flat=True, head=SMALL_TIED,
        kept="as Qwen2-VL",
    ),
    _vlm(
        "Qwen3-VL", "qwen3_vl", "qwen3_vl_text", (QWEN_VL_NEW,), head=SMALL_TIED,
        kept="`model.visual` with its mergers, those of deepstack among them",
    ),
    _vlm(
        "InternVL", "internvl", "qwen2 llama qwen3", BOTH, tied=True, head=SMALL_TIED,
        kept="the tower, the projector, the rows of picture tokens. The `-hf` checkpoints; others need remote code",
    ),
    _vlm(
        "Idefics3 and SmolVLM", "idefics3 smolvlm", "llama", (IDEFICS,), head="its own",
        kept="`model.vision_model`, `model.connector`, the rows of picture tokens. SmolLM2's head is its embedding, "
        "which is what meets the host's head",
    ),
    _vlm(
        "PaliGemma", "paligemma", "gemma gemma2", BOTH, tied=True, head=TIED,
        kept="the tower, the projector, the rows of `<image>`, `<loc…>` and `<seg…>`. Gemma norms are stored as weight - 1, "
        "which a merge need not know",
    ),
    _vlm(
        "Gemma 3", "gemma3", "gemma3_text", BOTH, tied=True, head=TIED,
        kept="the tower, the projector, the rows of picture tokens",
    ),
    _vlm(
        "Mllama", "mllama", "mllama_text_model", (MLLAMA, MLLAMA_NEW), tied=None,
        head="its own, of fewer rows than the embedding",
        kept="the tower, the projector, the picture token's row, and the cross-attention layers: layer N of a language model "
        "meets the N-th of the others, and a recipe's filters see both numbers",
    ),
    _vlm(
        "Mistral 3", "mistral3", "mistral ministral3", BOTH, tied=True, head="its own",
        kept="the Pixtral tower, the projector with its patch merger, the rows of picture tokens",
    ),
    _vlm(
        "Aya Vision", "aya_vision", "cohere2 cohere", BOTH, tied=True, head=TIED,
        kept="the tower, the projector, the rows of picture tokens",
    ),
    _vlm(
        "Cohere2 Vision", "cohere2_vision", "cohere2", (HF_NEW,), tied=True, head=TIED,
        kept="the tower, the projector, the rows of picture tokens",
    ),
    _lm("Llama", "llama", head=SMALL_TIED),
    _lm("Mistral", "mistral ministral3", head="its own", kept="the two do not merge with one another"),
    _lm("Qwen2", "qwen2", head=SMALL_TIED, kept="Qwen1.5, Qwen2 and Qwen2.5"),
    _lm("Qwen3", "qwen3", head=SMALL_TIED),
    _lm("Gemma", "gemma gemma2 gemma3_text", head=TIED, kept="generations do not merge with one another"),
    _lm("Phi-3", "phi3", head=SMALL_TIED, kept="fused `qkv_proj` and `gate_up_proj` meet as they are"),
    _lm("Cohere", "cohere cohere2", head=TIED, kept="the two do not merge with one another"),
    _lm("other language models", "", head="as the files say", kept="accepted with a warning where all names are a plain LM's"),
)  # fmt: skip

FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}
OTHER = "other language models"
"""Row of the language models that no other row names."""
