"""A file is the old one or the new one, whole, and nothing is left beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmerge.atomic import copy_file, write_bytes, write_text


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "run.yaml", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "run.yaml", "new \ud800")
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "absent", tmp_path / "run.yaml")
    assert (tmp_path / "run.yaml").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_rename_that_fails_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_bytes(tmp_path / "taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    write_text(tmp_path / "page", "old")
    with (tmp_path / "page").open() as reader:
        write_text(tmp_path / "page", "new")
        assert (reader.read(), (tmp_path / "page").read_text()) == ("old", "new")


def test_what_a_killed_copy_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".target.partial").write_text("half a fi")
    (tmp_path / "source").write_text("whole")
    copy_file(tmp_path / "source", tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]
    assert (tmp_path / "target").read_text() == "whole"
