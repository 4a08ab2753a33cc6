"""check says from headers what merge then does, and imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from tiny_family import HIDDEN, HOST_TOKENS, INTER, LAYERS, LM_TOKENS, write_lm, write_vlm

from vlmerge.check import check, render, to_json
from vlmerge.config import load_recipe
from vlmerge.config.run import load_run
from vlmerge.errors import MismatchError
from vlmerge.merge import merge
from vlmerge.types import size


def text_of(result: object) -> str:
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(result)
    return console.export_text()


@pytest.mark.parametrize("layout", ["hf", "hf-new", "original"])
def test_what_check_says_is_what_merge_does(tmp_path: Path, layout: str) -> None:
    host = write_vlm(tmp_path / "vlm", layout, storage="bin" if layout == "original" else "sharded")
    source = write_lm(tmp_path / "ja", dtype="bfloat16")
    (tmp_path / "ja" / "README.md").write_text("---\nlicense: llama2\n---\n", encoding="utf-8")
    recipe = {
        "merge_method": "linear", "protect": ["norm"], "out_dtype": "float32",
        "models": [{"model": "./vlm", "parameters": {"weight": 1}}, {"model": "./ja", "parameters": {"weight": 1}}],
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    loaded = load_recipe(tmp_path / "recipe.yaml")
    result = check(loaded)
    summary = merge(loaded, tmp_path / "out")
    assert result.merged == summary.merged
    assert result.output_bytes == summary.bytes
    assert sum(result.kept.values()) == sum(1 for each in summary.pairing.tensors if each.reason)
    assert result.dropped == {str(tmp_path / "ja"): {"rotary frequencies: the config determines them": len(source.extra)} | {
        reason: count for reason, count in result.dropped[str(tmp_path / "ja")].items() if "protected" in reason}}  # fmt: skip
    assert [row.role for row in result.models] == ["host, source", "source"]
    assert result.models[0].parameters == sum(tensor.numel() for tensor in host.tensors.values() if tensor.is_floating_point())
    assert [row.shared_tokens for row in result.models] == [len(host.tokens), len(LM_TOKENS)]
    assert set(result.licences) == {"not stated", "llama2"}
    assert result.download_bytes == 0
    assert result.unconfirmed == ()
    assert json.loads(json.dumps(to_json(result)))["merged"] == summary.merged
    shown = text_of(render(result))
    for words in ("llama2", "protected by 'norm'", f"{len(LM_TOKENS)} of {len(host.tokens)}", "vlm", str(summary.merged)):
        assert words in shown
    assert len(HOST_TOKENS) > len(LM_TOKENS)


def test_a_run_is_checked_as_a_merge_of_all_its_models(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    images = {"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"}
    (tmp_path / "vlm" / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    for seed, name in enumerate(("ja", "base")):
        write_lm(tmp_path / name, seed=seed)
    run = {
        "merge": {"models": ["./vlm", "./ja"], "base_model": "./base"},
        "tasks": [{"name": "./questions.jsonl"}],
        "validation": {"fraction": 0.5},
    }
    (tmp_path / "questions.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    result = check(load_run(tmp_path / "run.yaml"))
    assert [row.role for row in result.models] == ["host, source", "source", "base, source"]
    total = sum(row.bytes for row in result.models)
    assert result.output_bytes < result.memory_bytes < 2 * total
    # Directions that are remembered for both models, of every matrix in float32.
    run["merge"] |= {"method": "svd_linear", "parameters": {"rank": 0.25}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    cut = check(load_run(tmp_path / "run.yaml"))
    square, oblong = HIDDEN // 4 * 2 * HIDDEN, INTER // 4 * (HIDDEN + INTER)
    assert cut.memory_bytes == result.memory_bytes + 2 * LAYERS * (4 * square + 3 * oblong) * 4


def test_the_memory_of_a_merge_to_disk_is_two_pieces_and_what_has_to_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja")
    two = [{"model": "./vlm"}, {"model": "./ja"}]

    def memory(method: str, **keys: object) -> int:
        values = {"slerp": {"t": 0.5}}.get(method, {"weight": 0.5})
        recipe = {"merge_method": method, "models": two, "parameters": values, **keys}
        recipe |= {} if method == "linear" else {"base_model": "./vlm"}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return check(load_recipe(tmp_path / "recipe.yaml")).memory_bytes

    monkeypatch.setattr(import_module("vlmerge.check"), "PIECE", 10)
    buffers = memory("linear")
    assert 0 < buffers <= 2 * 10 * (2 + 8)
    assert memory("slerp") == memory("linear", dtype="bfloat16") == buffers
    assert memory("linear", out_dtype="float32") == buffers + 2 * 10 * 2
    # Factors of one source, and what finding them takes: of the largest matrix.
    directions = 4 * (HIDDEN // 4) * 2 * HIDDEN + 32 * HIDDEN**2 + 4 * HIDDEN**2
    assert memory("svd_linear", parameters={"weight": 0.5, "rank": 0.25}) == buffers + directions
    assert memory("svd_linear", parameters={"weight": 0.5, "rank": 1}) == buffers
    # An angle is one of whole tensors: both are cast, two bytes an element.
    assert memory("slerp", dtype="bfloat16") == buffers + 2 * 2 * HIDDEN * HIDDEN


def test_mismatches_surface(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja", layers=2)
    recipe = {"merge_method": "linear", "models": [{"model": "./vlm"}, {"model": "./ja"}], "parameters": {"weight": 1}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(MismatchError, match="different depths"):
        check(load_recipe(tmp_path / "recipe.yaml"))


def test_no_torch_for_safetensors(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja", storage="sharded")
    recipe = {"merge_method": "linear", "models": [{"model": "./vlm"}, {"model": "./ja"}], "parameters": {"weight": 1}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from vlmerge.check import check; from vlmerge.config import load_recipe\n"
        "check(load_recipe(Path(sys.argv[1])))\n"
        "assert not {'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "recipe.yaml")], check=True)


def test_sizes_for_people() -> None:
    assert [size(count) for count in (0, 999, 1000, 14_100_000_000)] == ["0 B", "999 B", "1.0 kB", "14.1 GB"]


def two_models(folder: Path, **second: object) -> Path:
    write_vlm(folder / "vlm", "hf")
    write_lm(folder / "ja", **second)  # type: ignore[arg-type]
    recipe = {"merge_method": "linear", "models": [{"model": "./vlm"}, {"model": "./ja"}], "parameters": {"weight": 1}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def test_terms_of_all_parents_are_shown_and_in_the_json(tmp_path: Path) -> None:
    file = two_models(tmp_path)
    (tmp_path / "vlm/README.md").write_text("---\nlicense: llama3.1\n---\n", encoding="utf-8")
    (tmp_path / "ja/README.md").write_text("---\nlicense: other\nlicense_name: qwen-research\n---\n", encoding="utf-8")
    result = check(load_recipe(file))
    plain = json.loads(json.dumps(to_json(result)))
    assert {(duty["kind"], *duty["models"]) for duty in plain["duties"]} >= {("non-commercial", "ja"), ("name", "vlm")}
    assert plain["terms"].startswith("not for commercial use, by Qwen Research")
    shown = text_of(render(result))
    assert "“Built with Llama”" in shown
    assert "Qwen Research: ja" in shown
    assert str(tmp_path) not in shown


def test_what_merges_is_counted_by_part(tmp_path: Path) -> None:
    result = check(load_recipe(two_models(tmp_path)))
    assert result.merged_parts == {"embeddings": 1, "attention": 12, "MLP": 9, "norms": 7, "head": 1}
    assert sum(result.merged_parts.values()) == result.merged


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rope_theta": 5e5}, "rope_theta differs: 500000 in"),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps differs: 1e-06 in"),
        ({"hidden_act": "gelu"}, "activation differs: gelu in"),
        ({"sliding_window": 4096}, "sliding window of attention differs: 4096 in"),
        ({"sliding_window": 4096, "use_sliding_window": False}, None),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "the factor of rotary scaling differs: 4 in"),
    ],
)
def test_settings_that_differ_are_told_of(tmp_path: Path, settings: dict[str, object], says: str | None) -> None:
    file = two_models(tmp_path)
    config = json.loads((tmp_path / "ja/config.json").read_text(encoding="utf-8"))
    (tmp_path / "ja/config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    result = check(load_recipe(file))
    told = [warning for warning in result.warnings if "differs" in warning]
    assert all("in the host" in warning and "whose is kept" in warning for warning in told)
    assert any(says in warning for warning in told) if says is not None else told == []
    assert to_json(result)["models"][1]["settings"]["heads"] == 32


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_attention_heads": 16}, "16 attention heads"),
        # The tensors tell the width of a head, and so how many there are.
        ({"head_dim": 4}, "32 heads of width 4"),
    ],
)
def test_heads_that_differ_are_refused(tmp_path: Path, settings: dict[str, object], says: str) -> None:
    file = two_models(tmp_path)
    config = json.loads((tmp_path / "ja/config.json").read_text(encoding="utf-8")) | settings
    (tmp_path / "ja/config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(MismatchError) as caught:
        check(load_recipe(file))
    assert says in str(caught.value)
    assert "ja" in str(caught.value)
