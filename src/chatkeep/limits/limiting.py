"""Limits by key: so many of a kind in a while, and so many at once."""

from __future__ import annotations

import math
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from chatkeep.errors import RateLimited
from chatkeep.limits.local import LocalCounts
from chatkeep.limits.rates import AT_ONCE, RATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkeep.limits.rates import Rate
    from chatkeep.limits.shared import SharedCounts

_RETRY_S: Final = 5


class Limits:
    """Counts of this process, and of all where they share a store.

    Both count, and either can refuse: so there is no new allowance when the store goes away
    or is emptied, and whoever is over the limit here costs it no question.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        shared: SharedCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing counted here. *enabled* false lets everything pass."""
        self._enabled = enabled
        self._shared = shared
        self._local = LocalCounts(clock)
        self._held: Counter[tuple[str, str]] = Counter()

    async def spend(self, kind: str, key: str) -> None:
        """Count one of *kind*, which has a row in `RATES`, for *key*.

        Raises:
            RateLimited: with the seconds until the next one may come; it was not counted.
        """
        await self.spend_at(kind, key, RATES[kind])

    async def spend_at(self, kind: str, key: str, rate: Rate) -> None:
        """Count as `spend`, at a *rate* that has no row: one of a setting.

        Raises:
            RateLimited: with the seconds until the next one may come; it was not counted.
        """
        if not self._enabled:
            return
        wait = self._local.spend((kind, key), rate)
        if wait == 0 and self._shared is not None and rate.shared:
            wait = await self._shared.spend((kind, key), rate)
            if wait > 0:
                self._local.give_back((kind, key), rate)
        if wait > 0:
            raise RateLimited(retry_after_s=math.ceil(wait))

    async def give_back(self, kind: str, key: str) -> None:
        """Uncount one that `spend` counted, because it turned out to be harmless."""
        await self.give_back_at(kind, key, RATES[kind])

    async def give_back_at(self, kind: str, key: str, rate: Rate) -> None:
        """Uncount one that `spend_at` counted."""
        if not self._enabled:
            return
        self._local.give_back((kind, key), rate)
        if self._shared is not None and rate.shared:
            await self._shared.give_back((kind, key), rate)

    def enter(self, kind: str, key: str) -> None:
        """Count one that goes on until `leave`.

        Raises:
            RateLimited: as many go on as may; one of them may end soon.
        """
        if self._enabled and self._held[kind, key] >= AT_ONCE[kind]:
            raise RateLimited(retry_after_s=_RETRY_S)
        self._held[kind, key] += 1

    @contextmanager
    def entered(self, kind: str, key: str) -> Iterator[None]:
        """Count one for as long as the block takes; raises as `enter`."""
        self.enter(kind, key)
        try:
            yield
        finally:
            self.leave(kind, key)

    def leave(self, kind: str, key: str) -> None:
        """One that was counted has ended."""
        self._held[kind, key] -= 1
        if not self._held[kind, key]:
            del self._held[kind, key]
