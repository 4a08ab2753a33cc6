"""The law of this folder: what vlmerge says of a task of lm-eval is what lm-eval says, document by document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tasks import FAMILY

from vlmerge.evaluate import Evaluation, evaluate_model

VLM, LM = FAMILY / "vlm", FAMILY / "ja"


class Nobody:
    """Watches nothing."""

    def say(self, line: str) -> None: ...
    def begin(self, what: str, total: int | None) -> None: ...
    def advance(self, by: int = 1, note: str | None = None) -> None: ...
    def end(self) -> None: ...


def ours(model: Path, folder: Path, **spec: Any) -> Evaluation:
    (found,) = evaluate_model(
        str(model), [spec], preset=None, max_new_tokens=None, device="cpu", search_path=[str(folder)], observer=Nobody()
    )
    return found


CASES: dict[str, tuple[Path, dict[str, Any]]] = {
    "generated text": (VLM, {"name": "small_text"}),
    "generated text through a filter": (VLM, {"name": "small_text", "metric": "exact_match,first-words"}),
    "generated text of a language model, with examples": (LM, {"name": "small_text", "num_fewshot": 2}),
    "examples as turns of a chat": (VLM, {"name": "small_text", "num_fewshot": 2, "apply_chat_template": True}),
    "examples in one turn": (
        LM, {"name": "small_text", "num_fewshot": 2, "apply_chat_template": True, "fewshot_as_multiturn": False},
    ),
    "options": (VLM, {"name": "small_options"}),
    "options by length, with examples": (LM, {"name": "small_options", "metric": "acc_norm", "num_fewshot": 1}),
    "options in a chat template": (VLM, {"name": "small_options", "apply_chat_template": True}),
    "likelihood": (LM, {"name": "small_likelihood", "metric": "acc,none"}),
    "pictures": (VLM, {"name": "small_pictures", "apply_chat_template": True}),
    "pictures without a chat template": (VLM, {"name": "small_pictures", "metric": "missed", "limit": 4}),
    "few documents": (VLM, {"name": "small_options", "limit": 3}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_scores_are_lm_evals_own(case: str, tasks_folder: Path, lm_eval_says: Callable[..., dict[str, Any]]) -> None:
    checkpoint, spec = CASES[case]
    found = ours(checkpoint, tasks_folder, **spec)
    keys = {key: spec[key] for key in ("num_fewshot", "limit", "apply_chat_template", "fewshot_as_multiturn") if key in spec}
    model = "hf-multimodal" if checkpoint == VLM else "hf"
    said = lm_eval_says(checkpoint, spec["name"], tasks_folder, model=model, **keys)
    name, filtered = found.metric.split(",")
    samples = [sample for sample in said["samples"][spec["name"]] if sample["filter"] == filtered]
    assert [answer["score"] for answer in found.answers] == [pytest.approx(sample[name]) for sample in samples]
    assert [answer["id"] for answer in found.answers] == [str(sample["doc_id"]) for sample in samples]
    assert found.score == pytest.approx(100 * said["results"][spec["name"]][found.metric])
    assert found.questions == spec.get("limit", 10)
    assert found.prompt == samples[0]["arguments"][0][0]


def test_likelihoods_are_lm_evals_own(tasks_folder: Path, lm_eval_says: Callable[..., dict[str, Any]]) -> None:
    """Not only which option wins: each number, though options that begin alike are read together."""
    from vlmerge.ask import load_model
    from vlmerge.config.run import RuntimeSpec, TaskSpec
    from vlmerge.tasks import load_task

    task: Any = load_task(TaskSpec(name="small_options"), search_path=[str(tasks_folder)])
    model = load_model(str(VLM), RuntimeSpec(device="cpu", batch_size=4)).lm_eval()
    requests = [one for question in task.questions() for one in task._made(model)[question.id]]
    found = model.loglikelihood(requests)
    samples = lm_eval_says(VLM, "small_options", tasks_folder)["samples"]["small_options"]
    theirs = [tuple(response[0]) for sample in samples for response in sample["resps"]]
    assert [pytest.approx(number, abs=1e-4) for number, _ in found] == [number for number, _ in theirs]
    assert [flag for _, flag in found] == [flag for _, flag in theirs]
    assert any(number != found[0][0] for number, _ in found)


def test_lm_evals_own_loop_asks_the_live_model(tasks_folder: Path, lm_eval_says: Callable[..., dict[str, Any]]) -> None:
    """The live model is a whole model object of lm-eval's: texts that are read in windows, too."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from vlmerge.ask import load_model
    from vlmerge.config.run import RuntimeSpec

    folder = tasks_folder.parent / "rolling"
    folder.mkdir()
    (folder / "rolling.yaml").write_text(
        f"task: rolling\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tasks_folder / 'documents.jsonl'}}}}}\n"
        "test_split: test\noutput_type: loglikelihood_rolling\ndoc_to_text: ''\n"
        "doc_to_target: '{{question_ja * 120}}'\nmetric_list: [{metric: bits_per_byte}]\n"
    )
    model = load_model(str(LM), RuntimeSpec(device="cpu", batch_size=3)).lm_eval()
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(model=model, tasks=["rolling"], task_manager=manager, bootstrap_iters=0, limit=4)
    said = lm_eval_says(LM, "rolling", folder, model="hf", limit=4)
    assert found["results"]["rolling"]["bits_per_byte,none"] == pytest.approx(said["results"]["rolling"]["bits_per_byte,none"])
    texts = [sample["target"] for sample in said["samples"]["rolling"]]
    assert any(len(model.tok_encode(text)) > model.max_length for text in texts), "all texts fit into one window"
