"""The tokenizer of a result: its vocabulary, and the files beside the weights that say so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.anatomy import Anatomy, NewVocabulary, Pairing, new_vocabulary
from vlmerge.checkpoint.tokenizer_files import (
    added_tokens,
    chat_template,
    most_frequent,
    tokenizer_files,
    with_template,
    with_tokens,
)
from vlmerge.config.chat_templates import CHAT_TEMPLATES
from vlmerge.errors import ConfigError

if TYPE_CHECKING:
    from vlmerge.checkpoint import Checkpoint
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Recipe


def vocabulary_of(recipe: Recipe, anatomies: Mapping[ModelRef, Anatomy], host: ModelRef) -> NewVocabulary | None:
    """The vocabulary of a recipe that names one for its result; None: the host's.

    The base of a union is the host where that sees, since its config and processor speak of tokens by number; else the recipe's
    base, else the host.

    Raises:
        ConfigError: A chat template of plain language models is named for a result that sees.
    """
    sees = anatomies[host].is_vlm
    if sees and recipe.chat_template in CHAT_TEMPLATES:
        raise ConfigError(
            "the chat templates that have a name know no pictures, and the host sees",
            where=recipe.name or "the recipe",
            expected="a template with the host's own picture token",
            found=f"chat_template: {recipe.chat_template}, host {host}",
            remedy="leave `chat_template` out, which keeps the host's own; or write the template itself",
        )
    if recipe.tokenizer is None:
        return None
    base = recipe.base_model if recipe.base_model is not None and not sees else host
    rows = {ref: (anatomy.vocabulary, anatomy.facts.vocab_rows) for ref, anatomy in anatomies.items()}
    return new_vocabulary(recipe.tokenizer, base, rows, recipe.model_refs(), host if sees else None)


def tokenizer_of(
    recipe: Recipe, pairing: Pairing, checkpoints: Mapping[ModelRef, Checkpoint]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Files that the result takes over, and texts of those that are edited, by relative name.

    Args:
        recipe: The recipe.
        pairing: Its pairing.
        checkpoints: Every model.
    """
    taken, new = checkpoints[pairing.host].side_files(), pairing.vocabulary
    texts: dict[str, str] = {}
    if new is not None:
        if new.owner != pairing.host:
            # The host's generation_config.json would stop at tokens of another vocabulary.
            taken = {name: path for name, path in taken.items() if name not in _of_vocabulary(taken)}
            taken |= _of_vocabulary(checkpoints[new.owner].side_files())
        if new.added:
            kinds = {token: kind for each in checkpoints.values() for token, kind in added_tokens(each.side_files()).items()}
            texts = with_tokens(tokenizer_files(taken), new.ids, new.added, kinds)
    if recipe.chat_template is not None:
        template: str | None = CHAT_TEMPLATES.get(recipe.chat_template, recipe.chat_template)
        if template == "auto":
            template = most_frequent([chat_template(checkpoints[ref].side_files()) for ref in recipe.model_refs()])
        if template is not None:
            texts = with_template(tokenizer_files(taken), texts, template)
    return {name: path for name, path in taken.items() if name not in texts}, texts


def _of_vocabulary(files: Mapping[str, Path]) -> dict[str, Path]:
    """Those of a model's files that speak of its tokens."""
    own = {*tokenizer_files(files), "generation_config.json"}
    return {name: path for name, path in files.items() if name in own}
