"""`vlmerge watch`: the site that shows runs while they grow. It reads their records, and never takes a run's lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from vlmerge.errors import UserError
from vlmerge.report.phrases import Language
from vlmerge.run_folder import part_at_work, readable_store
from vlmerge.store import SPLITS, Store
from vlmerge.web.comparison import Chosen, compare, read_only
from vlmerge.web.pages import asset, language_of, page, phrases
from vlmerge.web.progress import Progress
from vlmerge.web.run_list import RunList
from vlmerge.web.sight import visible_picture
from vlmerge.web.steering import Steering


class Watched:
    """The site over a folder; what is remembered of its runs lives as long as the server.

    Args:
        folder: A run folder, or a folder of run folders.
        lang: The usual language.
        token: The server's secret, for what a page changes.

    Raises:
        RunFolderError: There is no such folder.
    """

    def __init__(self, folder: Path, lang: Language, token: str) -> None:
        self._list = RunList(folder)
        self._lang: Language = lang
        self._token = token
        self._progress: dict[str, Progress] = {}
        self._steering: dict[str, Steering] = {}

    @property
    def waiting(self) -> str | None:
        """What the page waits for, in a line; None where there is a run."""
        if self._list.runs():
            return None
        return f"no run in {self._list} yet: the page waits for one, `vlmerge evolve RUN.yaml --out {self._list}/NAME`"

    def site(self) -> Starlette:
        """The application, without its gate."""
        routes = [
            Route("/", self._front),
            Route("/assets/{name}", asset),
            Route("/runs.json", self._overview),
            Route("/run/{run}", self._page),
            Route("/run/{run}/state.json", self._state),
            Route("/run/{run}/compare.json", self._compare),
            Route("/run/{run}/picture", self._picture),
            Route("/run/{run}/stop", self._stop, methods=["POST"]),
            Route("/run/{run}/go-on", self._go_on, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={UserError: _told})

    # ── pages ──

    async def _front(self, request: Request) -> Response:
        if self._list.single:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/run/{quote(self._list.name, safe='')}{query}", status_code=303)
        language = language_of(request, self._lang)
        return page("runs.html.j2", language, self._token, title=self._list.name, folder=self._list.name)

    async def _page(self, request: Request) -> Response:
        folder = self._folder_of(request)
        return page(
            "run.html.j2",
            language_of(request, self._lang),
            self._token,
            title=folder.name,
            run=quote(folder.name, safe=""),
            among=None if self._list.single else self._list.name,
        )

    # ── what their scripts ask for ──

    async def _overview(self, request: Request) -> Response:
        language = language_of(request, self._lang)

        def look() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            for name in self._list.runs():
                state = self._progress_of(name).read(phrases(language))
                wanted = ("state", "where", "done", "budget", "per_minute", "seconds_left", "best", "contaminated", "name")
                best = _best_so_far(state["chart"]["points"])
                baselines = state["chart"]["baselines"]
                found.append(
                    {key: state[key] for key in wanted}
                    | {"run": name, "curve": best, "baseline": baselines[-1] if baselines else None}
                    | {"winner": _winner(state)}
                )
            return found

        return JSONResponse(await run_in_threadpool(look))

    async def _state(self, request: Request) -> Response:
        folder = self._folder_of(request)
        progress, steering = self._progress_of(folder.name), self._steering_of(folder.name)
        language = language_of(request, self._lang)

        def look() -> Response:
            version = f"{progress.version()}-{steering.starting}"
            if request.query_params.get("version") == version:
                return Response(status_code=204)
            state = progress.read(phrases(language))
            if steering.starting and state["state"] == "stopped":
                state["state"] = "waiting"
            return JSONResponse({"version": version, "trouble": steering.trouble, **state})

        return await run_in_threadpool(look)

    async def _compare(self, request: Request) -> Response:
        folder, asked = self._folder_of(request), request.query_params
        chosen = Chosen(
            a=_number(asked.get("a")),
            b=_number(asked.get("b")),
            split=next((split for split in SPLITS if split == asked.get("set")), None),
            task=asked.get("task") or None,
            kind=asked.get("kind") or None,
            only=read_only(asked.get("only")),
            first=_number(asked.get("first", "0")),
        )

        def look() -> dict[str, Any] | None:
            with Store.read_only(readable_store(part_at_work(folder))) as store:
                return compare(store, chosen, phrases(language_of(request, self._lang)))

        found = await run_in_threadpool(look)
        if found is None:
            raise HTTPException(404, "no such trial")
        return JSONResponse(found)

    async def _picture(self, request: Request) -> Response:
        folder, digest = self._folder_of(request), request.query_params.get("digest", "")

        def look() -> bytes | None:
            with Store.read_only(readable_store(part_at_work(folder))) as store:
                return visible_picture(store, digest)

        jpeg = await run_in_threadpool(look)
        if jpeg is None:
            raise HTTPException(404, "no such picture")
        return Response(jpeg, media_type="image/jpeg")

    # ── what changes something ──

    async def _stop(self, request: Request) -> Response:
        await run_in_threadpool(self._steering_of(self._folder_of(request).name).stop)
        return JSONResponse({"done": True})

    async def _go_on(self, request: Request) -> Response:
        await run_in_threadpool(self._steering_of(self._folder_of(request).name).go_on)
        return JSONResponse({"done": True})

    # ── inside ──

    def _folder_of(self, request: Request) -> Path:
        folder = self._list.runs().get(request.path_params["run"])
        if folder is None:
            raise HTTPException(404, "no such run")
        return folder

    def _progress_of(self, name: str) -> Progress:
        return self._progress.setdefault(name, Progress(self._list.runs()[name]))

    def _steering_of(self, name: str) -> Steering:
        return self._steering.setdefault(name, Steering(self._list.runs()[name], self._lang))


async def _told(_: Request, error: Exception) -> Response:
    """An error for the person, as a page's script shows it."""
    return JSONResponse({"error": str(error)}, status_code=409)


def _number(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        raise HTTPException(400, "a number is expected")
    return int(text)


def _best_so_far(points: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """The curve of the overview: only where it rises, and its end."""
    curve: list[tuple[int, float]] = []
    for point in points:
        score = point["score"]
        if score is not None and point["kept"] and (not curve or score > curve[-1][1]):
            curve.append((point["number"], score))
    if curve and points[-1]["number"] > curve[-1][0]:
        curve.append((points[-1]["number"], curve[-1][1]))
    return curve


def _winner(state: dict[str, Any]) -> dict[str, Any] | None:
    """The winner's score on the freshest set that the run has looked at."""
    number = state["standing"].get("winner")
    line = next((line for line in state["trials"] if line["trial"] == number), None)
    if line is None:
        return None
    split = next((split for split in ("holdout", "validation", "search") if line.get(split) is not None), None)
    return None if split is None else {"set": split, "score": line[split], "trial": number}
