"""The tensors that may take part in a merge, in memory, and the live parameters that they are merged into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from vlmerge.anatomy import Anatomy, Pairing, live_roles
from vlmerge.anatomy.roles import is_decoder
from vlmerge.errors import MismatchError
from vlmerge.methods import Known, Scratch, combine, keep, named_dtype, output_dtype, require_finite, steps_of
from vlmerge.methods.dtypes import TORCH_DTYPES
from vlmerge.methods.launches import Launches, comes_from_triton

if TYPE_CHECKING:
    from vlmerge.anatomy import TensorPair
    from vlmerge.checkpoint import Checkpoint
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Recipe

SHARE_OF_CARD = 0.7
"""Share of the card's free memory that parents may take; above it they stay in host memory and are moved tensor by tensor."""


class Models(Protocol):
    """Opened models: what a live model is loaded from."""

    @property
    def checkpoints(self) -> Mapping[ModelRef, Checkpoint]: ...
    @property
    def anatomies(self) -> Mapping[ModelRef, Anatomy]: ...
    @property
    def host(self) -> ModelRef: ...
    def pairing_for(self, recipe: Recipe) -> Pairing: ...


class Parents:
    """Every tensor of the models that has a role in the host, read once; merges any recipe over these models in place."""

    def __init__(
        self, models: Models, tensors: Mapping[tuple[ModelRef, str], Tensor], live: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self._models = models
        self._tensors = tensors
        self._live = live
        self._device = device
        self._scratch = Scratch(device)
        self._known: Known = {}
        self._launches = _launches(device) if all(each.device.type == device.type for each in tensors.values()) else None
        host = models.anatomies[models.host]
        self._rounded: dict[torch.dtype, Tensor] = {}
        # Roles whose live parameter is the host's own, and the dtype it was rounded to: a recipe that keeps them has no work.
        self._kept: dict[str, torch.dtype] = {role: TORCH_DTYPES[host.tensors[name].dtype] for role, name in host.roles.items()}

    @classmethod
    def read(cls, models: Models, model: Any, device: torch.device) -> Parents:
        """Reads the tensors: to the device where they fit beside the model, else to host memory."""
        anatomy = models.anatomies[models.host]
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        live = {role: parameters[name] for role, name in live_roles(parameters).items()}
        missing = [role for role in anatomy.roles if is_decoder(role) and role not in live]
        if missing:
            raise MismatchError(
                "the loaded model lacks tensors that its files have",
                where=str(models.host),
                expected=f"a parameter for {missing[0]}",
                found=", ".join(list(parameters)[:3]) + ", …",
                remedy="use the version of transformers that this release names",
            )
        wanted = [
            (ref, name)
            for ref, one in models.anatomies.items()
            for role, name in one.roles.items()
            if role in anatomy.roles and models.checkpoints[ref].tensors[name].is_float
        ]
        size = sum(models.checkpoints[ref].tensors[name].bytes for ref, name in wanted)
        fits = device.type == "cpu" or size < SHARE_OF_CARD * torch.cuda.mem_get_info(device)[0]
        home = device if fits else torch.device("cpu")
        scratch = Scratch(home)
        tensors: dict[tuple[ModelRef, str], Tensor] = {}
        for ref, name in wanted:
            tensors[ref, name] = models.checkpoints[ref].read(name).to(home, copy=True)
            # Before the first candidate: otherwise every merge with this parent would fail, and another would win.
            require_finite(tensors[ref, name], scratch, model=str(ref), name=name)
        return cls(models, tensors, live, device)

    @torch.inference_mode()
    def merge_into_host(self, recipe: Recipe) -> bool:
        """Merges in place.

        Args:
            recipe: Over the models that were read.

        Returns:
            Whether anything but the decoder changed, so that picture features are stale.

        Raises:
            CandidateFailure: The weights are not finite, or the values give no result.
        """
        pairing = self._models.pairing_for(recipe)
        seen_elsewhere = False
        if self._launches is not None:
            self._launches.begin()
        for one, step in zip(pairing.tensors, steps_of(recipe, pairing), strict=True):
            live = self._live.get(one.role)
            if live is None or not live.dtype.is_floating_point:
                continue
            dtype = output_dtype(recipe, one)
            if step is None and self._kept.get(one.role) == dtype:
                continue
            self._kept.pop(one.role, None)
            out = self._buffer(one, dtype, live)
            if step is not None:
                # Where the result has to be copied on, it has to be there first.
                launches = self._launches if out.data_ptr() == live.data_ptr() else None
                if launches is None or not launches.take(step, self._read, out, self._scratch, self._known):
                    combine(step, self._read, out, self._scratch, self._known)
            else:
                keep(one, self._models.host, self._read, out, named_dtype(recipe.dtype))
                self._kept[one.role] = dtype
            if out.data_ptr() != live.data_ptr():
                live.copy_(out)
            seen_elsewhere = seen_elsewhere or not is_decoder(one.role)
        if self._launches is not None:
            self._launches.finish()
        return seen_elsewhere

    def give_back(self) -> None:
        """Frees what a merge that did not come to its end has left."""
        if self._launches is not None:
            self._launches.begin()

    def _read(self, ref: ModelRef, name: str) -> Tensor:
        return self._tensors[ref, name].to(self._device, non_blocking=True)

    def _buffer(self, one: TensorPair, dtype: torch.dtype, live: Tensor) -> Tensor:
        """Room for the rounded result: the live parameter itself where it has that dtype already."""
        if live.dtype == dtype and live.is_contiguous():
            return live
        size = live.numel()
        held = self._rounded.get(dtype)
        if held is None or held.numel() < size:
            held = self._rounded[dtype] = torch.empty(size, dtype=dtype, device=live.device)
        return held[:size].view(one.shape)


def _launches(device: torch.device) -> Launches | None:
    """Merges of many tensors at once: on a GPU with Triton."""
    if device.type != "cuda":
        return None
    try:
        launches = Launches(device)
        launches.probe()
    except ImportError:
        return None
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError) or not comes_from_triton(error):
            raise
        return None  # A card that Triton cannot compile for: plain torch does the same arithmetic.
    return launches
