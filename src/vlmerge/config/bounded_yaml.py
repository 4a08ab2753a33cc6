"""YAML from anywhere, parsed without being blown up: nothing in it is run, and a small text cannot become a large value.

An alias (`*x`) stands for a copy of what its anchor holds: ten lines of aliases to aliases are billions of values to whoever
goes through them. So what a text stands for is counted before it is built.
"""

from __future__ import annotations

from typing import cast

import yaml

MAX_VALUES = 300_000
"""Values that a text may stand for: the largest recipes, with a number for every tensor and model, have a tenth of it."""
MAX_DEPTH = 40
"""Lists in lists, mappings in mappings; recipes and runs have fewer than ten."""


class YamlRefusal(Exception):  # noqa: N818 - its callers say what it means: an error, or a text that says nothing
    """A text that is not YAML, or more of it than anybody means.

    Attributes:
        what: What happened.
        expected: What would have been right, where that can be said.
        found: What was there instead.
        line: Line (from 1), where one is to blame.
        column: Column (from 1).
    """

    def __init__(self, what: str, found: str, expected: str | None = None, mark: yaml.Mark | None = None) -> None:
        self.what, self.expected, self.found = what, expected, found
        self.line, self.column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        super().__init__(f"{what}: {found}")


def compose_bounded(text: str) -> yaml.Node | None:
    """The nodes of a text, which know their lines; None where it holds nothing.

    Raises:
        YamlRefusal: It is not YAML, refers to itself, is nested deeper than MAX_DEPTH, or stands for more than MAX_VALUES.
    """
    try:
        root = cast("yaml.Node | None", yaml.compose(text, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _not_yaml(error) from error
    if root is not None:
        _measure(root, {}, set())
    return root


def load_bounded(text: str) -> object:
    """The value of a text: mappings, lists, texts, numbers, dates, None; raises YamlRefusal as `compose_bounded` does."""
    root = compose_bounded(text)
    try:
        return None if root is None else cast("object", yaml.SafeLoader("").construct_document(root))  # pyright: ignore[reportUnknownMemberType]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _not_yaml(error) from error


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], open_nodes: set[int]) -> tuple[int, int]:
    """(values that a node stands for, its own included; levels below and with it). Each node is looked into once."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in open_nodes:
        raise YamlRefusal("this YAML refers to itself", "an alias within its own anchor", "no such alias", node.start_mark)
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = cast("list[yaml.Node]", node.value)
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in cast("list[tuple[yaml.Node, yaml.Node]]", node.value) for part in pair]
    open_nodes.add(id(node))
    below = [_measure(child, known, open_nodes) for child in children]
    open_nodes.discard(id(node))
    values, levels = 1 + sum(count for count, _ in below), 1 + max((height for _, height in below), default=0)
    if levels > MAX_DEPTH:
        raise YamlRefusal(
            "this YAML is nested too deeply", f"more than {MAX_DEPTH}", f"at most {MAX_DEPTH} levels", node.start_mark
        )
    if values > MAX_VALUES:
        raise YamlRefusal(
            "this YAML stands for more values than any recipe has",
            f"more than {MAX_VALUES:,}, aliases counted as what they stand for",
            f"at most {MAX_VALUES:,}",
            node.start_mark,
        )
    known[id(node)] = (values, levels)
    return values, levels


def _not_yaml(error: Exception) -> YamlRefusal:
    if isinstance(error, yaml.MarkedYAMLError):
        return YamlRefusal("this is not YAML", str(error.problem or error.context), mark=error.problem_mark)
    lines = str(error).splitlines()
    return YamlRefusal("this is not YAML", lines[0] if lines else type(error).__name__)
