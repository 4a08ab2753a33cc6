"""An adapter that cannot be merged exactly is refused before a weight is read, and the message says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_adapter import RANK, write_adapter
from tiny_family import HIDDEN, LM_ROWS, write_lm

from vlmerge.adapters import open_model
from vlmerge.config import ModelRef
from vlmerge.errors import CheckpointError, MismatchError, UserError

AT = "base_model.model.model.layers.0.self_attn.q_proj"


def pair(module: str, rows: int = HIDDEN, columns: int = HIDDEN) -> dict[str, torch.Tensor]:
    at = f"base_model.model.{module}"
    return {f"{at}.lora_A.weight": torch.zeros(RANK, columns), f"{at}.lora_B.weight": torch.zeros(rows, RANK)}


def refusal(folder: Path, kind: type[UserError] = MismatchError) -> UserError:
    with pytest.raises(kind) as caught:
        open_model(ModelRef(str(folder / "model"), None, ModelRef(str(folder / "adapter"))))
    assert caught.value.where
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"peft_type": None}, "not LoRA"),
        ({"init_lora_weights": "pissa"}, "changing the weights of its base"),
        ({"init_lora_weights": "loftq"}, "changing the weights of its base"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "repeats layers"),
        ({"trainable_token_indices": [3]}, "one by one"),
        ({"alora_invocation_tokens": [1, 2]}, "certain tokens"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"lora_bias": True}, "bias of its own"),
        ({"use_qalora": True}, "use_qalora"),
        ({"use_something_new": True}, "not known here"),
        ({"new_config": {"a": 1}}, "not known here"),
        ({"r": 0}, "`r`"),
        ({"lora_alpha": "16"}, "`lora_alpha`"),
        ({"alpha_pattern": {"q_proj": "x"}}, "`alpha_pattern`"),
        ({"rank_pattern": {"q_proj(": 2}}, "regular expressions"),
        ({"r": RANK + 1}, f"rank {RANK + 1}"),
        ({"rank_pattern": {"up_proj": 2}}, "rank 2"),
        ({"use_dora": True}, "lora_magnitude_vector"),
    ],
)
def test_kinds_and_settings(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    write_lm(tmp_path / "model")
    write_adapter(tmp_path / "adapter", **settings)
    assert says in str(refusal(tmp_path))


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (pair("model.layers.0.mlp.experts"), "has not got"),
        (pair("model.layers.7.self_attn.q_proj"), "has not got"),
        (pair("vision_tower.vision_model.encoder.layers.0.mlp.fc1"), "has not got"),
        (pair("model.layers.0.self_attn.k_proj", columns=HIDDEN + 1), "does not fit"),
        (pair("model.layers.0.self_attn.k_proj", rows=HIDDEN + 1), "does not fit"),
        (pair("model.norm"), "does not fit"),
        (pair("lm_head", rows=LM_ROWS + 2), "another vocabulary"),
        ({"base_model.model.model.embed_tokens.weight": torch.zeros(LM_ROWS + 2, HIDDEN)}, "another vocabulary"),
        ({f"{AT}.lora_B.weight": None}, "not whole"),
        ({f"{AT}.lora_A.weight": None}, "not whole"),
        ({f"{AT}.lora_A.second.weight": torch.zeros(RANK, HIDDEN)}, "one part"),
        ({f"{AT}.lora_magnitude_vector": torch.ones(HIDDEN)}, "use_dora: true"),
        ({f"{AT}.lora_E": torch.ones(RANK)}, "not known here"),
        ({"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(1)}, "not known here"),
        ({f"{AT}.lora_A.weight": torch.zeros(RANK, HIDDEN, dtype=torch.int8)}, "quantised"),
    ],
)
def test_tensors(tmp_path: Path, tensors: dict[str, torch.Tensor | None], says: str) -> None:
    write_lm(tmp_path / "model")
    write_adapter(tmp_path / "adapter", tensors=tensors)
    assert says in str(refusal(tmp_path))


def test_a_vocabulary_that_is_the_head_too(tmp_path: Path) -> None:
    write_lm(tmp_path / "model", head=False)
    write_adapter(tmp_path / "adapter", tensors=pair("lm_head", rows=LM_ROWS))
    assert "a head that is the embedding" in str(refusal(tmp_path))
    at = "base_model.model.model.embed_tokens.lora_embedding_"
    rows = {f"{at}A": torch.zeros(RANK, LM_ROWS), f"{at}B": torch.zeros(HIDDEN, RANK)}
    (tmp_path / "adapter" / "adapter_config.json").unlink()
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    (tmp_path / "adapter").rmdir()
    write_adapter(tmp_path / "adapter", tensors=rows)
    assert "head, too" in str(refusal(tmp_path))


def test_a_quantised_model(tmp_path: Path) -> None:
    weight = "model.layers.0.self_attn.q_proj.weight"
    write_lm(tmp_path / "model", edit={weight: torch.zeros(HIDDEN, HIDDEN, dtype=torch.int8)})
    write_adapter(tmp_path / "adapter")
    assert "quantised" in str(refusal(tmp_path))


def test_files_that_are_not_there_or_something_else(tmp_path: Path) -> None:
    write_lm(tmp_path / "model")
    assert "no such folder" in str(refusal(tmp_path, CheckpointError))
    write_lm(tmp_path / "adapter")
    assert "a whole model is named alone" in str(refusal(tmp_path, CheckpointError))
    write_adapter(tmp_path / "tuned")
    with pytest.raises(CheckpointError, match=r"MODEL\+ADAPTER"):
        open_model(ModelRef(str(tmp_path / "tuned")))
    (tmp_path / "tuned" / "adapter_model.safetensors").rename(tmp_path / "tuned" / "adapter_model.gguf")
    with pytest.raises(CheckpointError, match="no weights that can be read"):
        open_model(ModelRef(str(tmp_path / "model"), None, ModelRef(str(tmp_path / "tuned"))))


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def test_nothing_of_a_pickled_adapter_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_lm(tmp_path / "model")
    write_adapter(tmp_path / "adapter", storage="bin")
    torch.save({f"{AT}.lora_A.weight": Malicious()}, tmp_path / "adapter" / "adapter_model.bin")
    assert "nothing from the file was executed" in str(refusal(tmp_path, CheckpointError))
    assert not Path("executed").exists()
