"""TensorBoard: event files in the run folder, `tensorboard --logdir DIR/tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmerge.config.plain_yaml import dump_plain
from vlmerge.loggers.figures import markdown
from vlmerge.loggers.logger import Begun


class TensorBoard:
    """Writes event files; what is read of a step that was written twice is the second (`purge_step`)."""

    def __init__(self, begun: Begun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = Path(begun.spec.folder) / begun.name if begun.spec.folder else begun.folder / "tensorboard"
        self._last = begun.step
        purge_step = None if begun.known_as is None else begun.step + 1
        self._writer: Any = SummaryWriter(str(self._folder), purge_step=purge_step)
        if begun.known_as is None:
            self._writer.add_text("run", f"```yaml\n{dump_plain(dict(begun.config))}```", 0)

    @property
    def known_as(self) -> str:
        return str(self._folder)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for key, value in figures.items():
            self._writer.add_scalar(key, value, step)
        self._last = step

    def finish(self, figures: Mapping[str, float], head: Sequence[str], table: Sequence[Sequence[str | float | None]]) -> None:
        for key, value in figures.items():
            self._writer.add_scalar(key, value, self._last + 1)
        self._writer.add_text("table", markdown(head, table), self._last + 1)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, *, whole: bool) -> None:  # noqa: ARG002 - event files know no end
        self._writer.close()


def open_logger(begun: Begun) -> TensorBoard:
    """Event files are opened, anew beside those of before."""
    return TensorBoard(begun)
