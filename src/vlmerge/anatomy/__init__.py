"""Which tensor plays which role; families, pairing, vocabulary. Headers and tokenizer files only, no torch."""

from __future__ import annotations

from vlmerge.anatomy.decoders import layer_types
from vlmerge.anatomy.dissect import Anatomy, dissect
from vlmerge.anatomy.facts import Facts
from vlmerge.anatomy.families import FAMILIES, Family
from vlmerge.anatomy.layouts import Layout
from vlmerge.anatomy.pairing import Pairing, TensorPair, choose_host, pair
from vlmerge.anatomy.recognition import family_of
from vlmerge.anatomy.roles import canonical_name, decoder_layer, is_decoder, live_roles, roles_of
from vlmerge.anatomy.segments import Segment, host_layers, joined, segment_at, segments_of
from vlmerge.anatomy.vocabulary import RowMap, Vocabulary

__all__ = [
    "FAMILIES",
    "Anatomy",
    "Facts",
    "Family",
    "Layout",
    "Pairing",
    "RowMap",
    "Segment",
    "TensorPair",
    "Vocabulary",
    "canonical_name",
    "choose_host",
    "decoder_layer",
    "dissect",
    "family_of",
    "host_layers",
    "is_decoder",
    "joined",
    "layer_types",
    "live_roles",
    "pair",
    "roles_of",
    "segment_at",
    "segments_of",
]
