"""The share-out of a card: at LLaVA-1.5-7B's sizes, on the cards that people have, and what check says of it."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.check import check, render
from vlmerge.config.run import load_run
from vlmerge.merge import Prepared
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.parents import Parents
from vlmerge.runtime.room import CONTEXT, ENOUGH_ROWS, Machine, Needs, needs_of, plan_room

from .conftest import FAMILY
from .test_live_merge import RECIPES, weights_of

GB = 10**9
LAYER = {"q": 100 * 10**6, "up": 270 * 10**6, "down": 270 * 10**6}
ROLES = {f"{layer}.{name}": size for layer in range(63) for name, size in LAYER.items()}
LLAVA = Needs(live=int(14.1 * GB), roles=ROLES, token=524_288, activation=131_600, embedded=8192, row=832)
"""Three parents of 7B in 16 bits: 40.3 GB."""


def card(gigabytes: float, host: float) -> Machine:
    return Machine(int(gigabytes * GB), int(host * GB))


def test_an_80_gb_card_holds_all_parents_and_a_whole_batch() -> None:
    room = plan_room(LLAVA, card(84.5, 120))
    assert set(room.homes.values()) == {"card"}
    assert (room.batch_size, room.read_at_once) == (50, 16384)


def test_on_40_gb_what_does_not_fit_waits_in_pinned_memory() -> None:
    room = plan_room(LLAVA, card(42, 83))
    assert room.bytes["file"] == 0
    assert room.bytes["host"] > 20 * GB
    assert room.batch_size >= 25


def test_on_24_gb_a_batch_is_worth_more_than_parents_on_the_card() -> None:
    room = plan_room(LLAVA, card(25, 60))
    assert 8 <= room.batch_size < 50
    assert room.bytes["host"] > 25 * GB


def test_a_16_gb_card_in_a_small_host_maps_its_parents() -> None:
    room = plan_room(LLAVA, card(15.6, 12.7))
    assert room.bytes == {"card": 0, "host": 0, "file": LLAVA.parents}
    assert room.batch_size >= 1
    assert room.live + room.cache + room.activations + CONTEXT <= room.free


def test_a_card_too_small_for_the_model_is_told_so() -> None:
    lines = plan_room(LLAVA, card(12, 12)).lines("Small GPU")
    assert lines[-1] == "note: the live model and one question may not fit this card"


def test_layers_that_paths_take_from_other_models_have_their_room() -> None:
    """A second model's 13 GB stay on the card once they were on a path, wherever its tensors are at home."""
    walked = replace(LLAVA, token=2 * LLAVA.token, paths=13 * GB, copied=13 * GB)
    plain, room = (plan_room(needs, card(100, 120)) for needs in (LLAVA, walked))
    assert (plain.paths, room.paths) == (0, 13 * GB)
    assert set(room.homes.values()) == {"card"}
    assert ENOUGH_ROWS <= room.batch_size < plain.batch_size
    assert "other models' layers on paths 13.0 GB" in room.lines("GPU")[0]
    # Where the parents wait in the host's memory their layers come to the card all the same.
    same_dtype = replace(walked, copied=0)
    moved = plan_room(same_dtype, card(42, 83))
    assert (plan_room(same_dtype, card(100, 120)).paths, moved.paths) == (0, 13 * GB)
    for each in (room, moved):
        assert (
            each.live + each.paths + each.cache + each.activations + each.bytes["card"] + each.features + CONTEXT <= each.free
        )
    assert plan_room(walked, card(24, 83)).lines("GPU")[-1].startswith("note: the live model and one question may not fit")


@given(st.floats(15.6, 200), st.floats(1, 500), st.one_of(st.none(), st.integers(1, 64)), st.floats(0.05, 3), st.integers(0, 3))
def test_nothing_is_promised_twice(free: float, host: float, batch: int | None, scale: float, parents: int) -> None:
    """What goes on the card fits it unless a batch was asked for that does not; every role has one home."""
    roles = {role: int(size * scale * parents / 3) for role, size in ROLES.items()}
    needs = Needs(LLAVA.live, roles, LLAVA.token, LLAVA.activation, LLAVA.embedded, LLAVA.row)
    room = plan_room(needs, card(free, host), batch)
    assert room.homes.keys() == roles.keys()
    assert sum(room.bytes.values()) == needs.parents
    assert room.bytes["host"] <= 0.7 * host * GB
    taken = room.live + room.cache + room.activations + room.bytes["card"] + room.features
    assert batch is not None or taken <= room.free
    assert batch is None or room.batch_size == batch


def test_what_a_run_needs_is_read_from_the_files(family: Prepared) -> None:
    needs = needs_of(family.checkpoints, family.anatomies, family.host, 2)
    live = LiveModel.load(family, choose_placement("cpu", host_dtype="float16"))
    assert needs.live == sum(parameter.numel() * 2 for parameter in live._model.parameters())
    read = live._parents
    assert read is not None
    assert needs.parents == sum(tensor.nbytes for tensor in read._tensors.values())


@pytest.fixture(scope="module")
def elsewhere(family: Prepared) -> dict[str, LiveModel]:
    """Live models, by where every other of their parents' tensors is: on the device, in a file, in the host's memory."""
    placement = choose_placement("cpu", batch_size=4, host_dtype="float16")
    homes = {home: LiveModel.load(family, placement) for home in ("device", "file", "host")}
    roles = list(family.anatomies[family.host].roles)
    for home in ("file", "host"):
        live = homes[home]
        live._parents = Parents.read(family, live._model, torch.device("cpu"), dict.fromkeys(roles[::2], home))
    return homes


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_parents_merge_alike_wherever_they_are(name: str, elsewhere: dict[str, LiveModel]) -> None:
    """Tensors that are merged beside the device, or moved to it, give the weights that those on it give: bit for bit."""
    for live in elsewhere.values():
        live.merge(RECIPES[name])
    expected = weights_of(elsewhere["device"])
    for home in ("file", "host"):
        found = weights_of(elsewhere[home])
        assert all(torch.equal(found[role], tensor) for role, tensor in expected.items()), home


def test_check_says_how_the_card_is_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nvidia-smi` is asked, not torch; a program of that name stands in for the driver."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\ncase \"$*\" in *--id=1*) echo 'Quadro, 30000, 8.6';; *) echo 'Tesla T4, 14900, 7.5';; esac\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    run = tmp_path / "run.yaml"
    split = FAMILY / "bench" / "search"
    task = {"name": str(split / "questions.jsonl"), "fields": {"question": "question_ja", "answer": "answer_ja"}}
    models = {"models": [str(FAMILY / name) for name in ("vlm", "ja", "base")], "base_model": str(FAMILY / "base")}
    run.write_text(json.dumps({"merge": models, "tasks": [task]}))
    result = check(load_run(run))
    assert result.room[0].startswith("Tesla T4, 15.6 GB free: live model 0.0 GB")
    assert "parents: 0.0 GB on the card" in result.room[1]
    assert len(result.room) == 2
    assert render(result) is not None
    # What torch would see of the machine is what is looked at.
    for visible, name in (("1,0", "Quadro"), ("0", "Tesla T4")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert check(load_run(run)).room[0].startswith(name)
    for visible in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert check(load_run(run)).room == ()
    # A card that does not reckon in bfloat16 scores in float16.
    run.write_text(json.dumps({"merge": {**models, "out_dtype": "bfloat16"}, "tasks": [task]}))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "does not reckon in bfloat16" in check(load_run(run)).room[2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len(check(load_run(run)).room) == 2
    # Drivers before 2021 do not know the capability.
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program.write_text("#!/bin/sh\ncase \"$*\" in *compute_cap*) exit 2;; *) echo 'Tesla K80, 11000';; esac\n")
    assert check(load_run(run)).room[0].startswith("Tesla K80, 11.5 GB free")
