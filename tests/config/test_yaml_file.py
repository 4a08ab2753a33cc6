"""What is refused before anything is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmerge.config.yaml_file import read_yaml
from vlmerge.errors import ConfigError


def laughs(copies: bytes, first: bytes) -> bytes:
    """Nine copies of nine copies of …: a kilobyte that stands for a third of a billion."""
    lines = (b"a%d: &a%d %s\n" % (n, n, copies % b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10))
    return b"a0: &a0 " + first + b"\n" + b"".join(lines)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3(.|\n)*line 1"),
        (b"x:\n  - a: 1\n    a: 2\n", "`a` stands twice"),
        (b"name: caf\xe9\n", "not text in UTF-8(.|\n)*0xe9"),
        (b"- a\n- b\n", "no keys at its top(.|\n)*list"),
        (b"just words\n", "no keys at its top(.|\n)*str"),
        (b"", "no keys at its top(.|\n)*nothing"),
        (b"a: [1, 2\nb: 3\n", "not YAML(.|\n)*line 2"),
        (b"a: !!python/object/apply:os.getcwd []\n", "not YAML(.|\n)*python/object"),
        (b"a: \x07\n", "not YAML"),
        (b"a: 1\n---\nb: 2\n", "not YAML"),
        (b"[" * 5000, "not YAML"),
        (b"? [a, b]\n: 1\n? {c: d}\n: 2\n", "not YAML"),
        (b"a: 2024-99-99\n", "not YAML"),
        (b"a: &x [*x]\n", "refers to itself(.|\n)*line 1"),
        (b"x: " + b"[" * 60 + b"]" * 60, "nested too deeply"),
        (b"a0: &a0 []\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 90)), "nested too deeply"),
        (laughs(b"[%s]", b"[ha]"), "more values than any recipe"),
        (laughs(b"{<<: [%s]}", b"{k: ha}"), "more values than any recipe"),
        (b"a: 1\n# " + b"x" * 6_000_000, "too large"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)


def test_a_file_that_never_ends() -> None:
    with pytest.raises(ConfigError, match="too large"):
        read_yaml(Path("/dev/zero"))


def test_anchors_merge_keys_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes("\ufeffa: &x {k: 1}\nb: {<<: *x, l: 2}\nc: [*x, *x]\n".encode())
    file = read_yaml(path)
    assert file.data == {"a": {"k": 1}, "b": {"k": 1, "l": 2}, "c": [{"k": 1}, {"k": 1}]}


def test_lines_are_known(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: 1\nb:\n  - c: 2\n  - c: 3\n    d: 4\n")
    file = read_yaml(path)
    assert file.line_of(("b", 1, "d")) == 5
    assert file.line_of(("b", 1)) == 4
    assert file.line_of(("b", 1, "missing")) == 4
    assert file.line_of(("missing",)) is None
