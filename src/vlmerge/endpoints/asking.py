"""Many requests, some at a time: what is known is not asked again, each answer is kept as it comes, the first error stops."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from vlmerge.endpoints.address import Endpoint
from vlmerge.endpoints.chat import Reply, Request, complete
from vlmerge.endpoints.kept import Kept, key_of


def ask_all(
    endpoint: Endpoint,
    requests: Sequence[Request],
    *,
    parallel: int,
    kept: Kept,
    fresh: bool = False,
    allow: Callable[[], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Reply]:
    """One reply per request, in their order. Equal requests are asked once.

    Args:
        endpoint: Who is asked.
        requests: What is asked.
        parallel: Most requests under way at a time.
        kept: What was said before, and where to keep the rest.
        fresh: Ask also what is kept.
        allow: Called in this thread before each request that is really sent; an exception of its keeps that one back.
        progress: Told the number of replies.

    Raises:
        EndpointError: The first request that came to nothing; what the others under way have brought is kept.
    """
    keys = [key_of(endpoint, request) for request in requests]
    counts = Counter(keys)
    waiting = dict(zip(keys, requests, strict=True))
    known: dict[str, Reply] = {}

    def tell(count: int) -> None:
        if progress is not None:
            progress(count)

    for key in list(waiting) if not fresh else []:
        found = kept.find(key)
        if found is not None:
            known[key] = found
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
            if isinstance(result, Reply):
                known[key] = result
                kept.keep(key, endpoint, result)
                tell(counts[key])
            elif failure is None:
                failure = result
                given_up.set()
    finally:
        given_up.set()
        for _ in range(workers):
            to_do.put(None)
    if failure is not None:
        raise failure
    return [known[key] for key in keys]
