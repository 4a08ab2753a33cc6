"""Recipes for the comparison with mergekit 0.1.5: every deterministic method, every form of YAML that both read.

Models are those of `models.py`: `a` and `b` bfloat16, `c` and `d` float32, `tied` without a head of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

Recipe = dict[str, Any]
FLOAT = {"dtype": "float32", "out_dtype": "bfloat16"}
HALF = {"dtype": "float32", "out_dtype": "float16"}


def plain(*names: str, **parameters: Any) -> list[Recipe]:
    """Models with the same parameters, or with none."""
    return [{"model": name, **({"parameters": parameters} if parameters else {})} for name in names]


def weighted(*weights: Any, names: Sequence[str] = "ab", **more: Any) -> list[Recipe]:
    """Models with a weight each; further parameters are lists of one value each, or one for all."""
    return [
        {
            "model": name,
            "parameters": {"weight": weight} | {k: v[place] if isinstance(v, tuple) else v for k, v in more.items()},
        }
        for place, (name, weight) in enumerate(zip(names, weights, strict=True))
    ]


def part(model: str, first: int, end: int, **parameters: Any) -> Recipe:
    """A source of a slice."""
    return {"model": model, "layer_range": [first, end], **({"parameters": parameters} if parameters else {})}


def on_base(method: str, models: list[Recipe], **keys: Any) -> Recipe:
    """A method with `c` for its base, in float32, rounded to bfloat16."""
    return {"merge_method": method, "base_model": "c", "models": models, **FLOAT, **keys}


SLERP_T = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
    {"value": 0.5},
]

LINEAR: dict[str, Recipe] = {
    "linear": {"merge_method": "linear", "models": weighted(0.7, 0.4), "dtype": "bfloat16"},
    "linear_base_is_an_input": {
        "merge_method": "linear", "models": weighted(0.7, [0.1, 0.9]), "base_model": "c",
        "parameters": {"weight": 0.2, "normalize": False}, **HALF,
    },
    "linear_filters": {
        "merge_method": "linear",
        "models": weighted([{"filter": "layers.1.", "value": 0.9}, {"filter": "mlp", "value": [0.2, 0.8, -0.1]}], 0.5),
        "parameters": {"weight": 1.0}, **FLOAT,
    },
    "linear_slices": {
        "merge_method": "linear", "dtype": "float32",
        "slices": [
            {"sources": [part("a", 0, 3, weight=[0.2, 1.0]), part("b", 0, 3)], "parameters": {"weight": 0.3}},
            {"sources": [part("b", 1, 2, weight=[0.25, 0.75]), part("c", 3, 4)], "parameters": {"weight": 0.5}},
        ],
    },
    "linear_tied": {
        "merge_method": "linear", "dtype": "bfloat16", "models": [*weighted(0.5, names="a"), *plain("tied", weight=0.5)],
    },
    "linear_one_model": {"merge_method": "linear", "models": weighted(2.0, names="a"), "dtype": "float16"},
    "linear_words_for_numbers": {
        "merge_method": "linear", "models": weighted("7e-1", 1, names="bc"), "parameters": {"normalize": 0}, **HALF,
    },
    "linear_three_models": {
        "merge_method": "linear", "models": weighted(0.5, -0.2, [1.0, 0.1, 0.4], names="abc"), "dtype": "float16",
    },
}  # fmt: skip

SPHERES: dict[str, Recipe] = {
    "slerp": {
        "merge_method": "slerp", "base_model": "a", "models": plain("b", "a"), "parameters": {"t": SLERP_T}, **FLOAT,
    },
    "slerp_slices": {
        "merge_method": "slerp", "base_model": "c", "parameters": {"t": [0.2, 0.9]}, "dtype": "bfloat16",
        "slices": [
            {"sources": [part("c", 0, 2), part("b", 0, 2)]},
            {"sources": [part("c", 2, 4), part("b", 2, 4)], "parameters": {"t": 1.1}},
        ],
    },
    "nuslerp": {"merge_method": "nuslerp", "models": weighted(0.3, 0.9), **FLOAT},
    "nuslerp_base": on_base("nuslerp", weighted(0.3, [0.9, 0.1])),
    "nuslerp_rows": {
        "merge_method": "nuslerp", "models": weighted(0.6, 0.5), "parameters": {"nuslerp_flatten": False}, **FLOAT,
    },
    "nuslerp_columns": on_base(
        "nuslerp", weighted(0.6, 0.5), parameters={"nuslerp_flatten": False, "nuslerp_row_wise": True}
    ),
    "nuslerp_no_weight": {"merge_method": "nuslerp", "models": weighted(0.5, -0.5), **HALF},
    "multislerp": {"merge_method": "multislerp", "models": weighted(0.5, 0.3, 0.4, names="abc"), **FLOAT},
    "multislerp_base": on_base("multislerp", weighted(0.5, 0.3)),
    "multislerp_as_they_are": {
        "merge_method": "multislerp", "models": weighted(0.5, 0.3), "parameters": {"normalize_weights": False, "eps": "1e-6"},
        **HALF,
    },
    "multislerp_one": on_base("multislerp", weighted(0.5, names="a")),
    "karcher": {"merge_method": "karcher", "models": plain("a", "b", "c"), **FLOAT},
    "karcher_two_steps": {
        "merge_method": "karcher", "models": plain("a", "b"), "base_model": "c",
        "parameters": {"max_iter": 2, "tol": 1e-7}, **HALF,
    },
    "karcher_one": {"merge_method": "karcher", "models": plain("a"), "dtype": "float32"},
    "model_stock": on_base("model_stock", plain("a", "b")),
    "model_stock_rows": on_base("model_stock", plain("a", "b", "tied"), parameters={"filter_wise": True}),
}  # fmt: skip

TASKS: dict[str, Recipe] = {
    "task_arithmetic": on_base("task_arithmetic", weighted(0.7, [0.1, 0.9]), parameters={"lambda": 0.8}),
    "task_arithmetic_normalized": on_base(
        "task_arithmetic",
        [*weighted(0.7, [{"filter": "k_proj", "value": -0.2}, {"value": 0.4}]), *plain("c")],
        parameters={"normalize": True},
    ),
    "ties": on_base("ties", weighted(0.6, 0.5, density=0.4)),
    "ties_densities": on_base(
        "ties", weighted(0.6, -0.3, density=([0.2, 0.9], 0.5)), parameters={"normalize": False, "lambda": 1.3}
    ),
    "ties_rescaled": on_base("ties", weighted(0.6, 0.5, density=0.3), parameters={"rescale": True, "int8_mask": True}),
    "ties_all": on_base("ties", weighted(1.0, 0.5)),
    "ties_slices": {
        "merge_method": "ties", "base_model": "c", **FLOAT,
        "slices": [
            {"sources": [part("a", 0, 2, weight=0.5, density=0.5), part("b", 0, 2, weight=0.7), part("c", 0, 2)]},
            {"sources": [part("b", 2, 4, weight=1.0), part("c", 2, 4)], "parameters": {"density": 0.25}},
        ],
    },
    "breadcrumbs": on_base("breadcrumbs", weighted(0.6, 0.5, density=0.5, gamma=0.02)),
    "breadcrumbs_dense": on_base(
        "breadcrumbs", weighted(0.6, 0.5, density=0.95, gamma=0.2), parameters={"rescale": True, "normalize": True}
    ),
    "breadcrumbs_defaults": on_base("breadcrumbs", weighted(0.6, 0.5)),
    "breadcrumbs_ties": on_base("breadcrumbs_ties", weighted(0.6, 0.5, density=(0.5, 0.8), gamma=(0.01, 0.1))),
    "breadcrumbs_ties_normalized": on_base(
        "breadcrumbs_ties", weighted(0.6, 0.5, density=0.3), parameters={"normalize": True, "lambda": 0.9}
    ),
    "dare_linear_all": on_base("dare_linear", weighted(0.6, 0.5)),
    "dare_ties_all": on_base("dare_ties", weighted(0.6, 0.5)),
    "della_all": on_base("della", weighted(0.6, 0.5)),
    "della_linear_none": on_base("della_linear", weighted(0.6, 0.5, density=(1.0, 0.0))),
}  # fmt: skip

OTHERS: dict[str, Recipe] = {
    "sce": on_base("sce", plain("a", "b", "tied")),
    # Variances of bfloat16 numbers are often equal, and mergekit breaks such ties as its sort happens to.
    "sce_selected": on_base("sce", plain("a", "d"), parameters={"select_topk": 0.3}),
    "sce_three": on_base("sce", plain("a", "b", "d"), parameters={"select_topk": [0.2, 0.8]}),
    "ram": on_base("ram", plain("a", "b")),
    "ram_epsilon": on_base("ram", plain("a", "b", "tied"), parameters={"epsilon": 0.02}),
    "ramplus_tl": on_base("ramplus_tl", plain("a", "b"), parameters={"epsilon": 0.015}),
    "ramplus_tl_strong": on_base(
        "ramplus_tl", plain("a", "b", "tied"), parameters={"epsilon": 0.02, "r": 0.5, "alpha": 1.5}
    ),
    "nearswap": on_base("nearswap", plain("a"), parameters={"t": 0.005}),
    "nearswap_gradient": on_base(
        "nearswap", plain("b"), parameters={"t": [{"filter": "mlp", "value": [0.0, 0.05]}, {"value": 0.01}]}
    ),
    "arcee_fusion": on_base("arcee_fusion", plain("a"), dtype="float64"),
    "passthrough": {"merge_method": "passthrough", "models": plain("a"), "dtype": "float16"},
    "passthrough_scaled": {
        "merge_method": "passthrough", **FLOAT,
        "slices": [
            {"sources": [part("a", 0, 3, scale=[{"filter": "o_proj", "value": 0.5}, {"filter": "mlp", "value": [0.1, 0.9]}])]},
            {"sources": [part("b", 1, 4)]},
        ],
    },
}  # fmt: skip

SEEN = plain("seer", "seer2")
MODULES: dict[str, Recipe] = {
    "modules_of_a_language_model": {
        "merge_method": "linear", **FLOAT, "parameters": {"weight": 9.0, "normalize": False},
        "modules": {"default": {"models": weighted([0.2, 0.9], names="a") + plain("b"), "parameters": {"weight": 0.25}}},
    },
    "modules_slices": {
        "merge_method": "ties", "base_model": "c", **FLOAT, "parameters": {"density": 0.5},
        "modules": {
            "default": {
                "slices": [
                    {"sources": [part("a", 0, 2, weight=0.5), part("b", 1, 3), part("c", 0, 2)], "parameters": {"weight": 0.3}},
                    {"sources": [part("b", 2, 4, density=0.9), part("c", 2, 4)]},
                ],
                "parameters": {"weight": [0.7, 0.2]},
            }
        },
    },
    "models_of_seers": {"merge_method": "linear", "models": weighted([0.2, 0.9], 0.5, names=["seer", "seer2"]), **FLOAT},
    "modules_of_seers": {
        "merge_method": "linear", **HALF,
        "modules": {
            "text_decoder": {"models": weighted([0.2, 0.9], 0.5, names=["seer", "seer2"])},
            "multi_modal_projector": {"models": SEEN, "parameters": {"weight": [0.5, 1.0]}},
            "vision_tower": {"models": weighted([0.1, 0.9], [{"filter": "mlp", "value": [1, 2]}, {"value": 0.3}],
                                                names=["seer", "seer2"])},
        },
    },
    "modules_of_seers_sliced": {
        "merge_method": "task_arithmetic", "base_model": "seer", **FLOAT,
        "modules": {
            "text_decoder": {"models": weighted([0.2, 0.9], names=["seer2"])},
            "multi_modal_projector": {"models": weighted(0.5, names=["seer2"])},
            "vision_tower": {
                "slices": [
                    {"sources": [part("seer", 0, 1), part("seer2", 0, 1, weight=[0.1, 0.7])]},
                    {"sources": [part("seer", 1, 3), part("seer2", 1, 3)], "parameters": {"weight": [0.2, 0.6]}},
                ],
                "parameters": {"lambda": 1.5},
            },
        },
    },
}  # fmt: skip

TWO = {"merge_method": "linear", "models": weighted(0.6, 0.4, names=["c", "wide"]), **FLOAT}
TOKENIZERS: dict[str, Recipe] = {
    "union": {**TWO, "base_model": "c", "parameters": {"weight": 0.0}, "tokenizer": {"source": "union"}},
    "union_short": {
        "merge_method": "task_arithmetic", "base_model": "c", "models": weighted(0.6, 0.5, names=["wide", "other"]),
        "tokenizer_source": "union", **HALF,
    },
    "union_padded": {
        "merge_method": "linear", "models": weighted(0.5, 0.5, 0.25, names=["wide", "other", "a"]), "base_model": "wide",
        "tokenizer": {"source": "union", "pad_to_multiple_of": 8}, **FLOAT,
    },
    "base": {
        "merge_method": "slerp", "base_model": "wide", "models": plain("c", "wide"), "parameters": {"t": 0.4},
        "tokenizer_source": "base", **FLOAT,
    },
    "of_a_model": {
        "merge_method": "ties", "base_model": "c", "models": weighted(0.6, 0.5, names=["wide", "other"], density=0.7),
        "tokenizer": {"source": "other"}, **FLOAT,
    },
    "rules": {
        "merge_method": "linear", "models": weighted(0.6, 0.4, 0.3, names=["wide", "other", "c"]), "base_model": "c", **FLOAT,
        "tokenizer": {
            "source": "union",
            "tokens": {
                "w": {"source": {"kind": "zero"}},
                "x": {"source": "other"},
                "y": {"source": {"kind": "model_token", "model": "c", "token": "t5"}},
                "t1": {"source": {"kind": "model_token", "model": "wide", "token_id": 2}, "force": True},
                "new": {"source": {"kind": "model_token", "model": "other", "token": "z"}},
            },
        },
    },
}  # fmt: skip
"""The comparison is token by token: mergekit orders new tokens as it happens to."""


def by_token(folder: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Vocabulary tensors with their rows in the alphabetical order of the tokens; rows without a token apart."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {**tokenizer["model"]["vocab"], **{entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}}
    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        if "embed_tokens" in key or "lm_head" in key:
            found[key] = tensor[[ids[token] for token in sorted(ids)]].contiguous()
            padding = sorted(set(range(len(tensor))) - set(ids.values()))
            if padding:
                found[f"{key}/padding"] = tensor[padding].contiguous()
    return found


RECIPES: dict[str, Recipe] = LINEAR | SPHERES | TASKS | OTHERS | MODULES

IN_16_BITS: dict[str, Recipe] = {
    name: {"merge_method": name, **({"base_model": "b"} if based else {}), "models": models, "parameters": parameters}
    for name, based, models, parameters in (
        ("nuslerp", True, weighted(0.3, 0.9, names=["a", "tied"]), {}),
        ("multislerp", True, weighted(0.3, 0.9, names=["a", "tied"]), {}),
        ("karcher", False, plain("a", "b", "tied"), {}),
        ("task_arithmetic", True, weighted(0.3, 0.9, names=["a", "tied"]), {"lambda": 0.7}),
        ("ties", True, weighted(0.3, 0.9, names=["a", "tied"]), {"lambda": 1.3}),
        ("breadcrumbs", True, weighted(0.3, 0.9, names=["a", "tied"]), {}),
        ("sce", True, plain("a", "tied"), {}),
        ("ram", True, plain("a", "tied"), {}),
        ("model_stock", True, plain("a", "tied"), {}),
        ("nearswap", True, plain("a"), {"t": 0.004}),
    )
}
"""Recipes of bfloat16 models that name no dtype: mergekit then rounds every step to 16 bits."""
