"""How a command ends. Exit codes: 0 done, 1 a bug, 2 the user can mend it, 130 interrupted."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shlex
import signal
import sys
import threading
from pathlib import Path

import typer

from vlmerge.errors import EXIT_INTERRUPTED, EXIT_USER, UserError

WRITING = ("merge", "export")
"""Commands that have nothing left to close once their model is written."""
GOING_ON = ("evolve", "demo", "ablate")
"""Commands that go on where they stopped; of the others nothing half-written is left."""


def run_and_exit(app: typer.Typer, *, own_process: bool = False) -> None:
    """Runs the command line and exits; errors become messages, a bug keeps its traceback.

    Args:
        app: The commands.
        own_process: Nothing else is done by this process: it may end without being cleared away.
    """
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    writes = own_process and command in WRITING
    signal.signal(signal.SIGTERM, _interrupt)
    # rich wraps at 80 where it cannot tell the width; logs and pipes should not be cut there.
    if not sys.stdout.isatty():
        os.environ.setdefault("COLUMNS", "140")
    # torch reads this when it is imported. It lets freed GPU memory grow together again: a card that is nearly full has no
    # holes to lose.
    if "PYTORCH_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if writes:
        # Threads that wait for the next tensor would otherwise spin, on cores that the writing of this one needs.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # Imports make hundreds of thousands of objects, a merge no cycles that hold memory: looking for some is for nothing.
        gc.disable()
    try:
        # Without standalone mode typer gives the code of an exit back; it makes one of Ctrl-C too.
        code = app(standalone_mode=False)
    except UserError as error:
        from vlmerge.terminal import print_error

        print_error(error)
        sys.exit(EXIT_USER)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except Exception as error:
        # Wrong usage (click's errors carry their own exit code and message); anything else is a bug and keeps its traceback.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(EXIT_USER)
    if code == EXIT_INTERRUPTED:
        what_now = (
            "what is finished is kept. To go on" if command in GOING_ON else "nothing half-written is left. To start over"
        )
        program = Path(sys.argv[0]).name.replace("__main__.py", "python -m vlmerge")
        print(f"\ninterrupted: {what_now}: {program} {shlex.join(sys.argv[1:])}", file=sys.stderr)
    if writes and not code and threading.active_count() == 1:
        # Python would clear its memory object by object, which takes as long as a tenth of a merge. Where nobody takes what was
        # printed, it ends in the usual way.
        with contextlib.suppress(OSError):
            atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - nobody else runs them here
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
