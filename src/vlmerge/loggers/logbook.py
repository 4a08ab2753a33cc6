"""The loggers of a run, together: opened once, told what the store holds and they lack, left out where they fail.

How far each has come is in the store (`logged`), so that a run that goes on tells nothing twice, and one that got a logger late
tells it everything.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from vlmerge.errors import ConfigError
from vlmerge.loggers.figures import TABLE_HEAD, Known, final_figures, final_table, generation_figures, told
from vlmerge.loggers.logger import Begun, Logger
from vlmerge.report import rows

if TYPE_CHECKING:
    from vlmerge.config.run import LoggerSpec
    from vlmerge.run_folder import RunFolder

PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Logger → the package that it needs."""
LOGGED = "logged"
"""Key in the store: logger → {"known_as", "step", "finished"}."""


def require_installed(specs: Sequence[LoggerSpec]) -> None:
    """Refuses loggers whose packages are not here, before anything begins.

    Raises:
        ConfigError: With the line that installs the missing one.
    """
    for spec in specs:
        package = PACKAGES[spec.name]
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"the logger {spec.name} needs a package that is not installed",
                where="`loggers` of the run, or --log",
                expected=f"the package {package}",
                found="no such package",
                remedy=f"pip install 'vlmerge[{spec.name}]', or leave the logger out",
            )


@contextlib.contextmanager
def logging_to(specs: Sequence[LoggerSpec], folder: RunFolder, say: Callable[[str], None]) -> Generator[Logbook]:
    """A logbook for the length of a block; see `Logbook`."""
    logbook = Logbook(specs, folder, say)
    whole = False
    try:
        yield logbook
        whole = True
    finally:
        logbook.close(whole=whole)


class Logbook:
    """The loggers of one process that works on a run.

    Args:
        specs: Which, and how.
        folder: The run folder.
        say: Told once of each logger that is left out, and why.
    """

    def __init__(self, specs: Sequence[LoggerSpec], folder: RunFolder, say: Callable[[str], None]) -> None:
        self._specs = specs
        self._folder = folder
        self._say = say
        self._open: dict[str, Logger] = {}
        self._tried: set[str] = set()
        self._known = Known(folder.store)

    def tell(self, *, finished: bool = False) -> None:
        """Brings every logger up to what the store holds.

        Args:
            finished: The run is over: the final table too.
        """
        for spec in self._specs:
            with self._guarded(spec.name):
                logger = self._logger(spec)
                if logger is not None:
                    self._bring_up(spec.name, logger, finished)

    def close(self, *, whole: bool) -> None:
        """Ends the logging of this process."""
        for name, logger in list(self._open.items()):
            with self._guarded(name):
                logger.close(whole=whole)
        self._open.clear()

    def _bring_up(self, name: str, logger: Logger, finished: bool) -> None:
        store, state = self._folder.store, self._state(name)
        generations, step = told(store), int(state.get("step", 0))
        for number in range(step + 1, len(generations) + 1):
            logger.log(generation_figures(store, generations, number, self._known), number)
        done = bool(state.get("finished"))
        if finished and not done:
            found = rows(store)
            logger.finish(final_figures(found), TABLE_HEAD, final_table(found))
        if len(generations) > step or (finished and not done):
            logger.flush()
            self._remember(name, {"known_as": logger.known_as, "step": len(generations), "finished": finished or done})

    def _logger(self, spec: LoggerSpec) -> Logger | None:
        """The logger, opened at its first use; None where it was left out, or has been told everything."""
        if spec.name in self._tried:
            return self._open.get(spec.name)
        self._tried.add(spec.name)
        state = self._state(spec.name)
        if state.get("finished"):
            return None
        from vlmerge.loggers import LOGGERS

        store = self._folder.store
        config: Any = yaml.safe_load(store.get("config"))
        begun = Begun(
            name=str(store.get("name") or self._folder.path.name),
            folder=self._folder.path,
            config=config,
            spec=spec,
            known_as=state.get("known_as"),
            step=int(state.get("step", 0)),
        )
        logger = LOGGERS[spec.name](begun)
        self._open[spec.name] = logger
        self._remember(spec.name, {"known_as": logger.known_as, "step": begun.step, "finished": False})
        return logger

    def _state(self, name: str) -> Mapping[str, Any]:
        known: dict[str, Mapping[str, Any]] = self._folder.store.get(LOGGED) or {}
        return known.get(name, {})

    def _remember(self, name: str, state: Mapping[str, Any]) -> None:
        store = self._folder.store
        with store.transaction():
            store.set(LOGGED, {**(store.get(LOGGED) or {}), name: dict(state)})

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Generator[None]:
        """Whatever a logger's library raises ends its logging, never the run."""
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            self._say(f"{name} is left out, the run goes on without it: {type(error).__name__}: {reason}"[:500])
            logging.getLogger(__name__).debug("%s was left out", name, exc_info=True)
