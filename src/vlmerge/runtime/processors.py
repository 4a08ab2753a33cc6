"""The processor of a checkpoint, which it needs to be asked, not to be merged: loaded, or what it lacks in one sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.errors import CheckpointError

if TYPE_CHECKING:
    from vlmerge.anatomy import Anatomy
    from vlmerge.checkpoint.headers import Headers

LOCAL_ONLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""One of them at least has every VLM that transformers can ask."""


def lacks_processor(path: Path) -> bool:
    """Whether a VLM's folder has none of the files that a processor is made of. Without loading anything."""
    return not any((path / name).is_file() for name in PROCESSOR_FILES)


def require_processor(host: Headers, anatomy: Anatomy) -> None:
    """Refuses a model that questions could not be put to. Its weights need not be here.

    The original LLaVA layout has its processor from its vision tower; what it lacks is told when that is opened.

    Raises:
        CheckpointError: Files are missing, or a class cannot be loaded.
    """
    if anatomy.is_vlm and not anatomy.family.original_llava:
        load_processor(host.path)


def load_processor(path: Path) -> Any:
    """transformers' processor of a VLM, from local files only.

    Raises:
        CheckpointError: Files are missing, or a class cannot be loaded.
    """
    import transformers as untyped

    transformers: Any = untyped
    if lacks_processor(path):
        raise _refused(
            path,
            f"no {' and no '.join(PROCESSOR_FILES)}",
            "copy the files from the repository that the model comes from, or from the model that it was trained from",
        )
    transformers.utils.logging.set_verbosity_error()
    remedy = "check that its tokenizer and processor files are all there"
    if importlib.util.find_spec("torchvision") is None:
        remedy = f"install torchvision, which the processors of some families need; else {remedy}"
    try:
        processor = transformers.AutoProcessor.from_pretrained(path, **LOCAL_ONLY)
    except Exception as error:  # Whatever it may be: without torchvision some are an AttributeError somewhere inside.
        lines = str(error).strip().splitlines()
        raise _refused(path, f"{type(error).__name__}: {lines[0] if lines else 'no message'}", remedy) from error
    if not hasattr(processor, "tokenizer"):
        raise _refused(path, f"a {type(processor).__name__} alone", remedy)
    return processor


def _refused(path: Path, found: str, remedy: str) -> CheckpointError:
    return CheckpointError(
        "the model can be merged but not be asked: transformers cannot load its processor",
        where=str(path),
        expected="tokenizer and processor files, and the libraries that their classes need",
        found=found,
        remedy=remedy,
    )
