"""A Llama-like decoder of transformers, its weights laid side by side: fewer and larger matrix products over the same memory.

q, k and v (gate and up likewise) become views of one tensor; the model's own forward, and whoever merges into its parameters,
see the same parameters as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlmerge.runtime.familiar import unfamiliar
from vlmerge.runtime.fused.shapes import Heads


class UnfamiliarError(Exception):
    """This decoder is not of the fused path's shape; the message says what is different."""


@dataclass(frozen=True)
class Layer:
    """One layer: weights [out, in], biases or None."""

    norm1: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    o: Tensor
    o_bias: Tensor | None
    norm2: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Weights:
    """A decoder.

    Attributes:
        layers: First to last.
        norm: The final norm.
        epsilon: Of all norms.
        heads: Shape of attention.
        turns: The model's rotary embedding: (any tensor of the live dtype, positions [1, n]) → cosines and sines [1, n, size].
    """

    layers: tuple[Layer, ...]
    norm: Tensor
    epsilon: float
    heads: Heads
    turns: Any

    @classmethod
    def join(cls, body: Any) -> Weights:
        """Lays the weights of a decoder side by side.

        Args:
            body: transformers' decoder without its head. Its parameters become views; their values stay.

        Raises:
            UnfamiliarError: It has another shape. Nothing has changed then.
        """
        config = body.config
        heads = _heads(config)
        _check(body, config, heads)
        layers = tuple(_layer(layer) for layer in body.layers)
        return cls(layers, body.norm.weight, float(config.rms_norm_eps), heads, body.rotary_emb)


def _heads(config: Any) -> Heads:
    queries = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    return Heads(queries, config.num_key_value_heads, size)


def _check(body: Any, config: Any, heads: Heads) -> None:
    parameters: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    sliding = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    windows = sliding is not None or any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())
    turns = parameters.get("rope_type", "default")
    reason = unfamiliar(config.model_type, config.hidden_act, turns, heads.size, windows=windows)
    if reason is not None:
        raise UnfamiliarError(reason)
    for layer in body.layers:
        projections = [layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj]
        attention = layer.self_attn
        projections += [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        if not all(type(each) is nn.Linear for each in projections):
            raise UnfamiliarError("projections that are not plain matrices")
        if any(_bias(each) is not None for each in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj)):
            raise UnfamiliarError("biases in the MLP")
        if any(hasattr(attention, name) for name in ("q_norm", "k_norm")):
            raise UnfamiliarError("norms of queries and keys")


def _layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    qkv, qkv_bias = _joined([attention.q_proj, attention.k_proj, attention.v_proj])
    gate_up, _ = _joined([mlp.gate_proj, mlp.up_proj])
    if qkv.device.type == "cuda":  # What was joined has left holes into which nothing of the next layers fits.
        torch.cuda.empty_cache()
    return Layer(
        norm1=layer.input_layernorm.weight,
        qkv=qkv,
        qkv_bias=qkv_bias,
        o=attention.o_proj.weight,
        o_bias=attention.o_proj.bias,
        norm2=layer.post_attention_layernorm.weight,
        gate_up=gate_up,
        down=mlp.down_proj.weight,
    )


@torch.no_grad()
def _joined(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """One weight (and bias) for several projections, which become views of it."""
    weight = torch.cat([each.weight for each in linears])
    start = 0
    for each in linears:
        rows = each.weight.shape[0]
        each.weight.data = weight[start : start + rows]
        start += rows
    biases = [bias for bias in (_bias(each) for each in linears) if bias is not None]
    if not biases:
        return weight, None
    bias = torch.cat(biases)
    start = 0
    for each in biases:
        each.data = bias[start : start + len(each)]
        start += len(each)
    return weight, bias


def _bias(linear: nn.Linear) -> Tensor | None:
    """torch declares that a bias is always there."""
    return linear.bias
