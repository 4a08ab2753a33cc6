"""Merges on a GPU, many tensors in one launch: the host names tensors while the device works on those named before."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.combine import inputs_of, known_of
from vlmerge.methods.resolved import Step
from vlmerge.methods.summing import Summing

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.combine import Known, Read
    from vlmerge.methods.kernels.gpu import Sum
    from vlmerge.methods.scratch import Scratch


def comes_from_triton(error: BaseException) -> bool:
    """Whether Triton (or the driver that it calls) raised it; its errors have no base class in common with others."""
    return isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] == "triton"


TENSORS = 32
"""Tensors of one launch: enough that launches cost nothing, few enough that the device does not wait for the first."""


class Launches:
    """Collects steps whose result is a sum, and launches them kind by kind. Kept for a run: it holds tables of addresses.

    Raises:
        ImportError: Triton is not installed.
    """

    def __init__(self, device: torch.device) -> None:
        from vlmerge.methods.kernels.gpu import Sum, Sums

        self._device = device
        self._sum = Sum
        self._sums = Sums(device)
        self._waiting: dict[tuple[object, ...], list[tuple[str, Sum]]] = {}
        self._launched: list[tuple[list[str], Tensor]] = []

    def probe(self) -> None:
        """Merges one small tensor, so that a card that the kernels cannot be compiled for is found out here."""
        one = torch.ones(64, device=self._device)
        self._sums.run([self._sum(torch.empty_like(one), None, (one, one), (0.5, 0.5), 1.0, 1.0)])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def begin(self) -> None:
        """Forgets what a merge that failed has left."""
        self._waiting, self._launched = {}, []

    def take(self, step: Step, read: Read, out: Tensor, scratch: Scratch, known: Known) -> bool:
        """Takes a step over, or gives False where it has to be merged on its own; arguments as for `combine`."""
        rows = step.pair.rows
        if not isinstance(step.method, Summing) or (rows is not None and not rows.straight):
            return False
        tensors, base = inputs_of(step, read)
        if rows is not None:
            host = read(step.host, step.pair.host_name)
            if host.dtype != out.dtype or step.cast not in (None, host.dtype):
                return False  # The rows that stay the host's are then cast and checked, too.
            out[rows.merged :].copy_(host[rows.merged :])
            tensors, base = [each[: rows.merged] for each in tensors], None if base is None else base[: rows.merged]
            out = out[: rows.merged]
        flat, origin = [each.reshape(-1) for each in tensors], None if base is None else base.reshape(-1)
        found = known_of(step, flat, origin, scratch, known)
        terms = step.method.terms(flat, origin, step.values, found)
        dtypes = {each.dtype for each in (*terms.inputs, *(() if terms.base is None else (terms.base,)))}
        if terms.copied is not None or not terms.inputs or len(dtypes) != 1 or torch.float64 in {*dtypes, out.dtype}:
            return False
        sum_ = self._sum(out.view(-1), terms.base, terms.inputs, terms.weights, terms.divisor, terms.scale)
        waiting = self._waiting.setdefault(sum_.kind, [])
        waiting.append((step.pair.name, sum_))
        if len(waiting) == TENSORS:
            self._launch(self._waiting.pop(sum_.kind))
        return True

    def finish(self) -> None:
        """Launches the rest and waits for everything.

        Raises:
            CandidateFailure: A result is not finite.
        """
        for waiting in self._waiting.values():
            self._launch(waiting)
        launched, self._waiting, self._launched = self._launched, {}, []
        if not launched:
            return
        flags = cast("list[int]", torch.cat([wrong for _, wrong in launched]).tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
        names = [name for part, _ in launched for name in part]
        for name, flag in zip(names, flags, strict=True):
            if flag:
                raise CandidateFailure(f"NaN or infinity in {name}")

    def _launch(self, waiting: list[tuple[str, Sum]]) -> None:
        self._launched.append(([name for name, _ in waiting], self._sums.run([sum_ for _, sum_ in waiting])))
