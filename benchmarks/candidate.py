"""Seconds per candidate on the demo family: vlmerge's live model beside what one would write with transformers.

A candidate is a merge of three decoders in place, the answers to the search questions, and their scores. Three ways do it by
turns, on the same questions with the same weights:

- vlmerge: the runtime that `vlmerge evolve` uses;
- generate, batched: a careful script: merge in place, one padded batch through `model.generate`, pictures and all;
- generate, one by one: the same, a question at a time, as published notebooks do.

    make bench          python benchmarks/candidate.py --questions 48 --rounds 5 --json out.json
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from timing import Clock, print_table, take_turns, write_json
from torch import Tensor

from vlmerge.config.model_ref import ModelRef
from vlmerge.config.recipe import Recipe, parse_recipe
from vlmerge.config.run import TaskSpec
from vlmerge.merge import prepare
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.tasks import Task, load_task
from vlmerge.types import Decoding, Question

MODELS = ("vlm", "ja", "base")
NEW_TOKENS = 32


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    demo = Path(str(resources.files("vlmerge"))) / "demo"
    fields = {"question": "question_ja", "answer": "answer_ja"}
    task = load_task(TaskSpec(name=str(demo / "bench/search/questions.jsonl"), fields=fields, metric="char_rougeL"))
    questions = list(task.questions())[: options.questions]

    ours = Ours(demo, questions, task)
    theirs = Theirs(demo, questions, task)
    variants = {"vlmerge": ours.candidate, "generate, batched": theirs.batched}
    if not options.skip_one_by_one:
        variants["generate, one by one"] = theirs.one_by_one
    measured = take_turns(variants, options.rounds)

    threads = torch.get_num_threads()
    print(f"{len(questions)} questions per candidate, {options.rounds} rounds by turns, medians, {threads} threads\n")
    print_table(measured, "vlmerge")
    same = sum(a == b for a, b in zip(ours.answers, theirs.answers, strict=True))
    print(f"\nsame answers in the last round: {same} of {len(questions)}")
    content = {"questions": len(questions), "same_answers": same, "variants": measured}
    write_json(options.json, content)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=192, help="questions per candidate (at most 192)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; the median counts")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--skip-one-by-one", action="store_true", help="leave the slow one out")
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    return parser.parse_args()


def weights_of(turn: int) -> tuple[float, float, float]:
    """Other weights in every round, the same for all variants of it."""
    return 0.5 + 0.01 * (turn % 5), 0.65, -0.03


class Ours:
    """The live model of a run."""

    def __init__(self, demo: Path, questions: Sequence[Question], task: Task) -> None:
        self.paths = [str(demo / name) for name in MODELS]
        self.questions, self.task = questions, task
        prepared = prepare(self.recipe(0))
        facts = prepared.anatomies[prepared.host].facts
        self.live = LiveModel.load(prepared, choose_placement(host_dtype="float16", facts=facts))
        self.answers: list[str] = []

    def recipe(self, turn: int) -> Recipe:
        sources = [
            {"model": ModelRef(path), "parameters": {"weight": weight}}
            for path, weight in zip(self.paths, weights_of(turn), strict=True)
        ]
        data = {"merge_method": "linear", "models": sources, "parameters": {"normalize": False}, "dtype": "float16"}
        return parse_recipe(data, "benchmark")

    def candidate(self, turn: int, clock: Clock) -> None:
        recipe = self.recipe(turn)
        with clock.step("merge"):
            self.live.merge(recipe)
        with clock.step("answer"):
            answers = list(self.live.answer(self.questions, Decoding(max_new_tokens=NEW_TOKENS)))
        with clock.step("score"):
            by_id = {answer.question.id: answer.text for answer in answers}
            self.answers = [by_id[question.id] for question in self.questions]
            for question, answer in zip(self.questions, self.answers, strict=True):
                self.task.score(question, answer)


class Theirs:
    """The same with transformers alone: state dicts, the processor, `generate`."""

    def __init__(self, demo: Path, questions: Sequence[Question], task: Task) -> None:
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

        self.processor: Any = AutoProcessor.from_pretrained(demo / "vlm")
        self.model: Any = AutoModelForImageTextToText.from_pretrained(demo / "vlm", dtype=torch.float32).eval()
        plain = [AutoModelForCausalLM.from_pretrained(demo / name, dtype=torch.float32).state_dict() for name in MODELS[1:]]
        self.groups = [
            (parameter.data, [parameter.data.clone(), *(state[name] for state in plain)])
            for name, parameter in self._decoder_parameters()
        ]
        self.questions, self.task = questions, task
        turn = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]
            for question in questions
        ]
        self.prompts: list[str] = [self.processor.apply_chat_template(each, add_generation_prompt=True) for each in turn]
        self.pictures = [question.pictures[0].open() for question in questions]
        self.answers: list[str] = []

    def _decoder_parameters(self) -> list[tuple[str, Tensor]]:
        body = [(f"model.{name}", parameter) for name, parameter in self.model.model.language_model.named_parameters()]
        return [*body, ("lm_head.weight", self.model.lm_head.weight)]

    @torch.inference_mode()
    def _merge(self, turn: int) -> None:
        for out, tensors in self.groups:
            merged = sum(weight * tensor for weight, tensor in zip(weights_of(turn), tensors, strict=True))
            out.copy_(merged.half())

    @torch.inference_mode()
    def _generate(self, start: int, end: int) -> list[str]:
        inputs = self.processor(
            text=self.prompts[start:end],
            images=self.pictures[start:end],
            return_tensors="pt",
            padding=True,
            padding_side="left",
        )
        out = self.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        return self.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def _candidate(self, turn: int, clock: Clock, size: int) -> None:
        with clock.step("merge"):
            self._merge(turn)
        with clock.step("answer"):
            starts = range(0, len(self.questions), size)
            self.answers = list(itertools.chain.from_iterable(self._generate(start, start + size) for start in starts))
        with clock.step("score"):
            for question, answer in zip(self.questions, self.answers, strict=True):
                self.task.score(question, answer)

    def batched(self, turn: int, clock: Clock) -> None:
        self._candidate(turn, clock, 64)

    def one_by_one(self, turn: int, clock: Clock) -> None:
        self._candidate(turn, clock, 1)


if __name__ == "__main__":
    main()
