"""Every merge method, those of mergekit 0.1.5 and those beyond it: its parameters and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter of a method.

    Attributes:
        name: Its key.
        per_source: Whether each model has its own (else one for the whole tensor).
        default: Value where no level gives one.
        required: No default: leaving it out is an error.
        kind: `number`, or `flag` (true or false).
        ignored: Accepted because mergekit's own files hold it there, and without any effect on the result.
        within: Values have to lie between these two, or be the second; None: any number.
        with_least: Whether they may be the first, too.
    """

    name: str
    per_source: bool = False
    default: float | bool | None = None
    required: bool = False
    kind: Literal["number", "flag"] = "number"
    ignored: bool = False
    within: tuple[float, float] | None = None
    with_least: bool = False


@dataclass(frozen=True)
class MethodSpec:
    """A method.

    Attributes:
        name: As in `merge_method`.
        parameters: By name.
        base: `required`; `optional`; or `ordinary`, where a base is one more input.
        sources: Fewest and most models, the base not counted, except where it is `ordinary` and for slerp, whose two
            models include it.
        draws: Whether it draws differences at random, from the recipe's seed.
        by_element: Whether each element of a result depends on the inputs' elements at its place alone.
        by_row: Whether it asks for the shape of the tensors.
        by_matrix: Whether it asks for the shape of those alone that are weight matrices.
        summary: One line for `vlmerge methods`.
        formula: The result; xᵢ the models, b the base, dᵢ = xᵢ − b, wᵢ the weights.
        origin: Where it comes from.
    """

    name: str
    base: Literal["required", "optional", "ordinary"]
    sources: tuple[int, int | None]
    summary: str
    parameters: Mapping[str, ParameterSpec] = field(default_factory=lambda: MappingProxyType({}))
    draws: bool = False
    by_element: bool = False
    by_row: bool = False
    by_matrix: bool = False
    formula: str = ""
    origin: str = ""

    @property
    def subtracts(self) -> bool:
        """Whether a base, where there is one, is subtracted from the others, and has no number of its own."""
        return self.base != "ordinary" and "t" not in self.parameters

    @property
    def weighs(self) -> bool:
        """Whether each model has a weight."""
        return "weight" in self.parameters

    @property
    def normalizes(self) -> bool:
        """Whether weights can be divided by their sum on request."""
        return "normalize" in self.parameters and not self.parameters["normalize"].ignored


WEIGHT = ParameterSpec("weight", per_source=True, required=True)
# mergekit takes a density of 40 for one of 1; whoever writes it means 40 per cent.
DENSITY = ParameterSpec("density", per_source=True, default=1.0, within=(0.0, 1.0), with_least=True)
GAMMA = ParameterSpec("gamma", per_source=True, default=0.01, within=(0.0, 1.0), with_least=True)
TOPK = ParameterSpec("select_topk", default=1.0, within=(0.0, 1.0), with_least=True)
EPSILON = ParameterSpec("epsilon", per_source=True, default=0.15)
# OptMerge keeps one over the number of models, five in its benchmark.
RANK = ParameterSpec("rank", per_source=True, default=0.2, within=(0.0, 1.0))
LAMBDA = ParameterSpec("lambda", default=1.0)
# mergekit-evolve writes int8_mask whatever the method; it chooses the type in which a mask is kept, never a value.
INT8_MASK = ParameterSpec("int8_mask", default=False, kind="flag", ignored=True)


FORMULAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "linear": ("Σ wᵢ xᵢ, divided by Σ wᵢ with `normalize`", "model soups, Wortsman et al. 2022"),
        "slerp": ("sin((1−t)θ)/sin θ · b + sin(tθ)/sin θ · x, θ the angle between them", "Shoemake 1985"),
        "nuslerp": (
            "slerp at t = w₂/(w₁+w₂) of x₁ and x₂, or b plus that of d₁ and d₂; of the whole tensor, or of each row",
            "mergekit",
        ),
        "multislerp": ("Σ wᵢ‖xᵢ‖ · m/‖m‖, m = Σ wᵢ xᵢ/‖xᵢ‖; of the dᵢ where there is a base", "mergekit"),
        "karcher": ("the mean length times the direction u at which Σ log_u(xᵢ/‖xᵢ‖) = 0", "Karcher 1977"),
        "nearswap": ("s·x + (1−s)·b, s = min(1, t/|x − b|) for each element", "Alchemonaut 2024, in mergekit"),
        "task_arithmetic": ("b + λ Σ wᵢ dᵢ, divided by Σ wᵢ with `normalize`", "Ilharco et al. 2023"),
        "ties": (
            "task arithmetic of the largest `density` of each dᵢ, where they have the sign of their sum, over their weights",
            "Yadav et al. 2023",
        ),
        "dare_linear": ("task arithmetic of each dᵢ with its elements kept with the chance `density`", "Yu et al. 2024"),
        "dare_ties": ("the same, where they have the sign of their sum", "Yu et al. 2024; Yadav et al. 2023"),
        "della": (
            "as `dare_ties`, the chance rising with the rank in its row from `density` − ε to `density` + ε",
            "Deep et al. 2024",
        ),
        "della_linear": ("the same without an election of signs", "Deep et al. 2024"),
        "breadcrumbs": (
            "task arithmetic of the `density` of each dᵢ that come after its `gamma` largest",
            "Davari and Belilovsky 2024",
        ),
        "breadcrumbs_ties": (
            "the same, where they have the sign of their sum",
            "Davari and Belilovsky 2024; Yadav et al. 2023",
        ),
        "sce": (
            "b + Σ cᵢ dᵢ / Σ cᵢ over those of the elected sign, where the dᵢ vary most (`select_topk`); cᵢ the share of Σ dᵢ²",
            "FuseChat, Wan et al. 2024",
        ),
        "ram": ("b + the mean of those dᵢ that are larger than `epsilon`", "Reinforced Agent Merging 2026"),
        "ramplus_tl": (
            "the same, dᵢ that are alone at their place times 1 + r · min(`alpha`, shared / alone)",
            "Reinforced Agent Merging 2026",
        ),
        "model_stock": ("b + t · mean(dᵢ), t = n c/(1 + (n−1) c), c the mean cosine of the dᵢ", "Jang et al. 2024"),
        "arcee_fusion": (
            "x where |d| · KL(softmax x ‖ softmax b) of its row is above median + 1.5 · (q₃ − q₁), else b",
            "Arcee 2024, in mergekit",
        ),
        "passthrough": ("x, or `scale` · x", "mergekit"),
        "svd_linear": (
            "task arithmetic of each dᵢ; of one that is a matrix the share `rank` of its singular directions, the largest",
            "OptMerge, Wei et al. 2025, without its optimisation; not in mergekit",
        ),
    }
)
"""Name → (formula, origin)."""


def _flag(name: str, default: bool) -> ParameterSpec:
    return ParameterSpec(name, default=default, kind="flag")


def _number(name: str, default: float | None) -> ParameterSpec:
    return ParameterSpec(name, default=default)


def _spec(
    name: str,
    base: Literal["required", "optional", "ordinary"],
    sources: tuple[int, int | None],
    summary: str,
    *parameters: ParameterSpec,
    by_element: bool = False,
    by_row: bool = False,
) -> MethodSpec:
    known = MappingProxyType({p.name: p for p in parameters})
    formula, origin = FORMULAS[name]
    return MethodSpec(
        name, base, sources, summary, known, by_element=by_element, by_row=by_row, formula=formula, origin=origin
    )  # fmt: skip


def _family(
    name: str,
    summary: str,
    *parameters: ParameterSpec,
    normalize: bool,
    draws: bool = False,
    by_element: bool = False,
    by_row: bool = False,
) -> MethodSpec:
    common = (WEIGHT, LAMBDA, _flag("normalize", normalize), INT8_MASK)
    spec = _spec(name, "required", (0, None), summary, *common, *parameters, by_element=by_element, by_row=by_row)
    return replace(spec, draws=draws)


METHODS: Mapping[str, MethodSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _spec(
                "linear", "ordinary", (1, None), "weighted sum of the weights",
                WEIGHT, _flag("normalize", True), INT8_MASK, by_element=True,
            ),
            _spec(
                "slerp", "required", (2, 2), "along the arc between two models, t = 0 being the base",
                ParameterSpec("t", required=True), ParameterSpec("normalize", default=False, kind="flag", ignored=True),
                INT8_MASK,
            ),
            _spec(
                "nuslerp", "optional", (2, 2), "along the arc between two models, or their differences from a base, by weights",
                WEIGHT, _flag("nuslerp_row_wise", False), _flag("nuslerp_flatten", True), by_row=True,
            ),
            _spec(
                "multislerp", "optional", (1, None), "mean direction and mean length of any number of models",
                WEIGHT, _flag("normalize_weights", True), _number("eps", 1e-8),
            ),
            _spec(
                "karcher", "ordinary", (1, None), "the direction nearest to those of all models",
                _number("max_iter", 10), _number("tol", 1e-5),
            ),
            _spec(
                "nearswap", "required", (1, 1), "the other model's weights where they are near the base's",
                ParameterSpec("t", required=True), by_element=True,
            ),
            _family("task_arithmetic", "the base plus weighted differences from it", normalize=False, by_element=True),
            _family(
                "ties", "task arithmetic of trimmed differences that agree in sign",
                DENSITY, _flag("rescale", False), normalize=True,
            ),
            _family(
                "dare_linear", "task arithmetic of randomly thinned differences",
                DENSITY, _flag("rescale", True), normalize=False, draws=True,
            ),
            _family(
                "dare_ties", "randomly thinned differences that agree in sign",
                DENSITY, _flag("rescale", True), normalize=False, draws=True,
            ),
            _family(
                "della", "differences thinned by rank that agree in sign",
                DENSITY, EPSILON, _flag("rescale", True), normalize=True, draws=True, by_row=True,
            ),
            _family(
                "della_linear", "task arithmetic of differences thinned by rank",
                DENSITY, EPSILON, _flag("rescale", True), normalize=False, draws=True, by_row=True,
            ),
            _family(
                "breadcrumbs", "task arithmetic without the largest and the smallest differences",
                DENSITY, GAMMA, _flag("rescale", False), normalize=False,
            ),
            _family(
                "breadcrumbs_ties", "breadcrumbs with sign election",
                DENSITY, GAMMA, _flag("rescale", False), normalize=False,
            ),
            _spec(
                "sce", "required", (0, None), "differences where models vary most, weighed by energy, of the elected sign",
                TOPK, INT8_MASK,
            ),
            _spec(
                "ram", "required", (0, None), "of each difference the mean over the models that have one there",
                _number("epsilon", 1e-5), by_element=True,
            ),
            _spec(
                "ramplus_tl", "required", (0, None), "ram with the differences of one model alone amplified",
                _number("epsilon", 1e-5), _number("r", 0.1), _number("alpha", 0.2),
            ),
            _spec(
                "model_stock", "required", (2, None), "towards the mean as far as the differences agree",
                _flag("filter_wise", False), by_row=True,
            ),
            _spec(
                "arcee_fusion", "required", (1, 1), "the other model's weights where they matter most", by_row=True,
            ),
            _spec(
                "passthrough", "ordinary", (1, 1), "one model as it is, or scaled",
                ParameterSpec("scale", per_source=True), by_element=True,
            ),
            replace(
                _family(
                    "svd_linear", "task arithmetic of differences without their small singular directions",
                    RANK, normalize=False,
                ),
                by_matrix=True,
            ),
        )
    }
)  # fmt: skip
"""Every method by name, in the order of `vlmerge methods`."""
