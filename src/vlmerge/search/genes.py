"""A gene: one number of a genome, what it may be, and how widely a search should begin to vary it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gene:
    """One number of a genome.

    Attributes:
        name: As people read it: `layers 0-3/model`.
        low: Smallest value; None: no bound.
        high: Largest value; None: no bound.
        choices: Of a categorical gene, what there is to choose from: the genome holds the index, 0, 1, …; empty: a real number.
        scale: Standard deviation that a step size of 1 means for this gene. Weights have 1.
    """

    name: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class Role:
    """What a gene is about, for whoever looks back at a search.

    Attributes:
        group: The group of tensors; empty: all of them.
        model: What tables call the model; None: all of them.
        parameter: Of the method; `method` of the gene that chooses one.
        tensors: How many tensors' numbers it is: its weight where genes are averaged.
        default: What the method does that is not told of it; of a weight 0, the model taking no part; None: there is none.
    """

    group: str
    model: str | None
    parameter: str
    tensors: int
    default: float | None


@dataclass(frozen=True)
class Distribution:
    """A search distribution as one stage hands it to the next.

    Attributes:
        mean: One number for each gene.
        sigma: Step size.
        covariance: Of the genes, before multiplication with sigma²; rows of a symmetric matrix. None: the squares of the genes'
            scales on the diagonal.
    """

    mean: tuple[float, ...]
    sigma: float
    covariance: tuple[tuple[float, ...], ...] | None = None
