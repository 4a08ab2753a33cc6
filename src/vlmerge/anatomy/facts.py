"""What must agree between models that are merged: sizes from tensor shapes, the rest from config.json with class defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlmerge.anatomy.families import CLASS_DEFAULTS, Family, decoder_type, text_config
from vlmerge.anatomy.roles import EMBEDDING, HEAD, decoder_layer
from vlmerge.types import TensorInfo


@dataclass(frozen=True)
class Facts:
    """The decoder's numbers.

    Attributes:
        layers: Number of decoder layers.
        hidden: Width of the residual stream.
        intermediate: Width of the MLP.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of one head.
        vocab_rows: Rows of the embedding.
        rope_theta: Base of the rotary frequencies.
        rope_scaling: Kind of rotary scaling, `default` for none.
        norm_eps: Epsilon of the RMS norms.
        activation: Of the MLP.
        tied_head: The head is the embedding: no head in the files, or, where no files were read, as config.json says.
        max_positions: Longest sequence it was made for, in tokens.
        dtype: As config.json says (`dtype` or `torch_dtype`), None where it says nothing.
        rope_factor: By how much rotary scaling stretches positions; 1 for none.
        sliding_window: Tokens back that attention sees, None for all.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_rows: int
    rope_theta: float
    rope_scaling: str
    norm_eps: float
    activation: str
    tied_head: bool
    max_positions: int
    dtype: str | None
    rope_factor: float = 1.0
    sliding_window: int | None = None


def read_facts(family: Family, config: Mapping[str, Any], roles: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> Facts:
    """Facts of a checkpoint; with empty `roles` (headers not readable) from config.json and class defaults alone."""
    text = text_config(family, config)
    defaults = CLASS_DEFAULTS.get(decoder_type(family, config), CLASS_DEFAULTS[family.decoders[0]])

    def said(key: str) -> Any:
        value = text.get(key)
        return defaults.get(key) if value is None else value

    def shape(role: str) -> tuple[int, ...] | None:
        name = roles.get(role)
        return tensors[name].shape if name is not None else None

    embedding, gate = shape(EMBEDDING), shape("layers.0.mlp.gate_proj.weight")
    query, key = shape("layers.0.self_attn.q_proj.weight"), shape("layers.0.self_attn.k_proj.weight")
    hidden = embedding[1] if embedding else int(said("hidden_size"))
    heads = int(said("num_attention_heads"))
    head_dim = int(text.get("head_dim") or ((query[0] if query else hidden) // heads))
    kv_heads = key[0] // head_dim if key else int(text.get("num_key_value_heads") or heads)
    window = None if said("use_sliding_window") is False else said("sliding_window")
    rope: Mapping[str, Any] = text.get("rope_parameters") or {}
    scaling: Mapping[str, Any] = text.get("rope_scaling") or rope
    return Facts(
        layers=count_layers(roles) if roles else int(said("num_hidden_layers")),
        hidden=hidden,
        intermediate=gate[0] if gate else int(said("intermediate_size")),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_rows=embedding[0] if embedding else int(said("vocab_size")),
        rope_theta=float(rope.get("rope_theta") or said("rope_theta")),
        rope_scaling=str(scaling.get("rope_type") or scaling.get("type") or "default"),
        norm_eps=float(said("rms_norm_eps")),
        activation=str(said("hidden_act")),
        tied_head=HEAD not in roles if roles else bool(config.get("tie_word_embeddings", said("tie_word_embeddings"))),
        max_positions=int(said("max_position_embeddings")),
        dtype=_dtype(config) or _dtype(text),
        rope_factor=float(scaling.get("factor") or 1.0),
        sliding_window=int(window) if window else None,
    )


def count_layers(roles: Mapping[str, str]) -> int:
    """Number of decoder layers that have tensors."""
    return len({layer for layer in map(decoder_layer, roles) if layer is not None})


def _dtype(config: Mapping[str, Any]) -> str | None:
    found = config.get("dtype") or config.get("torch_dtype")
    return str(found).removeprefix("torch.") if found else None
