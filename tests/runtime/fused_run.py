"""Compares the fused decoder with the plain one, kernels interpreted on the CPU. Not a test; tests start it with
TRITON_INTERPRET=1, which Triton reads when it is imported. Prints one JSON object.
"""

from __future__ import annotations

import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from vlmerge.runtime.decode import Decoder, Row, greedy
from vlmerge.runtime.fused import fuse

SHAPE = {
    "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 60,
    "max_position_embeddings": 256, "initializer_range": 0.3,
}  # fmt: skip
ROWS = [Row(0, (5, 6, 7)), Row(1, (8, 9)), Row(0, (11,)), Row(2, (4, 4, 4, 4, 7)), Row(0, (50, 51, 52, 53, 54))]
TEXTS = [Row(None, (5, 6, 7)), Row(None, tuple(range(40)))]


def decoder(model: torch.nn.Module) -> Decoder:
    head, embed = model.get_output_embeddings(), model.get_input_embeddings()
    return Decoder(model.get_decoder(), head, embed, SHAPE["num_hidden_layers"], (2, 5, 9, 17, 33), torch.device("cpu"))


def compare(model: torch.nn.Module) -> dict[str, object]:
    """Whether both give the same answers: two batches of shared and single prefixes, then texts, with finished rows leaving."""
    live = decoder(model.eval())
    prefixes = [torch.randn(length, SHAPE["hidden_size"]) * 0.3 for length in (40, 17, 70)]
    expected, texts = greedy(live, prefixes, ROWS, 12), greedy(live, [], TEXTS, 9)
    fused, reason = fuse(live)
    assert fused is not None, reason
    return {
        "first": fused.greedy(prefixes, ROWS, 12) == expected,
        "again": fused.greedy(prefixes, ROWS, 12) == expected,
        "few": fused.greedy(prefixes, ROWS[:2], 12) == greedy(live, prefixes, ROWS[:2], 12),
        "texts": fused.greedy([], TEXTS, 9) == texts,
        "weights kept": greedy(live, prefixes, ROWS, 12) == expected,
        "lengths": sorted({len(answer.ids) for answer in expected}),
    }


torch.manual_seed(0)
found = {
    "llama": compare(LlamaForCausalLM(LlamaConfig(num_key_value_heads=4, **SHAPE))),
    "shared keys": compare(LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **SHAPE))),
    "biases": compare(Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **SHAPE))),
    "refused": fuse(decoder(LlamaForCausalLM(LlamaConfig(num_key_value_heads=4, hidden_act="gelu", **SHAPE))))[1],
}
print(json.dumps(found))
