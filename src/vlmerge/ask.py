"""One question to one model: the shortest way to see whether a merge is any good."""

from __future__ import annotations

import contextlib
import io
import os
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union, cast

from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CandidateFailure, CheckpointError, TaskError
from vlmerge.merge import prepare_models
from vlmerge.store import STORE_NAME
from vlmerge.types import Answer, Decoding, Picture, Question

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmerge.checkpoint import Progress
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.runtime.live import LiveModel

Shown: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image"]
"""A picture: a path, an http(s) address, encoded bytes, or a PIL picture."""

LARGEST_PICTURE = 64 << 20
"""Bytes that a picture on the web may have."""


def ask(
    model: str,
    pictures: Shown | Sequence[Shown] | None,
    question: str,
    decoding: Decoding,
    runtime: RuntimeSpec,
    *,
    template: str | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Asks a model about pictures.

    Args:
        model: A folder (a run folder stands for its winner) or a hub id.
        pictures: One, several in a list, or None for none.
        question: In any language.
        decoding: How the answer is generated.
        runtime: Where the model runs.
        template: `vicuna_v1` to force that prompt.
        progress: Told of bytes downloaded.

    Raises:
        TaskError: A picture that cannot be fetched or read.
        CheckpointError: A model that cannot be opened, or that cannot answer.
    """
    shown = pictures_of(pictures)  # Before the model is loaded, which takes longer.
    return answer(load_model(model, runtime, template=template, progress=progress), model, shown, question, decoding)


def answer(live: LiveModel, model: str, pictures: tuple[Picture, ...], question: str, decoding: Decoding) -> Answer:
    """The same of a model in memory; `model` is how the person named it."""
    asked = Question("ask", "ask", question, pictures, ("",))
    with failing_as_error(model):
        return next(live.answer([asked], decoding))


@contextlib.contextmanager
def failing_as_error(model: str) -> Generator[None]:
    """Outside a run nobody records a model's failure as data: it becomes an error that says what to do.

    Args:
        model: How the person named the model.

    Raises:
        CheckpointError: The model failed inside the block.
    """
    try:
        yield
    except CandidateFailure as failure:
        raise CheckpointError(
            "the model cannot answer",
            where=model,
            expected="finite weights, and memory for one question",
            found=failure.reason,
            remedy="merge or download the model again; short of memory, take `device` cpu or less `max_new_tokens`",
        ) from failure


def load_model(model: str, runtime: RuntimeSpec, *, template: str | None = None, progress: Progress | None = None) -> LiveModel:
    """Loads one checkpoint for asking.

    Args:
        model: A folder (a run folder stands for its winner) or a hub id.
        runtime: Where it runs.
        template: `vicuna_v1` to force that prompt.
        progress: Told of bytes downloaded.

    Raises:
        CheckpointError: A model that cannot be opened, or whose processor cannot be loaded.
    """
    from vlmerge.runtime.live import LiveModel, choose_placement
    from vlmerge.runtime.processors import require_processor
    from vlmerge.types import FLOAT_DTYPES

    ref = ModelRef.parse(_winner(model)).relative_to(Path.cwd())
    models = prepare_models([ref], progress=progress)
    require_processor(models.checkpoints[ref], models.anatomies[ref])
    host_dtype = FLOAT_DTYPES[models.anatomies[ref].dtypes[0]]
    placement = choose_placement(
        runtime.device,
        runtime.dtype,
        runtime.batch_size,
        runtime.threads,
        host_dtype=host_dtype,
        facts=models.anatomies[ref].facts,
    )
    return LiveModel.load_single(models, placement, template=template)


def pictures_of(given: Shown | Sequence[Shown] | None) -> tuple[Picture, ...]:
    """Pictures as Python has them: one, several in a list, or None for none; each can be read.

    Raises:
        TaskError: One cannot be fetched or read, or is no picture.
    """
    several = given if isinstance(given, list | tuple) else [] if given is None else [given]
    pictures = tuple(picture_of(each) for each in cast("Sequence[Shown]", several))
    for picture in pictures:
        picture.open()
    return pictures


def picture_of(given: Shown) -> Picture:
    """A picture as Python has it: a file, an http(s) address, encoded bytes, or a PIL picture.

    Raises:
        TaskError: It cannot be fetched, or is none of these.
    """
    if isinstance(given, str):
        return fetch_picture(given)
    if isinstance(given, os.PathLike):
        return fetch_picture(os.fspath(given))
    if isinstance(given, bytes):
        return Picture(data=given, origin=f"the {len(given)} bytes given")
    from PIL import Image as PILImage
    from PIL import ImageOps

    if not isinstance(given, PILImage.Image):  # pyright: ignore[reportUnnecessaryIsInstance] - people's notebooks are not typed
        raise TaskError(
            "this is no picture",
            where="image",
            expected="a path, an http(s) address, encoded bytes, or a PIL picture",
            found=type(given).__name__,
            remedy="PIL.Image.fromarray makes a picture of an array",
        )
    buffer = io.BytesIO()
    ImageOps.exif_transpose(given).convert("RGB").save(buffer, "PNG", compress_level=1)
    return Picture(data=buffer.getvalue(), origin="the picture given")


def fetch_picture(place: str) -> Picture:
    """A picture from a file or an http(s) address."""
    if not place.startswith(("http://", "https://")):
        path = Path(place).expanduser()
        if not path.is_file():
            raise TaskError(
                "there is no such picture", where=place, expected="a file or an http(s) address", remedy="check the path"
            )
        return Picture(path=path, origin=place)
    request = urllib.request.Request(place, headers={"User-Agent": "vlmerge"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            data = response.read(LARGEST_PICTURE + 1)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the answer that was refused, with its connection
        raise TaskError(
            "the picture cannot be fetched",
            where=place,
            found=str(getattr(error, "reason", error)),
            remedy="check the address, or download the picture and name the file",
        ) from error
    if len(data) > LARGEST_PICTURE:
        raise TaskError(
            "the picture is too large",
            where=place,
            expected=f"at most {LARGEST_PICTURE >> 20} MiB",
            remedy="download it and name a smaller copy",
        )
    return Picture(data=data, origin=place)


def _winner(model: str) -> str:
    folder = Path(model).expanduser()
    if not (folder / STORE_NAME).is_file():
        return model
    winner = folder / "model"
    if not winner.is_dir():
        raise CheckpointError(
            "this run has no winner yet",
            where=model,
            expected="a finished run",
            found="no folder `model` in it",
            remedy="run `vlmerge evolve` again to finish it, or `vlmerge export` one of its trials",
        )
    return str(winner)
