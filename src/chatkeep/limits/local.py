"""Counts in this process's memory: exact in it, and bounded however many keys appear.

A generic cell rate algorithm: one number a key, the moment at which its allowance will be
whole again. Nothing waits in here, so no two requests can be counted as one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.limits.rates import Rate

_KEYS_AT_MOST = 100_000
_SPARED_AT_MOST: Final = 8

_Key = tuple[str, str]


class LocalCounts:
    """What was spent lately, by kind and key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing counted; *clock* counts seconds."""
        self._clock = clock
        self._due: OrderedDict[_Key, float] = OrderedDict()

    def spend(self, key: _Key, rate: Rate) -> float:
        """Count one of *key*, and return 0; or count nothing, and return the seconds to wait."""
        now = self._clock()
        due = max(self._due.get(key, now), now)
        wait = due - now - (rate.period_s - rate.interval_s)
        # A thousandth of an interval: what adding up fractions of seconds may be off by.
        if wait > rate.interval_s / 1000:
            return wait
        self._due[key] = due + rate.interval_s
        self._due.move_to_end(key)
        if len(self._due) > _KEYS_AT_MOST:
            self._make_room(now + rate.period_s / 2)
        return 0.0

    def give_back(self, key: _Key, rate: Rate) -> None:
        """Take back one that was counted."""
        due = self._due.get(key)
        if due is None:
            return
        if due - rate.interval_s <= self._clock():
            del self._due[key]
        else:
            self._due[key] = due - rate.interval_s

    def _make_room(self, much: float) -> None:
        # What has spent *much* is spared a while: otherwise whoever calls with many keys
        # could wash away the count of the one that they are after.
        for _ in range(_SPARED_AT_MOST):
            key, due = next(iter(self._due.items()))
            if due <= much:
                break
            self._due.move_to_end(key)
        self._due.popitem(last=False)
