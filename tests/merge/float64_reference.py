"""Merges in float64 numpy, written from the formulas; imports nothing of vlmerge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Formula = Callable[[Sequence[Array], str], tuple[Array, Array]]
"""(inputs in listed order, a plain LM's name) → (result, Σ of the sizes of its terms)."""


def exact(tensor: torch.Tensor) -> Array:
    return tensor.to(torch.float64).numpy()


def linear(weights: Callable[[str], Sequence[float]], *, normalize: bool = True) -> Formula:
    def formula(inputs: Sequence[Array], name: str) -> tuple[Array, Array]:
        w = weights(name)
        divisor = sum(w) if normalize else 1.0
        total = sum((wi * x for wi, x in zip(w, inputs, strict=True)), np.zeros_like(inputs[0])) / divisor
        size = sum((abs(wi * x) for wi, x in zip(w, inputs, strict=True)), np.zeros_like(inputs[0])) / abs(divisor)
        return total, size

    return formula


def task_arithmetic(base: int, weights: Callable[[str], Sequence[float]], scale: float, *, normalize: bool = False) -> Formula:
    def formula(inputs: Sequence[Array], name: str) -> tuple[Array, Array]:
        w = weights(name)
        others = [x for place, x in enumerate(inputs) if place != base]
        factor = scale / (sum(w) if normalize else 1.0)
        total = inputs[base] + factor * sum(wi * (x - inputs[base]) for wi, x in zip(w, others, strict=True))
        size = abs(inputs[base]) + abs(factor) * sum(
            abs(wi) * (abs(x) + abs(inputs[base])) for wi, x in zip(w, others, strict=True)
        )
        return total, size

    return formula


def slerp(base: int, t_of: Callable[[str], float]) -> Formula:
    def formula(inputs: Sequence[Array], name: str) -> tuple[Array, Array]:
        t, a, b = t_of(name), inputs[base], inputs[1 - base]
        cosine = float(np.clip((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))
        if abs(cosine) > 0.9995:
            p, q = 1 - t, t
        else:
            angle = np.arccos(cosine)
            p, q = np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle)
        return p * a + q * b, abs(p * a) + abs(q * b)

    return formula


def merged_rows(host_tokens: Sequence[str], sources: Sequence[Sequence[str]]) -> list[tuple[int, list[int]]]:
    """(host row, row in each source) for every token that all have."""
    places = [{token: index for index, token in enumerate(tokens)} for tokens in sources]
    return [
        (row, [place[token] for place in places])
        for row, token in enumerate(host_tokens)
        if all(token in place for place in places)
    ]


def assert_rounded_once(got: torch.Tensor, want: Array, size: Array, name: str) -> None:
    """Half a unit in the last place of the output dtype from the float64 result, after float32 sums of terms of that size."""
    information = torch.finfo(got.dtype)
    slack = 4 * 2.0**-24 * size
    ulp = information.eps * 2.0 ** np.floor(np.log2(np.maximum(np.abs(want) + slack, information.smallest_normal)))
    over = np.abs(exact(got) - want) - (ulp / 2 + slack)
    worst = np.unravel_index(np.argmax(over), over.shape)
    assert (over <= 0).all(), f"{name}{list(worst)}: got {got[worst]}, want {want[worst]}"
