"""How many answers of one provider are read at once, and what that asks of each.

While they are few, or the processor has time for each piece, it is taken the moment it comes.
With hundreds, taking a piece costs more than what is in it: a wake-up, an event, a frame and a
write for every reader. Then an answer that has begun to speak rests a little after each piece,
so that those which come meanwhile are taken, kept and sent as one: as long as it takes to
leave the process room for what waits for nobody, such as a first word, and no longer. Nobody
sees a rest of some hundredths of a second, and a first word never waits for one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Fewer than these at once do not rest.
_FEW: Final = 125
#: How much of the time the event loop may be at work, or wait for a core, before anybody rests.
_BUSY: Final = 0.5
#: By how much all rest longer after each look, for each whole core that it wanted more.
_GAIN_S: Final = 0.1
_LOOK_EVERY_S: Final = 0.1
_LONGEST_S: Final = 0.06
#: In nanoseconds: how long this thread has run, and how long it could have and had no core.
_SCHEDULED: Final = Path("/proc/thread-self/schedstat")


def _wanted_s() -> float:
    """Return for how many seconds this thread has run, or would have if it had had a core."""
    try:
        ran, waited, _ = map(int, _SCHEDULED.read_bytes().split())
    except (OSError, ValueError):
        ran = waited = 0
    if not ran:  # no Linux, or one that does not count it
        return time.thread_time()
    return (ran + waited) / 1e9


class Crowd:
    """The answers that are being read. For one event loop, which reads them."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.perf_counter,
        wanted: Callable[[], float] = _wanted_s,
    ) -> None:
        """Nobody is there. *clock* counts seconds, *wanted* those for which the loop had work."""
        self._count = 0
        self._clock = clock
        self._wanted = wanted
        self._rest_s = 0.0
        self._looked_at, self._had_wanted = clock(), wanted()

    def enter(self) -> None:
        """One more is read."""
        self._count += 1

    def leave(self) -> None:
        """One of them has ended."""
        self._count -= 1

    @property
    def rest_s(self) -> float:
        """How long each rests between two pieces; 0: not at all."""
        if self._count < _FEW:
            return 0.0
        if self._clock() - self._looked_at > _LOOK_EVERY_S:
            self._look()
        return self._rest_s

    def _look(self) -> None:
        """Let all rest longer when the loop has been busy since, and shorter when it has not."""
        now, wanted = self._clock(), self._wanted()
        busy = (wanted - self._had_wanted) / (now - self._looked_at)
        self._looked_at, self._had_wanted = now, wanted
        self._rest_s = min(_LONGEST_S, max(0.0, self._rest_s + (busy - _BUSY) * _GAIN_S))
