"""`vlmerge ask --web`: the site where a person puts in a picture, asks, and reads several models' answers side by side."""

from __future__ import annotations

import io
import time

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vlmerge.errors import TaskError, UserError
from vlmerge.report.phrases import Language
from vlmerge.types import Decoding, Picture, Question
from vlmerge.web.gate import LARGEST_BODY
from vlmerge.web.pages import asset, language_of, page, phrases
from vlmerge.web.panel import Panel

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 50_000_000
"""Pixels of a picture: a few kilobytes may claim to be billions, which would have to be in memory."""

LONGEST_QUESTION = 4000


class Chat:
    """The site over a panel.

    Args:
        panel: Who answers.
        title: What the page is called.
        decoding: How answers are generated.
        lang: The usual language.
        token: The server's secret.
    """

    def __init__(self, panel: Panel, title: str, decoding: Decoding, lang: Language, token: str) -> None:
        self._panel = panel
        self._title = title
        self._decoding = decoding
        self._lang: Language = lang
        self._token = token

    def site(self) -> Starlette:
        """The application, without its gate."""
        routes = [
            Route("/", self._page),
            Route("/assets/{name}", asset),
            Route("/answer", self._answer, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={UserError: _told})

    async def _page(self, request: Request) -> Response:
        language = language_of(request, self._lang)
        say = phrases(language)
        return page(
            "chat.html.j2",
            language,
            self._token,
            title=self._title,
            limit=LARGEST_BODY >> 20,
            longest=LONGEST_QUESTION,
            formats=",".join(f"image/{name.lower()}" for name in FORMATS),
            decoding=self._decoding.describe(),
            speakers=[
                {
                    "role": speaker.role,
                    "title": say(f"chat.role.{speaker.role}"),
                    "name": "" if speaker.role == speaker.row else say.candidate(speaker.row),
                }
                for speaker in self._panel.speakers
            ],
        )

    async def _answer(self, request: Request) -> Response:
        """One speaker's answer: the picture is the body, the question and the speaker's place stand in the address."""
        place = request.query_params.get("speaker", "")
        text = request.query_params.get("question", "").strip()
        if not place.isascii() or not place.isdigit() or int(place) >= len(self._panel.speakers):
            raise HTTPException(400, "no such speaker")
        if not text or len(text) > LONGEST_QUESTION:
            raise HTTPException(400, f"a question of 1 to {LONGEST_QUESTION} characters is expected")
        data = await request.body()

        def ask() -> dict[str, object]:
            picture = checked_picture(data)
            started = time.perf_counter()
            answer = self._panel.answer(int(place), Question("ask", "ask", text, (picture,), ("",)), self._decoding)
            seconds = round(time.perf_counter() - started, 1)
            return {"text": answer.text.strip(), "tokens": answer.tokens, "seconds": seconds}

        return JSONResponse(await run_in_threadpool(ask))


def checked_picture(data: bytes) -> Picture:
    """A picture that somebody brought, once its header says that it is one of FORMATS and not too large.

    Args:
        data: The file's bytes.

    Raises:
        TaskError: It is none, or has more than MOST_PIXELS.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TaskError(
            "this is not a picture that can be read",
            expected="a PNG, JPEG or WebP file",
            found=type(error).__name__,
            remedy="choose another file",
        ) from error
    if width * height > MOST_PIXELS:
        raise TaskError(
            "the picture is too large",
            expected=f"at most {MOST_PIXELS // 1_000_000} million pixels",
            found=f"{width} × {height}",
            remedy="make it smaller",
        )
    picture = Picture(data=data, origin="the picture")
    picture.open()
    return picture


async def _told(_: Request, error: Exception) -> Response:
    """An error for the person, as the page's script shows it."""
    return JSONResponse({"error": str(error)}, status_code=409)
