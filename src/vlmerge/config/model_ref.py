"""Which model is meant: a folder or a hub id, and the revision of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vlmerge.errors import ConfigError


@dataclass(frozen=True, order=True)
class ModelRef:
    """A model, as recipes and runs name it.

    Attributes:
        path: A folder, or a hub id (`org/name`).
        revision: Branch, tag or commit of a hub id; None is the hub's default.
    """

    path: str
    revision: str | None = None

    @classmethod
    def parse(cls, value: object) -> ModelRef:
        """Reads `path`, `path@revision`, `{path:, revision:}` or `{model: {path:, revision:}}`, mergekit's forms.

        Raises:
            ConfigError: Not a model's name; or a form of mergekit's that is not supported yet (LoRA).
        """
        if isinstance(value, ModelRef):
            return value
        if isinstance(value, str):
            return _from_text(value)
        if isinstance(value, Mapping):
            return _from_mapping(cast("Mapping[Any, Any]", value))
        raise ConfigError(
            "this is not a model's name",
            expected="text: a folder or a hub id, `name` or `name@revision`",
            found=_shown(value),
            remedy="put the name in quotes" if isinstance(value, bool | int | float) else "write the name alone",
        )

    def __str__(self) -> str:
        return self.path if self.revision is None else f"{self.path}@{self.revision}"

    @property
    def name(self) -> str:
        """The last part of the path, for headings; not always unique."""
        return Path(self.path).name or self.path

    def plain(self) -> str | dict[str, Any]:
        """What YAML holds: the text where it reads back as the same model, else mergekit's mapping form."""
        if (
            not any(sign in self.path for sign in "@+")
            and "@" not in (self.revision or "")
            and "+" not in (self.revision or "")
        ):
            return str(self)
        return {"model": {"path": self.path} | ({} if self.revision is None else {"revision": self.revision})}

    def relative_to(self, folder: Path) -> ModelRef:
        """The same model with a local path made absolute.

        A path is local if it starts with `.`, `/` or `~`, if it exists in `folder`, or if (without a revision) it would lie in
        a folder of models there: `models/lava-7b` beside `models/llava-7b` is a slip, not an organisation. Anything else stays
        a hub id.
        """
        if self.revision is None and _beside_models(self.path, folder):
            return ModelRef(os.path.abspath(folder / self.path))  # noqa: PTH100 - as below
        whole = ModelRef(str(self))
        for candidate in (whole, self):
            path = local_path(candidate.path, folder)
            if path is not None and (candidate is self or path.exists()):
                return ModelRef(str(path), candidate.revision)
        return self


def local_path(text: str, folder: Path) -> Path | None:
    """The absolute path that `text` names from `folder`, or None where it is a name (of a repository, of a task)."""
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    located = Path(folder, path)
    if text.startswith((".", "/", "~")) or (text and located.exists()):
        return Path(os.path.abspath(located))  # noqa: PTH100 - resolve() would also follow links
    return None


def _beside_models(text: str, folder: Path) -> bool:
    first, slash, rest = text.partition("/")
    if not slash or not rest or first.startswith((".", "~")) or not first:
        return False
    return next(Path(folder, first).glob("*/config.json"), None) is not None


def _from_text(text: str) -> ModelRef:
    if "+" in text:
        raise ConfigError(
            "a LoRA beside a model (`model+lora`) is valid in mergekit, not supported yet",
            expected="`name` or `name@revision`",
            found=text,
            remedy="merge the LoRA into its model first; if a folder's name really has a `+`, write {model: {path: …}}",
        )
    path, at, revision = text.partition("@")
    if not path.strip() or (at and not revision) or "@" in revision:
        raise ConfigError(
            "this is not a model's name",
            expected="a folder or a hub id, `name` or `name@revision`",
            found=repr(text),
            remedy="if a folder's name really has an `@`, write {model: {path: …}}",
        )
    return ModelRef(path, revision or None)


def _from_mapping(mapping: Mapping[Any, Any]) -> ModelRef:
    for key in ("lora", "override_architecture"):
        if mapping.get(key) is not None:
            raise ConfigError(
                f"`{key}` is valid in mergekit, not supported yet",
                expected="{model: {path:, revision:}}",
                found=f"{key}: {mapping[key]!r}",
                remedy="merge the LoRA into its model first" if key == "lora" else "leave the key out",
            )
    rest = {key: value for key, value in mapping.items() if key not in ("lora", "override_architecture")}
    if set(rest) == {"model"}:
        return ModelRef.parse(rest["model"])
    path, revision = rest.get("path"), rest.get("revision")
    if not set(rest) <= {"path", "revision"} or not isinstance(path, str) or not isinstance(revision, str | None) or not path:
        raise ConfigError(
            "this is not a model",
            expected="text, or {model: {path: TEXT, revision: TEXT}}",
            found=repr(dict(mapping)),
            remedy="keep only these keys, and put their values in quotes",
        )
    return ModelRef(path, revision or None)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()} (YAML reads yes, no, on and off as true and false)"
    return "nothing" if value is None else repr(value)
