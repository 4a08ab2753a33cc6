"""A host in the original LLaVA layout goes through a run, and comes out in that layout."""

from __future__ import annotations

import json
from pathlib import Path

from runtime.original_layout import write_original
from safetensors.torch import load_file

from vlmerge.config.model_ref import ModelRef
from vlmerge.evolve import evolve
from vlmerge.merge import prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.store import Store
from vlmerge.types import Decoding, Picture, Question

from .conftest import FAMILY, Quiet, load, small_run, task


def test_what_was_scored_is_exported_in_the_layout_that_came_in(tmp_path: Path) -> None:
    host = write_original(tmp_path / "llava", tmp_path / "clip", storage="bin")
    merge = {"models": [str(host), str(FAMILY / "ja"), str(FAMILY / "base")], "base_model": str(FAMILY / "base")}
    search = {"max_fevals": 6, "global_fevals": 3, "population": 3}
    run = small_run(
        merge=merge, search=search, tasks=[task("search", 4)], validation={"fraction": 0}, holdout=[task("holdout", 6, "en")]
    )
    folder = evolve(load(tmp_path, run), tmp_path / "run", Quiet())

    config, before = (json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (folder / "model", host))
    assert config == before
    index = json.loads((host / "pytorch_model.bin.index.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model" / "model.safetensors")
    assert weights.keys() == index["weight_map"].keys()

    with Store.read_only(folder / "run.sqlite") as store:
        winner = store.get("standing")["winner"]
        scored = {(answer.task, answer.question): answer.text for answer in store.answers(winner, "holdout")}
        asked = [
            Question(one.question, one.task, one.text, (Picture(Path(store.picture_origin(one.pictures[0]))),), one.references)
            for one in store.questions("holdout")
        ]
    exported = prepare_models([ModelRef(str(folder / "model"))])
    assert {anatomy.family.name for anatomy in exported.anatomies.values()} == {"LLaVA (original)"}
    live = LiveModel.load_single(exported, choose_placement("cpu", host_dtype="float16"))
    answers = {(a.question.task, a.question.id): a.text for a in live.answer(asked, Decoding(max_new_tokens=16))}
    assert answers == scored
    assert len(set(scored.values())) > 1
