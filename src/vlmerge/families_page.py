"""docs/families.md from the registry: `vlmerge families --markdown > docs/families.md`. A test holds the file to it."""

from __future__ import annotations

from collections.abc import Iterator

from vlmerge.anatomy import FAMILIES, Family, Layout
from vlmerge.anatomy.decoders import ALIKE
from vlmerge.anatomy.families import TIED
from vlmerge.anatomy.recognition import NOT_YET
from vlmerge.runtime.live_tensors import EXPERTS

INTRODUCTION = """\
# Families

Which models merge, how their files name things, and what stays the host's. This page is made from the program's own table:
`vlmerge families --markdown > docs/families.md` writes it anew, and `vlmerge families` prints the table.

The rule is one for all ([recipes.md](recipes.md)): a tensor, and a row of the vocabulary, is merged where every source has it;
where one has not, the host's is kept bit for bit, and you are told why. The result has the names that the host's files have,
whichever of the layouts below that is; models of one family in different layouts meet all the same. `config.json` is copied,
and only the dtype and what it says of layers and of the vocabulary are edited, where a recipe changes them.

A VLM pairs with the language models whose `model_type` stands under "pairs with", of the same sizes, and with any other VLM
that pairs with the same ones. Of two VLMs with the same kind of tower the tower and the projector merge, too; where towers or
projectors differ, the host's are kept whole, with a warning. Decoders of different kinds are refused, even where all shapes
agree{alike}.

A **head** is the matrix that turns the last state into words. Where a model's head is its embedding, its files have none: such
a host does not get one, and such a language model meets a host's own head with its embedding."""

OTHERS = """\
## Other language models

A language model whose `model_type` is in no row above is accepted, with a warning, where all its tensors have a plain language
model's names (`model.embed_tokens`, `model.layers.N.…`, `model.norm`, `lm_head`). It merges with its like, and with a known
kind whose tensors are the same. `config.json` must say `num_attention_heads`.

Mixtures of experts are among them: an expert meets the expert of its number, which makes sense where models descend from one
another. On disk they merge wherever each expert has tensors of its own, as on the hub. In place, in a run, merge those of which
it is known how transformers stacks them: {mixtures}. Others are refused there when they are loaded.

## Not supported

Other VLMs are refused by name, before anything is written. Of these it is known why:

| `model_type` | why |
|---|---|"""


def families_page() -> str:
    """The page, with a newline at its end."""
    alike = "; ".join(" and ".join(f"`{kind}`" for kind in sorted(group)) for group in ALIKE)
    parts = [INTRODUCTION.format(alike=f" ({alike} may meet, with a warning)")]
    sees = [family for family in FAMILIES.values() if family.is_vlm]
    reads = [family for family in FAMILIES.values() if not family.is_vlm and family.model_types]
    parts += ["## Vision-language models", *map(_section, sees)]
    lines = [
        "## Language models",
        "",
        "On disk they are `model.embed_tokens`, `model.layers.N.…`, `model.norm` and, where the head is their own, `lm_head`.",
        "",
        "| family | `model_type` | head | note |",
        "|---|---|---|---|",
        *(f"| {family.name} | {_codes(family.model_types)} | {family.head} | {family.kept} |" for family in reads),
    ]
    parts += ["\n".join(lines), "\n".join([OTHERS.format(mixtures=_codes(tuple(EXPERTS))), *_refused()])]
    return "\n\n".join(parts) + "\n"


def _section(family: Family) -> str:
    known = [
        ("`model_type`", _codes(family.model_types)),
        ("pairs with", _codes(family.pairs_with)),
        ("head", family.head),
        ("stays the host's", family.kept),
    ]
    rows = [f"| {name} | {value} |" for name, value in known]
    layouts = [f"| on disk, {layout.name} | {_where(layout, head=family.head != TIED)} |" for layout in family.layouts]
    return "\n".join([f"### {family.name}", "", "| | |", "|---|---|", *rows[:2], *layouts, *rows[2:]])


def _where(layout: Layout, *, head: bool) -> str:
    """A layout in words; of several prefixes of one part the shortest, which covers the others."""
    parts = [
        ("decoder", f"{layout.decoder}…"),
        *([("head", f"{layout.head}lm_head")] if head else []),
        *(("tower", f"{prefix}…") for prefix in layout.vision[-1:]),
        *(("projector", f"{prefix}…") for prefix in layout.projector),
    ]
    return ", ".join(f"{name} `{prefix}`" for name, prefix in parts)


def _codes(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _refused() -> Iterator[str]:
    for why in dict.fromkeys(NOT_YET.values()):
        yield f"| {_codes(tuple(name for name, each in NOT_YET.items() if each == why))} | {why} |"
