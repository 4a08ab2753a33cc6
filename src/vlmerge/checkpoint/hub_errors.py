"""What the hub's client raises, said for the person: what happened, at which model, what to do now."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.checkpoint.layout import ADAPTER_CONFIG, CONFIG
from vlmerge.config.problems import nearest
from vlmerge.errors import CheckpointError

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef


@contextlib.contextmanager
def explained(ref: ModelRef, first: str = CONFIG) -> Generator[None]:
    """Turns what the hub's client raises inside the block into a CheckpointError about `ref`, of which `first` was wanted."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, SafetensorsParsingError

    # The client's exceptions for a broken connection derive from its HTTP library's base class, which has changed its package
    # between versions of the client: taken from a class that is there in all of them.
    transport: type[BaseException] = HfHubHTTPError.__mro__[1]
    # The client logs every try again; the error tells what came of them.
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    except HFValidationError as error:
        raise no_such_folder(ref) from error
    except SafetensorsParsingError as error:
        raise CheckpointError(
            "the header of a weight file on the hub is damaged",
            where=str(ref),
            found=str(error),
            remedy="choose another revision of the model",
        ) from error
    except (OSError, transport) as error:
        raise _explain(ref, error, first) from error
    finally:
        client.setLevel(level)


def no_such_folder(ref: ModelRef) -> CheckpointError:
    """A path, or a name that no hub id can have, and no folder there."""
    path = Path(ref.path).expanduser().absolute()
    beside = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir()) if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    return CheckpointError(
        "there is no such folder",
        where=str(ref),
        expected="a model's folder that exists, or a hub id (`org/name`; `org/name@main` if a folder `org` lies here too)",
        found=f"nothing of that name in {path.parent}" if path.parent.is_dir() else f"not even the folder {path.parent}",
        remedy=f"did you mean `{near}`?"
        if near
        else "check the path; in a YAML file it is relative to that file, elsewhere to the working directory",
    )


def offline(ref: ModelRef) -> CheckpointError:
    """Not in the cache while the network is switched off."""
    from huggingface_hub import constants

    return CheckpointError(
        "the model is not whole in the hub's cache, and downloads are switched off",
        where=str(ref),
        expected=f"the model in {constants.HF_HUB_CACHE}",
        found=("HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "only the cache was to be used")
        + "; there is no such folder either",
        remedy=f"unset HF_HUB_OFFLINE, or download it first: hf download {ref.path}"
        + (f" --revision {ref.revision}" if ref.revision else ""),
    )


def _explain(ref: ModelRef, error: BaseException, first: str) -> CheckpointError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None else error
    page = f"{constants.ENDPOINT}/{ref.path}"
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    if isinstance(cause, GatedRepoError):
        return CheckpointError(
            "the model is gated: its owner wants the licence to be accepted first",
            where=str(ref),
            expected="a token of an account that was given access",
            found=_token(),
            remedy=f"accept the licence at {page}, then run `hf auth login` or set HF_TOKEN, and run again",
        )
    if isinstance(cause, RepositoryNotFoundError):
        return CheckpointError(
            "the hub has no such model, or it is private",
            where=str(ref),
            expected=f"a model at {page}",
            found=f"nothing there with {_token()}; there is no such folder either",
            remedy="check the name; for a private model run `hf auth login` or set HF_TOKEN",
        )
    if isinstance(cause, RevisionNotFoundError):
        return CheckpointError(
            "the model has no such revision",
            where=str(ref),
            expected=f"a branch, tag or commit of {page}",
            found=ref.revision or constants.DEFAULT_REVISION,
            remedy="leave the revision out, or take one from the model's page",
        )
    if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
        kind = "an adapter of peft" if first == ADAPTER_CONFIG else "a model of transformers"
        return CheckpointError(
            "a file of the model is not on the hub",
            where=str(ref),
            expected=f"{kind}: {first} and its weights",
            found=str(cause).strip().splitlines()[-1],
            remedy=f"look at {page}/tree/main: is it {kind}?",
        )
    if status in (401, 403):
        return CheckpointError(
            "the hub refused access to the model",
            where=str(ref),
            expected="a token that may read it",
            found=f"HTTP {status}, with {_token()}",
            remedy=f"run `hf auth login` or set HF_TOKEN to a token that may read {page}, then run again",
        )
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return CheckpointError(
            "the disk is full",
            where=constants.HF_HUB_CACHE,
            remedy="free some space, or set HF_HOME to a larger disk; finished files are kept, run again to go on",
        )
    if constants.is_offline_mode():
        return offline(ref)
    return CheckpointError(
        "the model could not be fetched from the hub",
        where=str(ref),
        expected=f"an answer from {constants.ENDPOINT}",
        found=(f"HTTP {status}" if status else f"{type(cause).__name__}: {cause}".splitlines()[0])
        + "; there is no such folder either",
        remedy="check the name (a local path in a YAML file is relative to that file) and the network, and run again: files "
        "that are finished are not downloaded twice",
    )


def _token() -> str:
    from huggingface_hub import get_token

    return "a token that has no access" if get_token() else "no token"
