"""The model card of a single merge: what was merged into what, by which recipe, under which licences. No score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlmerge.report.card_sections import (
    Parent,
    front_matter,
    introduction,
    models_section,
    page_of,
    plain,
    recipe_section,
    tensors_section,
)


def merge_card(
    title: str, method: str, recipe: str, models: Sequence[Parent], *, sees: bool, merged: int, kept: Mapping[str, int]
) -> str:
    """Writes the card.

    Args:
        title: Its heading.
        method: The merge method.
        recipe: The recipe as it is written beside the weights.
        models: The parents, the host among them.
        sees: Whether the result is a VLM.
        merged: Tensors that are merged, wholly or in some rows.
        kept: Why → number of tensors that are, wholly or in part, the host's.

    Returns:
        Markdown with YAML front matter.
    """
    rebuild = (
        "Save the recipe above as `recipe.yaml`, then `vlmerge merge recipe.yaml OUT`. It gives these weights bit for bit."
    )
    ask = '\nTalk to it with `vlmerge ask OUT IMAGE "…?"`.' if sees else ""
    return page_of(
        [
            front_matter(models, "image-text-to-text" if sees else "text-generation"),
            f"# {plain(title)}",
            introduction(models, method, ", made with vlmerge. No weight was trained, and nothing was scored."),
            recipe_section(models, recipe),
            tensors_section(models, merged, kept),
            models_section(models),
            f"## Build it again\n\n{rebuild}{ask}",
        ]
    )
