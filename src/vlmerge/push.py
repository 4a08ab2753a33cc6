"""A model that vlmerge wrote, onto the hub: not where licences forbid it, in one commit, and looked at again there."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlmerge.checkpoint import open_checkpoint
from vlmerge.config.bounded_yaml import YamlRefusal, load_bounded
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError, RunFolderError
from vlmerge.export import MODEL_FOLDER
from vlmerge.licences import Duty, duties, verdict
from vlmerge.merge import RECIPE_NAME
from vlmerge.report import CARD, MERGED_LICENCES
from vlmerge.run_folder import readable_store
from vlmerge.store import STORE_NAME, Store
from vlmerge.types import size

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

MAIN = "main"
STALE = ("model", "pytorch_model", "adapter_model", "consolidated")
"""How names of weight files begin: those in the repository that are not of this model would be read in its place."""
WEIGHTS = (".safetensors", ".bin", ".safetensors.index.json", ".bin.index.json", ".pt", ".pth")


@dataclass(frozen=True)
class Parcel:
    """What is about to go.

    Attributes:
        folder: The checkpoint.
        files: Its files, relative, sorted.
        bytes: Their size.
        duties: What the licences of its parents ask.
    """

    folder: Path
    files: tuple[str, ...]
    bytes: int
    duties: tuple[Duty, ...]

    def lines(self) -> list[str]:
        """For a terminal: files, and what the licences ask."""
        asked = [f"licences: {duty.line()}" for duty in self.duties]
        return [f"{len(self.files)} files, {size(self.bytes)}: {self.folder}", f"licences: {verdict(self.duties)}", *asked]


@dataclass(frozen=True)
class Pushed:
    """What is on the hub.

    Attributes:
        address: Of the commit.
        repository: Its full id.
        commit: Hash.
        files: Number of files that were found there, each with the contents of this disk.
        removed: Weight files of another model that were there, and are not in this commit.
    """

    address: str
    repository: str
    commit: str
    files: int
    removed: tuple[str, ...]


def pack(folder: Path, *, private: bool = False, licence_checked: bool = False) -> Parcel:
    """Looks at what is to be pushed; asks nobody.

    Args:
        folder: A run folder (its winner), or a checkpoint that vlmerge wrote.
        private: Whether only its maker will see it.
        licence_checked: The person has read the licences and takes it upon themselves.

    Raises:
        RunFolderError: The run is not finished.
        CheckpointError: The checkpoint is not whole or not vlmerge's; its licences forbid that it is shared.
    """
    checkpoint = _checkpoint_of(folder)
    for name in (RECIPE_NAME, CARD):
        if not (checkpoint / name).is_file():
            raise CheckpointError(
                "this is no checkpoint that vlmerge wrote",
                where=str(folder),
                expected=f"a run folder, or what `vlmerge merge` or `vlmerge export` wrote: with {RECIPE_NAME} and {CARD}",
                found=f"no {name}" if checkpoint.is_dir() else "no such folder",
                remedy="name such a folder; others go to the hub by `hf upload`",
            )
    open_checkpoint(checkpoint, ModelRef(str(checkpoint)))  # Refuses what is not whole: every shard as long as it says.
    found = sorted(path for path in checkpoint.rglob("*") if path.is_file() and not _hidden(path, checkpoint))
    names = tuple(path.relative_to(checkpoint).as_posix() for path in found)
    asked = duties(_licences(checkpoint / CARD))
    if not licence_checked:
        _refuse_forbidden(asked, folder, private=private)
    return Parcel(checkpoint, names, sum(path.stat().st_size for path in found), asked)


def push(parcel: Parcel, repository: str, *, private: bool = False, revision: str = MAIN, say: Callable[[str], None]) -> Pushed:
    """Puts a packed model into a repository of the hub, in one commit: the branch has all of it or what it had before.

    An upload that was interrupted is begun again; the hub knows large files that it has already by their contents.

    Args:
        parcel: From `pack`.
        repository: `user/name`, or `name` in the person's own space; made if it is not there.
        private: Seen by its owner alone.
        revision: Branch; made if it is not there.
        say: Told what happens.

    Raises:
        CheckpointError: Not logged in, no right to write there, a name that cannot be, no network; a public repository where a
            private one was wanted; the hub has something else than the disk.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token

    if constants.is_offline_mode():
        raise CheckpointError(
            "the hub is switched off", where=repository, found="HF_HUB_OFFLINE is set", remedy="unset HF_HUB_OFFLINE"
        )
    if get_token() is None:
        raise _not_logged_in(repository, "no token")
    api = HfApi(endpoint=constants.ENDPOINT)
    with _explained(repository, revision):
        full = api.create_repo(repository, private=private or None, exist_ok=True).repo_id
        about = api.model_info(full)
        if private and about.private is False:
            raise CheckpointError(
                "the repository is there already, and everybody can see it",
                where=f"{constants.ENDPOINT}/{full}",
                expected="a private repository, as --private says",
                found="a public one",
                remedy="make it private on its page, name another, or leave --private out",
            )
        if revision != MAIN:
            api.create_branch(full, branch=revision, exist_ok=True)
        there = [file.rfilename for file in api.model_info(full, revision=revision).siblings or []]
        removed = tuple(name for name in there if name not in parcel.files and _is_weight(name))
        for name in removed:
            say(f"{name} of another model in {full} goes with this commit; the repository's history keeps it")
        adding = [CommitOperationAdd(name, str(parcel.folder / name)) for name in parcel.files]
        say(f"uploading to {constants.ENDPOINT}/{full}")
        with _bars():
            made = api.create_commit(
                full,
                [*adding, *(CommitOperationDelete(name) for name in removed)],
                commit_message="A merge, pushed with vlmerge",
                revision=revision,
            )
    with _explained(repository, revision, done=made.oid):
        _compare(api, full, made.oid, parcel, adding)
    return Pushed(str(made.commit_url), full, made.oid, len(adding), removed)


# ── what goes ──


def _checkpoint_of(folder: Path) -> Path:
    if not (folder / STORE_NAME).is_file():
        return folder
    with Store.read_only(readable_store(folder)) as store:
        finished = bool(store.get("finished"))
    if not finished or not (folder / MODEL_FOLDER).is_dir():
        raise RunFolderError(
            "this run is not finished: there is no model to push",
            where=str(folder),
            expected="a finished run",
            found="a run that goes on" if not finished else f"no folder {MODEL_FOLDER}/ in it",
            remedy=f"run `vlmerge evolve` again to finish it, or `vlmerge export {folder} OUT` and push OUT",
        )
    return folder / MODEL_FOLDER


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _licences(card: Path) -> Mapping[str, str | None]:
    """Parent → licence, as the card's front matter records them; of a card without such a record nothing is known."""
    text = card.read_text(encoding="utf-8")
    try:
        fields = load_bounded(text.removeprefix("---").split("\n---", 1)[0]) if text.startswith("---") else None
    except YamlRefusal:
        fields = None
    recorded = cast("Mapping[str, Any]", fields).get(MERGED_LICENCES) if isinstance(fields, Mapping) else None
    if not isinstance(recorded, Mapping):
        return {"its models, which its card does not record": None}
    pairs = cast("Mapping[Any, Any]", recorded).items()
    return {str(model): None if licence is None else str(licence) for model, licence in pairs}


def _refuse_forbidden(asked: Sequence[Duty], folder: Path, *, private: bool) -> None:
    forbidding = [duty for duty in asked if duty.kind == "no sharing"]
    alike = [duty for duty in asked if duty.kind == "share-alike"]
    told = "read them; where they do let you, say so with --licence-checked"
    if forbidding and not private:
        raise CheckpointError(
            "a licence does not let this merge be shared",
            where=str(folder),
            expected="parents that may be shared in a changed version",
            found="; ".join(duty.line() for duty in forbidding),
            remedy=f"keep it to yourself (--private), or {told}",
        )
    if len({duty.licence for duty in alike}) > 1 and not private:
        raise CheckpointError(
            "two licences each want the merge under themselves, which cannot both be",
            where=str(folder),
            expected="parents of one such licence at most",
            found="; ".join(duty.line() for duty in alike),
            remedy=f"keep it to yourself (--private), or {told}",
        )


# ── on the hub ──


def _is_weight(name: str) -> bool:
    return "/" not in name and name.startswith(STALE) and name.endswith(WEIGHTS)


def _compare(api: HfApi, repository: str, commit: str, parcel: Parcel, adding: Sequence[CommitOperationAdd]) -> None:
    """What the commit holds must be what is on the disk: by sha256 of large files, by git's hash of others."""
    info = api.model_info(repository, revision=commit, files_metadata=True)
    there = {file.rfilename: file for file in info.siblings or []}
    for operation in adding:
        name = operation.path_in_repo
        found = there.get(name)
        if found is None:
            same = False
        elif found.lfs is not None:
            same = found.lfs.sha256 == operation.upload_info.sha256.hex()
        else:
            data = (parcel.folder / name).read_bytes()
            same = found.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if not same:
            raise CheckpointError(
                "what is on the hub is not what is on this disk",
                where=f"{repository}@{commit[:12]}, {name}",
                expected="the file as it is here",
                found="no such file" if found is None else "other contents",
                remedy="push again; was the folder written to meanwhile?",
            )


@contextlib.contextmanager
def _bars() -> Generator[None]:
    """The client's own progress bars; none where nobody sees them."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            enable_progress_bars()


def _not_logged_in(repository: str, found: str) -> CheckpointError:
    return CheckpointError(
        "not logged in to the hub",
        where=repository,
        expected="a token of yours with the right to write",
        found=found,
        remedy="run `hf auth login`, or set HF_TOKEN, and push again",
    )


@contextlib.contextmanager
def _explained(repository: str, revision: str, done: str | None = None) -> Generator[None]:
    """Turns what the hub's client raises inside the block into a CheckpointError; `done`: a commit that was made before it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The base class of its HTTP library's exceptions, which has changed its package between versions of the client.
    transport: type[BaseException] = HfHubHTTPError.__mro__[1]
    try:
        yield
    except HFValidationError as error:
        raise CheckpointError(
            "no repository of the hub can have this name",
            where=repository,
            expected="user/name: letters, digits, `-`, `_` and `.`",
            found=str(error).splitlines()[0],
            remedy="choose another name",
        ) from error
    except (OSError, RuntimeError, ValueError, transport) as error:
        cause = error
        while not isinstance(cause, HfHubHTTPError) and cause.__cause__ is not None:
            cause = cause.__cause__
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        if status == 401:
            raise _not_logged_in(repository, "the hub does not know the token") from error
        if status == 403:
            raise CheckpointError(
                "the hub does not let you write there",
                where=f"{constants.ENDPOINT}/{repository}",
                expected="a token with the right to write into this repository",
                found="HTTP 403: a token without that right",
                remedy="make a token that may write (https://huggingface.co/settings/tokens), or name a repository of your own",
            ) from error
        raise CheckpointError(
            "the model could not be pushed; the branch is as it was before"
            if done is None
            else f"the model was pushed as commit {done}, but could not be compared with the disk",
            where=f"{constants.ENDPOINT}/{repository}, {revision}",
            expected=f"an answer from {constants.ENDPOINT}",
            found=f"HTTP {status}" if status else f"{type(cause).__name__}: {cause}".splitlines()[0],
            remedy="push again: large files that have arrived are not sent twice",
        ) from error
