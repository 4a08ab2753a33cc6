"""The command line: every command, its exit code, its JSON, and what it says when something is wrong. Never a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from evolve.conftest import FAMILY, small_run, write_run
from safetensors.numpy import load_file, save_file

from vlmerge.cli import main

COMMANDS = (
    "demo",
    "check",
    "merge",
    "evolve",
    "report",
    "ablate",
    "watch",
    "export",
    "evaluate",
    "ask",
    "tasks",
    "methods",
    "families",
)
VLM = str(FAMILY / "vlm")
PICTURE = str(FAMILY / "bench" / "holdout" / "000.png")
QUESTIONS = str(FAMILY / "bench" / "holdout" / "questions.jsonl")
FIELDS = ("--field", "question=question_en", "--field", "answer=answer_en")
RECIPE = f"""
merge_method: linear
models:
  - {{model: {VLM}, parameters: {{weight: 1}}}}
  - {{model: {FAMILY / "ja"}, parameters: {{weight: 1}}}}
dtype: float16
"""


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int | str | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def refuses(self, *words: str) -> None:
        """The person can mend it: exit code 2, a message with these words, no traceback, nothing on standard output."""
        assert self.code == 2, self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err


def vlmerge(*arguments: object) -> Ran:
    """The command in this process, as a script would see it. A bug comes through as its own exception."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", ["vlmerge", *map(str, arguments)])
            patch.setenv("COLUMNS", "140")
            with pytest.raises(SystemExit) as stopped:
                main()
    finally:
        signal.signal(signal.SIGTERM, handler)
    return Ran(stopped.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest finished run, made by the command."""
    folder = tmp_path_factory.mktemp("commands")
    smallest = small_run(validation={"fraction": 0}, search={"max_fevals": 6, "population": 3})
    done = vlmerge("evolve", write_run(folder, smallest), "--out", folder / "run")
    assert done.code == 0, done.err
    assert str(folder / "run" / "model") in done.out
    return folder / "run"


@pytest.fixture(scope="module")
def infinite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose last norm has an infinite weight."""
    return _changed(tmp_path_factory.mktemp("infinite") / "vlm", lambda _name, norm: np.full_like(norm, np.inf))


def _changed(folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> Path:
    shutil.copytree(VLM, folder)
    tensors = load_file(folder / "model.safetensors")
    (name,) = (name for name in tensors if name.endswith("model.norm.weight"))
    save_file({**tensors, name: change(name, tensors[name])}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# ── usage ──


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example(command: str) -> None:
    done = vlmerge(command, "--help")
    assert done.code == 0
    usage, _, example = done.out.partition("Example:")
    assert f"vlmerge {command}" in usage
    assert f"  vlmerge {command}" in example


def test_help_names_every_command() -> None:
    listed = vlmerge("--help")
    assert listed.code == 0
    assert all(f"  {command} " in listed.out for command in COMMANDS)


def test_version_is_one_line() -> None:
    from vlmerge import __version__

    assert vlmerge("--version") == Ran(0, f"vlmerge {__version__}\n", "")


def test_wrong_usage_is_the_users_to_mend() -> None:
    vlmerge("marge").refuses("No such command", "marge")
    vlmerge("ask").refuses("Missing argument", "model")
    vlmerge("merge").refuses("Missing argument", "RECIPE.yaml")
    vlmerge("evaluate", VLM).refuses("Missing option", "--task")
    vlmerge("ask", VLM, PICTURE, "?", "--device", "abacus").refuses("--device", "abacus")


# ── ask ──


def test_ask_answers() -> None:
    done = vlmerge("ask", VLM, PICTURE, "What is at the bottom?", "--json")
    assert done.json["question"] == "What is at the bottom?"
    assert done.json["answer"].strip()
    assert done.json["tokens"] > 0
    assert vlmerge("ask", VLM, PICTURE, "What is at the bottom?").out == done.json["answer"] + "\n"


def test_ask_says_what_is_missing() -> None:
    vlmerge("ask", VLM).refuses("a picture and a question are missing", "--web")
    vlmerge("ask", VLM, PICTURE).refuses("the question is missing", "--web")


def test_pages_say_what_is_wrong_before_anything_is_served(tmp_path: Path) -> None:
    vlmerge("watch", tmp_path / "nowhere", "--no-browser").refuses("there is no such folder", "nowhere")
    vlmerge("ask", tmp_path / "nowhere", "--web", "--no-browser").refuses("nowhere")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        vlmerge("watch", tmp_path, "--no-browser", "--port", port).refuses("the port is taken", str(port), "--port 0")


def test_ask_takes_a_run_folder_for_its_winner(run: Path) -> None:
    asked = (PICTURE, "下に見えるのは何ですか?")
    assert vlmerge("ask", run, *asked).out == vlmerge("ask", run / "model", *asked).out != ""


def test_ask_refuses_what_is_no_picture(tmp_path: Path) -> None:
    vlmerge("ask", VLM, tmp_path / "none.png", "?").refuses("there is no such picture", "none.png")
    (tmp_path / "half.png").write_bytes(Path(PICTURE).read_bytes()[:200])
    vlmerge("ask", VLM, tmp_path / "half.png", "?").refuses("a picture cannot be read", "half.png")
    (tmp_path / "words.png").write_text("This is not a picture.")
    vlmerge("ask", VLM, tmp_path / "words.png", "?").refuses("a picture cannot be read", "words.png")


def test_ask_refuses_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    vlmerge("ask", tmp_path / "empty", PICTURE, "?").refuses("error: ", str(tmp_path / "empty"))
    vlmerge("ask", FAMILY / "ja", PICTURE, "?").refuses("error: ")


@pytest.fixture
def site() -> Iterator[str]:
    """The shipped pictures on a web server of this machine."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    handler = partial(Silent, directory=str(FAMILY / "bench" / "holdout"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_ask_fetches_a_picture(site: str) -> None:
    question = "What is at the bottom?"
    assert vlmerge("ask", VLM, f"{site}/000.png", question).out == vlmerge("ask", VLM, PICTURE, question).out != ""


def test_ask_says_why_a_picture_cannot_be_fetched(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vlmerge("ask", VLM, f"{site}/none.png", "?").refuses("the picture cannot be fetched", f"{site}/none.png", "not found")
    vlmerge("ask", VLM, f"{site}/questions.jsonl", "?").refuses("a picture cannot be read", f"{site}/questions.jsonl")
    monkeypatch.setattr(import_module("vlmerge.ask"), "LARGEST_PICTURE", 100)
    vlmerge("ask", VLM, f"{site}/000.png", "?").refuses("the picture is too large", f"{site}/000.png")


@pytest.mark.parametrize("options", [(), ("--temperature", 0.7)], ids=["greedy", "sampled"])
def test_ask_says_that_a_broken_model_cannot_answer(infinite: Path, options: tuple[object, ...]) -> None:
    done = vlmerge("ask", infinite, PICTURE, "?", *options)
    done.refuses("the model cannot answer", str(infinite), "the logits are not finite")


# ── evaluate ──


def test_evaluate_scores_a_model() -> None:
    (result,) = vlmerge("evaluate", VLM, "--task", QUESTIONS, *FIELDS, "--limit", 4, "--max-new-tokens", 16, "--json").json
    assert 0 < result["score"] <= 100
    assert result["questions"] == len(result["answers"]) == 4
    assert all(answer["answer"].strip() for answer in result["answers"])
    assert result["score"] == pytest.approx(25 * sum(answer["score"] for answer in result["answers"]))
    assert "at most 16 tokens" in result["decoding"]


def test_evaluate_for_people_is_one_score_with_its_protocol() -> None:
    done = vlmerge("evaluate", VLM, "--task", QUESTIONS, *FIELDS, "--limit", 2, "--max-new-tokens", 8)
    assert done.code == 0
    assert "on 2 questions" in done.out
    assert "at most 8 tokens" in done.out


def test_evaluate_refuses_names_that_it_does_not_know() -> None:
    vlmerge("evaluate", VLM, "--task", "no-such-task").refuses("no-such-task")
    known = ("evaluate", VLM, "--task", QUESTIONS, *FIELDS)
    vlmerge(*known, "--metric", "vibes").refuses("vibes", "rougeL")
    vlmerge(*known, "--preset", "vibes").refuses("vibes", "sakana")
    vlmerge("evaluate", VLM, "--task", QUESTIONS, "--field", "question").refuses("--field", "OURS=THEIRS")
    vlmerge("evaluate", VLM, "--task", QUESTIONS, "--field", "question=vibes").refuses("vibes")


@pytest.mark.parametrize("options", [(), ("--preset", "sakana")], ids=["greedy", "beams"])
def test_evaluate_says_that_a_broken_model_cannot_answer(infinite: Path, options: tuple[object, ...]) -> None:
    done = vlmerge("evaluate", infinite, "--task", QUESTIONS, *FIELDS, "--limit", 2, *options)
    assert done.code == 2
    assert "the model cannot answer" in done.err
    assert "the logits are not finite" in done.err
    assert "Traceback" not in done.err


def test_a_model_that_says_nothing_scores_nothing(tmp_path: Path) -> None:
    """A last norm of zeros makes all tokens equally likely, and the first of them is a special one."""
    mute = _changed(tmp_path / "mute", lambda _name, norm: np.zeros_like(norm))
    (result,) = vlmerge("evaluate", mute, "--task", QUESTIONS, *FIELDS, "--limit", 3, "--max-new-tokens", 4, "--json").json
    assert [answer["answer"].strip() for answer in result["answers"]] == ["", "", ""]
    assert result["score"] == 0


# ── files ──


def test_a_run_is_no_recipe_and_a_recipe_is_no_run(tmp_path: Path) -> None:
    vlmerge("merge", FAMILY / "run.yaml", tmp_path / "out").refuses("vlmerge evolve", "run.yaml")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    vlmerge("evolve", tmp_path / "recipe.yaml", "--out", tmp_path / "out").refuses("vlmerge merge", "recipe.yaml")
    assert not (tmp_path / "out").exists()


def test_merge_writes_a_model_and_never_over_another(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = vlmerge("merge", tmp_path / "recipe.yaml", tmp_path / "merged")
    assert done.code == 0
    assert "57 tensors merged" in done.out
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    vlmerge("merge", tmp_path / "recipe.yaml", tmp_path / "merged").refuses(str(tmp_path / "merged"))


def test_merge_writes_a_card_without_a_score(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE + "name: two of them\n")
    assert vlmerge("merge", tmp_path / "recipe.yaml", tmp_path / "merged").code == 0
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["tags"] == ["vlmerge", "merge"]
    assert fields["pipeline_tag"] == "image-text-to-text"
    assert "# two of them" in text
    assert "A merge of `vlm`, `ja` by the method `linear`" in text
    assert "- 57 are merged" in text
    assert "those of `vlm`: ja has no such tensor" in text
    assert "core" not in text.replace("nothing was scored", "")
    assert str(FAMILY) not in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert [each["model"] for each in recipe["models"]] == ["./vlm", "./ja"]
    # From such a folder it is the recipe that was merged.
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    for name in ("vlm", "ja"):
        (tmp_path / name).symlink_to(FAMILY / name)
    assert vlmerge("merge", tmp_path / "own.yaml", tmp_path / "again").code == 0
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("merged", "again")]
    assert files[0] == files[1]


def test_a_process_of_its_own_ends_with_its_model_whole_and_all_said(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "vlmerge", "merge", str(tmp_path / "recipe.yaml")]
    done = subprocess.run([*command, str(tmp_path / "merged")], capture_output=True, text=True, check=True)
    assert "57 tensors merged" in done.stdout
    assert "Traceback" not in done.stderr
    # Nobody listens.
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        unheard = subprocess.run(
            [*command, str(tmp_path / "again")], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert "Traceback" not in unheard.stderr
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("merged", "again")]
    assert files[0] == files[1]


@pytest.mark.parametrize("command", ["check", "merge", "evolve"])
def test_a_file_that_is_not_there_or_not_yaml_is_refused(command: str, tmp_path: Path) -> None:
    out = {"check": [], "merge": [tmp_path / "out"], "evolve": ["--out", tmp_path / "out"]}[command]
    vlmerge(command, tmp_path / "none.yaml", *out).refuses("none.yaml")
    (tmp_path / "broken.yaml").write_text("models: [a, b\nmerge_method: {")
    vlmerge(command, tmp_path / "broken.yaml", *out).refuses("broken.yaml")


def test_a_file_from_an_editor_of_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xef\xbb\xbf" + RECIPE.replace("\n", "\r\n").encode())
    assert vlmerge("check", tmp_path / "recipe.yaml", "--json").json["merged"] == 57


def test_check_refuses_pictures_for_models_without_eyes(tmp_path: Path) -> None:
    blind = small_run(merge={"models": [str(FAMILY / "ja")], "method": "linear"})
    vlmerge("check", write_run(tmp_path, blind)).refuses("none of the models can see", str(FAMILY / "ja"))


def test_check_refuses_a_run_whose_host_cannot_be_asked_and_warns_of_it_in_a_recipe(tmp_path: Path) -> None:
    shutil.copytree(FAMILY / "vlm", tmp_path / "vlm")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / "vlm" / name).unlink(missing_ok=True)
    models = {"models": [str(tmp_path / "vlm"), str(FAMILY / "ja")], "method": "linear"}
    for command in (("check",), ("evolve", "--out", tmp_path / "run")):
        done = vlmerge(*command, write_run(tmp_path, small_run(merge=models)))
        done.refuses("merged but not be asked", str(tmp_path / "vlm"), "no preprocessor_config.json", "copy the files")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace(str(FAMILY / "vlm"), str(tmp_path / "vlm")), encoding="utf-8")
    warned = vlmerge("check", tmp_path / "recipe.yaml", "--json").json
    assert any("cannot be asked about pictures" in warning for warning in warned["warnings"])


def test_check_refuses_a_run_that_the_disk_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    done = vlmerge("check", write_run(tmp_path, small_run()), "--out", tmp_path / "run")
    assert done.code == 2
    assert "1.0 kB free" in done.out, "what there is to know is told all the same"
    assert "the disk has no room" in done.err
    assert "--out" in done.err


def test_check_tells_scripts_what_would_pair() -> None:
    told = vlmerge("check", FAMILY / "run.yaml", "--json").json
    assert told["merged"] == 57
    assert [Path(model["name"]).name for model in told["models"]] == ["vlm", "ja", "base"]
    assert [(stage["genes"], stage["candidates"]) for stage in told["plan"]["stages"]] == [(3, 40), (12, 120)]
    assert {"host", "swap:ja", "grid", "chat_vector:ja"} <= set(told["plan"]["baselines"])
    assert [one["set"] for one in told["tasks"]] == ["search", "validation", "holdout", "holdout"]
    assert sum(one["questions"] for one in told["tasks"]) > 500
    assert told["need_bytes"] < told["free_bytes"]
    assert told["seconds_per_trial"] is None


def test_check_tells_people_the_same() -> None:
    done = vlmerge("check", FAMILY / "run.yaml")
    assert done.code == 0
    assert "57" in done.out
    assert "holdout" in done.out
    assert "groups, 12 genes, 120 candidates" in done.out
    assert "the first generation will tell" in done.out


def test_check_tells_the_time_from_a_run_that_has_begun(run: Path) -> None:
    own = (run.parent / "small.yaml", "--out", run)
    assert vlmerge("check", *own, "--json").json["seconds_per_trial"] > 0
    assert f"s per trial so far in {run}" in vlmerge("check", *own).out
    other = write_run(run.parent, small_run(search={"max_fevals": 4, "population": 2}), "other.yaml")
    assert vlmerge("check", other, "--out", run, "--json").json["seconds_per_trial"] is None


# ── lists ──


@pytest.mark.parametrize(
    ("command", "key", "known"),
    [
        ("tasks", "task", {"ja-vlm-bench-in-the-wild"}),
        ("methods", "method", {"linear", "slerp", "task_arithmetic"}),
        ("families", "family", {"LLaVA", "Llama"}),
    ],
)
def test_lists_are_the_same_for_scripts_and_for_people(command: str, key: str, known: set[str]) -> None:
    names = {row[key] for row in vlmerge(command, "--json").json}
    assert known <= names
    shown = vlmerge(command)
    assert shown.code == 0
    assert all(name in shown.out for name in known)


# ── run folders ──


def test_report_tells_scripts_the_results(run: Path) -> None:
    told = vlmerge("report", run, "--json").json
    assert told == json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert {"winner", "host"} <= {row["candidate"] for row in told["rows"]}


def test_report_tells_people_where_the_page_is(run: Path) -> None:
    done = vlmerge("report", run)
    assert done.code == 0
    assert f"page: {run / 'report.html'}" in done.out
    assert "winner" in done.out


def test_export_writes_a_trial(run: Path, tmp_path: Path) -> None:
    done = vlmerge("export", run, tmp_path / "one", "--trial", 1)
    assert done.code == 0
    assert done.out.startswith("trial 1 (")
    assert (tmp_path / "one" / "README.md").is_file()
    vlmerge("export", run, tmp_path / "one").refuses("not empty", str(tmp_path / "one"))
    vlmerge("export", run, tmp_path / "none", "--trial", 4711).refuses("trial 4711 cannot be exported")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    vlmerge("report", tmp_path).refuses("this is not a run folder", str(tmp_path))
    vlmerge("report", tmp_path, "--json").refuses("this is not a run folder")
    vlmerge("export", tmp_path, tmp_path / "out").refuses("this is not a run folder")
    assert list(tmp_path.iterdir()) == [], "asking leaves nothing behind"
