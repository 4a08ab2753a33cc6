"""Which model is meant: a folder or a hub id, the revision of it, and the adapter that is merged into it, if there is one."""

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
        adapter: What is merged into it whenever it is read; it has no adapter itself.
    """

    path: str
    revision: str | None = None
    adapter: ModelRef | None = None

    @classmethod
    def parse(cls, value: object) -> ModelRef:
        """Reads mergekit's forms, and `{path:, revision:}`.

        Those are `path`, `path@revision`, either with `+adapter` or `+adapter@revision` behind it, and the mapping
        `{model:, lora:}`, of which each is text or `{path:, revision:}`. A `+` in a mapping's text is part of a path.

        Raises:
            ConfigError: Not a model's name; or a form of mergekit's that is not supported yet (`override_architecture`).
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
        own = self.path if self.revision is None else f"{self.path}@{self.revision}"
        return own if self.adapter is None else f"{own}+{self.adapter}"

    @property
    def name(self) -> str:
        """The last part of the path (and of the adapter's), for headings; not always unique."""
        own = Path(self.path).name or self.path
        return own if self.adapter is None else f"{own}+{self.adapter.name}"

    @property
    def alone(self) -> ModelRef:
        """The model without its adapter."""
        return ModelRef(self.path, self.revision)

    def plain(self) -> str | dict[str, Any]:
        """What YAML holds: the text where it reads back as the same model, else mergekit's mapping form."""
        parts = [self.alone] if self.adapter is None else [self.alone, self.adapter]
        if not any(sign in text for part in parts for text in (part.path, part.revision or "") for sign in "@+"):
            return str(self)
        return {key: _plain_path(part) for key, part in zip(("model", "lora"), parts, strict=False)}

    def relative_to(self, folder: Path) -> ModelRef:
        """The same model with local paths made absolute.

        A path is local if it starts with `.`, `/` or `~`, if it exists in `folder`, or if (without a revision) it would lie in
        a folder of models there: `models/lava-7b` beside `models/llava-7b` is a slip, not an organisation. Anything else stays
        a hub id. A folder whose name has a `+` is meant where it exists and the model before the `+` does not.
        """
        if self.adapter is None:
            return _located(self, folder)
        own = _located(self.alone, folder)
        whole = local_path(str(self), folder)
        if whole is not None and whole.exists() and not Path(own.path).exists():
            return ModelRef(str(whole))
        return ModelRef(own.path, own.revision, _located(self.adapter, folder))


def local_path(text: str, folder: Path) -> Path | None:
    """The absolute path that `text` names from `folder`, or None where it is a name (of a repository, of a task)."""
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    located = Path(folder, path)
    if text.startswith((".", "/", "~")) or (text and located.exists()):
        return Path(os.path.abspath(located))  # noqa: PTH100 - resolve() would also follow links
    return None


def _located(ref: ModelRef, folder: Path) -> ModelRef:
    """A model or an adapter alone, a local path made absolute."""
    if ref.revision is None and _beside_models(ref.path, folder):
        return ModelRef(os.path.abspath(folder / ref.path))  # noqa: PTH100 - as above
    whole = ModelRef(str(ref))
    for candidate in (whole, ref):
        path = local_path(candidate.path, folder)
        if path is not None and (candidate is ref or path.exists()):
            return ModelRef(str(path), candidate.revision)
    return ref


def _beside_models(text: str, folder: Path) -> bool:
    first, slash, rest = text.partition("/")
    if not slash or not rest or first.startswith((".", "~")) or not first:
        return False
    return any(next(Path(folder, first).glob(f"*/{name}"), None) is not None for name in ("config.json", "adapter_config.json"))


def _from_text(text: str) -> ModelRef:
    own, plus, adapter = text.partition("+")
    if not plus:
        return _path_of(text)
    if not own.strip() or not adapter.strip() or "+" in adapter:
        raise ConfigError(
            "this is not a model with an adapter",
            expected="`model+adapter`, each a folder or a hub id, `name` or `name@revision`",
            found=repr(text),
            remedy="if a folder's name really has a `+`, write {model: {path: …}}; only one adapter can be named",
        )
    base = _path_of(own)
    return ModelRef(base.path, base.revision, _path_of(adapter))


def _from_mapping(mapping: Mapping[Any, Any]) -> ModelRef:
    if mapping.get("override_architecture") is not None:
        raise ConfigError(
            "`override_architecture` is valid in mergekit, not supported yet",
            expected="{model: {path:, revision:}, lora: {path:, revision:}}",
            found=f"override_architecture: {mapping['override_architecture']!r}",
            remedy="leave the key out",
        )
    rest = {key: value for key, value in mapping.items() if key != "override_architecture"}
    if rest.get("lora") is None:
        rest.pop("lora", None)
    if set(rest) not in ({"model"}, {"model", "lora"}):
        return _path_of(rest)
    base = _path_of(rest["model"])
    return ModelRef(base.path, base.revision, _path_of(rest["lora"]) if "lora" in rest else None)


def _path_of(value: object) -> ModelRef:
    """`path`, `path@revision` or `{path:, revision:}`: a model or an adapter alone."""
    if isinstance(value, str):
        path, at, revision = value.partition("@")
        if not path.strip() or (at and not revision) or "@" in revision:
            raise ConfigError(
                "this is not a model's name",
                expected="a folder or a hub id, `name` or `name@revision`",
                found=repr(value),
                remedy="if a folder's name really has an `@`, write {model: {path: …}}",
            )
        return ModelRef(path, revision or None)
    keys: Mapping[Any, Any] = cast("Mapping[Any, Any]", value) if isinstance(value, Mapping) else {}
    path, revision = keys.get("path"), keys.get("revision")
    if not set(keys) <= {"path", "revision"} or not isinstance(path, str) or not isinstance(revision, str | None) or not path:
        raise ConfigError(
            "this is not a model",
            expected="text, {model: {path: TEXT, revision: TEXT}}, or the same with `lora: {path: TEXT, revision: TEXT}`",
            found=repr(dict(keys)) if isinstance(value, Mapping) else _shown(value),
            remedy="keep only these keys, and put their values in quotes",
        )
    return ModelRef(path, revision or None)


def _plain_path(ref: ModelRef) -> dict[str, str]:
    return {"path": ref.path} if ref.revision is None else {"path": ref.path, "revision": ref.revision}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()} (in YAML yes, no, on and off are read as true and false)"
    return "nothing" if value is None else repr(value)
