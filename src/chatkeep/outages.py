"""Outages as the log tells them: that one has begun, and that it is over.

What is tried every second or two while something is away would else say so each time, and
the first line of an outage, which says what began it, would be lost among the others.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

_REASONS_AT_MOST: Final = 5
_AGAIN_AFTER_S: Final = 60.0
_REMEMBERED_AT_MOST: Final = 20


class Outage:
    """Whether something that is done again and again works, and what was told of that."""

    def __init__(self, log: logging.Logger, doing: str) -> None:
        """Tell *log*; *doing* is what cannot be done then, as in "see which keys sign"."""
        self._log = log
        self._doing = doing
        self._told: set[str] = set()

    def failed(self, why: str) -> None:
        """It could not be done, because of *why*; each reason of an outage is told once.

        What ends a connection says little, and why there is no other comes after it.
        """
        if why not in self._told and len(self._told) < _REASONS_AT_MOST:
            self._log.warning("cannot %s: %s", self._doing, why)
            self._told.add(why)

    def worked(self) -> None:
        """It was done; told when it could not be before."""
        if self._told:
            self._log.info("can %s again", self._doing)
        self._told.clear()


class Reasons:
    """What many requests meet at once, and should be told once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing told; *clock* counts seconds."""
        self._clock = clock
        self._told: OrderedDict[str, float] = OrderedDict()

    def is_news(self, reason: str) -> bool:
        """Whether *reason* was not told in the last minute; then it is now."""
        now = self._clock()
        if now - self._told.get(reason, float("-inf")) < _AGAIN_AFTER_S:
            return False
        self._told[reason] = now
        self._told.move_to_end(reason)
        if len(self._told) > _REMEMBERED_AT_MOST:
            self._told.popitem(last=False)
        return True
