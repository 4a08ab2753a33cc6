"""The page of `vlmerge ask --web`: a picture, a question, and the answers of several models side by side."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from evolve.conftest import FAMILY
from PIL import Image

from vlmerge.ask import ask
from vlmerge.config.run import RuntimeSpec
from vlmerge.standing import leaders
from vlmerge.store import Store
from vlmerge.types import Decoding
from vlmerge.web.chat import LONGEST_QUESTION, MOST_PIXELS
from vlmerge.web.panel import Panel, run_speakers

from .conftest import Server
from .devtools import Browser

PICTURE = FAMILY / "bench" / "holdout" / "000.png"
QUESTION = "下に見えるのは何ですか?"
SHORT = ("--max-new-tokens", 12, "--device", "cpu")
DECODING = Decoding(max_new_tokens=12)
RUNTIME = RuntimeSpec(device="cpu")


@pytest.fixture(scope="module")
def panel_of_run(started: Callable[..., Server], runs: Path) -> Server:
    return started("ask", runs / "small", "--web", *SHORT)


def said_by(model: Path) -> str:
    """What the model says when it is asked in the terminal."""
    return ask(str(model), [str(PICTURE)], QUESTION, DECODING, RUNTIME).text.strip()


def brought(data: bytes, server: Server, question: str = QUESTION, speaker: str = "0") -> tuple[int, str]:
    status, _, body = server.ask(f"/answer?speaker={speaker}&question={quote(question)}", "POST", body=data)
    return status, body.decode()


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_runs_models_answer_side_by_side(browser: Browser, panel_of_run: Server, runs: Path, width: int) -> None:
    browser.size(width)
    browser.open(panel_of_run.at("/?lang=ja"))
    browser.click("#send")
    browser.until("document.querySelector('#hint').textContent === '先に画像を入れてください。'")
    browser.choose_file("#file", PICTURE)
    browser.until("document.querySelector('#preview').naturalWidth > 0")
    browser.click("#send")
    browser.until("document.querySelector('#hint').textContent === '先に質問を書いてください。'")
    assert browser.run("document.activeElement.id") == "question"
    browser.run(f"document.querySelector('#question').value = {QUESTION!r}")
    browser.press("Enter", 13, "\r")
    browser.until("document.querySelectorAll('.turn .took').length === document.querySelectorAll('.said > div').length")
    answers = browser.run("[...document.querySelectorAll('.said .text')].map((each) => each.textContent)")
    roles = browser.run("[...document.querySelectorAll('.said > div')].map((each) => each.className)")
    assert roles[0] == "winner"
    assert len(set(roles)) == len(roles) >= 2
    # The model that was merged in place says what the exported one says.
    assert answers[0] == (said_by(runs / "small" / "model") or "（空の回答）")
    assert answers[roles.index("host")] == (said_by(FAMILY / "vlm") or "（空の回答）")
    assert browser.run("document.documentElement.scrollWidth") == width


def test_the_speakers_of_a_run_are_its_winner_host_and_best_baseline(runs: Path) -> None:
    with Store.read_only(runs / "small" / "run.sqlite") as store:
        standing = store.get("standing")
        by_hand = {row for row, (_, trial) in leaders(store, searched=False).items() if trial.kind == "baseline"}
    speakers = run_speakers(runs / "small", RUNTIME)
    assert [speaker.role for speaker in speakers][:2] == ["winner", "host"]
    assert {speaker.row for speaker in speakers[1:]} <= by_hand
    assert standing["winner"]
    assert len(Panel(speakers).speakers) == len(speakers)


def test_a_model_beside_another(started: Callable[..., Server], runs: Path) -> None:
    server = started("ask", FAMILY / "vlm", "--web", "--beside", runs / "small" / "model", *SHORT)
    first, second = (brought(PICTURE.read_bytes(), server, speaker=place) for place in "01")
    assert (first[0], second[0]) == (200, 200)
    assert first != second
    assert brought(PICTURE.read_bytes(), server, speaker="2")[0] == 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"GIF89a" + b"\0" * 60, "not a picture"),
        (PICTURE.read_bytes()[:200], "cannot be read"),
        (png(50_000, 50_000), "picture"),
        (png(8000, MOST_PIXELS // 8000 + 1), "too large"),
    ],
)  # fmt: skip
def test_what_is_no_picture_or_a_bomb_is_refused(panel_of_run: Server, data: bytes, words: str) -> None:
    status, told = brought(data, panel_of_run)
    assert status == 409
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_usual_pictures_are_taken(panel_of_run: Server, kind: str) -> None:
    buffer = io.BytesIO()
    with Image.open(PICTURE) as picture:
        picture.convert("RGB").save(buffer, kind)
    assert brought(buffer.getvalue(), panel_of_run)[0] == 200


def test_questions_have_a_length_and_speakers_a_place(panel_of_run: Server) -> None:
    data = PICTURE.read_bytes()
    assert brought(data, panel_of_run, question=" ")[0] == 400
    assert brought(data, panel_of_run, question="x" * (LONGEST_QUESTION + 1))[0] == 400
    for speaker in ("", "-1", "x", "99", "²"):
        assert brought(data, panel_of_run, speaker=quote(speaker))[0] == 400
    status, _, _ = panel_of_run.ask("/answer?speaker=0&question=x", "POST", body=data, headers={"X-Vlmerge-Token": None})
    assert status == 403
