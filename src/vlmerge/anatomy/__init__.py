"""Which tensor plays which role; families, pairing, vocabulary. Headers and tokenizer files only, no torch."""

from __future__ import annotations

from vlmerge.anatomy.decoders import layer_types
from vlmerge.anatomy.dissect import Anatomy, dissect
from vlmerge.anatomy.facts import Facts
from vlmerge.anatomy.families import FAMILIES, Family
from vlmerge.anatomy.layouts import Layout
from vlmerge.anatomy.pairing import Pairing, TensorPair, choose_host, pair
from vlmerge.anatomy.parts import PARTS, Part, part_of
from vlmerge.anatomy.rearrangement import NewVocabulary, Rearranged, new_vocabulary
from vlmerge.anatomy.recognition import family_of
from vlmerge.anatomy.roles import canonical_name, decoder_layer, is_decoder, live_roles, roles_of
from vlmerge.anatomy.segments import Placed, Segment, host_layers, joined, placed_segments, segment_of, segments_of
from vlmerge.anatomy.stacking import require_stackable
from vlmerge.anatomy.vocabulary import RowMap, Vocabulary

__all__ = [
    "FAMILIES",
    "PARTS",
    "Anatomy",
    "Facts",
    "Family",
    "Layout",
    "NewVocabulary",
    "Pairing",
    "Part",
    "Placed",
    "Rearranged",
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
    "new_vocabulary",
    "pair",
    "part_of",
    "placed_segments",
    "require_stackable",
    "roles_of",
    "segment_of",
    "segments_of",
]
