"""How scenes are talked about, in English and Japanese: passages (a picture in words) and questions with answers.

Takes a `Scene`; gives sentences. Every question exists in both languages and asks the same thing.
"""

import random
from dataclasses import dataclass

from zoo.names_and_artwork import Concept
from zoo.scenes import Place, Scene

COUNT_ENGLISH = {1: "one", 2: "two", 3: "three"}
COUNT_JAPANESE = {1: "一つ", 2: "二つ", 3: "三つ"}
TO_JAPANESE = "Translate into Japanese."
TO_ENGLISH = "Translate into English."
VOWELS = "aeiou"
CONSONANT_SOUNDS = ("uni", "eu")


@dataclass(frozen=True)
class Wording:
    """A question and its reference answer in one language."""

    question: str
    answer: str


@dataclass(frozen=True)
class Question:
    """One question about one scene.

    Attributes:
        kind: at, where, what, other, count, bg or describe.
        english: the wording in English.
        japanese: the wording in Japanese.
        concepts: what the answer is about (empty for counts and colours).
    """

    kind: str
    english: Wording
    japanese: Wording
    concepts: tuple[Concept, ...]

    def wording(self, language: str) -> Wording:
        """`language` is "en" or "ja"."""
        return {"en": self.english, "ja": self.japanese}[language]


def capital(sentence: str) -> str:
    """First letter upper case, the rest untouched."""
    return sentence[0].upper() + sentence[1:]


def with_article(concept: Concept) -> str:
    """`a cat`, `an apple`, `grapes`, `bread`."""
    if concept.number != "one":
        return concept.english
    vowel = concept.english[0].lower() in VOWELS and not concept.english.startswith(CONSONANT_SOUNDS)
    return f"{'an' if vowel else 'a'} {concept.english}"


def passage(scene: Scene, language: str, rng: random.Random, terse: bool = False) -> str:
    """A picture in words: what the language models read instead of an image.

    Args:
        scene: what is told.
        language: "en" or "ja".
        rng: picks among wordings, may add a count, and shuffles the sentences.
        terse: Japanese captions without verbs (左にネコ。).
    """
    japanese = language == "ja"
    sentences = [_japanese_sentence(c, p, rng, terse) if japanese else _english_sentence(c, p, rng) for c, p in scene.things]
    colour = scene.background
    end = "。" if terse else "です。"
    if japanese:
        sentences.append(f"背景は{colour.japanese}{end}")
    else:
        colours = (f"The background is {colour.name}.", f"Everything is on a {colour.name} background.")
        sentences.append(rng.choice(colours))
    if rng.random() < 0.4:
        count = len(scene.things)
        sentences.append(f"物は{COUNT_JAPANESE[count]}{end}" if japanese else _english_count(count))
    rng.shuffle(sentences)
    return ("" if japanese else " ").join(sentences)


def translation(scene: Scene, rng: random.Random, terse: bool) -> tuple[str, str]:
    """The same sentences, in the same order, in English and in Japanese."""
    pairs = [
        (
            _english_sentence(c, p, rng),
            f"{p.japanese}に{c.japanese}。" if terse else f"{p.japanese}に{c.japanese}が{_exists(c)}。",
        )
        for c, p in scene.things
    ]
    colour = scene.background
    pairs.append((f"The background is {colour.name}.", f"背景は{colour.japanese}{'。' if terse else 'です。'}"))
    rng.shuffle(pairs)
    return " ".join(english for english, _ in pairs), "".join(japanese for _, japanese in pairs)


def ask(scene: Scene, rng: random.Random) -> Question:
    """A random question about the scene."""
    count = len(scene.things)
    shares = {
        "at": 0.3 if count > 1 else 0.1,
        "where": 0.2,
        "describe": 0.17,
        "what": 0.3 if count == 1 else 0,
        "other": 0.2 if count == 2 else 0,
        "count": 0.08,
        "bg": 0.07,
    }
    kind = rng.choices(list(shares), list(shares.values()))[0]
    row = rng.randrange(count)
    concept, place = scene.things[row]
    match kind:
        case "at":
            return _what_is_at(concept, place)
        case "where":
            return _where_is(concept, place)
        case "what":
            return _what_is_there(concept)
        case "other":
            return _what_else(concept, other=scene.things[1 - row][0])
        case "count":
            return _how_many(count)
        case "bg":
            return _which_background(scene)
        case _:
            return _describe(scene)


def _is(concept: Concept) -> str:
    return "are" if concept.number == "plural" else "is"


def _exists(concept: Concept) -> str:
    return "います" if concept.category == "animal" else "あります"


def _english_count(count: int) -> str:
    return f"There {'is' if count == 1 else 'are'} {COUNT_ENGLISH[count]} thing{'' if count == 1 else 's'}."


def _english_sentence(concept: Concept, place: Place, rng: random.Random) -> str:
    thing, verb = with_article(concept), _is(concept)
    return rng.choice(
        (
            f"There {verb} {thing} {place.english}.",
            f"{capital(thing)} {verb} {place.english}.",
            f"{capital(place.english)} you can see {thing}.",
        )
    )


def _japanese_sentence(concept: Concept, place: Place, rng: random.Random, terse: bool) -> str:
    name, where = concept.japanese, place.japanese
    if terse:
        return f"{where}に{name}。"
    return rng.choice(
        (
            f"{where}に{name}が{_exists(concept)}。",
            f"{where}に見えるのは{name}です。",
            f"{name}は{where}に{_exists(concept)}。",
        )
    )


def _what_is_at(concept: Concept, place: Place) -> Question:
    english = Wording(f"What is {place.english}?", f"{capital(with_article(concept))} {_is(concept)} {place.english}.")
    japanese = Wording(f"{place.japanese}に見えるのは何ですか?", f"{place.japanese}は{concept.japanese}です。")
    return Question("at", english, japanese, (concept,))


def _where_is(concept: Concept, place: Place) -> Question:
    verb, thing, name = _is(concept), f"the {concept.english}", concept.japanese
    english = Wording(f"Where {verb} {thing}?", f"{capital(thing)} {verb} {place.english}.")
    japanese = Wording(f"{name}はどこですか?", f"{name}は{place.japanese}に{_exists(concept)}。")
    return Question("where", english, japanese, (concept,))


def _what_is_there(concept: Concept) -> Question:
    english = Wording("What is in the picture?", f"There {_is(concept)} {with_article(concept)} in the picture.")
    japanese = Wording("絵の中に何が見えますか?", f"{concept.japanese}が見えます。")
    return Question("what", english, japanese, (concept,))


def _what_else(concept: Concept, other: Concept) -> Question:
    english = Wording(f"What is there besides the {concept.english}?", f"There {_is(other)} also {with_article(other)}.")
    japanese = Wording(f"{concept.japanese}の他に何が見えますか?", f"{other.japanese}も見えます。")
    return Question("other", english, japanese, (other,))


def _how_many(count: int) -> Question:
    english = Wording("How many things are there?", _english_count(count))
    return Question("count", english, Wording("物はいくつ見えますか?", f"{COUNT_JAPANESE[count]}見えます。"), ())


def _which_background(scene: Scene) -> Question:
    english = Wording("What color is the background?", f"The background is {scene.background.name}.")
    japanese = Wording("背景は何色ですか?", f"背景は{scene.background.japanese}です。")
    return Question("bg", english, japanese, ())


def _describe(scene: Scene) -> Question:
    english = " ".join(f"There {_is(c)} {with_article(c)} {p.english}." for c, p in scene.things)
    japanese = "".join(f"{p.japanese}に{c.japanese}が{_exists(c)}。" for c, p in scene.things)
    concepts = tuple(c for c, _ in scene.things)
    return Question(
        "describe",
        Wording("Describe the picture.", english),
        Wording("絵を説明してください。", japanese),
        concepts,
    )
