"""Which value a parameter has for one tensor, by mergekit's rules: levels in order, filters by name, gradients over depth."""

from __future__ import annotations

from collections.abc import Sequence

from vlmerge.config.parameter_values import Filtered, ParameterValue, Scalar


def resolve(levels: Sequence[ParameterValue | None], names: Sequence[str], t: float) -> Scalar | None:
    """The value for one tensor.

    Args:
        levels: The parameter's value at each level, the nearest first (model, slice, top); None where a level has none. A level
            whose filters all miss is passed over.
        names: The names that the tensor goes by; a filter matches if it is a substring of any of them.
        t: Depth, 0 to 1: layer / (layers of the slice - 1); 1 in a slice of one layer; 0 outside the layers.

    Returns:
        A number, interpolated between a gradient's neighbours; a flag, the gradient's entry int(t * (n - 1)). None: no level
        has a value, the method's default holds.
    """
    for level in levels:
        value = None if level is None else _at(level, names, t)
        if value is not None:
            return value
    return None


def _at(value: ParameterValue, names: Sequence[str], t: float) -> Scalar | None:
    if not isinstance(value, tuple):
        return value
    for entry in value:
        if not isinstance(entry, Filtered):
            break
        if entry.filter in (None, "*") or any(entry.filter in name for name in names):
            return _at(entry.value, names, t)
    else:
        return None
    gradient = [entry for entry in value if not isinstance(entry, Filtered)]
    if any(isinstance(entry, bool) for entry in gradient):
        return gradient[int(t * (len(gradient) - 1))]
    scaled = t * (len(gradient) - 1)
    lower = int(scaled)
    upper, share = min(len(gradient) - 1, lower + 1), scaled - lower
    return (1 - share) * gradient[lower] + share * gradient[upper]
