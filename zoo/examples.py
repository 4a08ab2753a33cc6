"""What the models learn from: pools of token sequences, drawn once from seeds.

Takes scenes and the grammar; gives padded int16 arrays. A text example is `<s>passage<q>question<a>answer</s>`; a
picture example is the part after the image, `<q>question<a>answer</s>`, with the scene to draw.
"""

import random
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from transformers import PreTrainedTokenizerFast

from zoo.grammar import TO_ENGLISH, TO_JAPANESE, ask, passage, translation, with_article
from zoo.models import IMAGE_TOKENS
from zoo.names_and_artwork import Concept
from zoo.scenes import Scene, draw_scene
from zoo.tokenizer import ANSWER, BOS, EOS, QUESTION, Encoder

LONGEST_TEXT = 62
SHARDS = 16
"""Pools are drawn in this many independently seeded pieces, however many processors share the work."""
SHARE_TO_JAPANESE = 0.6
SHARE_SPREAD = 0.5

ENGLISH, JAPANESE, ENGLISH_THEN_JAPANESE = "en", "ja", "ej"
TRANSLATE_CAPTIONS, TRANSLATE_SENTENCES, WORD_PAIRS, JAPANESE_CAPTIONS = "xl", "xlf", "dic", "jac"


@dataclass(frozen=True)
class World:
    """What examples are drawn from. Scenes whose identity is in `held_out` are drawn again."""

    concepts: tuple[Concept, ...]
    tokenizer: PreTrainedTokenizerFast
    held_out: frozenset[object]

    def scene(self, rng: random.Random) -> Scene:
        """A random scene that is not in the benchmark."""
        while (scene := draw_scene(rng, self.concepts)).identity in self.held_out:
            pass
        return scene


@dataclass(frozen=True)
class TextPool:
    """Text examples.

    Attributes:
        tokens: int16 [n, length], padded with 0.
        positions: int16 [n, length], where each token stands for the decoder.
        lengths: int16 [n].
        answer_starts: int16 [n], index of the first token after `<a>` (after the passage where nothing is asked).
    """

    tokens: np.ndarray
    positions: np.ndarray
    lengths: np.ndarray
    answer_starts: np.ndarray


@dataclass(frozen=True)
class PicturePool:
    """Questions about pictures.

    Attributes:
        tokens: int16 [n, length], padded with 0.
        lengths: int16 [n].
        answer_starts: int16 [n].
        scenes: int64 [n, 7], rows for the renderer.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    answer_starts: np.ndarray
    scenes: np.ndarray


def text_pool(world: World, count: int, mix: Mapping[str, float], seed: int) -> TextPool:
    """Draws `count` text examples of the kinds in `mix` (kind: share), on all processors."""
    with ProcessPoolExecutor(mp_context=get_context("fork")) as workers:
        jobs = [workers.submit(_text_shard, world, count // SHARDS, mix, seed * 100 + i) for i in range(SHARDS)]
        rows = [row for job in jobs for row in job.result()]
    tokens, positions, starts = zip(*rows, strict=True)
    return TextPool(_padded(tokens), _padded(positions), _lengths(tokens), np.array(starts, np.int16))


def picture_pool(world: World, count: int, language: str, seed: int) -> PicturePool:
    """Draws `count` questions about scenes, in one language."""
    with ProcessPoolExecutor(mp_context=get_context("fork")) as workers:
        jobs = [workers.submit(_picture_shard, world, count // SHARDS, language, seed * 100 + i) for i in range(SHARDS)]
        rows = [row for job in jobs for row in job.result()]
    tokens, starts, scenes = zip(*rows, strict=True)
    return PicturePool(_padded(tokens), _lengths(tokens), np.array(starts, np.int16), np.array(scenes, np.int64))


def scene_rows(world: World, count: int, seed: int) -> np.ndarray:
    """int64 [count, 7]: scenes without questions."""
    rng = random.Random(seed)
    return np.array([world.scene(rng).as_row() for _ in range(count)], np.int64)


def _text_shard(world: World, count: int, mix: Mapping[str, float], seed: int) -> list[tuple[list[int], list[int], int]]:
    rng, encode = random.Random(seed), Encoder(world.tokenizer)
    kinds, shares = list(mix), list(mix.values())
    rows: list[tuple[list[int], list[int], int]] = []
    while len(rows) < count:
        before, after = _text_example(rng.choices(kinds, shares)[0], world.scene(rng), rng, encode)
        before = [BOS, *before]
        if len(before) + len(after) > LONGEST_TEXT:
            continue
        start = len(before) + (after.index(ANSWER) + 1 if ANSWER in after else 0)
        rows.append((before + after, _positions(len(before), len(after), rng), start))
    return rows


def _text_example(kind: str, scene: Scene, rng: random.Random, encode: Encoder) -> tuple[list[int], list[int]]:
    """Token ids of what is read first, and of what follows it."""
    if kind == JAPANESE_CAPTIONS:
        return encode(passage(scene, "ja", rng, terse=True)), [EOS]
    if kind in (ENGLISH, JAPANESE, ENGLISH_THEN_JAPANESE):
        text = passage(scene, "ja" if kind == JAPANESE else "en", rng)
        wording = ask(scene, rng).wording("en" if kind == ENGLISH else "ja")
        question, answer = wording.question, wording.answer
    else:
        english, japanese = _word_pair(scene, rng) if kind == WORD_PAIRS else _caption_pair(kind, scene, rng)
        if rng.random() < SHARE_TO_JAPANESE:
            text, question, answer = english, TO_JAPANESE, japanese
        else:
            text, question, answer = japanese, TO_ENGLISH, english
    return encode(text), [QUESTION, *encode(question), ANSWER, *encode(answer), EOS]


def _word_pair(scene: Scene, rng: random.Random) -> tuple[str, str]:
    concept = scene.things[0][0]
    return rng.choice((concept.english, with_article(concept))), concept.japanese


def _caption_pair(kind: str, scene: Scene, rng: random.Random) -> tuple[str, str]:
    return translation(scene, rng, terse=kind == TRANSLATE_CAPTIONS)


def _positions(before: int, after: int, rng: random.Random) -> list[int]:
    """For half the examples the passage is spread out at random over as much room as an image takes.

    So the decoder gets used to the distances that image tokens will bring (the idea of PoSE, arXiv 2309.10400).
    """
    end, places = before, list(range(before))
    if rng.random() < SHARE_SPREAD and before < IMAGE_TOKENS:
        end = rng.randint(before, IMAGE_TOKENS + 4)
        places = [0, *sorted(rng.sample(range(1, end), before - 1))]
    return [*places, *range(end, end + after)]


def _picture_shard(world: World, count: int, language: str, seed: int) -> list[tuple[list[int], int, list[int]]]:
    rng, encode = random.Random(seed), Encoder(world.tokenizer)
    rows: list[tuple[list[int], int, list[int]]] = []
    for _ in range(count):
        scene = world.scene(rng)
        wording = ask(scene, rng).wording(language)
        question = [QUESTION, *encode(wording.question), ANSWER]
        rows.append(([*question, *encode(wording.answer), EOS], len(question), scene.as_row()))
    return rows


def _padded(rows: tuple[list[int], ...]) -> np.ndarray:
    array = np.zeros((len(rows), max(map(len, rows))), np.int16)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array


def _lengths(rows: tuple[list[int], ...]) -> np.ndarray:
    return np.array([len(row) for row in rows], np.int16)
