"""The tensors that may take part in a merge, in memory, and the live parameters that they are merged into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from vlmerge.anatomy import Anatomy, Pairing, host_layers
from vlmerge.anatomy.roles import at_layer, decoder_layer, is_decoder
from vlmerge.errors import CandidateFailure, MismatchError
from vlmerge.methods import (
    Known,
    Read,
    Scratch,
    Step,
    asks_for_zero,
    combine,
    constant_of,
    has_constant_parent,
    is_finite,
    keep,
    named_dtype,
    output_dtype,
    require_finite,
    spelling,
    steps_of,
)
from vlmerge.methods.dtypes import TORCH_DTYPES
from vlmerge.methods.launches import LOOSE, Launches, comes_from_triton
from vlmerge.runtime.layer_path import LayerPath
from vlmerge.runtime.live_tensors import live_tensors
from vlmerge.runtime.moving import Mover, PinnedMemory

if TYPE_CHECKING:
    from vlmerge.anatomy import TensorPair
    from vlmerge.checkpoint import Checkpoint
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Recipe


Rounding = tuple[torch.dtype | None, torch.dtype]
"""What a kept tensor is cast to first (None: nothing that changes it), and the dtype of the result."""


class Models(Protocol):
    """Opened models: what a live model is loaded from."""

    @property
    def checkpoints(self) -> Mapping[ModelRef, Checkpoint]: ...
    @property
    def anatomies(self) -> Mapping[ModelRef, Anatomy]: ...
    @property
    def host(self) -> ModelRef: ...
    @property
    def pairing(self) -> Pairing: ...
    @property
    def scaled(self) -> bool: ...
    def pairing_for(self, recipe: Recipe) -> Pairing: ...


class Parents:
    """Every tensor of the models that has a role in the host, read once; merges any recipe over these models in place.

    A role's tensors are at home on the device; or in pinned host memory, from where they are moved for each merge; or in their
    files, where the host's processor merges them and the result alone is moved.
    """

    def __init__(
        self,
        models: Models,
        tensors: Mapping[tuple[ModelRef, str], Tensor],
        live: Mapping[str, Tensor],
        device: torch.device,
        homes: Mapping[str, str],
        path: LayerPath,
    ) -> None:
        self.path = path
        self._models = models
        self._tensors = tensors
        self._live = live
        self._homes = homes
        self._scratch = Scratch(device)
        self._known: Known = {}
        self._launches = _launches(device)
        self._mover = Mover(device)
        host = models.anatomies[models.host]
        self._rounded: dict[torch.dtype, Tensor] = {}
        # Of paths: tensors that are in no parameter, in the live dtype, once for each way to round them, whatever the path.
        self._on_paths: dict[tuple[ModelRef, str, torch.dtype | None, torch.dtype], Tensor] = {}
        # Kept where a merge fails after it has changed the tower: the next one that ends well tells of it.
        self._tower_changed = False
        self._host_roles = {name: role for role, name in host.roles.items()}
        self._stored = {role: TORCH_DTYPES[host.tensors[name].dtype] for role, name in host.roles.items()}
        # Roles whose live parameter is the host's own, and how it was rounded: a recipe that keeps them has no work.
        self._kept: dict[str, Rounding] = {role: (None, dtype) for role, dtype in self._stored.items()}

    @classmethod
    def read(cls, models: Models, model: Any, device: torch.device, homes: Mapping[str, str] | None = None) -> Parents:
        """Reads the tensors.

        Args:
            models: Opened models.
            model: The live host.
            device: Where it is.
            homes: Role → `card`, `host` or `file` (see `Room`); None: all of them on the device.
        """
        homes = homes or {}
        anatomy = models.anatomies[models.host]
        live = live_tensors(model)
        missing = [role for role in anatomy.roles if is_decoder(role) and role not in live]
        if missing:
            raise MismatchError(
                "the loaded model lacks tensors that its files have",
                where=str(models.host),
                expected=f"a parameter for {missing[0]}",
                found=", ".join(list(live)[:3]) + ", …",
                remedy="merge these models to disk with `vlmerge merge`, which goes by their files; where another version of "
                "transformers holds them as their files do, use that one",
            )
        wanted = [
            (ref, name, homes.get(role, "card"))
            for ref, one in models.anatomies.items()
            for role, name in one.roles.items()
            if role in anatomy.roles and models.checkpoints[ref].tensors[name].is_float
        ]
        scratch, beside = Scratch(device), Scratch()
        pinned = PinnedMemory()
        tensors: dict[tuple[ModelRef, str], Tensor] = {}
        for ref, name, home in wanted:
            tensor = models.checkpoints[ref].read(name)
            if home != "file":
                tensor = tensor.to(device, copy=True) if home == "card" else pinned.copy(tensor)
            adapter = models.checkpoints[ref].adapter
            if home != "file" or adapter is None or not adapter.changes(name):
                tensors[ref, name] = tensor  # What is in no file as it is would stay in memory: it is computed for each merge.
            # Before the first candidate: otherwise every merge with this parent would fail, and another would win.
            require_finite(tensor, scratch if home == "card" else beside, model=str(ref), name=name)
        return cls(models, tensors, live, device, homes, LayerPath(model))

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
        self.begin()
        walks, walked = self._walks(recipe, pairing), dict[int, dict[str, Tensor]]()
        for one, step in zip(pairing.tensors, steps_of(recipe, pairing), strict=True):
            layer = decoder_layer(one.role) if walks else None
            if layer is not None and not one.is_buffer:
                inner = one.role.removeprefix(f"layers.{layer}.")
                walked.setdefault(layer, {})[inner] = self._on_path(recipe, one, step)
                continue
            live = self._live.get(one.role)
            if live is None or not live.dtype.is_floating_point:
                continue
            dtype = output_dtype(recipe, one)
            rounding = self._rounding(one.role, recipe, dtype)
            if step is None and self._kept.get(one.role) == rounding:
                continue
            self._kept.pop(one.role, None)
            self._tower_changed = self._tower_changed or not is_decoder(one.role)
            if step is None:
                out = self._buffer(one, dtype, live)
                keep(one, self._models.host, self._read, out, named_dtype(recipe.dtype))
                self._kept[one.role] = rounding
                if out.data_ptr() != live.data_ptr():
                    live.copy_(out)
                self._mover.used()
            elif self._homes.get(one.role) == "file":
                self._merge_beside(step, live, dtype)
            else:
                self._merge_here(step, live, self._buffer(one, dtype, live))
        if self._launches is not None:
            self._launches.finish()
        self._mover.finish()
        if walks:
            self._walk([walked[layer] for layer in range(pairing.layers)])
        else:
            self.path.leave()
        changed, self._tower_changed = self._tower_changed, False
        return changed

    def _walks(self, recipe: Recipe, pairing: Pairing) -> bool:
        """Whether a recipe puts layers in places that the host's own parameters have not, or only takes layers as they are."""
        block = recipe.blocks().get("decoder")
        if recipe.merge_method == "passthrough" and block is not None and block.slices is not None:
            return True
        own = self._models.anatomies[self._models.host].layers
        return host_layers(pairing.segments, self._models.host, own) != list(range(own))

    def _walk(self, steps: list[dict[str, Tensor]]) -> None:
        lacking = self.path.names() ^ steps[0].keys()
        if lacking:
            raise MismatchError(
                "layers of this kind cannot stand in another order in memory",
                where=str(self._models.host),
                expected="layers whose parameters are called as in the files",
                found=", ".join(sorted(lacking)[:3]),
                remedy="merge these models to disk with `vlmerge merge`",
            )
        self.path.walk(steps)

    def _on_path(self, recipe: Recipe, one: TensorPair, step: Step | None) -> Tensor:
        """A tensor of a layer on a path, rounded as in the files of the result: one that is there already, if there is one."""
        dtype, cast = output_dtype(recipe, one), named_dtype(recipe.dtype)
        live = self._live[at_layer(one.role, 0)].dtype
        taken = (self._models.host, one.host_name) if step is None else _taken_whole(step)
        if taken is None:
            assert step is not None
            made = torch.empty(one.shape, dtype=dtype, device=self._scratch.device)
            combine(step, self._read, made, self._scratch, self._known)
            self._require_numbers(step, made)
            return self._in_dtype(made, live, one.name)
        role = self._host_roles.get(taken[1]) if taken[0] == self._models.host else None
        if role is not None and self._live[role].dtype == live and self._kept.get(role) == self._rounding(role, recipe, dtype):
            return self._live[role]
        key = (*taken, cast, dtype)
        if key not in self._on_paths:
            held = self._read(*taken)
            rounded = (held if cast is None else held.to(cast)).to(dtype)
            self._on_paths[key] = self._in_dtype(rounded, live, one.name)
        return self._on_paths[key]

    def _require_numbers(self, step: Step, made: Tensor) -> None:
        """Refuses what the export would refuse: factors multiply along a path, and what they divide may round to zero.

        Raises:
            CandidateFailure: The tensor holds a single number, its parents do not.
        """
        value = constant_of(made)
        if value is None or (value == 0 and asks_for_zero(step)) or has_constant_parent(step, self._read):
            return
        raise CandidateFailure(f"{value:g} throughout {step.pair.name} as {spelling(made.dtype)}")

    def _rounding(self, role: str, recipe: Recipe, dtype: torch.dtype) -> Rounding:
        """How a tensor of the host is rounded where it is kept; a cast that holds all that its file does changes nothing."""
        cast, stored = named_dtype(recipe.dtype), self._stored.get(role)
        if cast is None or stored is None or torch.promote_types(stored, cast) == cast:
            return None, dtype
        return cast, dtype

    def _in_dtype(self, tensor: Tensor, live: torch.dtype, name: str) -> Tensor:
        """A rounded tensor in the live dtype.

        Raises:
            CandidateFailure: The live dtype (float16) does not hold it.
        """
        held = tensor.to(live)
        if torch.finfo(live).max < torch.finfo(tensor.dtype).max and not is_finite(held, self._scratch):
            raise CandidateFailure(f"infinity in {name} as {spelling(live)}")
        return held

    def _merge_here(self, step: Step, live: Tensor, out: Tensor) -> None:
        """On the device."""
        # Where the result has to be copied on, it has to be there first.
        launches = self._launches if out.data_ptr() == live.data_ptr() else None
        moves = self._homes.get(step.pair.role) == "host"
        read = self._read_once() if moves else self._read
        if launches is None or not launches.take(step, read, out, self._scratch, self._known, stays=not moves):
            combine(step, read, out, self._scratch, self._known)
        if out.data_ptr() != live.data_ptr():
            live.copy_(out)
            # bfloat16 holds numbers that float16 does not.
            if torch.finfo(live.dtype).max < torch.finfo(out.dtype).max and not is_finite(live, self._scratch):
                raise CandidateFailure(f"infinity in {step.pair.name} as {spelling(live.dtype)}")
        if (launches is None or launches.flush(LOOSE)) and moves:
            self._mover.used()

    def _merge_beside(self, step: Step, live: Tensor, dtype: torch.dtype) -> None:
        """By the host's processor, while the results before are on their way to the device."""
        out = self._mover.room_for(live.numel(), dtype).view(step.pair.shape)
        combine(step, self._at_home, out, self._mover.scratch, self._known)
        self._mover.send(out, live)

    def begin(self) -> None:
        """Forgets what a merge that did not come to its end has left."""
        if self._launches is not None:
            self._launches.begin()
        self._mover.finish()

    def give_back(self) -> None:
        """Frees all that can be made again."""
        self.begin()
        if self._launches is not None:
            self._launches.give_back()
        self._rounded.clear()
        self.path.leave()
        self._on_paths.clear()

    def _read(self, ref: ModelRef, name: str) -> Tensor:
        tensor = self._at_home(ref, name)
        return tensor if tensor.device.type == self._scratch.device.type else self._mover.bring(tensor)

    def _at_home(self, ref: ModelRef, name: str) -> Tensor:
        held = self._tensors.get((ref, name))
        return self._models.checkpoints[ref].read(name) if held is None else held

    def _read_once(self) -> Read:
        """Reads for one step: what had to be moved is not moved again."""
        moved: dict[tuple[ModelRef, str], Tensor] = {}

        def read(ref: ModelRef, name: str) -> Tensor:
            if (ref, name) not in moved:
                moved[ref, name] = self._read(ref, name)
            return moved[ref, name]

        return read

    def _buffer(self, one: TensorPair, dtype: torch.dtype, live: Tensor) -> Tensor:
        """Room for the rounded result: the live parameter itself where it has that dtype already."""
        if live.dtype == dtype and live.is_contiguous():
            return live
        size = live.numel()
        held = self._rounded.get(dtype)
        if held is None or held.numel() < size:
            held = self._rounded[dtype] = torch.empty(size, dtype=dtype, device=live.device)
        return held[:size].view(one.shape)


def _taken_whole(step: Step) -> tuple[ModelRef, str] | None:
    """The one tensor that a step takes as it is, if it does no more than that."""
    alone = step.method.spec.name == "passthrough" and step.values.sources[0]["scale"] in (None, 1)
    if not alone or step.pair.rows is not None or step.pair.rearranged is not None:
        return None
    return step.inputs[0], step.pair.inputs[step.inputs[0]]


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
