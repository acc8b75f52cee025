"""Calls in threads or processes, with their results in order."""

from __future__ import annotations

import concurrent.futures as futures
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from funcgrad.errors import DatasetError

Workers = Literal["threads", "processes"]


def in_order(
    make: Callable[..., Any], calls: Iterable[tuple[Any, ...]], pool: futures.Executor, ahead: int
) -> Iterator[Any]:
    """``make(*call)`` for each call, up to so many of them begun before they are asked for.

    However the iteration ends, no worker is left when it has.
    """
    pending: deque[futures.Future[Any]] = deque()
    try:
        for call in calls:
            pending.append(pool.submit(make, *call))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except futures.BrokenExecutor as error:
        raise DatasetError(
            "a worker process ended unexpectedly. Processes run the script again from its top: "
            "what it does must be below `if __name__ == '__main__':`. Else it may have lacked "
            "memory; workers='threads' need no copy of the dataset."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def thread_pool(count: int) -> futures.Executor:
    return futures.ThreadPoolExecutor(count, thread_name_prefix="funcgrad-loader")


def process_pool(count: int, make: Callable[..., Any]) -> futures.Executor:
    """Processes in which :func:`made` calls `make`.

    Raises:
        DatasetError: it cannot be sent to a process.
    """
    import multiprocessing

    try:
        sent = pickle.dumps(make)
    except Exception as error:
        raise DatasetError(
            f"what makes the batches cannot be sent to a process ({error}). Datasets, transforms "
            "and functions have to be defined at the top of a module, without lambdas; or use "
            "workers='threads'."
        ) from error
    # A forked process would have locks of threads that it has not.
    context = multiprocessing.get_context("spawn")
    return futures.ProcessPoolExecutor(count, context, _begin, (sent,))


_make: Callable[..., Any] | None = None


def _begin(sent: bytes) -> None:
    """In a new process: get ready, and end with the parent, whatever that ends by."""
    global _make
    import multiprocessing

    # Ctrl-C reaches all processes of a terminal; the parent ends these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
    _make = pickle.loads(sent)


def made(*call: Any) -> Any:
    """In a worker process: what the loader's function gives."""
    assert _make is not None
    return _make(*call)
