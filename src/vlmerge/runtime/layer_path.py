"""A live decoder's layers in another order, or other models' in their place: what is read twice is held once.

A layer on a path is a copy of modules, not of weights: it shares its parameters with every other layer that has them, and has a
number of its own, by which it finds its keys and values in a cache.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    from torch import Tensor

PER_LAYER = "layer_types"
"""Of a config: what each layer attends to."""


class LayerPath:
    """The layers of a live model, and the path that stands in their place.

    Args:
        model: A live transformers model.
    """

    def __init__(self, model: Any) -> None:
        self._body = model.get_decoder()
        self._own = self._body.layers
        found = [self._body.config, model.config.get_text_config()]
        self._configs = found[:1] if found[0] is found[1] else found
        self._depths = [config.num_hidden_layers for config in self._configs]
        self._kinds = [getattr(config, PER_LAYER, None) for config in self._configs]

    @property
    def layers(self) -> int:
        """Layers that the model has now."""
        return len(self._body.layers)

    @property
    def walked(self) -> bool:
        """Whether a path stands in the place of the model's own layers."""
        return self._body.layers is not self._own

    def names(self) -> frozenset[str]:
        """What a layer's parameters are called within it."""
        return frozenset(name for name, _ in self._own[0].named_parameters())

    def walk(self, steps: Sequence[Mapping[str, Tensor]]) -> None:
        """Puts layers in the place of the model's own.

        Args:
            steps: Of each layer its parameters by their names within a layer, in the live dtype and on the live device; two
                layers may have the same.

        Raises:
            MismatchError: The model's layers are not all of one kind.
        """
        for kinds in self._kinds:
            if kinds is not None and len(set(kinds)) > 1:
                raise MismatchError(
                    "the layers of this decoder cannot stand in another order",
                    where=f"config.json, {PER_LAYER}",
                    expected="layers that all attend alike",
                    found=", ".join(dict.fromkeys(map(str, kinds))),
                    remedy="merge these models with `merge:`",
                )
        own = self._own[0]
        self._body.layers = torch.nn.ModuleList(_layer(own, number, step) for number, step in enumerate(steps))
        for config, kinds in zip(self._configs, self._kinds, strict=True):
            _say(config, len(steps), None if kinds is None else [kinds[0]] * len(steps))

    def leave(self) -> None:
        """Puts the model's own layers back."""
        self._body.layers = self._own
        for config, depth, kinds in zip(self._configs, self._depths, self._kinds, strict=True):
            _say(config, depth, kinds)


def _layer(template: Any, number: int, parameters: Mapping[str, Tensor]) -> Any:
    """A layer like another one, with these parameters and this number."""
    layer = _twin(template, "", parameters)
    for module in layer.modules():
        if "layer_idx" in vars(module):
            module.layer_idx = number
    return layer


def _twin(module: Any, at: str, parameters: Mapping[str, Tensor]) -> Any:
    """The same module with other parameters; what it has besides is shared."""
    twin = copy.copy(module)
    # What nn.Module keeps its parts in is not copied with it.
    parts = cast("Mapping[str, Mapping[str, Any]]", vars(module))
    vars(twin)["_parameters"] = {
        name: None if held is None else torch.nn.Parameter(parameters[at + name], requires_grad=False)
        for name, held in parts["_parameters"].items()
    }
    vars(twin)["_buffers"] = dict(parts["_buffers"])
    vars(twin)["_modules"] = {
        name: None if child is None else _twin(child, f"{at}{name}.", parameters) for name, child in parts["_modules"].items()
    }
    return twin


def _say(config: Any, layers: int, kinds: Sequence[Any] | None) -> None:
    config.num_hidden_layers = layers
    if kinds is not None:
        setattr(config, PER_LAYER, list(kinds))
