"""What licences ask of a merge, as far as their names tell: a table, and the union of what several parents ask.

A reading aid and no legal advice: it names what to read. A name that is not in the table is told of as unknown, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["no sharing", "non-commercial", "share-alike", "name", "policy", "limit", "notice", "unknown"]
KINDS: tuple[Kind, ...] = ("no sharing", "non-commercial", "share-alike", "name", "policy", "limit", "notice", "unknown")
"""What licences ask, the strictest first."""


@dataclass(frozen=True)
class Terms:
    """A licence.

    Attributes:
        name: How people call it.
        pattern: Matches its name in cards, in lower case, words joined by `-`.
        asks: Kind of duty → what it asks, in few words.
    """

    name: str
    pattern: str
    asks: Mapping[Kind, str]


@dataclass(frozen=True)
class Duty:
    """One thing that some of the parents ask of the result.

    Attributes:
        kind: Which kind of thing.
        asks: What, in words.
        licence: Name of the licence.
        models: Parents under it.
    """

    kind: Kind
    asks: str
    licence: str
    models: tuple[str, ...]

    def line(self) -> str:
        """For people."""
        return f"{self.kind}: {self.asks} ({self.licence}: {', '.join(self.models)})"


NOT_STATED = "not stated"
NC = "no commercial use"
KEEP = "keep the licence's text and its notices"
LLAMA_LIMIT = "above 700 million monthly users only with Meta's permission"
LLAMA_POLICY = "Meta's acceptable use policy goes with it"
QWEN = "display “Built with Qwen” or “Improved using Qwen”"
RESEARCH = f"{NC}: research"
EU = "; vision models not for people and companies of the EU"


def _llama(version: str, built: str, begin: str, policy: str = LLAMA_POLICY) -> Mapping[Kind, str]:
    return {
        "name": f"display “{built}”; a model's name begins with “{begin}”",
        "policy": policy,
        "limit": LLAMA_LIMIT,
        "notice": f"a copy of the agreement, and its notice on Llama {version}",
    }


TABLE: tuple[Terms, ...] = (
    Terms("Llama 4 Community", r"(meta-)?llama-?4(-community.*)?", _llama("4", "Built with Llama", "Llama", LLAMA_POLICY + EU)),
    Terms("Llama 3.3 Community", r"(meta-)?llama-?3\.3(-community.*)?", _llama("3.3", "Built with Llama", "Llama")),
    Terms(
        "Llama 3.2 Community",
        r"(meta-)?llama-?3\.2(-community.*)?",
        _llama("3.2", "Built with Llama", "Llama", LLAMA_POLICY + EU),
    ),
    Terms("Llama 3.1 Community", r"(meta-)?llama-?3\.1(-community.*)?", _llama("3.1", "Built with Llama", "Llama")),
    Terms(
        "Llama 3 Community",
        r"(meta-)?llama-?3(-community.*)?",
        {
            **_llama("3", "Built with Meta Llama 3", "Llama 3"),
            "limit": f"{LLAMA_LIMIT}; not to improve other language models",
        },
    ),
    Terms(
        "Llama 2 Community",
        r"(meta-)?llama-?2(-community.*)?|https-ai\.meta\.com-llama-license",
        {
            "policy": LLAMA_POLICY,
            "limit": f"{LLAMA_LIMIT}; not to improve other language models",
            "notice": "a copy of the agreement, and its notice on Llama 2",
        },
    ),
    Terms(
        "Gemma Terms of Use",
        r"gemma([0-9.-]*|-terms.*)|https-ai\.google\.dev-gemma-terms",
        {
            "policy": "its prohibited use policy binds every recipient, by an agreement that says so",
            "notice": "a copy of the terms, their notice, and which files were changed",
        },
    ),
    Terms(
        "Qwen Research",
        r"(tongyi-)?qwen[0-9.]*-research(-licen[cs]e.*)?",
        {
            "non-commercial": f"{NC}: research and evaluation",
            "name": QWEN,
            "notice": KEEP,
        },
    ),
    Terms(
        "Tongyi Qianwen",
        r"tongyi-qianwen(-licen[cs]e.*)?|qwen(-licen[cs]e.*)?",
        {
            "name": f"{QWEN}, in its versions since Qwen2",
            "limit": "above 100 million monthly users only with permission; its first version: not to improve other models",
            "notice": KEEP,
        },
    ),
    Terms("Tongyi Qianwen Research", r"tongyi-qianwen-research.*", {"non-commercial": RESEARCH, "notice": KEEP}),
    Terms(
        "Apache 2.0",
        r"apache(-license)?(-version)?-?2(\.0)?|apache-licen[cs]e|https-www\.apache\.org-licenses-license-2\.0(\.txt)?",
        {"notice": f"{KEEP}; say what was changed"},
    ),
    Terms("MIT", r"(the-)?mit(-licen[cs]e)?", {"notice": KEEP}),
    Terms("BSD", r"bsd(-[234]-clause.*)?", {"notice": KEEP}),
    Terms("public domain", r"cc0(-1\.0)?|unlicense|pddl|wtfpl", {}),
    Terms("CC BY-NC-ND", r"cc-by-nc-nd.*", {"no sharing": "changed versions may not be shared", "non-commercial": NC}),
    Terms("CC BY-ND", r"cc-by-nd.*", {"no sharing": "changed versions may not be shared"}),
    Terms(
        "CC BY-NC-SA",
        r"cc-by-nc-sa.*",
        {"non-commercial": NC, "share-alike": "what is shared is under this licence too", "notice": "name the authors"},
    ),
    Terms("CC BY-NC", r"cc-by-nc.*", {"non-commercial": NC, "notice": "name the authors, and what was changed"}),
    Terms(
        "CC BY-SA",
        r"cc-by-sa.*",
        {"share-alike": "what is shared is under this licence too", "notice": "name the authors, and what was changed"},
    ),
    Terms("CC BY", r"cc-by(-[0-9.]+)?", {"notice": "name the authors, and what was changed"}),
    Terms(
        "OpenRAIL",
        r"(creativeml-|bigscience-|bigcode-)?openrail.*|bigscience-bloom-rail.*",
        {"policy": "its use restrictions bind every recipient, and stand in the result's own licence", "notice": KEEP},
    ),
    Terms(
        "DeepSeek",
        r"deepseek(-model)?(-licen[cs]e.*)?",
        {"policy": "its use restrictions bind every recipient", "notice": KEEP},
    ),
    Terms("GNU (L)GPL", r"[al]?gpl.*", {"share-alike": "what is shared is under this licence too", "notice": KEEP}),
    Terms("Mistral Research", r"mrl(-.*)?|mistral-(ai-)?research.*|mnpl.*", {"non-commercial": RESEARCH, "notice": KEEP}),
    Terms(
        "EXAONE",
        r"exaone.*",
        {"non-commercial": RESEARCH, "name": "a model's name begins with “EXAONE”", "notice": KEEP},
    ),
    Terms(
        "Stability AI Community",
        r"stabilityai-(ai-)?community.*|stability-ai-community.*",
        {
            "name": "display “Powered by Stability AI”",
            "policy": "its acceptable use policy",
            "limit": "above 1 million dollars of yearly revenue only with another licence",
            "notice": KEEP,
        },
    ),
)
"""Licences of models that people merge, from their texts; the first whose pattern matches a whole name is meant."""


def terms_of(licence: str | None) -> Terms:
    """The terms that a model's licence, as `checkpoint.read_licence` names it, stands for; `unknown` for what is not listed."""
    if licence is None:
        return Terms(NOT_STATED, "", {"unknown": "no licence is named: ask its authors what is permitted"})
    name, _, link = licence.removeprefix("other:").rstrip(")").partition(" (")
    for each in filter(None, (_joined(name), _joined(link))):
        for terms in TABLE:
            if re.fullmatch(terms.pattern, each):
                return terms
    return Terms(licence, "", {"unknown": "not in the table of known licences: read its text"})


def joined(licences: Iterable[str | None]) -> str | None:
    """One text for the licences of a model's parts, which `apart` takes apart; None where none of them is stated."""
    each = list(dict.fromkeys(licences))
    return None if each == [None] else ", ".join(licence or NOT_STATED for licence in each)


def apart(licence: str | None) -> list[str | None]:
    """The licences of a text; several in one card are separated by commas."""
    if licence is None:
        return [None]
    parts = dict.fromkeys(part.strip() for part in licence.split(", "))
    return [None if part == NOT_STATED else part for part in parts]


def duties(licences: Mapping[str, str | None]) -> tuple[Duty, ...]:
    """The union of what the parents ask, the strictest first; parents of one licence together.

    Args:
        licences: Model → its licence; of several in one text (`apart`) all count.
    """
    by_licence: dict[str, tuple[Terms, list[str]]] = {}
    for model, licence in licences.items():
        for one in apart(licence):
            terms = terms_of(one)
            by_licence.setdefault(terms.name, (terms, []))[1].append(model)
    return tuple(
        Duty(kind, terms.asks[kind], terms.name, tuple(models))
        for kind in KINDS
        for terms, models in by_licence.values()
        if kind in terms.asks
    )


def verdict(found: Sequence[Duty]) -> str:
    """The strictest terms of all, in one sentence."""
    by_kind = {kind: [duty for duty in found if duty.kind == kind] for kind in KINDS}
    parts: list[str] = []
    if by_kind["no sharing"]:
        parts.append(f"{_of(by_kind['no sharing'])} does not let changed versions be shared: this merge is for its maker alone")
    elif by_kind["non-commercial"]:
        parts.append(f"not for commercial use, by {_of(by_kind['non-commercial'])}")
    if by_kind["share-alike"]:
        others = [each for each in found if each.kind in ("policy", "limit", "name", "non-commercial")]
        also = [each for each in others if each.licence not in {duty.licence for duty in by_kind["share-alike"]}]
        names = list(dict.fromkeys(duty.licence for duty in by_kind["share-alike"]))
        text = f"to be shared under {' and '.join(names)}"
        if len(names) > 1:
            text += ", which cannot both be: read them"
        elif also:
            text += f", beside what {_of(also)} asks: whether the two go together, read in both"
        parts.append(text)
    if by_kind["unknown"]:
        parts.append(f"terms that are not known here, of {_models(by_kind['unknown'])}, may be stricter")
    narrow = [kind for kind in ("name", "policy", "limit") if by_kind[kind]]
    if not parts and not narrow:
        return "open licences, which ask for no more than their notices"
    if narrow:
        words = {"name": "names to display or to bear", "policy": "a use policy", "limit": "limits of use"}
        parts.append(f"with {_and([words[kind] for kind in narrow])}")
    return "; ".join(parts)


def _of(found: Sequence[Duty]) -> str:
    return _and(list(dict.fromkeys(duty.licence for duty in found)))


def _models(found: Sequence[Duty]) -> str:
    return _and(list(dict.fromkeys(model for duty in found for model in duty.models)))


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _joined(name: str) -> str:
    """Lower case, words joined by `-`: as patterns are written."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
