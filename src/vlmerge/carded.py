"""One merge to disk with a model card beside the weights: what `vlmerge merge` does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.checkpoint import licence_of
from vlmerge.config.recipe import Recipe, dump_recipe
from vlmerge.merge import MergeSummary, Prepared, merge, prepare
from vlmerge.report import CARD, Parent, merge_card
from vlmerge.search import model_labels

if TYPE_CHECKING:
    from vlmerge.checkpoint import Progress


def merge_with_card(recipe: Recipe, out: Path, *, progress: Progress | None = None) -> MergeSummary:
    """Merges to disk, as `merge.merge` does, and writes README.md.

    Args:
        recipe: What to merge.
        out: The folder to make; absent or empty.
        progress: Told of bytes downloaded and written.

    Raises:
        ConfigError, CheckpointError, MismatchError: See `merge.merge`.
    """
    prepared = prepare(recipe, progress=progress)
    return merge(recipe, out, prepared=prepared, texts={CARD: card_of(recipe, out, prepared)}, progress=progress)


def card_of(recipe: Recipe, out: Path, prepared: Prepared) -> str:
    """The card of a merge that is about to be written."""
    labels, host, sources = model_labels(tuple(prepared.checkpoints)), prepared.host, recipe.model_refs()
    roles = {ref: "source" if ref in sources else "tokenizer" for ref in prepared.checkpoints}
    roles |= {ref: role for ref, role in ((recipe.base_model, "base"), (host, "host")) if ref is not None}
    models = [
        Parent(
            name=str(ref),
            label=labels[ref],
            role=roles[ref],
            licence=licence_of(checkpoint),
            revision=checkpoint.revision,
            fingerprint=None,
            adapted=checkpoint.adapter is not None,
        )
        for ref, checkpoint in prepared.checkpoints.items()
    ]
    return merge_card(
        recipe.name or out.absolute().name,
        recipe.merge_method,
        dump_recipe(recipe),
        models,
        sees=prepared.anatomies[host].is_vlm,
        merged=len(prepared.pairing.merged),
        kept=Counter(each.reason for each in prepared.pairing.tensors if each.reason is not None),
    )
