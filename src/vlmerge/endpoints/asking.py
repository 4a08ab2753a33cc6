"""Many requests, some at a time: what is known is not asked again, each answer is kept as it comes, the first error stops.

A request that a server refuses, or answers with nothing, is data where it answers others, and an error where it does not.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from vlmerge.endpoints.address import Endpoint
from vlmerge.endpoints.chat import Refused, Reply, Request, Silent, complete
from vlmerge.endpoints.kept import Kept, key_of
from vlmerge.errors import EndpointError

PATIENCE = 20
"""Requests in a row, from the first one on, that come to nothing before a server is no server for this."""


def ask_all(
    endpoint: Endpoint,
    requests: Sequence[Request],
    *,
    parallel: int,
    kept: Kept,
    fresh: bool = False,
    allow: Callable[[], None] | None = None,
    unasked: Callable[[], None] | None = None,
    proven: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Reply]:
    """One reply per request, in their order; where there is no answer, `withheld` says why. Equal requests are asked once.

    Args:
        endpoint: Who is asked.
        requests: What is asked.
        parallel: Most requests under way at a time.
        kept: What was said before, and where to keep the rest.
        fresh: Ask also what is kept.
        allow: Called in this thread before each request that is really sent; an exception of its keeps that one back.
        unasked: Called in this thread for each of these that the server did no work for.
        proven: Whether it has answered before: then it may refuse all of these, if they are fewer than `PATIENCE`.
        progress: Told the number of replies.

    Raises:
        EndpointError: The first request that failed, or a server that answers none; what the others under way have brought is
            kept.
    """
    keys = [key_of(endpoint, request) for request in requests]
    counts = Counter(keys)
    waiting = dict(zip(keys, requests, strict=True))
    known: dict[str, Reply] = {}
    works, nothing = False, list[EndpointError]()

    def tell(count: int) -> None:
        if progress is not None:
            progress(count)

    for key in list(waiting) if not fresh else []:
        found = kept.find(key)
        if found is not None:
            known[key] = found
            works = works or not found.withheld
            del waiting[key]
            tell(counts[key])

    given_up = threading.Event()
    to_do: queue.SimpleQueue[tuple[str, Request] | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, Reply | BaseException]] = queue.SimpleQueue()

    def work() -> None:
        while (item := to_do.get()) is not None:
            try:
                done.put((item[0], complete(endpoint, item[1], given_up)))
            except BaseException as error:  # It is raised in the thread that asked.
                done.put((item[0], error))

    workers = min(parallel, len(waiting))
    for _ in range(workers):
        # Daemons: an interrupt need not wait for a server.
        threading.Thread(target=work, daemon=True).start()
    under_way, failure = 0, None
    left = iter(waiting.items())
    try:
        while True:
            while under_way < workers and failure is None and (item := next(left, None)) is not None:
                try:
                    if allow is not None:
                        allow()
                except Exception as error:
                    failure = error
                    break
                to_do.put(item)
                under_way += 1
            if not under_way:
                break
            key, result = done.get()
            under_way -= 1
            if isinstance(result, Refused):
                nothing.append(result)
                result = Reply("", withheld=f"it refuses the request: {result.found}")
            elif isinstance(result, Reply) and result.withheld:
                nothing.append(_nothing_said(endpoint, waiting[key], result.withheld))
            else:
                works = works or isinstance(result, Reply)
            idle = result.withheld if isinstance(result, Reply) else not isinstance(result, Silent)
            if idle and unasked is not None:
                unasked()
            if isinstance(result, Reply):
                known[key] = result
                kept.keep(key, endpoint, result)
                tell(counts[key])
            elif failure is None:
                failure = result
                given_up.set()
            if failure is None and not works and len(nothing) == (PATIENCE if proven else min(PATIENCE, len(waiting))):
                failure = nothing[0]
                given_up.set()
    finally:
        given_up.set()
        for _ in range(workers):
            to_do.put(None)
    if failure is not None:
        raise failure
    return [known[key] for key in keys]


def _nothing_said(endpoint: Endpoint, request: Request, reason: str) -> EndpointError:
    return EndpointError(
        "a server gives no answer",
        where=f"{endpoint}{f', {request.what}' if request.what else ''}",
        expected="a text in `content`",
        found=reason,
        remedy="ask another model there, or change how the server is started: its tools and filters are its own",
    )
