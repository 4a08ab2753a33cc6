"""A mergekit-evolve directory runs as it is; of a candidate its tasks say what lm-eval says of the exported model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import vlmerge
from vlmerge.store import Store

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "examples" / "mergekit-evolve"
PAGE = ROOT / "docs" / "from-mergekit-evolve.md"
DOCUMENTS = 4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evolved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory after the edits of the page, its budget a small one, run by the command that the page gives."""
    folder = tmp_path_factory.mktemp("published")
    config: dict[str, Any] = yaml.safe_load((DIRECTORY / "config.yml").read_text(encoding="utf-8"))
    assert set(config) == {"genome", "tasks", "limit"}, "nothing of vlmerge's own"
    genome = config["genome"]
    genome["models"] = [str((DIRECTORY / model).resolve()) for model in genome["models"]]
    genome["base_model"] = str((DIRECTORY / genome["base_model"]).resolve())
    added = re.search(r"```yaml\n(# what the command line said.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert added, "the page shows the edit"
    config |= yaml.safe_load(added[1])
    config |= {"limit": DOCUMENTS, "runtime": {"device": "cpu", "dtype": "float32"}}
    config["search"] |= {"max_fevals": 2, "population": 2}
    (folder / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "vlmerge", "evolve", "config.yml", "--task-search-path", str(DIRECTORY / "tasks")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "config"


def test_a_candidates_scores_are_lm_evals_own_on_the_exported_model(
    evolved: Path, tmp_path: Path, lm_eval_says: Callable[..., dict[str, Any]]
) -> None:
    with Store.read_only(evolved / "run.sqlite") as store:
        trial = next(one for one in store.trials() if one.label == "stage-1/001/02")
        assert trial.status == "scored"
        assert trial.genome is not None
        assert len(trial.genome) == 9
        matrix = {
            task: {answer.question: answer.score for answer in store.answers(trial.trial, "search", task)}
            for task in ("pictures_ja", "choices_ja")
        }
    vlmerge.export(evolved, tmp_path / "model", trial.trial, observer=None)
    for task, metric in (("pictures_ja", "rouge_l"), ("choices_ja", "acc")):
        said = lm_eval_says(tmp_path / "model", task, DIRECTORY / "tasks", limit=DOCUMENTS, apply_chat_template=True)
        theirs = {str(sample["doc_id"]): sample[metric] for sample in said["samples"][task]}
        assert matrix[task] == pytest.approx(theirs)
        assert len(theirs) == DOCUMENTS
    assert 0 < sum(matrix["pictures_ja"].values()) < DOCUMENTS


def test_the_score_is_the_mean_by_weight(evolved: Path) -> None:
    run = vlmerge.report(evolved)
    whole, pictures, choices = (run.row("host", "search", task).score for task in ("all", "pictures_ja", "choices_ja"))
    assert whole == pytest.approx((pictures + 0.5 * choices) / 1.5, abs=1e-3)
    assert run.row("host", "search", "pictures_ja").metric == "rouge_l,none"
