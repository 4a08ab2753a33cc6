"""What is compared: settings are run files that differ in where and how they search, and in nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

CANDIDATES = 210
"""Searched candidates of every setting; at 192 questions each this is the budget of the search study."""
DEMO = Path(str(resources.files("vlmerge"))) / "demo"
HALVES: Mapping[str, Any] = {"groups": 2}
ROTATED: Mapping[str, Any] = {"rotate": 0.5, "max_fevals": 2 * CANDIDATES, "global_fevals": 80}
QUARTERS: Mapping[str, Any] = {"rotate": 0.25, "max_fevals": 4 * CANDIDATES, "global_fevals": 160}
HALF: Mapping[str, Any] = {"survivors": 0.5}
SCALED: Mapping[str, Any] = {"scale": [0.5, 2]}


@dataclass(frozen=True)
class Family:
    """Models and questions.

    Attributes:
        name: Of its folder among the runs.
        folder: Holds `vlm`, `ja`, `base`, and `bench/{search,validation,holdout}/questions.jsonl`.
        holdout: Another folder of questions to report; None: the family's own.
    """

    name: str
    folder: Path
    holdout: Path | None = None

    def model(self, name: str) -> str:
        """Where one of its models is."""
        return str(self.folder / name)

    def task(self, split: str) -> dict[str, Any]:
        """Its Japanese questions of a set."""
        fields = {"question": "question_ja", "answer": "answer_ja"}
        folder = self.holdout if split == "holdout" and self.holdout is not None else self.folder / "bench" / split
        return {"name": str(folder / "questions.jsonl"), "label": "Japanese", "fields": fields}


@dataclass(frozen=True)
class Setting:
    """One way to search.

    Attributes:
        title: For tables.
        reports: The row that whoever searches this way reports: `winner` (elected on validation), or `best` (the best score on
            the questions that were searched), as the published searches do.
        block: `merge` or `genome`.
        says: What the block says beside the models.
        search: What `search:` says beside seed and budget.
        listed: Models that have genes.
    """

    title: str
    reports: str
    block: str
    says: Mapping[str, Any]
    search: Mapping[str, Any]
    listed: tuple[str, ...] = ("vlm", "ja", "base")

    def run(self, family: Family, seed: int, candidates: int, runtime: Mapping[str, Any], limit: int | None) -> str:
        """The run file.

        Args:
            family: Models and questions.
            seed: Of the search.
            candidates: Searched at most.
            runtime: Device and threads.
            limit: At most so many questions of each set; None: all.
        """
        block = {"models": [family.model(name) for name in self.listed], **self.says}
        if "base" in self.listed or block.pop("subtracts", False):
            block["base_model"] = family.model("base")
        coarse = (
            {"global_fevals": min(40, candidates // 4)} if self.block == "merge" and "global_fevals" not in self.search else {}
        )
        limited = {} if limit is None else {"limit": limit}
        document = {
            self.block: block,
            "tasks": [{**family.task("search"), **limited}],
            "validation": [{**family.task("validation"), **limited}],
            "holdout": [{**family.task("holdout"), **limited}],
            "search": {"max_fevals": candidates, "seed": seed, "racing": False, **coarse, **self.search},
            "decoding": {"max_new_tokens": 48},
            "runtime": dict(runtime),
        }
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _space(title: str, space: object, **search: object) -> Setting:
    return Setting(title, "winner", "merge", {"space": space}, search)


SETTINGS: Mapping[str, Setting] = {
    "vlmerge": Setting("vlmerge's default, every question asked", "winner", "merge", {}, {}),
    "raced": Setting("vlmerge's default with races", "winner", "merge", {}, {"racing": True}),
    "mergekit-evolve": Setting(
        "mergekit-evolve: linear, a group per layer, weights to sum one",
        "best",
        "genome",
        {"merge_method": "linear", "layer_granularity": 1},
        {},
    ),
    "sakana": Setting(
        "EvoLLM's: TIES with DARE, weight and density per layer, from 0.5, step 1/6",
        "best",
        "genome",
        {"merge_method": "dare_ties", "layer_granularity": 1, "subtracts": True},
        {},
        listed=("vlm", "ja"),
    ),
    "tpe": Setting(
        "Optuna's TPE on the default's groups",
        "best",
        "merge",
        {"space": HALVES},
        {"algorithm": "optuna:tpe", "global_fevals": 0},
    ),
    "random": Setting(
        "random search on the default's groups", "best", "merge", {"space": HALVES}, {"algorithm": "random", "global_fevals": 0}
    ),
    "method": Setting(
        "vlmerge, the method searched too",
        "winner",
        "merge",
        {"method": ["linear", "ties", "dare_ties"], "space": {**HALVES, "parameters": {"density": {"per": "model"}}}},
        {},
    ),
}
"""What the table in docs/search.md compares."""

VARIANTS: Mapping[str, Setting] = {
    "direct": _space("the same twelve numbers from the start", HALVES, global_fevals=0),
    "thirds": _space("thirds of the layers", {"groups": 3}),
    "narrow": _space("a narrower step size, 0.05", HALVES, sigma=0.05),
    "modules": _space("then modules of each half", [HALVES, {"groups": 2, "modules": ["attention", "mlp", "norms"]}]),
    "quadratic": _space(
        "a quadratic curve for each kind of module", {"curve": "quadratic", "modules": ["attention", "mlp", "norms"]}
    ),
    "raced-longer": Setting(
        "with races, 1.7 times the candidates", "winner", "merge", {}, {"racing": True, "max_fevals": 357, "global_fevals": 68}
    ),
    "raced-half": Setting("with races for the better half", "winner", "merge", {}, {"racing": HALF}),
    "raced-half-longer": Setting(
        "with races for the better half, a third more candidates",
        "winner",
        "merge",
        {},
        {"racing": HALF, "max_fevals": 280, "global_fevals": 53},
    ),
    "rotated": Setting("half of the pictures at a time, twice the candidates", "winner", "merge", {}, ROTATED),
    "rotated-quarter": Setting(
        "a quarter of the pictures at a time, four times the candidates", "winner", "merge", {}, QUARTERS
    ),
    "path": Setting("paths", "winner", "path", SCALED, {}, listed=("vlm", "ja")),
    "path-random": Setting("paths, drawn at random", "best", "path", SCALED, {"algorithm": "random"}, listed=("vlm", "ja")),
}
"""Other spaces and step sizes, and paths: for choosing defaults, on validation questions and never on the holdout."""
