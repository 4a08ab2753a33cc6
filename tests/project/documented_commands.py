"""The documents' shell blocks as commands, the files that their pages show, and what is only parsed, each with its reason."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")])
"""Every document with commands for people."""

ONLY_PARSED = {
    r"vlmerge demo\b": "takes minutes; it is `evolve` of the demo's run file; a run of the demo's models is made here",
    r"vlmerge watch\b": "serves until it is ended; tests/web opens its page in a browser",
    r"vlmerge ask .*--web\b": "serves until it is ended; tests/web opens its page in a browser",
    r"vlmerge evolve .*--log\b": "another whole run; tests/evolve/test_loggers.py runs one with every logger",
    r"vlmerge ablate\b": "asks seven merges more; tests/evolve/test_looking_back.py does it with a small run",
    r"vlmerge report runs/first runs/second": "needs two runs; tests/report/test_runs_compared.py compares some",
    r"vlmerge push\b": "needs a hub; tests/checkpoint/test_push.py pushes to one on this machine",
    r"vlmerge evolve evovlm\.yaml": "`check` of the same file is run; of genomes replica.yaml is evolved",
    r"vlmerge evaluate .*--(answers|endpoint|compare)\b": "needs a server or given answers; tests/endpoints runs all three",
}
"""Commands of vlmerge that a test cannot wait for or must not send off: pattern → why, and what holds them instead."""

OTHER_PROGRAMS = {
    "cd": "the shell's own",
    "docker": "needs its engine",
    "sbatch": "needs a cluster; test_installation.py runs what is in the script",
    "pip": "installs packages; test_wheel.py installs ours",
    "make": "test_docs.py holds that its targets exist",
    "source": "the shell's own",
    "hf": "the hub's own: asks for a token",
    "optuna-dashboard": "serves until it is ended; tests/evolve/test_optuna_study.py opens the file by Optuna",
    "python": "benchmarks and the zoo take hours, a GPU or npm; test_docs_run.py holds that they start and know the options",
    "ssh": "needs another machine",
}
"""Other programs in the documents: name → why it is not run."""

STANDS_FOR = {"ja-vlm-bench-in-the-wild": "held-out/questions.jsonl"}
"""Words that need the internet → what stands in for them, of the same kind."""


@dataclass(frozen=True)
class Command:
    """A line of a shell block.

    Attributes:
        page: The document, relative to the repository.
        words: As the shell would split them, environment variables before the program left out.
    """

    page: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return shlex.join(self.words)

    @property
    def only_parsed(self) -> str | None:
        """Why it is not run; None: it is."""
        plain = " ".join(self.words)
        return next((why for pattern, why in ONLY_PARSED.items() if re.match(pattern, plain)), None)


def commands_of(path: Path) -> list[Command]:
    """Every command of a document's shell blocks, in order. Lines that end in a backslash go on."""
    page = path.relative_to(ROOT).as_posix()
    found: list[Command] = []
    for block in re.findall(r"```(?:bash|sh|shell|console)[^\n]*\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                found.append(Command(page, (words[0].removeprefix(".venv/bin/"), *words[1:])))
    return found


def files_of(path: Path) -> dict[str, str]:
    """The files that a document shows whole: the title of a block → its text."""
    return dict(re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', path.read_text(encoding="utf-8"), flags=re.DOTALL))
