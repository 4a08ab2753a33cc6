"""What a candidate costs besides its model: optimizer, store and page of a run whose model answers at once.

The run is the real one: `evolve.search` over CMA-ES, its recipes, the SQLite store in a locked run folder, the page with its
figures. Only the live model is a mute that says what it is told to, and the run's clock is set forward for it, so that the page
is written as often as beside a model that takes so long. What the mute and the scores take is left out.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from PIL import Image

from vlmerge.bench import Bench
from vlmerge.config.run import RunConfig, TaskSpec, dump_run, parse_run
from vlmerge.evolve import search, try_baselines
from vlmerge.run_folder import open_run
from vlmerge.search import Optimizer, stages
from vlmerge.store import ModelRecord, QuestionRecord, Store, TaskRecord
from vlmerge.tasks import load_task
from vlmerge.tasks.sets import Asked, Sets
from vlmerge.types import Answer, Decoding, Question
from vlmerge.watching import Watch

QUESTIONS = 50
PARTS = ("optimizer", "store", "page", "recipes and the rest")


@dataclass(frozen=True)
class Space:
    """A mergekit-evolve block: genes = layers / step × models × (filters + 1)."""

    layers: int
    step: int
    models: int
    filters: tuple[str, ...] = ()

    @property
    def genes(self) -> int:
        """Search dimensions."""
        return self.layers // self.step * self.models * (len(self.filters) + 1)

    def config(self, candidates: int) -> RunConfig:
        """A run over it; its models need not be there."""
        block: dict[str, Any] = {
            "models": [f"org/model-{number}" for number in range(self.models)],
            "merge_method": "linear",
            "layer_granularity": self.step,
            "normalize": False,
            "allow_negative_weights": True,
        }
        if self.filters:
            block["filters"] = list(self.filters)
        budget = {"algorithm": "cma-es", "max_fevals": candidates, "seed": 1}
        tasks = [{"name": "questions.jsonl"}]
        return parse_run({"genome": block, "tasks": tasks, "search": budget}, "the benchmark", Path())


SPACES = (
    Space(layers=32, step=4, models=3),  # 24
    Space(layers=40, step=1, models=3, filters=("self_attn",)),  # 240
    Space(layers=40, step=1, models=5, filters=("q_proj", "o_proj", "gate_proj", "down_proj")),  # 1000
)


class Mute:
    """Stands for the live model: says the reference answers, cut short here and there."""

    batch_size = QUESTIONS

    def __init__(self) -> None:
        self.candidates = 0
        self._lot = random.Random(1)

    def merge(self, _recipe: object) -> None:
        self.candidates += 1

    def answer(self, questions: Sequence[Question], _decoding: object, _progress: object = None) -> Iterator[Answer]:
        for question in questions:
            text = question.references[0]
            yield Answer(question, text[: self._lot.randrange(len(text) + 1)], 32)


class Nobody:
    """An observer that looks away."""

    def say(self, line: str) -> None: ...
    def begin(self, what: str, total: int | None) -> None: ...
    def advance(self, by: int = 1, note: str | None = None) -> None: ...
    def end(self) -> None: ...


def measure(space: Space, candidates: int, seconds: float) -> dict[str, Any]:
    """Runs a search over the space.

    Args:
        space: What is searched.
        candidates: Budget of the search; whole generations of it are spent.
        seconds: That a candidate's model is said to take.

    Returns:
        {"genes", "candidates", "pages", "page_seconds": of one page, "seconds": per candidate, "parts": the same by part}.
    """
    config, asked, mute = space.config(candidates), _questions(), Mute()
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    inside: list[Store] = []

    def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                spent[part] += time.perf_counter() - start
                calls[part] += 1

        return measured

    plain_transaction = Store.transaction

    @contextmanager
    def timed_transaction(store: Store) -> Iterator[None]:
        """With the commit and its flush to disk; transactions within it are a part of it."""
        outermost, start = not inside, time.perf_counter()
        inside.append(store)
        try:
            with plain_transaction(store):
                yield
        finally:
            inside.pop()
            spent["store"] += time.perf_counter() - start if outermost else 0.0

    def clock() -> float:
        return time.perf_counter() + seconds * mute.candidates

    with tempfile.TemporaryDirectory() as place, ExitStack() as patched, open_run(Path(place) / "run") as folder:
        host = config.models[0]
        (stage,) = stages(config, space.layers, host)
        _record(folder.store, config, asked, space, stage.budget)
        bench = Bench(folder.store, mute, Sets((asked,), (), (), (), None))  # type: ignore[arg-type]
        watch = Watch(folder, Nobody(), "en", clock)
        setting: Any = SimpleNamespace(config=config, models=SimpleNamespace(host=host), layers=space.layers)
        try_baselines(setting, bench, watch)
        watch.report()  # Once per run: imports of what draws, fonts …
        stage.optimizer()  # … and of the optimizer.
        for part, owner, names in (
            ("optimizer", Optimizer, ("ask", "tell")),
            ("page", import_module("vlmerge.report"), ("write_report",)),
            ("the candidate's own", import_module("vlmerge.bench"), ("evaluate",)),
        ):
            for name in names:
                patched.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        patched.enter_context(patch.object(Store, "transaction", timed_transaction))
        start = time.perf_counter()
        search(0, stage, None, bench, folder.store, watch)
        whole = time.perf_counter() - start
        done = stage.budget
    own = spent.pop("the candidate's own")
    spent["recipes and the rest"] = whole - own - sum(spent.values())
    return {
        "genes": space.genes,
        "candidates": done,
        "pages": calls["page"],
        "page_seconds": spent["page"] / max(1, calls["page"]),
        "seconds": (whole - own) / done,
        "parts": {part: spent[part] / done for part in PARTS},
    }


def _questions() -> Asked:
    demo = Path(str(resources.files("vlmerge"))) / "demo"
    fields = {"question": "question_ja", "answer": "answer_ja"}
    task = load_task(TaskSpec(name=str(demo / "bench/search/questions.jsonl"), fields=fields, metric="char_rougeL"))
    return Asked(task, tuple(task.questions())[:QUESTIONS], 1.0, None, Decoding(max_new_tokens=64))


def _record(store: Store, config: RunConfig, asked: Asked, space: Space, budget: int) -> None:
    """What a run writes down before it searches."""
    pictures = {picture.digest: picture for question in asked.questions for picture in question.pictures}
    task = asked.task
    store.record_setting(
        models=[
            ModelRecord(ref.path, ref.name, i == 0, False, ref.path, None, "0" * 64, "apache-2.0", "Llama", 7 * 10**9)
            for i, ref in enumerate(config.models)
        ],
        tasks=[TaskRecord("search", task.name, task.metric, 1.0, None, asked.decoding.describe(), "USER: …", task.source)],
        questions=[
            QuestionRecord(
                "search", task.name, one.id, one.text, one.references, one.kind, one.group,
                tuple(picture.digest for picture in one.pictures),
            )
            for one in asked.questions
        ],
        thumbnails={digest: (picture.origin, _thumbnail(picture.open())) for digest, picture in pictures.items()},
        meta={
            "config_asked": dump_run(config),
            "config": dump_run(config),
            "name": "benchmark",
            "seed": 1,
            "budget": budget,
            "stages": [{"name": "genome", "budget": budget}],
            "layers": space.layers,
            "contaminated": [],
            "vlmerge": "benchmark",
        },
    )  # fmt: skip


def _thumbnail(image: Image.Image) -> bytes:
    image.thumbnail((256, 256))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
