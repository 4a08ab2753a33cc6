"""A live model that is merged again in place and asked questions: nothing is read from disk per candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure, ConfigError
from vlmerge.methods.remembered import forget_eldest
from vlmerge.runtime.allocation import keep_freed_memory
from vlmerge.runtime.decode import Decoder, Enough, Row, greedy
from vlmerge.runtime.features import FeatureCache, Pictures
from vlmerge.runtime.fused import fuse
from vlmerge.runtime.generate import generate
from vlmerge.runtime.likelihood import Continuation, cut, likelihoods
from vlmerge.runtime.loaded import Loaded
from vlmerge.runtime.loading import load
from vlmerge.runtime.parents import Models, Parents
from vlmerge.runtime.prompts import Encoded, Prompter, read_by
from vlmerge.runtime.room import (
    MOST_FEATURES,
    MOST_ROWS,
    Machine,
    Room,
    free_host_memory,
    multiplies_bfloat16,
    needs_of,
    plan_room,
)
from vlmerge.runtime.tower import Pixels, Tower
from vlmerge.types import Answer, Decoding, Question

if TYPE_CHECKING:
    from vlmerge.anatomy.facts import Facts
    from vlmerge.config.recipe import Recipe
    from vlmerge.runtime.fused.greedy import FusedDecoder
    from vlmerge.runtime.harness import HarnessModel

ENCODED_AT_ONCE = 32
REMEMBERED_BATCHES = 1024
LOGITS_AT_ONCE = 1 << 28
"""Logits that are held together where continuations are read: 1 GB in float32."""
Prefix = tuple[tuple[int, ...], Pictures]
"""Token ids, and the pictures whose features fill their placeholders."""
HOLDS = {
    "float16": ("float16", "float32", "float64"),
    "bfloat16": ("bfloat16", "float32", "float64"),
    "float32": ("float32", "float64"),
    "float64": ("float64",),
}
"""dtype of merged weights → dtypes that hold every value of it."""


CPU_CACHE = 1 << 30
"""Bytes of host memory that the caches of a batch may take on a CPU, in float32."""
LONG_PROMPT = 1024
"""Tokens of a row that this reckons with, where the model reads as many."""
FEWEST_ROWS, MOST_CPU_ROWS = 4, 192


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs.

    Attributes:
        device: `cpu` or `cuda`.
        dtype: dtype of the live weights (torch's name). Merged weights are rounded to the recipe's output dtype before
            they get here, so that what is scored is what is exported.
        batch_size: Questions that are answered together.
        threads: CPU threads; None leaves torch's choice.
    """

    device: str
    dtype: str
    batch_size: int
    threads: int | None = None


def choose_placement(
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | str = "auto",
    threads: int | None = None,
    *,
    host_dtype: str,
    facts: Facts | None = None,
    models: Models | None = None,
    machine: Machine | None = None,
) -> Placement:
    """Turns `auto` into what this machine should do.

    Args:
        device: auto, cpu or cuda.
        dtype: auto (on a GPU the merge's own dtype; on a CPU float32, or bfloat16 where the merge is and the CPU multiplies
            matrices of it), or a torch dtype's name.
        batch_size: auto or a number.
        threads: CPU threads.
        host_dtype: dtype of the merged weights.
        facts: The host's decoder, by whose cache a CPU's batch size is chosen; None: a small batch.
        models: What will be loaded, by which a GPU's batch size is chosen, and how many layers a path may have; None: a batch
            of good size, and the host's layers.
        machine: What is free; None: what the device and the system say.

    Raises:
        ConfigError: A live dtype that cannot hold the merged weights: what is scored would not be what is exported.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and machine is None and not torch.cuda.is_available():
        raise ConfigError(
            "there is no GPU that torch can use",
            where="runtime.device",
            expected="a CUDA GPU, and a build of torch for it",
            found=f"torch {torch.__version__} sees none",
            remedy="device: auto, or cpu (on the command line --device auto)",
        )
    if dtype == "auto":
        dtype = _best_dtype(device, host_dtype)
    elif dtype not in HOLDS[host_dtype]:
        raise ConfigError(
            "live weights of this dtype would be rounded once more than the exported ones",
            where="runtime.dtype",
            expected=f"{' or '.join(HOLDS[host_dtype])}, which hold {host_dtype} weights",
            found=dtype,
            remedy="leave `dtype: auto`, or set the merge's `out_dtype` to the dtype that should be scored",
        )
    if batch_size == "auto":
        if device == "cpu":
            batch_size = _rows_for(facts, models)
        else:
            batch_size = MOST_ROWS if models is None else _room(models, dtype, None, machine).batch_size
    return Placement(device, dtype, int(batch_size), threads)


def _best_dtype(device: str, host_dtype: str) -> str:
    """What a device answers fastest in without another rounding of the weights.

    On a CPU float32, or bfloat16 where it has instructions for matrices of it (AMX: prompts are read four to six times as fast;
    with vectors of it alone, as AVX512 has them, more slowly). On a GPU the merge's own, or float16 for a card that reckons in
    bfloat16 by detours. A bfloat16 weight of ordinary size is a float16 number, too: what is scored is then what is exported
    but for weights below 2⁻¹⁴, of which the last bits are lost.
    """
    if device == "cpu":
        return "bfloat16" if host_dtype == "bfloat16" and multiplies_bfloat16() else "float32"
    if host_dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "float16"
    return host_dtype


def _room(models: Models, dtype: str, batch_size: int | None, machine: Machine | None) -> Room:
    """How a card is shared out between these models."""
    if machine is None:
        free, total = torch.cuda.mem_get_info()
        machine = Machine(free, free_host_memory(), total=total)
    width = getattr(torch, dtype).itemsize
    layers = models.pairing.layers
    needs = needs_of(models.checkpoints, models.anatomies, models.host, width, layers, scaled=models.scaled)
    return plan_room(needs, machine, batch_size)


def _rows_for(facts: Facts | None, models: Models | None) -> int:
    """As many rows as a CPU's share of memory holds caches for, of the longest path: small models gain by large batches."""
    if facts is None:
        return FEWEST_ROWS
    layers = facts.layers if models is None else max(facts.layers, models.pairing.layers)
    cache = 2 * layers * facts.kv_heads * facts.head_dim * 4 * min(facts.max_positions, LONG_PROMPT)
    return max(FEWEST_ROWS, min(MOST_CPU_ROWS, CPU_CACHE // cache))


class LiveModel:
    """A host in memory, its parents beside it, and its picture features computed once.

    Attributes:
        placement: Device, dtype, batch size and threads, as chosen.
        batch_size: Questions that are answered together; halved where memory runs out.
        prompter: Questions → token ids.
        whole_because: Why prompts are read whole, by the model's own `generate`; None where they are read in parts.
        plain_because: Why the fast way of a GPU is not taken; None where it is. What is merged into a path through layers never
            takes it.
    """

    def __init__(self, loaded: Loaded, placement: Placement, *, template: str | None = None, room: Room | None = None) -> None:
        self._model = loaded.model
        self._device = torch.device(placement.device)
        self.placement = placement
        self.batch_size = placement.batch_size
        self.whole_because = loaded.whole_because
        self.prompter = Prompter(
            loaded.processor,
            loaded.tokenizer,
            loaded.placeholder,
            template,
            loaded.bare,
            read_by(type(self._model)),
            loaded.cannot_ask,
        )
        self._tower = None if loaded.placeholder is None else Tower(self._model, self._device)
        self._features: FeatureCache | None = None
        if self._tower is not None:
            self._features = FeatureCache(self._tower, self._device, MOST_FEATURES if room is None else room.features)
        self._encoded: dict[tuple[str, Pictures, int], Encoded] = {}
        self._harness: HarnessModel | None = None
        self._prefix_ids: dict[tuple[Prefix, ...], tuple[Tensor, Tensor]] = {}
        self._decoder = _decoder(self._model, loaded.tokenizer, self._device)
        self._fused: FusedDecoder | None = None
        self.plain_because: str | None = "this is not a GPU"
        if self._device.type == "cuda" and self.whole_because is not None:
            self.plain_because = self.whole_because
        elif self._device.type == "cuda":
            self._fused, self.plain_because = fuse(self._decoder, None if room is None else room.read_at_once)
        self._parents: Parents | None = None

    @classmethod
    def load(
        cls, models: Models, placement: Placement, *, template: str | None = None, machine: Machine | None = None
    ) -> LiveModel:
        """Loads the host, and the tensors that its parents contribute, into memory.

        Args:
            models: Opened checkpoints with their anatomies, and which of them is the host.
            placement: Device, dtype, batch size, threads.
            template: `vicuna_v1` to force that prompt.
            machine: What is free; None: what the device and the system say.
        """
        on_card = torch.device(placement.device).type == "cuda"
        room = _room(models, placement.dtype, placement.batch_size, machine) if on_card else None
        live = cls.load_single(models, placement, template=template, room=room)
        homes = None if room is None else room.homes
        live._parents = Parents.read(models, live._model, torch.device(placement.device), homes)
        return live

    @classmethod
    def load_single(
        cls, models: Models, placement: Placement, *, template: str | None = None, room: Room | None = None
    ) -> LiveModel:
        """Loads the host alone: for asking it, not for merging."""
        if placement.threads:
            torch.set_num_threads(placement.threads)
        if placement.device == "cpu":
            keep_freed_memory()
        host = models.host
        loaded = load(
            models.checkpoints[host],
            models.anatomies[host],
            device=torch.device(placement.device),
            dtype=getattr(torch, placement.dtype),
        )
        return cls(loaded, placement, template=template, room=room)

    def merge(self, recipe: Recipe) -> None:
        """Merges in place.

        Args:
            recipe: A recipe over the models that were loaded.

        Raises:
            CandidateFailure: The merged weights are not finite.
        """
        if self._parents is None:
            raise RuntimeError("this live model was loaded without its parents")
        if self._merge(self._parents, recipe) or self._merge(self._parents, recipe):
            return
        raise CandidateFailure("out of memory while merging")

    def _merge(self, parents: Parents, recipe: Recipe) -> bool:
        """Merges; False where memory ran out, with all that can be made again given back."""
        try:
            changed = parents.merge_into_host(recipe)
            if changed and self._features is not None:
                self._features.forget()
            self._decoder = replace(self._decoder, layers=parents.path.layers)
            return True
        except torch.cuda.OutOfMemoryError:
            pass  # Outside of the handler nothing holds on to what was being made.
        parents.give_back()
        self._give_back()
        return False

    def _give_back(self) -> None:
        if self._fused is not None:
            self._fused.give_back()
        self._prefix_ids.clear()
        torch.cuda.empty_cache()

    @property
    def _walks(self) -> bool:
        """Whether the layers are a path, which the fast way of a GPU, laid out once over the host's own layers, cannot read."""
        return self._parents is not None and self._parents.path.walked

    def prompt(self, question: Question) -> str:
        """The prompt as text, as the model gets it."""
        return self.prompter.text(question)

    def lm_eval(self) -> Any:
        """This model as lm-eval's model object (`harness.py`), which keeps what does not depend on weights. Needs lm-eval."""
        if self._harness is None:
            from vlmerge.runtime.harness import HarnessModel

            self._harness = HarnessModel(self)
        return self._harness

    @property
    def most_positions(self) -> int | None:
        """Tokens that the decoder reads at most, as its config says."""
        config = self._model.config
        found = getattr(getattr(config, "text_config", None) or config, "max_position_embeddings", None)
        return None if found is None else int(found)

    def answer(
        self,
        questions: Sequence[Question],
        decoding: Decoding,
        progress: Callable[[int], None] | None = None,
        enough: Enough | None = None,
    ) -> Iterator[Answer]:
        """Answers questions, batch by batch, in their order but for those about the same pictures, which follow each other.

        Args:
            questions: What to ask.
            decoding: How to generate.
            progress: Told the number of answers after each batch.
            enough: Whether an answer is long enough before its end; it may be a little longer.

        Raises:
            CandidateFailure: Non-finite logits, or out of memory with a single question or picture.
        """
        encoded = self._encode_or_fail(questions)
        for batch in self._batches(list(range(len(questions))), questions):
            asked = [questions[place] for place in batch]
            yield from self._answer_batch(asked, [encoded[place] for place in batch], decoding, enough)
            if progress is not None:
                progress(len(batch))

    def encode(self, questions: Sequence[Question]) -> list[tuple[int, ...]]:
        """Token ids of prompts; features of their pictures are kept.

        Raises:
            CandidateFailure: Out of memory with a single picture.
        """
        return [encoded.ids for encoded in self._encode_or_fail(questions)]

    def likelihoods(
        self, continuations: Sequence[Continuation], progress: Callable[[int], None] | None = None
    ) -> list[tuple[float, bool]]:
        """How likely continuations are; what is read alike is read once.

        Args:
            continuations: Of prompts that were encoded here before, where they have pictures.
            progress: Told the number of continuations after each batch.

        Returns:
            For each the sum of its tokens' log-probabilities, and whether each of them is the likeliest.

        Raises:
            CandidateFailure: Non-finite logits, or out of memory with a single prompt.
        """
        alike: dict[tuple[tuple[int, ...], Pictures], list[int]] = {}
        for place, one in enumerate(continuations):
            alike.setdefault((one.read, one.pictures), []).append(place)
        results: list[tuple[float, bool]] = [(0.0, False)] * len(continuations)
        # The longest first, so that a batch is of one length; those with pictures apart.
        order = sorted(alike, key=lambda key: (not key[1], len(key[1]), -len(key[0]), key[0]))
        while order:
            batch = order[: self._rows_at_once(order, continuations, alike)]
            order = order[len(batch) :]
            places = [place for key in batch for place in alike[key]]
            found = self._read_batch([[continuations[place] for place in alike[key]] for key in batch])
            for place, one in zip(places, found, strict=True):
                results[place] = one
            if progress is not None:
                progress(len(places))
        return results

    # ── inside ──

    def _batches(self, places: list[int], questions: Sequence[Question]) -> Iterator[list[int]]:
        """Batches of at most batch_size; text questions and picture questions apart, those about the same pictures together.

        The size may shrink on the way.
        """
        first: dict[Pictures, int] = {}
        kinds: dict[int, list[int]] = {}
        for place in places:
            pictures = _key(questions[place])[1]
            first.setdefault(pictures, place)
            # What tokens before a picture get by cross-attention depends on how many pictures there are, missing ones too.
            apart = len(pictures) if self._tower is not None and self._tower.crossing else bool(pictures)
            kinds.setdefault(apart, []).append(place)
        for count in sorted(kinds, reverse=True):
            kind = sorted(kinds[count], key=lambda place: first[_key(questions[place])[1]]) if count else kinds[count]
            start = 0
            while start < len(kind):
                size = self.batch_size
                yield kind[start : start + size]
                start += size

    def _rows_at_once(
        self,
        order: Sequence[tuple[tuple[int, ...], Pictures]],
        continuations: Sequence[Continuation],
        alike: Mapping[tuple[tuple[int, ...], Pictures], list[int]],
    ) -> int:
        """How many of the first prompts are read together: with the same number of pictures, and logits that fit in memory."""
        rows = 0
        most = self._model.config.get_text_config().vocab_size
        for read, pictures in order[: self.batch_size]:
            longest = max(len(continuations[place].wanted) for place in alike[read, pictures])
            span = longest + len(order[0][0]) - len(read)
            if rows and (len(pictures) != len(order[0][1]) or (rows + 1) * span * most > LOGITS_AT_ONCE):
                break
            rows += 1
        return rows

    def _read_batch(self, rows: list[list[Continuation]]) -> list[tuple[float, bool]]:
        """Likelihoods of a batch: of each row the continuations that are read alike."""
        try:
            pictures = [row[0].pictures for row in rows if row[0].pictures]
            seen = [self._features.get(shown) for shown in pictures] if self._features is not None else []
            prompts = [self._continued(row[0]) for row in rows]
            wanted = [[one.wanted for one in row] for row in rows]
            return likelihoods(self._model, self._tower, self.prompter, prompts, wanted, seen)
        except torch.cuda.OutOfMemoryError as error:
            if len(rows) == 1:
                raise CandidateFailure("out of memory with a single prompt") from error
        self._give_back()
        self.batch_size = half = max(1, len(rows) // 2)
        return self._read_batch(rows[:half]) + self._read_batch(rows[half:])

    def _continued(self, one: Continuation) -> Encoded:
        """What is read of a continuation, with what its prompt's processor said."""
        if one.prompt is None:
            return Encoded(text="", ids=one.read, prefix=0)
        known = self._encoded[_key(one.prompt)]
        return replace(known, ids=one.read, by_token={name: cut(each, len(one.read)) for name, each in known.by_token.items()})

    def _answer_batch(
        self, questions: list[Question], encoded: list[Encoded], decoding: Decoding, enough: Enough | None = None
    ) -> list[Answer]:
        try:
            return self._generate(questions, encoded, decoding, enough)
        except torch.cuda.OutOfMemoryError as error:
            if len(questions) == 1:
                raise CandidateFailure("out of memory with a single question") from error
        self._give_back()
        self.batch_size = max(1, len(questions) // 2)
        half = len(questions) // 2
        first = self._answer_batch(questions[:half], encoded[:half], decoding, enough)
        return first + self._answer_batch(questions[half:], encoded[half:], decoding, enough)

    def _generate(
        self, questions: list[Question], encoded: list[Encoded], decoding: Decoding, enough: Enough | None = None
    ) -> list[Answer]:
        plain = decoding.num_beams == 1 and decoding.temperature == 0 and decoding.repetition_penalty == 1
        if self.whole_because is not None or not plain:
            shown = [_key(one)[1] for one in questions if one.pictures]
            seen = [self._features.get(pictures) for pictures in shown] if self._features is not None else []
            written = generate(self._model, self._tower, self.prompter, encoded, seen, decoding, self._decoder.ends, enough)
        else:
            prefixes, rows = self._rows(questions, encoded)
            if self._fused is not None and not self._walks:
                written = self._fused.greedy(prefixes, rows, decoding.max_new_tokens, enough)
            else:
                written = greedy(self._decoder, prefixes, rows, decoding.max_new_tokens, enough)
        decode = self.prompter.tokenizer.decode
        return [
            Answer(question, decode(list(answer.ids), skip_special_tokens=True), len(answer.ids) + answer.ended)
            for question, answer in zip(questions, written, strict=True)
        ]

    @torch.inference_mode()
    def _rows(self, questions: list[Question], encoded: list[Encoded]) -> tuple[list[Tensor], list[Row]]:
        """Splits prompts into shared prefixes (embedded, with their pictures' features in place) and the rest."""
        known: dict[Prefix, int] = {}
        rows: list[Row] = []
        for question, prompt in zip(questions, encoded, strict=True):
            if not prompt.prefix:
                rows.append(Row(None, prompt.ids))
                continue
            prefix = (prompt.ids[: prompt.prefix], _key(question)[1])
            rows.append(Row(known.setdefault(prefix, len(known)), prompt.ids[prompt.prefix :]))
        return self._embed_prefixes(tuple(known)) if known else [], rows

    def _embed_prefixes(self, prefixes: tuple[Prefix, ...]) -> list[Tensor]:
        """All prefixes of a batch at once: the host asks nothing back of the device, and sends indices once per run."""
        if prefixes not in self._prefix_ids:
            tokens = torch.tensor([token for ids, _ in prefixes for token in ids])
            holes = tokens == self.prompter.placeholder
            # A placeholder may lie beyond the embedding (the original LLaVA layout has no row for it).
            found = tokens.masked_fill(holes, 0).to(self._device), holes.nonzero()[:, 0].to(self._device)
            forget_eldest(self._prefix_ids, REMEMBERED_BATCHES)
            self._prefix_ids[prefixes] = found
        tokens, holes = self._prefix_ids[prefixes]
        embedded = self._decoder.embed(tokens)
        assert self._features is not None
        pictures = torch.cat([self._features.get(shown).rows for _, shown in prefixes])
        embedded.index_copy_(0, holes, pictures.to(embedded.dtype))
        ends = list(accumulate(len(ids) for ids, _ in prefixes))
        return [embedded[end - len(ids) : end] for end, (ids, _) in zip(ends, prefixes, strict=True)]

    def _encode_or_fail(self, questions: Sequence[Question]) -> list[Encoded]:
        try:
            return self._encode(questions)
        except torch.OutOfMemoryError as error:
            raise CandidateFailure("out of memory with a single picture") from error

    def _encode(self, questions: Sequence[Question]) -> list[Encoded]:
        """Tokenises questions and computes features of their pictures, each once."""
        missing = [question for question in questions if not self._knows(question)]
        for start in range(0, len(missing), ENCODED_AT_ONCE):
            shown: dict[Pictures, Pixels] = {}
            for question in missing[start : start + ENCODED_AT_ONCE]:
                key = _key(question)
                self._encoded[key], pixels = self.prompter.encode(question)
                if pixels:
                    shown[key[1]] = pixels
            if self._features is not None:
                self._features.compute(list(shown), list(shown.values()))
        return [self._encoded[_key(question)] for question in questions]

    def _knows(self, question: Question) -> bool:
        key = _key(question)
        return key in self._encoded and (not key[1] or (self._features is not None and key[1] in self._features))


def _key(question: Question) -> tuple[str, Pictures, int]:
    """What a prompt depends on. Names and ids may repeat between the sets of a run."""
    return question.text, tuple(picture.digest for picture in question.pictures), question.ready


def _decoder(model: Any, tokenizer: Any, device: torch.device) -> Decoder:
    body = model.get_decoder()
    ends = model.generation_config.eos_token_id
    if ends is None and tokenizer is not None:
        ends = tokenizer.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return Decoder(
        body=body,
        head=model.get_output_embeddings(),
        embed=model.get_input_embeddings(),
        layers=body.config.num_hidden_layers,
        ends=tuple(ends),
        device=device,
    )
