"""Reads a YAML file strictly: UTF-8, one mapping, no key twice; and remembers on which line everything stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from vlmerge.config.bounded_yaml import YamlRefusal, compose_bounded, load_bounded
from vlmerge.config.problems import Location
from vlmerge.errors import ConfigError
from vlmerge.types import size

MAX_BYTES = 5_000_000
"""A recipe with numbers of its own for every tensor of the largest models has a tenth of it."""


@dataclass(frozen=True)
class YamlFile:
    """A file that was read.

    Attributes:
        path: The file.
        data: Its top-level mapping.
        root: Its nodes, which know their lines.
    """

    path: Path
    data: Mapping[str, Any]
    root: yaml.Node

    def line_of(self, location: Location) -> int | None:
        """Line (from 1) on which a location, or the nearest thing around it, stands."""
        node, line = self.root, None
        for part in location:
            found = _child(node, part)
            if found is None:
                return line
            line, node = found
        return line


def read_yaml(path: Path) -> YamlFile:
    """Reads a file.

    Raises:
        ConfigError: Missing, too large, not UTF-8, not YAML, a key twice, more values than anybody means, or no mapping at its
            top.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # No further: it may be a device that never ends.
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError("there is no such file", where=where, expected="a YAML file", remedy="check the path") from error
    except IsADirectoryError as error:
        raise ConfigError("this is a folder", where=where, expected="a YAML file", remedy="name the file in it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "this file is not text in UTF-8",
            where=where,
            found=f"byte {error.object[error.start]:#04x} at position {error.start}",
            remedy="save it as UTF-8",
        ) from error
    except OSError as error:
        raise ConfigError("this file cannot be read", where=where, found=str(error), remedy="check its permissions") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(
            "this file is too large to be a recipe or a run",
            where=where,
            expected=f"at most {size(MAX_BYTES)}",
            found="more than that",
            remedy="check the path",
        )
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> YamlFile:
    """Parses the text of a file; see `read_yaml`."""
    try:
        root = compose_bounded(text)
        if root is not None:
            _refuse_repeated_keys(root, path, set())
        data = load_bounded(text)
    except YamlRefusal as error:
        raise ConfigError(
            error.what,
            where=str(path) if error.line is None else f"{path}, line {error.line}, column {error.column}",
            expected=error.expected,
            found=error.found,
            remedy="mend that line" if error.line is not None else "write out what is meant, shorter",
        ) from error
    if root is None or not isinstance(data, Mapping):
        raise ConfigError(
            "this file has no keys at its top",
            where=str(path),
            expected="a mapping, `key: value` on every line",
            found="nothing" if data is None else type(data).__name__,
            remedy="see examples/ for recipe and run files",
        )
    return YamlFile(path, cast("Mapping[str, Any]", data), root)


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if key.value == part:
                return _line(key), value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = cast("yaml.Node", node.value[part])
        return _line(item), item
    return None


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _refuse_repeated_keys(node: yaml.Node, path: Path, seen: set[int]) -> None:
    # An alias leads to a node that was visited already (or to a loop): once is enough.
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in cast("list[yaml.Node]", node.value):
            _refuse_repeated_keys(item, path, seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, object], int] = {}
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name = (key.tag, key.value)
                if name in lines:
                    raise ConfigError(
                        f"the key `{key.value}` stands twice",
                        where=f"{path}, line {_line(key)}",
                        expected="every key once",
                        found=f"also on line {lines[name]}",
                        remedy="keep one of the two",
                    )
                lines[name] = _line(key)
            _refuse_repeated_keys(value, path, seen)
