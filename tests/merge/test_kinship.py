"""What weights tell of descent: the numbers are those of the definition, and the words fit them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_family import HOST_TOKENS, LM_TOKENS, Model, decoder, write_lm, write_vlm
from typer.testing import CliRunner

from vlmerge import task_vectors as module
from vlmerge.anatomy import PARTS, part_of
from vlmerge.cli import app
from vlmerge.config import load_recipe
from vlmerge.errors import MismatchError
from vlmerge.kinship import Kinship, kinship

DEMO = Path(__file__).parents[2] / "src/vlmerge/demo"
BASE = decoder(1, 32, torch.float32)


def moved(by: float, seed: int, start: dict[str, torch.Tensor] = BASE) -> dict[str, torch.Tensor]:
    """Each tensor moved at random by this share of its norm."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for role, tensor in start.items():
        noise = torch.randn(tensor.shape, generator=generator)
        found[role] = tensor + by * noise * (tensor.norm() / noise.norm())
    return found


def lm(folder: Path, name: str, tensors: dict[str, torch.Tensor], **more: Any) -> Model:
    return write_lm(folder / name, dtype="float32", edit=tensors, inv_freq=False, **more)


def compare(folder: Path, *names: str, base: str | None = None, **more: Any) -> Kinship:
    listed = [{"model": f"./{name}", "parameters": {"weight": 0.5}} for name in names]
    recipe = {"merge_method": "linear", "models": listed, **more}
    if base is not None:
        recipe |= {"base_model": f"./{base}", "merge_method": "task_arithmetic"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return kinship(load_recipe(folder / "recipe.yaml"))


def test_the_numbers_are_those_of_the_definition(tmp_path: Path) -> None:
    tensors = {"base": BASE, "a": moved(0.1, 1), "b": moved(0.3, 2)}
    for name, each in tensors.items():
        lm(tmp_path, name, each)
    found = compare(tmp_path, "a", "b", base="base")
    assert (found.reference, found.is_base) == ("base", True)
    assert found.compared == found.mergeable == len(BASE)

    def flat(name: str, part: str) -> torch.Tensor:
        chosen = [
            each.double().reshape(-1) for role, each in tensors[name].items() if part_of(role.removeprefix("model.")) == part
        ]
        return torch.cat(chosen)

    for kin in found.sources:
        assert [each.part for each in kin.parts] == ["embeddings", "attention", "MLP", "norms", "head"]
        assert sum(each.tensors for each in kin.parts) == found.compared
        for each in kin.parts:
            own, origin = flat(kin.source, each.part), flat("base", each.part)
            # Rows of no token are the padding: they take no part.
            if each.part not in ("embeddings", "head"):
                assert each.relative_norm == pytest.approx(float((own - origin).norm() / origin.norm()), rel=1e-5)
                assert each.cosine == pytest.approx(float(torch.cosine_similarity(own, origin, dim=0)), abs=1e-6)
    (like,) = found.likenesses
    for part in ("attention", "MLP", "norms"):
        vectors = [flat(name, part) - flat("base", part) for name in "ab"]
        assert like.parts[part] == pytest.approx(float(torch.cosine_similarity(*vectors, dim=0)), abs=1e-5)


@pytest.mark.parametrize(
    ("tensors", "verdict", "words", "norm"),
    [
        (BASE, "same", "equals", 0),
        (moved(0.05, 3), "fine-tuned", "shares an ancestor with", 0.05),
        (moved(0.45, 3), "fine-tuned", "as fine-tuned models do", 0.45),
        (moved(0.9, 3), "distant", "far from it", 0.9),
        (decoder(9, 32, torch.float32), "unrelated", "shares no ancestor", 2**0.5),
    ],
)
def test_the_words_fit_the_numbers(
    tmp_path: Path, tensors: dict[str, torch.Tensor], verdict: str, words: str, norm: float
) -> None:
    lm(tmp_path, "base", BASE)
    lm(tmp_path, "a", tensors)
    (kin,) = compare(tmp_path, "a", base="base").sources
    assert kin.verdict == verdict
    assert words in kin.sentence
    assert kin.relative_norm == pytest.approx(norm, abs=0.03)
    assert kin.cosine == pytest.approx(1 - norm**2 / 2 if verdict == "unrelated" else (1 + norm**2) ** -0.5, abs=0.03)


def test_children_of_one_base_are_told_from_copies_and_from_strangers(tmp_path: Path) -> None:
    common = moved(0.2, 1)
    models = {"base": BASE, "a": common, "copy": common, "child": moved(0.1, 2, common), "other": moved(0.2, 5),
              "stranger": decoder(9, 32, torch.float32)}  # fmt: skip
    for name, tensors in models.items():
        lm(tmp_path, name, tensors)
    found = compare(tmp_path, "a", "copy", "child", "other", "stranger", base="base")
    said = {like.sources: like for like in found.likenesses}
    assert said["a", "copy"].cosine == pytest.approx(1)
    assert "much the same" in said["a", "child"].sentence
    assert abs(said["a", "other"].cosine or 1) < 0.05
    assert "different things" in said["a", "other"].sentence
    assert "says nothing" in said["other", "stranger"].sentence


def test_without_a_base_the_host_is_what_differences_are_taken_from(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        lm(tmp_path, name, moved(0.2, seed))
    found = compare(tmp_path, "a", "b", "c")
    assert (found.reference, found.is_base) == ("a", False)
    assert [kin.source for kin in found.sources] == ["b", "c"]
    (like,) = found.likenesses
    assert like.cosine == pytest.approx(0.5, abs=0.05)
    assert "says little without a base" in like.sentence


def test_a_host_that_is_no_source_is_compared_with_all_of_them(tmp_path: Path) -> None:
    vlm = write_vlm(tmp_path / "vlm", "hf", dtype="float32")
    own = {role: tensor for role, tensor in vlm.tensors.items() if role.startswith("model.layers")}
    lm(tmp_path, "ja", own)
    found = compare(tmp_path, "ja", vlm="./vlm")
    (kin,) = found.sources
    assert (found.reference, kin.source) == ("vlm", "ja")
    assert {each.part: each.relative_norm == 0 for each in kin.parts} == {
        "embeddings": False, "attention": True, "MLP": True, "norms": False, "head": False}  # fmt: skip


def test_rows_are_compared_by_token(tmp_path: Path) -> None:
    """A model whose vocabulary stands in another order is the same model."""
    order = torch.randperm(len(LM_TOKENS), generator=torch.Generator().manual_seed(4)).tolist()
    lm(tmp_path, "base", BASE, tokens=LM_TOKENS)
    rows = {role: torch.cat([BASE[role][: len(order)][order], BASE[role][len(order) :]])
            for role in ("model.embed_tokens.weight", "lm_head.weight")}  # fmt: skip
    lm(tmp_path, "a", BASE | rows, tokens=[LM_TOKENS[place] for place in order])
    (kin,) = compare(tmp_path, "a", base="base").sources
    assert kin.verdict == "same"


def test_order_and_block_size_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, tensors in {"base": BASE, "a": moved(0.1, 1), "b": moved(0.3, 2)}.items():
        lm(tmp_path, name, tensors)
    first = compare(tmp_path, "a", "b", base="base")
    # Small blocks, and so many that nothing is left out.
    monkeypatch.setattr(module, "BLOCK", 100)
    monkeypatch.setattr(module, "BLOCKS", 1 << 20)
    second = compare(tmp_path, "b", "a", base="base")
    norms = [{kin.source: kin.relative_norm for kin in found.sources} for found in (first, second)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert first.likenesses[0].cosine == pytest.approx(second.likenesses[0].cosine, abs=1e-6)
    monkeypatch.setattr(module, "BLOCKS", 2)
    third = compare(tmp_path, "a", "b", base="base")
    assert third.bytes < first.bytes
    assert {kin.source: kin.relative_norm for kin in third.sources} == pytest.approx(norms[0], rel=0.2)


@given(rows=st.integers(1, 10_000), width=st.integers(1, 5_000))
def test_blocks_are_bounded_and_within_the_tensor(rows: int, width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 20_000)
        spans = module._spans(rows, width)
    lengths = [span.stop - span.start for span in spans]
    assert all(length > 0 and length * width <= max(20_000, width) for length in lengths)
    assert spans[0].start == 0
    assert spans[-1].stop == rows
    assert all(one.stop <= two.start for one, two in pairwise(spans))
    assert len(spans) <= module.BLOCKS


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    lm(tmp_path, "base", BASE)
    lm(tmp_path, "a", moved(0.1, 1) | {"model.norm.weight": torch.full((64,), float("nan"))})
    with pytest.raises(MismatchError, match="NaN") as caught:
        compare(tmp_path, "a", base="base")
    assert "norm.weight" in str(caught.value)


def test_the_demo_family_is_one(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    recipe = {"merge_method": "task_arithmetic", "base_model": str(DEMO / "base"),
              "models": [{"model": str(DEMO / name), "parameters": {"weight": 1}} for name in ("vlm", "ja")]}  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    found = kinship(load_recipe(tmp_path / "recipe.yaml"), progress=lambda _, done, total: seen.append((done, total)))
    assert {kin.source: kin.verdict for kin in found.sources} == {"vlm": "fine-tuned", "ja": "fine-tuned"}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (found.bytes, found.bytes)


def test_the_command_shows_it_and_has_it_in_its_json(tmp_path: Path) -> None:
    lm(tmp_path, "base", BASE)
    lm(tmp_path, "a", decoder(9, 32, torch.float32))
    compare(tmp_path, "a", base="base")
    file = str(tmp_path / "recipe.yaml")
    shown = CliRunner().invoke(app, ["check", file, "--deep"])
    assert shown.exit_code == 0
    assert "a shares no ancestor with base" in " ".join(shown.stdout.split())
    told = json.loads(CliRunner().invoke(app, ["check", file, "--deep", "--json"]).stdout)
    assert told["deep"]["sources"][0]["verdict"] == "unrelated"
    assert "deep" not in json.loads(CliRunner().invoke(app, ["check", file, "--json"]).stdout)


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("embed_tokens.weight", "embeddings"), ("layers.3.self_attn.q_proj.weight", "attention"),
        ("layers.3.self_attn.q_norm.weight", "norms"), ("layers.3.mlp.up_proj.weight", "MLP"),
        ("layers.3.mlp.experts.7.up_proj.weight", "MLP"), ("layers.3.post_attention_layernorm.weight", "norms"),
        ("norm.weight", "norms"), ("lm_head.weight", "head"), ("vision.encoder.layers.0.layer_norm1.weight", "vision"),
        ("projector.linear_1.bias", "projector"), ("other.image_newline", "other"), ("layers.0.something.weight", "other"),
    ],
)  # fmt: skip
def test_each_role_has_its_part(role: str, part: str) -> None:
    assert part_of(role) == part
    assert part in PARTS


def test_the_host_has_tokens_that_the_others_lack() -> None:
    """Else rows would never be gathered above."""
    assert set(HOST_TOKENS) > set(LM_TOKENS)
