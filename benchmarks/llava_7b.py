"""Seconds per candidate at LLaVA-1.5-7B's shapes, with random weights: what a run takes on this GPU.

Builds a host and two Llama decoders of noise (41 GB in 16 bits, kept for the next time; nothing is downloaded), loads them as
`vlmerge evolve` does, and measures candidate after candidate: the merge in place, then 50 questions with a picture each (576
picture tokens and about 64 of text) and 64 new tokens, then the scores. Prefill is measured as the same questions with one new
token; decode is the rest.

    python benchmarks/llava_7b.py FOLDER                        the whole thing, on a GPU
    python benchmarks/llava_7b.py FOLDER --tiny --rounds 2      the same program at toy shapes, on any machine
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from llava_7b_checkpoints import REAL, TINY, Sizes, build
from timing import Clock, print_columns, print_table, take_turns, write_json
from torch import Tensor

from vlmerge.config.model_ref import ModelRef
from vlmerge.config.recipe import Recipe, parse_recipe
from vlmerge.merge import prepare
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.tasks import metric_named
from vlmerge.tasks.metrics import Scorer
from vlmerge.types import Decoding, Picture, Question

REFERENCE = "左に赤い自転車があり、右に白い犬が座っています。"


def main() -> None:
    options = arguments()
    sizes = TINY if options.tiny else REAL
    once: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        synchronise()
        start = time.perf_counter()
        result = work()
        synchronise()
        once[name] = time.perf_counter() - start
        print(f"{name}: {once[name]:.1f} s", flush=True)
        return result

    dtype = getattr(torch, options.dtype)
    paths = timed("build or find the checkpoints", lambda: build(options.folder, sizes, dtype))
    questions = invent_questions(options.questions, sizes.picture, options.text_tokens)
    prepared = timed("open and pair", lambda: prepare(recipe_of(paths, weights_of(0), options.dtype)))
    placement = choose_placement(device=options.device, batch_size=options.batch_size, host_dtype=options.dtype)
    live = timed("load host and parents", lambda: LiveModel.load(prepared, placement))
    one = Decoding(max_new_tokens=1)
    timed("picture features, tokens and first answers", lambda: list(live.answer(questions, one)))

    score = metric_named(options.metric).load()
    measured = take_turns(
        {"vlmerge": lambda turn, clock: candidate(live, paths, questions, score, options, turn, clock)},
        options.rounds,
        synchronise=synchronise,
    )
    whole = measured["vlmerge"]
    prefill = measured["vlmerge"]["steps"].pop("(prefill alone)")
    steps = whole["steps"]
    whole["steps"] = {"merge": steps["merge"], "prefill": prefill, "decode": steps["answer"] - prefill, "score": steps["score"]}
    whole["seconds"] = steps["merge"] + steps["answer"] + steps["score"]
    whole["spread"] = [total - prefill for total in whole["spread"]]
    memory = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
    floors = floors_of(live, questions, options.new_tokens, sizes) if torch.cuda.is_available() else {}
    agreed: dict[str, dict[str, int]] = {}
    if options.agreement:  # On the host's own weights: what `generate` answers with below.
        live.merge(recipe_of(paths, dict.fromkeys(paths, 0.0) | {"host": 1.0}, options.dtype))
        agreed["vlmerge"] = agreement(live, questions, options.new_tokens)

    if options.generate:
        del live
        free_memory()
        model, inputs = timed("load the host for `generate`", lambda: load_for_generate(paths["host"], questions, options))
        theirs = take_turns(
            {"generate, one batch": lambda _, clock: generate(model, inputs, options.new_tokens, clock)},
            options.rounds,
            synchronise=synchronise,
        )
        measured |= theirs
        if options.agreement:
            agreed["generate, one batch"] = own_agreement(model, inputs, options.new_tokens)
        few = [{name: tensor[row : row + 1] for name, tensor in inputs.items()} for row in range(options.one_by_one)]
        if few:
            alone = take_turns(
                {"one": lambda turn, clock: generate(model, few[turn % len(few)], options.new_tokens, clock)},
                len(few),
                synchronise=synchronise,
            )["one"]
            total = {name: len(questions) * alone[name] for name in ("seconds",)}
            spread = [len(questions) * each for each in alone["spread"]]
            name = f"generate, one by one ({len(few)} measured)"
            measured[name] = total | {"spread": spread, "steps": {"answer": total["seconds"]}, "rounds": alone["rounds"]}

    print(f"\n{len(questions)} questions, {options.new_tokens} new tokens, {options.dtype}, medians of {options.rounds}\n")
    print_table(measured, "vlmerge")
    if memory is not None:
        print(f"\nlargest memory on the device while vlmerge ran: {memory:.1f} GB")
    if floors:
        print("\nparts beside their floors, by what this device reached just now:\n")
        parts = [[name, f"{whole['steps'][name]:.3f}", f"{floor:.3f}", f"{whole['steps'][name] / floor:.2f}"]
                 for name, floor in floors["seconds"].items()]  # fmt: skip
        print_columns([["", "seconds", "floor", "× floor"], *parts])
        print(f"\ncopy {floors['bytes_per_second'] / 1e12:.2f} TB/s, matrix products {floors['flops'] / 1e12:.0f} TFLOP/s")
    for name, each in agreed.items():
        counted = f"{each['equal']} of {each['positions']} tokens are its own, {each['near_ties']} near ties"
        print(f"\n{name}, teacher-forced by transformers: {counted}")
    print()
    budget = [[f"{n} candidates", f"{n * whole['seconds'] / 60:.0f} min"] for n in (104, 200, 400)]
    print_columns([["a search of", "takes"], *budget])
    content = {
        "questions": len(questions),
        "new_tokens": options.new_tokens,
        "dtype": options.dtype,
        "tiny": options.tiny,
        "batch_size": placement.batch_size,
        "once": once,
        "variants": measured,
        "device_memory_gb": memory,
        "floors": floors,
        "agreement": agreed,
    }
    write_json(options.json, content)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the random checkpoints are, or will be (41 GB)")
    parser.add_argument("--tiny", action="store_true", help="toy shapes, to try the program out")
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16", help="of checkpoints and merge")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=50, help="questions that are answered together")
    parser.add_argument("--text-tokens", type=int, default=64, help="length of a question in tokens, about")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="measured candidates; the median counts")
    parser.add_argument("--metric", default="char_rougeL", help="rougeL and rougeL_ja need MeCab")
    parser.add_argument("--generate", action="store_true", help="time one batch through transformers' `generate` as well")
    parser.add_argument("--one-by-one", type=int, default=3, help="questions that are also asked alone, with --generate")
    parser.add_argument("--agreement", action="store_true", help="compare every token with transformers' own forward")
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    return parser.parse_args()


def synchronise() -> None:
    """Waits for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def free_memory() -> None:
    """Gives back what nothing refers to any more."""
    import gc

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def weights_of(turn: int) -> dict[str, float]:
    """Three weights that change from round to round."""
    return {"host": 0.5 + 0.01 * (turn % 5), "ja": 0.65, "base": -0.03}


def recipe_of(paths: dict[str, Path], weights: dict[str, float], dtype: str) -> Recipe:
    """A linear merge of the three models, or of some of them."""
    sources = [{"model": ModelRef(str(paths[name])), "parameters": {"weight": weight}} for name, weight in weights.items()]
    data = {"merge_method": "linear", "models": sources, "parameters": {"normalize": False}, "dtype": dtype}
    return parse_recipe(data, "benchmark")


def invent_questions(count: int, edge: int, tokens: int, seed: str = "") -> list[Question]:
    """Questions about pictures of noise, each about another one."""
    from PIL import Image

    generator = torch.Generator().manual_seed(1 + sum(seed.encode()))
    asked: list[Question] = []
    for number in range(count):
        pixels = torch.randint(0, 256, (edge, edge, 3), dtype=torch.uint8, generator=generator)
        data = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(data, "PNG")
        # The tokenizer has a token for every character; the template adds about twenty.
        text = (f"Question {number}: what can be seen in this picture? " * 3)[: max(1, tokens - 20)]
        picture = Picture(data=data.getvalue(), origin=f"noise {number}")
        asked.append(Question(str(number), "noise", text, (picture,), (REFERENCE,)))
    return asked


def candidate(
    live: LiveModel,
    paths: dict[str, Path],
    questions: Sequence[Question],
    score: Scorer,
    options: argparse.Namespace,
    turn: int,
    clock: Clock,
) -> None:
    """One candidate, its prefill measured once more on its own."""
    recipe = recipe_of(paths, weights_of(turn), options.dtype)
    with clock.step("merge"):
        live.merge(recipe)
    with clock.step("(prefill alone)"):
        list(live.answer(questions, Decoding(max_new_tokens=1)))
    with clock.step("answer"):
        answers = list(live.answer(questions, Decoding(max_new_tokens=options.new_tokens)))
    with clock.step("score"):
        for answer in answers:
            score(answer.text, [REFERENCE])


def floors_of(live: LiveModel, questions: Sequence[Question], new_tokens: int, sizes: Sizes) -> dict[str, Any]:
    """Seconds that each part takes at least, by the bandwidth and the matrix products that the device reaches now."""
    half, (rows, width, middle) = torch.float16, (16384, sizes.hidden, sizes.middle)
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    bandwidth = 2 * source.nbytes / fastest(lambda: target.copy_(source))
    left, right = (torch.randn(shape, dtype=half, device="cuda") for shape in ((rows, width), (width, 2 * middle)))
    flops = 2 * rows * width * 2 * middle / fastest(lambda: left @ right)
    decoder = live._decoder.body
    linears = sum(p.numel() for name, p in decoder.named_parameters() if p.dim() == 2 and "embed" not in name)
    head = live._decoder.head.weight.numel()
    encoded = live._encode(questions)
    tokens = [len(each.ids) for each in encoded]
    attended = sum(2 * 2 * width * n * n / 2 for n in tokens) * sizes.layers
    cache = sum(n + new_tokens / 2 for n in tokens) * 2 * sizes.layers * width * 2
    return {
        "bytes_per_second": bandwidth,
        "flops": flops,
        "seconds": {
            "merge": 4 * 2 * (linears + 2 * head) / bandwidth,
            "prefill": (2 * linears * sum(tokens) + attended) / flops,
            "decode": (new_tokens - 1) * (2 * (linears + head) + cache) / bandwidth,
        },
    }


def fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of some rounds."""
    found: list[float] = []
    for _ in range(8):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        found.append(time.perf_counter() - start)
    return min(found)


@torch.inference_mode()
def agreement(live: LiveModel, questions: Sequence[Question], new_tokens: int) -> dict[str, int]:
    """Every written token beside the one that transformers' forward of the same prompt and tokens would choose."""
    encoded = live._encode(questions)
    prefixes, rows = live._rows(list(questions), encoded)
    assert live._fused is not None, live.plain_because
    written = live._fused.greedy(prefixes, rows, new_tokens)
    counts = {"positions": 0, "equal": 0, "near_ties": 0}
    decoder = live._decoder
    for row, answer in zip(rows, written, strict=True):
        assert row.prefix is not None
        ids = torch.tensor([*row.suffix, *answer.ids], device=decoder.device)
        hidden = torch.cat([prefixes[row.prefix], decoder.embed(ids)])[None]
        states = decoder.body(inputs_embeds=hidden, use_cache=False).last_hidden_state[0, -len(answer.ids) - 1 : -1]
        count_agreement(decoder.head(states), torch.tensor(answer.ids, device=decoder.device), counts)
    return counts


def count_agreement(logits: Tensor, written: Tensor, counts: dict[str, int]) -> None:
    """Adds up how many tokens are the likeliest of logits [tokens, vocabulary].

    A near tie: another one is likelier, by at most two units in the last place.
    """
    best, chosen = logits.max(-1), logits.gather(-1, written[:, None])[:, 0]
    unit = torch.finfo(logits.dtype).eps * 2.0 ** best.values.abs().float().log2().floor()
    other = best.indices != written
    counts["positions"] += len(written)
    counts["equal"] += int((~other).sum())
    counts["near_ties"] += int((other & ((best.values - chosen).float() <= 2 * unit)).sum())


@torch.inference_mode()
def own_agreement(model: Any, inputs: Any, new_tokens: int) -> dict[str, int]:
    """The same of `generate`'s own answers, a batch of all questions: what rounding does to transformers beside itself."""
    length = inputs["input_ids"].shape[1]
    answers = model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)
    counts = {"positions": 0, "equal": 0, "near_ties": 0}
    for row, ids in enumerate(answers):
        kept = inputs["attention_mask"][row].bool()
        whole = torch.cat([ids[:length][kept], ids[length:]])[None]
        output = model(input_ids=whole, pixel_values=inputs["pixel_values"][row : row + 1], logits_to_keep=new_tokens + 1)
        count_agreement(output.logits[0, :-1], ids[length:], counts)
    return counts


def load_for_generate(path: Path, questions: Sequence[Question], options: argparse.Namespace) -> tuple[Any, Any]:
    """The host as transformers loads it, and one padded batch of all questions."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    device = options.device if options.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, options.dtype)
    processor: Any = AutoProcessor.from_pretrained(path)
    model: Any = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype).to(device).eval()
    turns = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}] for question in questions
    ]
    prompts = [processor.apply_chat_template(turn, add_generation_prompt=True) for turn in turns]
    pictures = [question.pictures[0].open() for question in questions]
    inputs = processor(text=prompts, images=pictures, return_tensors="pt", padding=True, padding_side="left")
    return model, inputs.to(device, dtype)


@torch.inference_mode()
def generate(model: Any, inputs: Any, new_tokens: int, clock: Clock) -> None:
    """What a careful user writes: greedy, pictures and all."""
    with clock.step("answer"):
        model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)


if __name__ == "__main__":
    main()
