"""How an answer is scored against its references: one small class per metric, each giving 0..1, the best reference counting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vlmerge.tasks.japanese import LanguageGate, Words
from vlmerge.tasks.rouge import Profile, f_measure, profile


class Scorer(Protocol):
    """An answer and its references (at least one) → 0..1. `options`: what the question let one choose among, if it did."""

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float: ...


@dataclass(frozen=True)
class Metric:
    """One line of the metric registry.

    Attributes:
        name: What YAML files, results.json and tables call it.
        description: One line for tables: which tokens, which gate.
        load: Makes a scorer. Cheap: dictionaries and language models are loaded at the first answer.
    """

    name: str
    description: str
    load: Callable[[], Scorer]


@dataclass(frozen=True)
class ExactMatch:
    """1 where the answer is one of the references, outer white space aside."""

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:  # noqa: ARG002 - not asked
        return float(any(answer.strip() == reference.strip() for reference in references))


@dataclass(frozen=True)
class CharacterRougeL:
    """ROUGE-L whose tokens are the characters themselves, outer white space aside. The same for every language."""

    profiles: dict[str, Profile] = field(default_factory=dict[str, Profile], repr=False)

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:  # noqa: ARG002 - not asked
        said = answer.strip()
        return max(f_measure(self.prepared(reference), said) for reference in references)

    def prepared(self, reference: str) -> Profile:
        """The reference's profile, made once."""
        if reference not in self.profiles:
            self.profiles[reference] = profile(reference.strip())
        return self.profiles[reference]


@dataclass(frozen=True)
class WordRougeL:
    """ROUGE-L whose tokens are MeCab's words. No stemmer; words in Latin letters are kept, case and all."""

    words: Words = field(default_factory=Words, repr=False)
    profiles: dict[str, Profile] = field(default_factory=dict[str, Profile], repr=False)

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:  # noqa: ARG002 - not asked
        said = self.words(answer)
        return max(f_measure(self.prepared(reference), said) for reference in references)

    def prepared(self, reference: str) -> Profile:
        """The reference's profile, made once."""
        if reference not in self.profiles:
            self.profiles[reference] = profile(self.words(reference))
        return self.profiles[reference]


@dataclass(frozen=True)
class GatedWordRougeL:
    """WordRougeL, after an answer that is not Japanese to a reference that is has become the empty string."""

    scorer: WordRougeL = field(default_factory=WordRougeL)
    gate: LanguageGate = field(default_factory=LanguageGate, repr=False)
    japanese: dict[str, bool] = field(default_factory=dict[str, bool], repr=False)

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:  # noqa: ARG002 - not asked
        passed = self.gate.is_japanese(answer)
        return max((self.scorer(answer, [r]) for r in references if passed or not self.expects_japanese(r)), default=0.0)

    def expects_japanese(self, reference: str) -> bool:
        """Whether the reference is Japanese, asked once."""
        if reference not in self.japanese:
            self.japanese[reference] = self.gate.is_japanese(reference)
        return self.japanese[reference]
