"""What a recipe does to each tensor, by mergekit's words and independently of the merge: embeddings take the first slice's
parameters, final norm and lm_head the last's, a layer those of the slice that holds it."""

from __future__ import annotations

from vlmerge.config import ModelRef, Recipe, resolve

ENDS = ("embed_tokens.weight", "norm.weight", "lm_head.weight")
PARTS = ("self_attn.q_proj.weight", "mlp.down_proj.weight", "post_attention_layernorm.weight")


def roles(layers: int) -> list[str]:
    """Some roles of every kind."""
    return [*ENDS, *(f"layers.{layer}.{part}" for layer in range(layers) for part in PARTS)]


def effective(recipe: Recipe, parameter: str, layers: int) -> dict[tuple[str, ModelRef | None], float | bool | None]:
    """(role, model) → value; the model is None for what is shared."""
    found: dict[tuple[str, ModelRef | None], float | bool | None] = {}
    for role in roles(layers):
        name = role if role.startswith("lm_head") else f"model.{role}"
        if recipe.slices is None:
            sources, shared, first, end = recipe.models or (), [recipe.parameters], 0, layers
        else:
            part = recipe.slices[0 if role.startswith("embed") else -1]
            if role.startswith("layers."):
                number = int(role.split(".")[1])
                part = next(each for each in recipe.slices if number in range(*each.sources[0].layer_range))
            sources, shared = part.sources, [part.parameters, recipe.parameters]
            first, end = part.sources[0].layer_range
        t = 0.0
        if role.startswith("layers."):
            t = (int(role.split(".")[1]) - first) / (end - first - 1) if end - first > 1 else 1.0
        above = [level.get(parameter) for level in shared]
        found[role, None] = resolve(above, [name], t)
        for source in sources:
            found[role, source.model] = resolve([source.parameters.get(parameter), *above], [name], t)
    return found
