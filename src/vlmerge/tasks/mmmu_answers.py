"""How MMMU and JMMMU read an answer: the option that it names, or the numbers and texts that it ends in.

Both are the published rules, step by step, so that figures can be compared with published ones:

- MMMU: `parse_multi_choice_response`, `parse_open_response` and `eval_open` of MMMU-Benchmark/MMMU, `eval/eval_utils.py`
  (Yue et al., "MMMU: a massive multi-discipline multimodal understanding and reasoning benchmark", 2024);
- JMMMU: the same functions of lmms-eval, `lmms_eval/tasks/jmmmu/utils.py`, which is the evaluation that its authors name
  (Onohara et al., "JMMMU: a Japanese massive multi-discipline multimodal understanding benchmark", 2024).

One thing differs. Where an answer names no option, those draw one by chance. A draw would make a score depend on more than
the answer, so here it counts as what a draw is worth: one divided by the number of options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
SCIENTIFIC = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
TRIVIAL = (":", ",", ".", "!", "?", ";", "'")
JAPANESE = "[\u3040-\u30ff\u4e00-\u9fff]"


@dataclass(frozen=True)
class Reading:
    """What differs between the two benchmarks.

    Attributes:
        marks: Signs that are taken off both ends of an answer, one after the other.
        named: Ways in which an answer may name a letter, besides `(A)`; the first by which it names any counts.
        sentence: Where an answer to a free question is cut.
        lowered: Whether it is lower-cased first.
        final: Signs taken off its ends.
        signals: What the answer proper stands behind.
        equals: The same, in the last sentence only.
        trivial: Answers proper that are none.
        numbers: Forms of numbers.
    """

    marks: str
    named: tuple[Callable[[str, str], bool], ...]
    sentence: re.Pattern[str]
    lowered: bool
    final: str
    signals: tuple[str, ...]
    equals: tuple[str, ...]
    trivial: tuple[str, ...]
    numbers: tuple[re.Pattern[str], ...]


MMMU = Reading(
    marks=",.!?;:'",
    named=(lambda letter, answer: f" {letter} " in answer,),
    sentence=re.compile(r"\.\s(?=[A-Z])|\n"),
    lowered=True,
    final=".",
    signals=("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "),
    equals=("=",),
    trivial=TRIVIAL,
    numbers=(COMMAS, SCIENTIFIC, re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")),
)
JMMMU = Reading(
    marks=",.!?;:'、。！？；：",
    named=(
        lambda letter, answer: f"{letter} " in answer,
        lambda letter, answer: re.search(f"{JAPANESE}{letter}{JAPANESE}", answer) is not None,
        lambda letter, answer: f"{letter}." in answer,
    ),
    sentence=re.compile(r"[。！？.]\s*|\n"),
    lowered=False,
    final="。",
    signals=("よって", "よって、", "答えは", "答えは、", "最終的に", "最終的に、", "解答は", "解答は、回答は", "回答は、"),
    equals=("＝", "="),
    trivial=(*TRIVIAL, "、", "。", "！", "？", "；", "："),
    numbers=(
        COMMAS,
        SCIENTIFIC,
        re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+)(?![eE][+-]?\d+)(?![,\d])"),
        re.compile(r"(\d+)(?:つ|個|度|円|人|年|匹|台|%)"),
    ),
)


@dataclass(frozen=True)
class ChoiceAccuracy:
    """1 where an answer names the right option, or holds the reference of a free question."""

    reading: Reading

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
        if not options:
            return float(holds(answer, references, self.reading))
        letter = chosen(answer, options, self.reading)
        if letter is not None:
            return float(letter in references)
        return 1 / len(options) if set(references) & set(letters(options)) else 0.0


def letters(options: Sequence[str]) -> list[str]:
    """A, B, … for each option."""
    return [chr(ord("A") + place) for place in range(len(options))]


def chosen(answer: str, options: Sequence[str], reading: Reading) -> str | None:
    """The letter of the option that an answer names, the last one where it names several; None where it names none."""
    for mark in reading.marks:
        answer = answer.strip(mark)
    answer = f" {answer} "
    known = letters(options)
    found = [letter for letter in known if f"({letter})" in answer]
    if found:
        return _last(found, lambda letter: answer.rfind(f"({letter})"))
    for names in reading.named:
        found = [letter for letter in known if names(letter, answer)]
        if found:
            return _last(found, lambda letter: answer.rfind(f" {letter} "))
    if len(answer.split()) <= 5:
        return None
    texts = dict(zip(known, (option.lower() for option in options), strict=True))
    found = [letter for letter, text in texts.items() if text in answer.lower()]
    return _last(found, lambda letter: answer.lower().rfind(texts[letter])) if found else None


def _last(found: Sequence[str], place: Callable[[str], int]) -> str:
    """The one that comes last; the first of those that come at the same place."""
    return max(found, key=place)


def holds(answer: str, references: Sequence[str], reading: Reading) -> bool:
    """Whether what an answer to a free question comes down to has a reference in it."""
    proper = _proper(answer, reading)
    said = [each for text in (*proper, *(n for one in proper for n in _numbers(one, reading))) for each in _normal(text)]
    wanted = [each for reference in references for each in _normal(reference)]
    return any(
        any(isinstance(right, str) and right in each for right in wanted) if isinstance(each, str) else each in wanted
        for each in said
    )


def _proper(answer: str, reading: Reading) -> list[str]:
    """The ends of those sentences that say that an answer comes; all of it where none does."""
    answer = answer.strip().strip(reading.final)
    answer = answer.lower() if reading.lowered else answer
    sentences = reading.sentence.split(answer)
    found: list[str] = []
    for place, sentence in enumerate(sentences, start=1):
        signals = (*reading.signals, *reading.equals) if place == len(sentences) else reading.signals
        shortest = ""
        for signal in signals:
            if signal in sentence:
                tail = sentence.split(signal)[-1].strip()
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest not in reading.trivial:
            found.append(shortest)
    return found or [answer]


def _numbers(text: str, reading: Reading) -> list[str]:
    return [number for form in reading.numbers for number in form.findall(text)]


def _normal(text: str) -> list[str | float]:
    """A number, to two decimals; else the text in lower case. A single sign has to stand apart on one side."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
