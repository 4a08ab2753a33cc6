"""The small frozen values that travel between packages. No torch here."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.errors import TaskError

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = 1
"""Version of run.sqlite and results.json."""

Genome = tuple[float, ...]
"""Gene values in the space's own order."""


@dataclass(frozen=True)
class Picture:
    """A picture that can be opened again: a file, or its encoded bytes.

    Attributes:
        path: File of the picture, where it has one of its own.
        data: Encoded bytes (PNG, JPEG, …), where it came out of a table.
        origin: How to name it to a person (path, or row of a table).
    """

    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    origin: str = ""

    def open(self) -> Image:
        """Decodes to an RGB picture; raises TaskError if the bytes are not a picture."""
        from PIL import Image as PILImage
        from PIL import ImageOps

        try:
            source = self.path if self.data is None else io.BytesIO(self.data)
            if source is None:
                raise OSError("no file and no bytes")
            with PILImage.open(source) as opened:
                return ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
            raise TaskError(
                "a picture cannot be read",
                where=self.origin or str(self.path),
                expected="a whole PNG, JPEG, WebP or other file that Pillow opens",
                found=str(error),
                remedy="replace the file, or take its question out of the task",
            ) from error

    @cached_property
    def digest(self) -> str:
        """sha256 over size and decoded RGB pixels: the same picture in another file has the same digest."""
        image = self.open()
        return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


@dataclass(frozen=True)
class Question:
    """One question of a task.

    Attributes:
        id: Unique within its task.
        task: Name of the task.
        text: The question as the person wrote it; the runtime wraps it in the model's chat template.
        pictures: Pictures it is about, in order; empty for a text task.
        references: Reference answers, at least one.
        kind: Optional label to filter by (e.g. "count").
        ready: 0: see `text`. Above 0: `text` is the prompt itself, of which at most the last so many tokens are read; the
            model's own token stands in it for each picture.
        context: What a judge is told beside question and reference (what the picture shows, what to look for); the model never
            sees it.
    """

    id: str
    task: str
    text: str
    pictures: tuple[Picture, ...]
    references: tuple[str, ...]
    kind: str | None = None
    ready: int = 0
    context: str | None = None

    @cached_property
    def group(self) -> str:
        """What splits and bootstraps keep together: the decoded pixels, or the text where there is no picture."""
        if not self.pictures:
            return hashlib.sha256(self.text.encode()).hexdigest()
        if len(self.pictures) == 1:
            return self.pictures[0].digest
        return hashlib.sha256("".join(picture.digest for picture in self.pictures).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        question: The question that was asked.
        text: Decoded answer, special tokens left out, outer white space kept.
        tokens: Number of generated tokens, the end token included.
    """

    question: Question
    text: str
    tokens: int


@dataclass(frozen=True)
class Decoding:
    """How answers are generated. Stored with every score.

    Attributes:
        max_new_tokens: Longest answer, in tokens.
        num_beams: 1 is greedy (or sampling).
        temperature: 0 is greedy; above 0 samples.
        top_p: Nucleus of the sampling.
        repetition_penalty: 1 is none.
        seed: Seed of the sampling; starts at 1.
    """

    max_new_tokens: int = 128
    num_beams: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 1

    def describe(self) -> str:
        """One short phrase for tables, e.g. `greedy, at most 128 tokens`."""
        if self.num_beams > 1:
            how = f"{self.num_beams} beams"
        elif self.temperature > 0:
            how = f"sampling at temperature {self.temperature:g}, top-p {self.top_p:g}, seed {self.seed}"
        else:
            how = "greedy"
        penalty = "" if self.repetition_penalty == 1 else f", repetition penalty {self.repetition_penalty:g}"
        return f"{how}{penalty}, at most {self.max_new_tokens} tokens"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint, known from its header alone.

    Attributes:
        name: Name on disk.
        dtype: safetensors spelling: F16, BF16, F32, F64, I64, U8, BOOL, …
        shape: As stored.
        shard: File name within the checkpoint folder.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: str

    @property
    def bytes(self) -> int:
        """Size of its data in bytes."""
        size = DTYPE_BYTES[self.dtype]
        for extent in self.shape:
            size *= extent
        return size

    @property
    def is_float(self) -> bool:
        """Whether merging may touch it; integers and booleans are copied as they are."""
        return self.dtype in FLOAT_DTYPES


FLOAT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""safetensors spelling → torch's name."""

DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


def size(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {unit}"
    return f"{count} B"
