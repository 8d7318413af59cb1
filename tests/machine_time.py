"""Whether something was quick, on a machine that others share and that stands still at times."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICK_S: Final = 0.01


@contextmanager
def quick(at_most_s: float) -> Iterator[None]:
    """Fail where the block takes longer than *at_most_s*, of the time that this machine goes on.

    A thread beside the block counts how often it could go on meanwhile: while the machine stands
    still it does not count, nor does the block get anything done.
    """
    over, ticks = threading.Event(), 0

    def count() -> None:
        nonlocal ticks
        while not over.wait(_TICK_S):
            ticks += 1

    counting = threading.Thread(target=count, name="counts while the machine goes on")
    counting.start()
    try:
        yield
    finally:
        over.set()
        counting.join()
    took_s = ticks * _TICK_S
    assert took_s <= at_most_s, f"it took {took_s:.1f} s, and {at_most_s:g} s at most are allowed"
