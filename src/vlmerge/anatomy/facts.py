"""What must agree between models that are merged: sizes from tensor shapes, the rest from config.json with class defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlmerge.anatomy.decoders import CROSS_ATTENTION_LAYERS, kind_of
from vlmerge.anatomy.families import Family
from vlmerge.anatomy.recognition import class_defaults, decoder_type, says_tied, text_config
from vlmerge.anatomy.roles import EMBEDDING, HEAD, decoder_layer
from vlmerge.errors import MismatchError
from vlmerge.types import TensorInfo


@dataclass(frozen=True)
class Facts:
    """The decoder's numbers.

    Attributes:
        kind: model_type of the plain LM that it pairs with.
        layers: Number of decoder layers.
        hidden: Width of the residual stream.
        intermediate: Width of the MLP.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of one head.
        vocab_rows: Rows of the embedding.
        rope_theta: Base of the rotary frequencies (of full attention, where layers differ).
        rope_scaling: Kind of rotary scaling, `default` for none; positions in three parts (mrope) are none for text.
        norm_eps: Epsilon of its norms.
        activation: Of the MLP.
        tied_head: The head is the embedding: no head in the files, or, where no files were read, as config.json says.
        max_positions: Longest sequence it was made for, in tokens.
        dtype: As config.json says (`dtype` or `torch_dtype`), None where it says nothing.
        rope_factor: By how much rotary scaling stretches positions; 1 for none.
        sliding_window: Tokens back that attention sees, None for all.
    """

    kind: str
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


def read_facts(
    family: Family,
    config: Mapping[str, Any],
    roles: Mapping[str, str],
    tensors: Mapping[str, TensorInfo],
    where: str = "the model",
) -> Facts:
    """Facts of a checkpoint; with empty `roles` (headers not readable) from config.json and class defaults alone.

    Raises:
        MismatchError: A size that neither the shapes, config.json nor the table of class defaults tell.
    """
    text, defaults = text_config(family, config), class_defaults(family, config)
    decoder = decoder_type(family, config)

    def said(*keys: str) -> Any:
        """What config.json says under the key that the decoder's class reads, else that class's default."""
        read = [key for key in keys if key in defaults] or list(keys)
        found = next((text[key] for key in read if text.get(key) is not None), None)
        return defaults.get(read[0]) if found is None else found

    def size(key: str) -> int:
        found = said(key)
        if found is None:
            raise MismatchError(
                f"config.json does not say `{key}`, and no class default is known",
                where=f"{where}: config.json",
                expected=f"`{key}`: a whole number",
                found=f"model_type {decoder!r} and no such key",
                remedy="add the key to config.json",
            )
        return int(found)

    def rows(role: str) -> int | None:
        name = roles.get(role)
        return tensors[name].shape[0] if name is not None else None

    embedding = tensors[roles[EMBEDDING]].shape if EMBEDDING in roles else None
    hidden = embedding[1] if embedding else size("hidden_size")
    heads = size("num_attention_heads")
    query, fused = rows("layers.0.self_attn.q_proj.weight"), rows("layers.0.self_attn.qkv_proj.weight")
    key = rows("layers.0.self_attn.k_proj.weight")
    head_dim = query // heads if query else int(said("head_dim") or hidden // heads)
    if query and text.get("head_dim") and text["head_dim"] * heads != query:
        raise MismatchError(
            "config.json and the files do not agree about the heads",
            where=f"{where}: config.json, head_dim",
            expected=f"heads whose widths sum to {query}, as the rows of q_proj do",
            found=f"{heads} heads of width {text['head_dim']}",
            remedy="take config.json from the model's own repository",
        )
    # A key that is missing has the class default, a key that is null is as many as there are heads.
    kv_heads = int(
        (text["num_key_value_heads"] if "num_key_value_heads" in text else defaults.get("num_key_value_heads")) or heads
    )
    if key or fused:
        kv_heads = key // head_dim if key else ((fused or 0) // head_dim - heads) // 2
    gate, both = rows("layers.0.mlp.gate_proj.weight"), rows("layers.0.mlp.gate_up_proj.weight")
    window = None if said("use_sliding_window") is False else said("sliding_window")
    theta, scaling, factor = _rotary(text)
    return Facts(
        kind=kind_of(decoder),
        layers=count_layers(roles) if roles else size("num_hidden_layers") - _crossing(decoder, text),
        hidden=hidden,
        intermediate=gate or (both or 0) // 2 or int(said("intermediate_size") or 0),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_rows=embedding[0] if embedding else size("vocab_size"),
        rope_theta=float(theta or defaults["rope_theta"]),
        rope_scaling=scaling,
        norm_eps=float(said("rms_norm_eps", "layer_norm_eps")),
        activation=str(said("hidden_activation", "hidden_act")),
        tied_head=HEAD not in roles if roles else says_tied(family, config),
        max_positions=int(said("max_position_embeddings")),
        dtype=_dtype(config) or _dtype(text),
        rope_factor=factor,
        sliding_window=int(window) if window else None,
    )


def count_layers(roles: Mapping[str, str]) -> int:
    """Number of decoder layers that have tensors."""
    return len({layer for layer in map(decoder_layer, roles) if layer is not None})


def _dtype(config: Mapping[str, Any]) -> str | None:
    found = config.get("dtype") or config.get("torch_dtype")
    return str(found).removeprefix("torch.") if found else None


def _rotary(text: Mapping[str, Any]) -> tuple[float | None, str, float]:
    """Base, kind and factor of rotary positions, in any of the spellings that transformers has had."""
    rope: Mapping[str, Any] = text.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    scaling: Mapping[str, Any] = text.get("rope_scaling") or rope
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    theta: float | None = rope.get("rope_theta") or text.get("rope_theta")
    return theta, "default" if kind == "mrope" else kind, float(scaling.get("factor") or 1.0)


def _crossing(decoder: str, text: Mapping[str, Any]) -> int:
    """How many of the layers that config.json counts have cross-attention."""
    if decoder != "mllama_text_model":
        return 0
    said = text.get("cross_attention_layers")
    return len(CROSS_ATTENTION_LAYERS if said is None else said)
