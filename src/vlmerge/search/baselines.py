"""The free baselines: what a search has to beat before it has found anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vlmerge.config import ModelRef, PathSpec, Recipe, RunConfig, Source
from vlmerge.search.genome_space import DTYPE
from vlmerge.search.path_space import host_path
from vlmerge.search.space import model_labels
from vlmerge.standing import row_of

SCALES = (1.06, 1.13, 1.2)
"""By which a decoder that is swapped in whole is also tried: weights whose sum is free rescale the decoder too."""


@dataclass(frozen=True)
class Baseline:
    """One hand-set recipe, or the reason why it cannot be.

    Attributes:
        label: Unique: `host`, `swap:NAME`, `swap_scaled:NAME@1.06`, `equal`, `grid@0.1`, `start`, `chat_vector:NAME`.
        recipe: What to merge; None where it cannot be.
        reason: Why it cannot be.
        weights: The same as weights of a linear merge: where a search may begin.
    """

    label: str
    recipe: Recipe | None
    reason: str | None = None
    weights: Mapping[ModelRef, float] = field(default_factory=dict[ModelRef, float])

    @property
    def row(self) -> str:
        """The row of the tables that it stands for election in; the best of a row is shown."""
        return row_of(self.label)


def baselines(config: RunConfig, host: ModelRef) -> list[Baseline]:
    """Every baseline of a run; `protect` and dtype are the run's in all of them.

    Args:
        config: The run.
        host: The model whose everything else a result keeps.
    """
    if config.merge is None and config.path is not None:
        return _paths(config.path, host)
    models = tuple(dict.fromkeys([*config.models, host]))
    labels, base = model_labels(models), config.base_model
    others = [model for model in models if model != host]
    rows = [_linear(config, host, "host", {host: 1.0}), *_start(config, host)]
    rows += [_linear(config, host, f"swap:{labels[model]}", {model: 1.0}) for model in others]
    rows += [
        _linear(config, host, f"swap_scaled:{labels[model]}@{scale:g}", {model: scale}) for model in others for scale in SCALES
    ]
    listed = config.merge.models if config.merge else config.genome.models if config.genome else ()
    rows.append(_linear(config, host, "equal", dict.fromkeys(listed, 1 / len(listed))))
    return [*rows, *_grid(config, host, others), *_chat_vectors(config, host, base, labels)]


def _paths(spec: PathSpec, host: ModelRef) -> list[Baseline]:
    """Models as they are; merged weights have no place beside paths, which leave weights as they are."""
    assert spec.layers is not None
    layers = dict(zip(spec.models, spec.layers, strict=True))
    labels = model_labels(spec.models)
    # Behind a search of weights the host is what that found, or else the first beside, with what was found as the second.
    first, second = ("merged", "host") if len(spec.beside) == 1 else ("host", "merged")
    own = [Baseline(first, host_path(spec, host, host, layers[host]), weights={host: 1.0})]
    beside = [Baseline(second, host_path(spec, model, host, layers.get(model, layers[host]))) for model in spec.beside[-1:]]
    reason = "a `path:` run puts layers one after another, and merges no weights"
    rows = [f"swap:{labels[model]}" for model in spec.models if model != host]
    return [*own, *beside, *(Baseline(row, None, reason) for row in (*rows, "equal", "grid"))]


def _start(config: RunConfig, host: ModelRef) -> list[Baseline]:
    """The recipe that the search begins at, where it begins at one."""
    start = config.search.start
    if config.merge is None or not isinstance(start, Recipe):
        return []
    own = {"vlm": host, "protect": config.protect, "dtype": config.merge.dtype, "out_dtype": config.merge.out_dtype}
    return [Baseline("start", start.model_copy(update=own))]


def _grid(config: RunConfig, host: ModelRef, others: list[ModelRef]) -> list[Baseline]:
    partners = [model for model in others if model != config.base_model] or others
    if not partners:
        return [Baseline("grid", None, "there is no other model")]
    return [
        _linear(config, host, f"grid@{tenths / 10:g}", {host: tenths / 10}
                | dict.fromkeys(partners, (10 - tenths) / 10 / len(partners)))
        for tenths in range(1, 10)
    ]  # fmt: skip


def _chat_vectors(config: RunConfig, host: ModelRef, base: ModelRef | None, labels: Mapping[ModelRef, str]) -> list[Baseline]:
    rows: list[Baseline] = []
    for model, label in labels.items():
        if model in (host, base):
            continue
        if base is None or base == host:
            reason = "no base_model" if base is None else "the host is the base_model: its task vector is zero"
            rows.append(Baseline(f"chat_vector:{label}", None, reason))
            continue
        weights = {host: 1.0, model: 1.0}
        recipe = _recipe(config, host, "task_arithmetic", weights, base)
        rows.append(Baseline(f"chat_vector:{label}", recipe, weights={**weights, base: -1.0}))
    return rows


def _linear(config: RunConfig, host: ModelRef, label: str, weights: dict[ModelRef, float]) -> Baseline:
    return Baseline(label, _recipe(config, host, "linear", weights, None), weights=weights)


def _recipe(config: RunConfig, host: ModelRef, method: str, weights: Mapping[ModelRef, float], base: ModelRef | None) -> Recipe:
    return Recipe.model_validate(
        {
            "merge_method": method,
            "vlm": host,
            "base_model": base,
            "models": tuple(Source(model=model, parameters={"weight": weight}) for model, weight in weights.items()),
            "parameters": {"normalize": False},
            "protect": config.protect,
            "dtype": config.merge.dtype if config.merge else DTYPE,
            "out_dtype": config.merge.out_dtype if config.merge else None,
        }
    )
