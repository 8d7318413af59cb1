"""Rate limits: so many requests of a kind, by one client or user, in a while or at once.

A generic cell rate algorithm: one number a key, exact under parallel requests in one
process, and bounded in memory however many keys appear.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEYS_AT_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """*burst* at once, refilled evenly at *burst* every *period_s* seconds."""

    burst: int
    period_s: float


#: What may be done how often; by client address, but for "chat" and "api", by user.
RATES = {
    "sign_up": Rate(200, 300),
    "token": Rate(600, 300),
    "user": Rate(600, 60),
    "chat": Rate(300, 60),
    "api": Rate(3000, 60),
    "anonymous_chat": Rate(20, 300),
}

#: How many of what may be going on at once, by user. A reader of an answer that another node
#: makes costs four reads of the database a second.
AT_ONCE = {"streams": 100}
_RETRY_S = 5


class Limits:
    """Counts in this process. *enabled* false lets everything pass."""

    def __init__(
        self, *, enabled: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing counted."""
        self._enabled = enabled
        self._clock = clock
        self._due: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._held: Counter[tuple[str, str]] = Counter()

    async def spend(self, kind: str, key: str) -> None:
        """Count one request.

        Raises:
            RateLimited: with the seconds until the next one may come.
        """
        if not self._enabled:
            return
        rate = RATES[kind]
        now, interval = self._clock(), rate.period_s / rate.burst
        due = max(self._due.get((kind, key), now), now)
        wait = due - now - (rate.period_s - interval)
        if wait > 0:
            raise RateLimited(retry_after_s=math.ceil(wait))
        self._due[kind, key] = due + interval
        self._due.move_to_end((kind, key))
        if len(self._due) > _KEYS_AT_MOST:
            self._due.popitem(last=False)

    @contextmanager
    def hold(self, kind: str, key: str) -> Iterator[None]:
        """Count one that goes on until the block ends.

        Raises:
            RateLimited: as many go on as may; one of them may end soon.
        """
        if self._enabled and self._held[kind, key] >= AT_ONCE[kind]:
            raise RateLimited(retry_after_s=_RETRY_S)
        self._held[kind, key] += 1
        try:
            yield
        finally:
            self._held[kind, key] -= 1
            if not self._held[kind, key]:
                del self._held[kind, key]
