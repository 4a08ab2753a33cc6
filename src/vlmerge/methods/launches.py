"""Merges on a GPU, many tensors in one launch: the host names tensors while the device works on those named before."""

from __future__ import annotations

from dataclasses import dataclass, field
from subprocess import SubprocessError
from typing import TYPE_CHECKING, cast

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.combine import inputs_of, known_of
from vlmerge.methods.differences import Differences, drawn
from vlmerge.methods.resolved import Step
from vlmerge.methods.sparse import Share, Sparse
from vlmerge.methods.summing import Summing

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.chosen_launches import Chosen
    from vlmerge.methods.combine import Known, Read
    from vlmerge.methods.kernels.gpu import Sum
    from vlmerge.methods.kernels.gpu_table import Place
    from vlmerge.methods.scratch import Scratch


def comes_from_triton(error: BaseException) -> bool:
    """Whether Triton (or the driver that it calls) raised it; its errors have no base class in common with others."""
    # The others: it calls a C compiler, which may be missing or fail.
    known = isinstance(error, (RuntimeError, OSError, SubprocessError))
    return known or type(error).__module__.partition(".")[0] == "triton"


TENSORS = 32
"""Tensors of one launch: enough that launches cost nothing."""
FIRST = 8
"""Tensors of a merge's first launch: few, so that the device does not wait for it."""
LOOSE = 384 << 20
"""Bytes of inputs that were made for one merge alone (moved to the device, cast) and wait: more should be launched."""
MANY = 31
"""Inputs that a launch takes at most."""


@dataclass(frozen=True)
class _Held:
    """What a step works on, flat; places by which of the inputs take part."""

    step: Step
    address: int
    tensors: tuple[Tensor, ...]
    base: Tensor | None
    out: Tensor
    rest: tuple[Tensor, Tensor] | None
    found: object
    places: dict[tuple[int, ...], Place] = field(default_factory=dict["tuple[int, ...]", "Place"])

    def fits(self, step: Step, out: Tensor) -> bool:
        """Whether another step is about the same tensors."""
        own = self.step
        same = own.pair is step.pair and own.inputs is step.inputs and own.base == step.base and own.cast == step.cast
        return same and own.method is step.method and self.address == out.data_ptr()


class Launches:
    """Collects steps whose result is a sum, of all or of chosen differences, and launches them kind by kind.

    Kept for a run: it holds addresses, and what was found out about differences.

    Raises:
        ImportError: Triton is not installed.
    """

    def __init__(self, device: torch.device) -> None:
        from vlmerge.methods.chosen_launches import Chosen, ChosenLaunches
        from vlmerge.methods.kernels.gpu import Sum, add_up
        from vlmerge.methods.kernels.gpu_table import Place, Tables

        self._device = device
        self._sum, self._chosen, self._place, self._add_up = Sum, Chosen, Place, add_up
        self._tables = Tables(device)
        self._chosen_launches = ChosenLaunches(device, self._tables)
        self._held: dict[str, _Held] = {}
        self._waiting: dict[tuple[object, ...], list[tuple[str, Sum | Chosen]]] = {}
        self._loose = 0
        self._launched: list[tuple[list[str], Tensor]] = []

    def probe(self) -> None:
        """Merges small tensors in every way, so that a card that the kernels cannot be compiled for is found out here."""
        one = torch.ones(64, device=self._device)
        place = self._place.of(torch.empty_like(one), None, (one, one))
        self._add_up([self._sum(place, (0.5, 0.5), 1.0, 1.0)], self._tables, self._device)
        based = self._place.of(torch.empty_like(one), torch.zeros_like(one), (one, one))
        for elect in (True, False):
            for wanted in (32, drawn(0.5, (1, 2))):
                shares = tuple(Share(number, 0.5, wanted, rescale=True) for number in (0, 1))
                draws = not isinstance(wanted, int)
                self._chosen_launches.run([self._chosen(based, shares, Differences(), draws, elect, elect, 1.0, 1.0)])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def give_back(self) -> None:
        """Frees what is kept for a run and can be found again."""
        self.begin()
        self._held.clear()
        self._tables.forget()

    def begin(self) -> None:
        """Forgets what a merge that failed has left."""
        self._waiting, self._launched, self._loose = {}, [], 0

    def take(self, step: Step, read: Read, out: Tensor, scratch: Scratch, known: Known, *, stays: bool = True) -> bool:
        """Takes a step over, or gives False where it has to be merged on its own.

        Args:
            step, read, out, scratch, known: As for `combine`.
            stays: Whether `read` will give the same memory again: addresses are then kept.
        """
        rows = step.pair.rows
        launches = isinstance(step.method, Summing) or (isinstance(step.method, Sparse) and step.method.launches)
        if not launches or (rows is not None and not rows.straight):
            return False
        held = self._held.get(step.pair.name)
        if held is None or not stays or not held.fits(step, out):
            held = self._hold(step, read, out, scratch, known, stays=stays)
        if held is None:
            return False
        job = self._job(step, held)
        if job is None:
            return False
        if held.rest is not None:
            held.rest[0].copy_(held.rest[1])
        kind: tuple[object, ...] = (type(job), *job.kind)
        waiting = self._waiting.setdefault(kind, [])
        waiting.append((step.pair.name, job))
        if len(waiting) == (TENSORS if self._launched else FIRST):
            self._launch(self._waiting.pop(kind))
        return True

    def flush(self, above: int = -1) -> bool:
        """Launches all that waits, where it keeps more than `above` bytes that were made for it alone; gives whether it did.

        The device may still be at work on it.
        """
        if self._loose <= above:
            return False
        waiting, self._waiting, self._loose = self._waiting, {}, 0
        for each in waiting.values():
            self._launch(each)
        return True

    def finish(self) -> None:
        """Launches the rest and waits for everything.

        Raises:
            CandidateFailure: A result is not finite.
        """
        self.flush()
        launched, self._launched = self._launched, []
        if not launched:
            return
        flags = cast("list[int]", torch.cat([wrong for _, wrong in launched]).tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
        names = [name for part, _ in launched for name in part]
        for name, flag in zip(names, flags, strict=True):
            if flag:
                raise CandidateFailure(f"NaN or infinity in {name}")

    # ── inside ──

    def _hold(self, step: Step, read: Read, out: Tensor, scratch: Scratch, known: Known, *, stays: bool) -> _Held | None:
        tensors, base = inputs_of(step, read)
        rows, address, rest = step.pair.rows, out.data_ptr(), None
        if rows is not None:
            host = read(step.host, step.pair.host_name)
            if host.dtype != out.dtype or step.cast not in (None, host.dtype):
                return None  # The rows that stay the host's are then cast and checked, too.
            rest = (out[rows.merged :], host[rows.merged :])
            tensors, base = [each[: rows.merged] for each in tensors], None if base is None else base[: rows.merged]
            out = out[: rows.merged]
        flat, origin = tuple(each.reshape(-1) for each in tensors), None if base is None else base.reshape(-1)
        sources = flat if origin is None else (*flat, origin)
        dtypes = {each.dtype for each in sources}
        if len(dtypes) != 1 or torch.float64 in {*dtypes, out.dtype} or len(flat) >= MANY or not out.numel():
            return None
        found = known_of(step, list(flat), origin, scratch, known)
        held = _Held(step, address, flat, origin, out.view(-1), rest, found)
        # A cast is a copy of its own: kept, it would be a second parent in memory.
        as_read = step.cast is None or all(read(ref, step.pair.inputs[ref]).dtype == step.cast for ref in step.sources)
        if stays and as_read:
            self._held[step.pair.name] = held
        else:
            self._loose += sum(each.nbytes for each in sources)
        return held

    def _job(self, step: Step, held: _Held) -> Sum | Chosen | None:
        method = step.method
        if isinstance(method, Summing):
            terms = method.terms(held.tensors, held.base, step.values, held.found)
            if not terms.inputs or terms.copied is not None:
                return None
            return self._sum(self._placed(held, terms.base, terms.inputs), terms.weights, terms.divisor, terms.scale)
        assert isinstance(method, Sparse)
        assert held.base is not None
        shares = method.shares(step.values, len(held.base))
        if not shares:
            return None
        place = self._placed(held, held.base, tuple(held.tensors[share.number] for share in shares))
        return self._chosen.of(method, step.values, place, shares, held.found)

    def _placed(self, held: _Held, base: Tensor | None, inputs: tuple[Tensor, ...]) -> Place:
        key = (0 if base is None else 1, *(id(each) for each in inputs))
        place = held.places.get(key)
        if place is None:
            place = held.places[key] = self._place.of(held.out, base, inputs)
        return place

    def _launch(self, waiting: list[tuple[str, Sum | Chosen]]) -> None:
        jobs = [job for _, job in waiting]
        if isinstance(jobs[0], self._sum):
            flags = self._add_up(cast("list[Sum]", jobs), self._tables, self._device)
        else:
            flags = self._chosen_launches.run(cast("list[Chosen]", jobs))
        self._launched.append(([name for name, _ in waiting], flags))
