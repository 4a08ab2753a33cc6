"""The runs of a folder: the folder itself if it is a run, else the run folders in it, found anew at every look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlmerge.errors import RunFolderError
from vlmerge.run_folder import readable_store


class RunList:
    """Which runs there are, by the names that addresses have for them.

    Args:
        folder: A run folder, or a folder of run folders.

    Raises:
        RunFolderError: There is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise RunFolderError(
                "there is no such folder",
                where=str(folder),
                expected="a run folder, or a folder of run folders",
                remedy="name the folder that `vlmerge evolve` was given with --out",
            )
        self._given, self._folder = folder, folder.resolve()

    def __str__(self) -> str:
        return str(self._given)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self._folder.name

    @property
    def single(self) -> bool:
        """Whether the folder is itself a run."""
        return is_run(self._folder)

    def runs(self) -> Mapping[str, Path]:
        """Name → run folder. Only these are ever opened, whatever an address says."""
        if self.single:
            return {self._folder.name: self._folder}
        inside = sorted(entry for entry in self._folder.iterdir() if not entry.name.startswith(".") and entry.is_dir())
        return {entry.name: entry for entry in inside if is_run(entry)}


def is_run(folder: Path) -> bool:
    """Whether a run's record can be read there."""
    return readable_store(folder).is_file()
