"""Apply a function to items in a thread pool, a limited number of items ahead of the consumer."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yield function(item) for each item, in the order of the items, computed ahead of time in a thread pool.

    pool: thread pool that runs the function
    ahead: maximum number of results that are computed before the consumer asks for them, which limits memory use
    If the consumer stops early or a call fails, the calls that have not started are canceled.
    """
    pending: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
