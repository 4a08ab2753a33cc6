"""What is handed out: an sdist that builds, and a wheel that holds everything, in an environment without this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HANDED_OUT = ("pyproject.toml", "README.md", "LICENSE", "src")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """`wheel` and `sdist`, the wheel built from the sdist as `make wheel` does it."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "copy"
    copy.mkdir()
    for name in HANDED_OUT:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def program(dist: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`vlmerge` of the wheel in an environment of its own, which sees this one's libraries and nothing of this repository."""
    bare = tmp_path_factory.mktemp("bare") / "environment"
    venv.create(bare, with_pip=False, symlinks=True)
    python = bare / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    installed = bare / "lib" / version / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(installed), str(dist["wheel"])], check=True)
    # A folder that a .pth names is searched for modules; its own .pth files, the editable vlmerge among them, are not read.
    (installed / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [python, "-c", "import vlmerge; print(vlmerge.__file__)"], env=clean(), capture_output=True, text=True, check=True
    )
    assert Path(where.stdout.strip()).is_relative_to(installed), where.stdout
    return [str(python), str(installed / "bin" / "vlmerge")]


def clean() -> dict[str, str]:
    """The environment without ways to this repository."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_sdist_holds_what_a_build_needs_and_the_wheel_all_files_of_the_package(dist: Mapping[str, Path]) -> None:
    from zipfile import ZipFile

    files = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "vlmerge").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(dist["wheel"]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        rest = {name.partition(".dist-info/")[2] for name in wheel.namelist() if ".dist-info/" in name}
    assert held == files
    assert {"licenses/LICENSE", "licenses/src/vlmerge/demo/THIRD_PARTY.md", "entry_points.txt", "METADATA"} <= rest
    with tarfile.open(dist["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", *(f"src/{name}" for name in files)} <= names
    said = re.search(r"questions included \((\d+) MB\)", (ROOT / "docs" / "installation.md").read_text(encoding="utf-8"))
    assert said is not None
    assert abs(dist["wheel"].stat().st_size / 1e6 - int(said[1])) <= 1


def test_help_and_the_demo_run_from_the_wheel(program: list[str], tmp_path: Path) -> None:
    told = subprocess.run([*program, "--help"], cwd=tmp_path, env=clean(), capture_output=True, text=True, check=True)
    assert "evolve" in told.stdout
    demo = Path(program[1]).parents[1] / "vlmerge" / "demo" / "run.yaml"
    run = yaml.safe_load(demo.read_text(encoding="utf-8"))
    run["search"] |= {"max_fevals": 2, "global_fevals": 2, "population": 2}
    for tasks in (run["tasks"], run["validation"], run["holdout"]):
        for task in tasks:
            task["limit"] = 2
    run["decoding"] = {"max_new_tokens": 8}
    demo.write_text(yaml.safe_dump(run), encoding="utf-8")  # The installed copy's: a smaller budget.
    done = subprocess.run([*program, "demo"], cwd=tmp_path, env=clean(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model: runs/demo/model" in done.stdout
    assert (tmp_path / "runs/demo/report.html").is_file()

    environment = clean() | {"PYTHONUNBUFFERED": "1"}
    command = [*program, "watch", "runs/demo", "--port", "0", "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        assert line.startswith("open http://127.0.0.1:"), line
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # The token becomes one.
        with browser.open(line.split()[1], timeout=60) as page:
            assert "<title>" in page.read().decode()
    finally:
        server.terminate()
        _, complaints = server.communicate(timeout=60)
    assert server.returncode == 0, complaints
