"""lm-eval's tasks in a folder, and what lm-eval itself says of them on the same weights."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tasks import write_tasks

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs lm-eval where it is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        for item in items:
            if HERE in item.path.parents and item.get_closest_marker("without_lm_eval") is None:
                item.add_marker(pytest.mark.skip(reason="needs lm-evaluation-harness: pip install 'vlmerge[lm-eval]'"))


@pytest.fixture(scope="session")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("lm-eval") / "tasks")


@pytest.fixture(scope="session")
def lm_eval_says() -> Callable[..., dict[str, Any]]:
    """lm-eval's own `simple_evaluate` on a checkpoint in float32: everything that it returns."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    def say(checkpoint: Path, task: str, folder: Path, *, model: str = "hf-multimodal", **keys: Any) -> dict[str, Any]:
        return lm_eval.simple_evaluate(
            model=model,
            model_args={"pretrained": str(checkpoint), "dtype": "float32"},
            tasks=[task],
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            device="cpu",
            batch_size=1,
            bootstrap_iters=0,
            apply_chat_template=keys.pop("apply_chat_template", False),
            **keys,
        )

    return say
