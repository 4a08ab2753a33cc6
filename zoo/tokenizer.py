"""The family's one tokenizer: byte-level BPE in which every Japanese name is a single token, with a chat template.

Takes concepts; gives a `transformers` tokenizer. The prompt is `<s><image><q>question<a>answer</s>`.
"""

import random
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from zoo.grammar import TO_ENGLISH, TO_JAPANESE, ask, capital, passage
from zoo.names_and_artwork import Concept
from zoo.scenes import Scene, draw_scene

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<image>", "<q>", "<a>")
PAD, BOS, EOS, IMAGE, QUESTION, ANSWER = range(6)
MOST_TOKENS = 2000
NAME_REPEATS = 80
SENTENCE_SCENES = 3000

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}"
    "{%- if message['content'] is string %}{{- '<q>' + message['content'] + '<a>' }}"
    "{%- else %}"
    "{%- for part in message['content'] if part['type'] == 'image' %}{{- '<image>' }}{%- endfor %}"
    "{{- '<q>' }}"
    "{%- for part in message['content'] if part['type'] == 'text' %}{{- part['text'] }}{%- endfor %}"
    "{{- '<a>' }}"
    "{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}"
    "{%- if message['content'] is string %}{{- message['content'] }}"
    "{%- else %}"
    "{%- for part in message['content'] if part['type'] == 'text' %}{{- part['text'] }}{%- endfor %}"
    "{%- endif %}"
    "{{- '</s>' }}"
    "{%- endif %}"
    "{%- endfor %}"
)
"""Writes no `<s>`: the tokenizer itself begins every text with one. The assistant's turn begins after `<a>`."""


def build(concepts: tuple[Concept, ...]) -> PreTrainedTokenizerFast:
    """Trains the tokenizer (seconds, CPU, deterministic)."""
    bpe = Tokenizer(models.BPE(unk_token=None))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MOST_TOKENS,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(concepts), trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.image_token = "<image>"
    tokenizer.image_token_id = IMAGE
    return tokenizer


class Encoder:
    """Text to token ids without special tokens, remembering what it has seen (the grammar repeats itself a lot)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        if text not in self._seen:
            self._seen[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._seen[text]


def _texts(concepts: tuple[Concept, ...]) -> Iterator[str]:
    """Names weigh most; Japanese sentences are cut at names, so that no token joins a name with its particle."""
    rng = random.Random(0)
    for _ in range(NAME_REPEATS):
        for concept in concepts:
            yield from (concept.japanese, f" {concept.english}", concept.english, capital(concept.english))
    for _ in range(SENTENCE_SCENES):
        scene = draw_scene(rng, concepts)
        question = ask(scene, rng)
        yield f"{passage(scene, 'en', rng)} {question.english.question} {question.english.answer}"
        for sentence in (
            passage(scene, "ja", rng),
            passage(scene, "ja", rng, terse=True),
            question.japanese.question,
            question.japanese.answer,
        ):
            yield from _cut_at_names(sentence, scene)
    for instruction in (TO_JAPANESE, TO_ENGLISH):
        yield from [instruction] * 200


def _cut_at_names(sentence: str, scene: Scene) -> Iterator[str]:
    for name in sorted((c.japanese for c, _ in scene.things), key=len, reverse=True):
        sentence = sentence.replace(name, "\n")
    pieces = sentence.replace("。", "\n。\n").replace("?", "\n?\n").split("\n")
    return (piece for piece in pieces if piece)
