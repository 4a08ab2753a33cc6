"""vlmerge: evolve a vision-language model by merging, and prove that it got better.

`import vlmerge` loads nothing else; what a verb needs is loaded when it is first called (`vlmerge/api.py`, docs/api.md).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmerge.api import ask, check, evaluate, evolve, export, load, merge, report
    from vlmerge.errors import UserError

__version__ = "0.1.0"

__all__ = ["UserError", "__version__", "ask", "check", "evaluate", "evolve", "export", "load", "merge", "report"]

_HOMES = {"UserError": "vlmerge.errors"}
"""Where a name of this package is defined, if not in `vlmerge.api`."""


class _Package(ModuleType):
    """This package. Verbs have modules of their names, and the import system would put `vlmerge.evolve` the module, once it is
    imported, in the place of `vlmerge.evolve` the function. Here the function stays; `from vlmerge.evolve import …` is as ever.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "vlmerge.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
