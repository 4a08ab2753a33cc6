"""The live model as lm-evaluation-harness's model object: its tasks ask whatever is merged at the moment.

Prompts are tokenised as lm-eval's own `hf` and `hf-multimodal` models do it, so that scores on the same weights are the same.
Token ids are kept for the run, for they do not depend on weights; answers never are.

Import this module only where lm-eval is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from vlmerge.errors import TaskError
from vlmerge.runtime.likelihood import Continuation
from vlmerge.tasks.generation import cut_at, decoding_of
from vlmerge.types import Picture, Question

if TYPE_CHECKING:
    from vlmerge.runtime.live import LiveModel

_TemplateLM: Any = import_module("lm_eval.api.model").TemplateLM
PICTURE = "<image>"
"""What stands for a picture in the texts of lm-eval's tasks."""
LONGEST = 2048
"""Tokens that a model reads whose config does not say; lm-eval's own number."""
Pair = tuple[str, str]


class HarnessModel(_TemplateLM):
    """A live model, as lm-eval's `Task`s and its `evaluate` see it.

    Args:
        live: The model; whatever is merged into it is what answers.

    Attributes:
        MULTIMODAL: Whether it sees.
    """

    backend = "causal"

    def __init__(self, live: LiveModel) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - lm-eval's class is known when it is there
        self._live = live
        self._prompter = live.prompter
        if self._prompter.cannot_ask is not None:
            raise self._prompter.cannot_ask
        self.tokenizer = self._prompter.tokenizer
        self.MULTIMODAL = self._prompter.processor is not None
        self._device = live.placement.device
        self._rendered: set[str] = set()
        self._pairs: dict[Pair, tuple[list[int], list[int]]] = {}

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without context."""
        first: int | None = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else first

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at most."""
        return self._live.most_positions or LONGEST

    @property
    def max_gen_toks(self) -> int:
        """Longest answer where a task does not say."""
        return 256

    @property
    def tokenizer_name(self) -> str:
        """For messages; no cache is named after it."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text; the tokenizer adds its beginning where the text has none, unless it is told otherwise."""
        first = self.tokenizer.decode(self.prefix_token_id)
        if add_special_tokens is None and string.startswith(first):
            add_special_tokens = False
        how = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, **how)

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The host's chat template around messages; `<image>` in them becomes a part of its own.

        Raises:
            TaskError: The host has no chat template.
        """
        renderer = self._prompter.processor or self.tokenizer
        if not getattr(renderer, "chat_template", None):
            raise TaskError(
                "a task wants a chat template, and the host has none",
                where=self.tokenizer_name,
                expected="a checkpoint with a chat template",
                remedy="write `apply_chat_template: false`",
            )
        messages: Any = [dict(each) for each in chat_history]
        if self._prompter.processor is not None:
            messages = [{**each, "content": _parts(each["content"])} for each in messages]
        how = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        try:
            text = str(renderer.apply_chat_template(messages, tokenize=False, **how))
        except import_module("jinja2").exceptions.TemplateError:
            # Some templates refuse a system message.
            left = [each for each in messages if each["role"] != "system"]
            text = str(renderer.apply_chat_template(left, tokenize=False, **how))
        self._rendered.add(text)
        return text

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002 - lm-eval's
        """Answers (context, arguments of generation[, pictures]) requests; see `answers`."""
        return [text for text, _ in self.answers(requests)]

    def answers(self, requests: Sequence[Any], progress: Callable[[int], None] | None = None) -> list[tuple[str, int]]:
        """Texts, cut at the first text that stops them, and how many tokens were written for each.

        Args:
            requests: lm-eval's instances.
            progress: Told the number of answers after each batch.

        Raises:
            CandidateFailure: The model failed.
            TaskError: Arguments of generation that are not known here, or a prompt that leaves no room.
        """
        alike: dict[Any, list[int]] = {}
        for place, request in enumerate(requests):
            how = decoding_of(request.args[1], self.max_gen_toks)
            alike.setdefault(how, []).append(place)
        found: dict[int, tuple[str, int]] = {}
        end = self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)
        for (decoding, stops), places in alike.items():
            room = self.max_length - decoding.max_new_tokens
            if room <= 0:
                raise TaskError(
                    "a task asks for longer answers than the model reads",
                    where=f"task {requests[places[0]].task_name}, `max_gen_toks`",
                    expected=f"fewer than {self.max_length} tokens",
                    found=str(decoding.max_new_tokens),
                    remedy="lower `max_gen_toks` in the task's YAML",
                )
            asked = [self._question(requests[place], place, room) for place in places]
            for answer in self._live.answer(asked, decoding, progress, self._enough(stops)):
                found[int(answer.question.id)] = (cut_at(answer.text, (*stops, end)), answer.tokens)
        return [found[place] for place in range(len(requests))]

    def loglikelihood(
        self,
        requests: Sequence[Any],
        disable_tqdm: bool = False,  # noqa: ARG002 - lm-eval's
        progress: Callable[[int], None] | None = None,
    ) -> list[tuple[float, bool]]:
        """Of (context, continuation[, pictures]) requests the log-probability, and whether greedy decoding would say it.

        Raises:
            CandidateFailure: The model failed.
        """
        return self._live.likelihoods([self._continuation(request) for request in requests], progress)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002 - lm-eval's
        """Log-probabilities of whole texts, read in windows that do not overlap in what they predict."""
        tools: Any = import_module("lm_eval.utils")
        windows: list[Continuation] = []
        owners: list[int] = []
        for place, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in tools.get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1):
                context, wanted = tools.make_disjoint_window(window)
                windows.append(self._read(context, wanted))
                owners.append(place)
        sums = [0.0] * len(requests)
        for owner, (likelihood, _) in zip(owners, self._live.likelihoods(windows), strict=True):
            sums[owner] += likelihood
        return sums

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any) -> list[tuple[float, bool]]:
        return self._live.likelihoods([self._read(context, wanted) for _, context, wanted in requests])

    # ── inside ──

    def _question(self, request: Any, place: int, room: int) -> Question:
        text, pictures = self._shown(request)
        return Question(str(place), str(request.task_name), text, pictures, (), ready=room)

    def _shown(self, request: Any, continuation: str = "") -> tuple[str, tuple[Picture, ...]]:
        """A prompt with the model's own tokens for its pictures, and these."""
        text: str = request.args[0]
        pictures: tuple[Picture, ...] = tuple(request.args[-1]["visual"]) if len(request.args) > 2 else ()
        if pictures and text not in self._rendered:
            text = text.replace(PICTURE, self._prompter.picture_token)
        return text + continuation, pictures

    def _enough(self, stops: tuple[str, ...]) -> Callable[[Sequence[int]], bool] | None:
        """Whether one of the texts that stop an answer is in it; looked for at its end first, where it would come."""
        wanted = tuple(stop for stop in stops if stop)
        if not wanted:
            return None
        # A character may be several tokens, three bytes of them as a rule.
        window = 4 + 4 * max(map(len, wanted))
        decode = self.tokenizer.decode

        def enough(ids: Sequence[int]) -> bool:
            last = decode(list(ids[-window:]), skip_special_tokens=True)
            if not any(stop in last for stop in wanted):
                return False
            return any(stop in decode(list(ids), skip_special_tokens=True) for stop in wanted)

        return enough

    def _continuation(self, request: Any) -> Continuation:
        context, continuation = request.args[:2]
        if len(request.args) > 2:
            return self._seen_continuation(request, context, continuation)
        pair = (context, continuation)
        if pair not in self._pairs:
            self._pairs[pair] = self._encoded(context, continuation)
        return self._read(*self._pairs[pair])

    def _encoded(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context:
            return cast("tuple[list[int], list[int]]", self._encode_pair(context, continuation))
        wanted = self.tok_encode(continuation, add_special_tokens=False)
        if wanted[0] == self.prefix_token_id:
            return wanted[:1], wanted[1:]
        return [self.prefix_token_id], wanted

    def _read(self, context: Sequence[int], wanted: Sequence[int]) -> Continuation:
        """Cut on the left to what the model reads."""
        both = [*context, *wanted][-(self.max_length + 1) :]
        return Continuation(tuple(both[:-1]), tuple(wanted))

    def _seen_continuation(self, request: Any, context: str, continuation: str) -> Continuation:
        """The same split as without pictures: what the whole has beyond its context."""
        white = len(context) - len(context.rstrip())
        whole, pictures = self._shown(request, continuation)
        alone = whole[: len(whole) - len(continuation) - white]
        asked = [Question("", str(request.task_name), text, pictures, (), ready=self.max_length + 1) for text in (whole, alone)]
        ids, before = self._live.encode(asked)
        digests = tuple(picture.digest for picture in pictures)
        return Continuation(ids[:-1], ids[len(before) :], digests, asked[0])


def _parts(content: str) -> list[dict[str, str]]:
    """A message's text with `<image>` in it, as parts."""
    pieces = content.split(PICTURE)
    parts: list[dict[str, str]] = []
    for place, piece in enumerate(pieces):
        if place:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts
