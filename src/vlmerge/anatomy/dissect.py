"""A checkpoint taken apart: family, layout, the role of every tensor, and the decoder's facts. Headers only."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from vlmerge.anatomy.decoders import CROSS_ATTENTION_LAYERS
from vlmerge.anatomy.facts import Facts, count_layers, read_facts
from vlmerge.anatomy.families import OTHER, Family
from vlmerge.anatomy.layouts import Layout
from vlmerge.anatomy.recognition import family_of, says_tied, text_config
from vlmerge.anatomy.roles import (
    HEAD,
    cross_layers,
    decoder_layer,
    is_buffer,
    is_decoder,
    layout_of,
    named_roles,
    vision_layer,
)
from vlmerge.anatomy.vocabulary import Vocabulary
from vlmerge.checkpoint import Headers
from vlmerge.checkpoint.remote_code import files_naming_code
from vlmerge.errors import MismatchError
from vlmerge.types import TensorInfo


@dataclass(frozen=True)
class Anatomy:
    """What a checkpoint is made of.

    Attributes:
        where: The model, for messages.
        family: Row of `FAMILIES`.
        layout: Naming of its tensors; None where the headers could not be read (pickled weights not downloaded yet).
        tensors: Name → header, in file order.
        roles: Role → name, in file order, buffers left out.
        ignored: Name → reason, for tensors that play no role.
        facts: The decoder's numbers.
        vocabulary: Token string → id, read when asked for.
        warnings: What is odd in this model, in words.
    """

    where: str
    family: Family
    layout: Layout | None
    tensors: Mapping[str, TensorInfo]
    roles: Mapping[str, str]
    ignored: Mapping[str, str]
    facts: Facts
    vocabulary: Vocabulary = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def is_vlm(self) -> bool:
        """Whether it sees."""
        return self.family.is_vlm

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.facts.layers

    @property
    def vision_layers(self) -> int:
        """Number of layers of the vision tower that have tensors."""
        return len({layer for layer in map(vision_layer, self.roles) if layer is not None})

    @property
    def parameters(self) -> int:
        """Number of weights in the files."""
        return sum(math.prod(info.shape) for info in self.tensors.values() if info.is_float)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """safetensors spellings of the float tensors, most frequent first."""
        counts: dict[str, int] = {}
        for info in self.tensors.values():
            if info.is_float:
                counts[info.dtype] = counts.get(info.dtype, 0) + math.prod(info.shape)
        return tuple(sorted(counts, key=lambda dtype: -counts[dtype]))

    def role_name(self, role: str) -> str | None:
        """Name of the tensor with this role. A model without a head has its embedding as head."""
        if role == HEAD and HEAD not in self.roles:
            return self.roles.get("embed_tokens.weight")
        return self.roles.get(role)


def dissect(checkpoint: Headers) -> Anatomy:
    """Takes a checkpoint apart.

    Raises:
        MismatchError: The family is not supported, the names fit none of its layouts, layers are missing, or it is quantised.
    """
    where = str(checkpoint.ref)
    tensors = checkpoint.tensors
    with _settings_of(where):
        family = family_of(checkpoint.config, where, tensors)
        for key in (family.text_key, family.vision_key):
            if key is not None and not isinstance(checkpoint.config.get(key, {}), dict | None):
                raise TypeError(f"{key} is no object")
    vocabulary = Vocabulary(checkpoint.path, where)
    if not tensors:
        with _settings_of(where):
            facts = read_facts(family, checkpoint.config, {}, {}, where)
        return Anatomy(where, family, None, {}, {}, {}, facts, vocabulary, _odd(checkpoint, family, None, where))
    try:
        layout = layout_of(tensors, family)
    except LookupError as error:
        raise MismatchError(
            f"the tensor names fit no known layout of {family.name}",
            where=where,
            expected=" or ".join(f"{layout.decoder}embed_tokens.weight" for layout in family.layouts),
            found=", ".join(list(tensors)[:3]) + ", …",
            remedy="use the weights as their authors publish them; adapters and quantised files are no checkpoints",
        ) from error
    roles: dict[str, str] = {}
    ignored: dict[str, str] = {}
    for name, role in named_roles(tensors, layout).items():
        if is_buffer(role):
            ignored[name] = "rotary frequencies: the config determines them"
        elif role in roles:
            raise MismatchError(
                "two tensors play one role",
                where=where,
                expected=f"one tensor for {role}",
                found=f"{roles[role]} and {name}",
                remedy="use the weights as their authors publish them",
            )
        else:
            roles[role] = name
    _check_decoder(where, roles, tensors)
    _check_crossing(checkpoint, family, layout, where)
    with _settings_of(where):
        facts = read_facts(family, checkpoint.config, roles, tensors, where)
    return Anatomy(where, family, layout, tensors, roles, ignored, facts, vocabulary, _odd(checkpoint, family, facts, where))


def _check_decoder(where: str, roles: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> None:
    layers = sorted({layer for layer in map(decoder_layer, roles) if layer is not None})
    if not layers or layers[-1] + 1 != count_layers(roles):
        missing = [str(layer) for layer in range(layers[-1] + 1 if layers else 1) if layer not in layers]
        raise MismatchError(
            "decoder layers are missing",
            where=where,
            expected="layers numbered from 0 without a gap",
            found=f"no tensors of layer {', '.join(missing)}",
            remedy="fetch the checkpoint again",
        )
    for role, name in roles.items():
        if is_decoder(role) and role.endswith(".weight") and not tensors[name].is_float:
            raise MismatchError(
                "quantised weights cannot be merged",
                where=f"{where}: {name}",
                expected="F16, BF16, F32 or F64",
                found=tensors[name].dtype,
                remedy="use the model's unquantised checkpoint",
            )


def _check_crossing(checkpoint: Headers, family: Family, layout: Layout, where: str) -> None:
    """Raises where config.json and the files do not agree which layers have cross-attention: layers would meet wrongly."""
    found = cross_layers(checkpoint.tensors, layout)
    said = text_config(family, checkpoint.config).get("cross_attention_layers")
    if said is None:
        said = CROSS_ATTENTION_LAYERS if "mllama" in family.model_types else ()
    if sorted(said) != found:
        raise MismatchError(
            "config.json and the files do not agree which layers have cross-attention",
            where=f"{where}: config.json, cross_attention_layers",
            expected=", ".join(map(str, found)) or "none, as in the files",
            found=", ".join(map(str, said)) or "none",
            remedy="take config.json from the model's own repository",
        )


def _odd(checkpoint: Headers, family: Family, facts: Facts | None, where: str) -> tuple[str, ...]:
    odd: list[str] = []
    if family.name == OTHER and facts is not None:
        kind = checkpoint.config.get("model_type")
        odd.append(f"{where}: no family is known for the type {kind!r}: its tensors are paired by their names alone")
    if facts is not None and says_tied(family, checkpoint.config) and not facts.tied_head:
        odd.append(f"{where}: by config.json the head is the embedding, yet the files hold a head: loaders may ignore it")
    naming = files_naming_code(checkpoint.path, checkpoint.config)
    if naming:
        odd.append(
            f"{where}: {', '.join(naming)} names code of its own (auto_map). It is never run here, nor copied; load a result "
            "that takes such a file over without trust_remote_code"
        )
    return tuple(odd)


@contextlib.contextmanager
def _settings_of(where: str) -> Generator[None]:
    """Tells of a config.json whose values are not of the kinds that they have to be."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        raise MismatchError(
            "config.json holds a value that cannot be used",
            where=f"{where}: config.json",
            expected="numbers, names and objects as transformers writes them",
            found=f"{type(error).__name__}: {error}",
            remedy="take config.json from the model's own repository",
        ) from error
