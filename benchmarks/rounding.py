"""How far 16-bit hidden states are from float32 ones: transformers' forward and the fused one, on the same weights and tokens.

A random Llama of 7B's widths and a few of its layers, in bfloat16 and, with the same weights, in float32. The hidden states of
all tokens are set beside float32's: when a prompt is read whole, and when its last tokens come one by one.

    python benchmarks/rounding.py                     on a GPU, about a minute
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from timing import print_columns, write_json
from torch import Tensor

from vlmerge.runtime.fused.forward import Cells, forward
from vlmerge.runtime.fused.prompts import Prompt, pack
from vlmerge.runtime.fused.weights import Weights

TOKENS, STEPS = 640, 40
ROWS = 50
TILE = 64


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="bfloat16")
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    options = parser.parse_args()
    torch.manual_seed(1)
    model = llama(options.layers, getattr(torch, options.dtype))
    exact = llama(options.layers, torch.float32)
    exact.load_state_dict(model.state_dict())
    ids = torch.randint(0, exact.config.vocab_size, (1, TOKENS), device="cuda")
    truth = exact.model(input_ids=ids, use_cache=False).last_hidden_state[0]
    found = {
        "transformers, whole": (model.model(input_ids=ids, use_cache=False).last_hidden_state[0], truth),
        "transformers, step by step": (transformers_steps(model, ids), truth[-STEPS:]),
    }
    weights = Weights.join(model.model)
    found["fused, whole"] = (fused_whole(model, weights, ids), truth)
    found["fused, step by step"] = (fused_steps(model, weights, ids), truth[-STEPS:])
    head = exact.lm_head.weight
    lines, measured = [["", "relative error", "float32's choice"]], {}
    for name, (states, right) in found.items():
        error = float((states.float() - right).norm() / right.norm())
        same = float(((states.float() @ head.T).argmax(-1) == (right @ head.T).argmax(-1)).float().mean())
        measured[name] = {"relative_error": error, "same_choice": same}
        lines.append([name, f"{error:.4f}", f"{same:.1%}"])
    print_columns(lines)
    write_json(options.json, {"layers": options.layers, "dtype": options.dtype, "tokens": TOKENS, "variants": measured})


def llama(layers: int, dtype: torch.dtype) -> Any:
    """A random Llama of 7B's widths on the GPU."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=layers,
        num_attention_heads=32,
        vocab_size=32000,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
    )
    with torch.device("cuda"):
        return LlamaForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def transformers_steps(model: Any, ids: Tensor) -> Tensor:
    """Hidden states of the last tokens, read one by one, in a batch of ROWS equal rows."""
    from transformers import DynamicCache

    cache, rows = DynamicCache(), ids.repeat(ROWS, 1)
    model.model(input_ids=rows[:, :-STEPS], past_key_values=cache, use_cache=True)
    found: list[Tensor] = []
    for place in range(TOKENS - STEPS, TOKENS):
        states = model.model(input_ids=rows[:, place : place + 1], past_key_values=cache, use_cache=True).last_hidden_state
        found.append(states[0])
    return torch.cat(found)


def fused_whole(model: Any, weights: Weights, ids: Tensor) -> Tensor:
    """Hidden states of all tokens by the fused forward."""
    prompt = Prompt(None, tuple(ids[0].tolist()), 0, 0, TOKENS)
    return read(model, weights, Cells.empty(weights, TOKENS, TOKENS), [prompt], TILE)


def fused_steps(model: Any, weights: Weights, ids: Tensor) -> Tensor:
    """As `transformers_steps`, by the fused forward."""
    tokens, cells = ids[0].tolist(), Cells.empty(weights, ROWS * TOKENS, TOKENS)
    begun = tuple(tokens[:-STEPS])
    read(model, weights, cells, [Prompt(None, begun, row, row * TOKENS, len(begun)) for row in range(ROWS)], TILE)
    found: list[Tensor] = []
    for place in range(TOKENS - STEPS, TOKENS):
        starts = [row * TOKENS for row in range(ROWS)]
        steps = [Prompt(None, (tokens[place],), 0, start + place, 1, (start, place)) for start in starts]
        found.append(read(model, weights, cells, steps, 1)[:1])
    return torch.cat(found)


def read(model: Any, weights: Weights, cells: Cells, prompts: list[Prompt], tile: int) -> Tensor:
    """Hidden states of the prompts' tokens."""
    packed = pack(prompts, tile, torch.device("cuda"))
    embedded = model.model.embed_tokens(packed.ids)
    return forward(weights, embedded, packed.positions, packed.cells, packed.blocks, cells)


if __name__ == "__main__":
    main()
