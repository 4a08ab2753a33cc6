"""What docs/installation.md says of extras, of the Docker file and of the SLURM script."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from vlmerge.store import Store

ROOT = Path(__file__).parents[2]
FAMILY = ROOT / "src" / "vlmerge" / "demo"
PAGE = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_the_page_names_every_extra_and_no_other() -> None:
    table = PAGE.partition("| extra |")[2].partition("\n\n")[0]
    assert {name for row in re.findall(r"(?m)^\| (`.*?) \|", table) for name in re.findall(r"`([\w-]+)`", row)} == set(EXTRAS)
    assert set(re.findall(r"\[([\w,-]+)\]'", PAGE)) <= {"lm-eval", "lm-eval,wandb"}


def test_what_the_code_imports_if_asked_is_there_when_it_is_checked() -> None:
    """Types and tests of an extra that `dev` lacks would be skipped by every fresh machine, and fail there alone."""
    extras = PROJECT["optional-dependencies"]
    within = re.search(r"vlmerge\[([^]]*)\]", " ".join(extras["dev"]))
    assert within is not None
    assert set(within[1].split(",")) == set(extras) - {"dev", "zoo"}


def test_the_wheel_has_the_name_that_the_page_says() -> None:
    import vlmerge

    assert set(re.findall(r"vlmerge-([\d.]+)-py3", PAGE)) == {vlmerge.__version__}


def test_the_docker_file_takes_what_is_there() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    let_in = (ROOT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in let_in
    assert {PROJECT["readme"], *(file.partition("/")[0] for file in PROJECT["license-files"])} <= set(copied)
    (extras,) = [line.partition("=")[2] for line in lines if line.startswith("ARG EXTRAS")]
    assert set(extras.split(",")) <= set(EXTRAS)
    user = lines.index("USER vlmerge")
    assert all(not line.startswith("RUN") for line in lines[user:])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_job_whose_time_is_over_goes_back_into_the_queue_and_goes_on(tmp_path: Path) -> None:
    fields = {"question": "question_ja", "answer": "answer_ja"}
    task = {"name": str(FAMILY / "bench/search/questions.jsonl"), "limit": 2, "fields": fields}
    run = {
        "merge": {"models": [str(FAMILY / name) for name in ("vlm", "ja")]},
        "tasks": [task],
        "validation": {"fraction": 0},
        "search": {"max_fevals": 4, "global_fevals": 2, "population": 2},
        "decoding": {"max_new_tokens": 4},
        "runtime": {"device": "cpu", "threads": 1},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("vlmerge", f'exec {sys.executable} -m vlmerge "$@"'), ("scontrol", 'echo "$@" >> asked')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    job = ["bash", str(ROOT / "examples/slurm/evolve.sbatch"), "run.yaml", "runs/first"]
    first = subprocess.Popen(job, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    store = tmp_path / "runs/first/run.sqlite"
    for _ in range(2400):
        if first.poll() is not None or (store.is_file() and recorded(store)):
            break
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert "back into the queue" in said
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    before = recorded(store)
    assert before > 0
    second = subprocess.run(job, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "runs/first/model/config.json").is_file()
    assert recorded(store) > before
    assert (tmp_path / "asked").read_text() == "requeue 17\n"


def recorded(store: Path) -> int:
    try:
        with Store.read_only(store) as opened:
            return len(opened.trials())
    except Exception:  # It is being made.
        return 0
