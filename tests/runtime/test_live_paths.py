"""Paths through layers, live: shared, not copied; undone without a trace; and what is scored is what is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlmerge.anatomy import FAMILIES, roles_of
from vlmerge.config import ModelRef, PathSpec
from vlmerge.config.recipe import parse_recipe
from vlmerge.errors import CandidateFailure, MismatchError
from vlmerge.merge import Prepared, merge, prepare_paths
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.room import needs_of
from vlmerge.search import PathSpace
from vlmerge.search.path_space import every_layer
from vlmerge.types import Decoding

from .conftest import FAMILY, questions

VLM, JA = (ModelRef(str(FAMILY / name)) for name in ("vlm", "ja"))
GREEDY = Decoding(max_new_tokens=6)


@pytest.fixture(scope="module")
def stack() -> Prepared:
    return prepare_paths(PathSpec(models=(VLM, JA)))


@pytest.fixture(scope="module")
def live(stack: Prepared) -> LiveModel:
    return LiveModel.load(stack, choose_placement("cpu", batch_size=8, host_dtype="float16"))


@pytest.fixture(scope="module")
def space() -> PathSpace:
    return PathSpace(PathSpec.model_validate({"models": [VLM, JA], "layers": [6, 6], "scale": True, "repeats": 2}), VLM)


def answers(live: LiveModel) -> list[str]:
    return [answer.text for answer in live.answer(questions("search", "ja", 4), GREEDY)]


def tensors(live: LiveModel) -> dict[str, torch.Tensor]:
    """Role → tensor, those of layers that share parameters too."""
    held = {name: each.detach() for name, each in live._model.named_parameters(remove_duplicate=False)}
    return {role: held[name] for role, name in roles_of(held, FAMILIES["LLaVA"]).items()}


def turned(space: PathSpace, *places: int, scale: tuple[float, float] = (0.0, 0.0)) -> tuple[float, ...]:
    """The start with these indicators turned, and two factors as powers of two."""
    genome = list(space.start)
    for place in places:
        genome[place] = -genome[place]
    return (*genome[:-2], *scale)


def test_what_paths_hold_is_what_was_reckoned(stack: Prepared, live: LiveModel) -> None:
    """In float32 every layer of the other model is another tensor than the parent's; in the files' own dtype none is."""
    live.merge(every_layer(PathSpec(models=(VLM, JA)), VLM, {VLM: 6, JA: 6}))
    parents = live._parents
    assert parents is not None
    held = sum(tensor.nbytes for tensor in parents._on_paths.values())
    needs = needs_of(stack.checkpoints, stack.anatomies, VLM, 4, stack.pairing.layers)
    assert (needs.paths, needs.copied) == (held, held)
    same = needs_of(stack.checkpoints, stack.anatomies, VLM, 2, stack.pairing.layers)
    assert (same.paths, same.copied) == (held // 2, 0)
    merges = needs_of(stack.checkpoints, stack.anatomies, VLM, 4)
    assert merges.paths == 0
    # Weights are shared, whatever the path; with factors each of its places has last projections of its own.
    scaled = needs_of(stack.checkpoints, stack.anatomies, VLM, 4, stack.pairing.layers, scaled=True)
    layer = live._model.get_decoder().layers[0]
    last = layer.self_attn.o_proj.weight.nbytes + layer.mlp.down_proj.weight.nbytes
    assert (needs.live, scaled.live) == (merges.live, merges.live + stack.pairing.layers * last)
    paths = [PathSpec.model_validate({"models": [VLM, JA], "scale": scale}) for scale in (False, True)]
    assert [prepare_paths(path).scaled for path in paths] == [False, True]
    # A CPU's batch is smaller where a path's cache is longer.
    facts = replace(stack.anatomies[VLM].facts, layers=6, kv_heads=32, head_dim=128, max_positions=4096)
    rows = [choose_placement("cpu", host_dtype="float16", facts=facts, models=models).batch_size for models in (None, stack)]
    assert rows[0] > rows[1] >= 4


def test_layers_share_their_weights(live: LiveModel, space: PathSpace) -> None:
    live.merge(space.decode(turned(space, 12, 13, 15)))  # layers of both models a second time
    body = live._model.get_decoder()
    places: dict[int, int] = {}
    for layer in body.layers:
        at = layer.self_attn.q_proj.weight.data_ptr()
        places[at] = places.get(at, 0) + 1
    assert max(places.values()) == 2
    assert [layer.self_attn.layer_idx for layer in body.layers] == list(range(len(body.layers)))
    # The host's own are not copied at all, while nothing else was merged into them.
    own = {each.data_ptr() for each in live._parents._live.values()} if live._parents else set()
    assert body.layers[0].self_attn.q_proj.weight.data_ptr() in own
    # Nor for a cast that holds all that is in the files.
    live.merge(space.decode(space.start).model_copy(update={"dtype": "float32", "out_dtype": "float16"}))
    assert body.layers[1].self_attn.q_proj.weight.data_ptr() in own


def test_the_hosts_own_path_is_the_host_bit_for_bit(live: LiveModel, space: PathSpace) -> None:
    live.merge(parse_recipe({"merge_method": "linear", "models": [{"model": str(VLM), "parameters": {"weight": 1}}]}, "a test"))
    plain, before = answers(live), {role: each.clone() for role, each in tensors(live).items()}
    live.merge(space.decode(space.start))
    walked = tensors(live)
    assert walked.keys() == before.keys()
    assert all(torch.equal(each, walked[role]) for role, each in before.items())
    assert answers(live) == plain


def test_what_a_path_scores_is_what_is_exported(live: LiveModel, stack: Prepared, space: PathSpace, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    recipe = space.decode(turned(space, 2, 5, 10, 13, 14, scale=(0.4, -0.3)))
    live.merge(recipe)
    merge(recipe, tmp_path / "out", prepared=stack)
    scored, written = tensors(live), load_file(tmp_path / "out" / "model.safetensors")
    names = roles_of(written, FAMILIES["LLaVA"])
    assert names.keys() == scored.keys()
    assert all(torch.equal(each, written[names[role]].float()) for role, each in scored.items())
    # Factors are in it, and the paths' own order: no layer of the result is the host's of that number, behind the first.
    host = load_file(FAMILY / "vlm" / "model.safetensors")
    own = roles_of(host, FAMILIES["LLaVA"])
    assert not torch.equal(scored["layers.2.self_attn.o_proj.weight"], host[own["layers.2.self_attn.o_proj.weight"]].float())

    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert plain.config.text_config.num_hidden_layers == live._decoder.layers == 9
    encoded = live.encode(questions("search", "ja", 1))
    ids = torch.tensor([token for token in encoded[0] if token != live.prompter.placeholder])[None]
    with torch.inference_mode():
        assert torch.equal(plain(input_ids=ids).logits, live._model(input_ids=ids).logits)
    again = LiveModel.load_single(_single(tmp_path / "out"), choose_placement("cpu", batch_size=8, host_dtype="float16"))
    assert answers(again) == answers(live)


def _single(folder: Path) -> Prepared:
    from vlmerge.merge import prepare_models

    return prepare_models([ModelRef(str(folder))])


def test_a_cast_on_the_way_to_the_files_dtype_is_scored_too(live: LiveModel, stack: Prepared, tmp_path: Path) -> None:
    # The host's files are float16: rounded to bfloat16 and back they are others, though their dtype is the same.
    spec = PathSpec.model_validate({"models": [VLM, JA], "layers": [6, 6], "dtype": "bfloat16", "out_dtype": "float16"})
    one = PathSpace(spec, VLM)
    start = one.decode(one.start)
    live.merge(start.model_copy(update={"dtype": None}))
    uncast = {role: each.clone() for role, each in tensors(live).items()}
    live.merge(start)
    merge(start, tmp_path / "out", prepared=stack)
    scored, written = tensors(live), load_file(tmp_path / "out" / "model.safetensors")
    names = roles_of(written, FAMILIES["LLaVA"])
    assert all(torch.equal(each, written[names[role]].float()) for role, each in scored.items())
    changed = {role for role, each in scored.items() if not torch.equal(each, uncast[role])}
    assert {"layers.1.mlp.up_proj.weight", "embed_tokens.weight"} & changed


def test_what_rounds_to_zero_on_the_way_fails_as_it_would_in_the_export(
    live: LiveModel, stack: Prepared, space: PathSpace, tmp_path: Path
) -> None:
    recipe = space.decode(turned(space, 2, 5, scale=(20.0, 20.0)))
    with pytest.raises(CandidateFailure, match="0 throughout"):
        live.merge(recipe)
    with pytest.raises(MismatchError, match="holds a single number"):
        merge(recipe, tmp_path / "out", prepared=stack)


def test_a_path_leaves_no_trace(live: LiveModel, space: PathSpace) -> None:
    weights = {"models": [{"model": str(m), "parameters": {"weight": w}} for m, w in ((VLM, 0.7), (JA, 0.5))]}
    linear = parse_recipe({"merge_method": "linear", "parameters": {"normalize": False}, **weights}, "a test")
    path = space.decode(turned(space, 1, 4, scale=(0.5, 0.0)))
    live.merge(linear)
    before, said = {role: each.clone() for role, each in tensors(live).items()}, answers(live)
    live.merge(path)
    on_it = {role: each.clone() for role, each in tensors(live).items()}
    assert any(not torch.equal(each, before[role]) for role, each in on_it.items() if role in before)
    live.merge(linear)
    assert all(torch.equal(each, before[role]) for role, each in tensors(live).items())
    assert answers(live) == said
    live.merge(path)
    assert all(torch.equal(each, on_it[role]) for role, each in tensors(live).items())
