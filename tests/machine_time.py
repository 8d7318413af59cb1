"""How long something takes of the time that this machine goes on: others share it.

While it stands still nothing gets done, and nothing is to be called late for it.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TICK_S: Final = 0.01


@contextmanager
def counted() -> Iterator[Callable[[], float]]:
    """Lend what says how many seconds the machine has gone on since the block began.

    A thread beside the block counts how often it could go on. Whoever keeps it from that by work
    in the block's own thread, with Python's lock held, is counted by the processor time of that.
    """
    over, ticks = threading.Event(), 0
    worked = time.thread_time()

    def count() -> None:
        nonlocal ticks
        while not over.wait(_TICK_S):
            ticks += 1

    def passed_s() -> float:
        return max(ticks * _TICK_S, time.thread_time() - worked)

    counting = threading.Thread(target=count, name="counts while the machine goes on")
    counting.start()
    try:
        yield passed_s
    finally:
        over.set()
        counting.join()


@contextmanager
def quick(at_most_s: float) -> Iterator[None]:
    """Fail where the block takes longer than *at_most_s*."""
    with counted() as passed_s:
        yield
        took_s = passed_s()
    assert took_s <= at_most_s, f"it took {took_s:.1f} s, and {at_most_s:g} s at most are allowed"
