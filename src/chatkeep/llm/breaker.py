"""When a provider fails again and again, nobody is sent to it for a while.

Only what happens before an answer's first byte counts: a provider that cannot be reached,
says it is down, or says nothing in time. Whoever refuses or limits us is there. After the
pause one request tries; the others wait for what becomes of it. One process knows this of
itself alone: nobody has to ask another machine before each answer.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final, Literal

from chatkeep.errors import ModelBroken, ModelRateLimited, ModelTimeout, ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.errors import ChatkeepError

State = Literal["up", "down", "trying"]

#: How long whoever comes while one request tries is told to wait.
_WHILE_TRYING_S: Final = 1

_log = logging.getLogger(__name__)


class Breaker:
    """What is known of one provider's health: it is "up", "down", or "trying" again."""

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        pause_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Let nobody through for *pause_s* after so many *failures* in a row."""
        self.name = name
        self._most = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._down_until: float | None = None
        self._trial: Trial | None = None

    @property
    def state(self) -> State:
        """How it stands now. One whose pause is over is "trying": the next request will."""
        if self._down_until is None:
            return "up"
        return "down" if self._clock() < self._down_until else "trying"

    def wait_s(self) -> int | None:
        """Return how many seconds from now a request may be let through; None: now."""
        if self._down_until is None:
            return None
        left_s = self._down_until - self._clock()
        if left_s > 0:
            return math.ceil(left_s)
        return None if self._trial is None else _WHILE_TRYING_S

    def admit(self) -> Trial | None:
        """Let a request through, and return what is to be told what became of it; or None."""
        if self.wait_s() is not None:
            return None
        trial = Trial(self)
        if self._down_until is not None:
            self._trial = trial
        return trial

    def took(self, trial: Trial, *, works: bool | None) -> None:
        """Take note of what became of *trial*; *works* None: it was called off before that."""
        if trial is self._trial:
            self._trial = None
        if works is None:
            return
        if works:
            if self._down_until is not None:
                _log.warning("model provider %s is back", self.name)
            self._failures, self._down_until = 0, None
            return
        self._failures += 1
        if self.state == "trying" or (self.state == "up" and self._failures >= self._most):
            self._down_until = self._clock() + self._pause_s
            _log.error("model provider %s fails: not asked for %g s", self.name, self._pause_s)


class Trial:
    """One request that was let through. What becomes of it is told once; more is passed over."""

    def __init__(self, breaker: Breaker) -> None:
        """Know whom to tell."""
        self._breaker: Breaker | None = breaker

    def worked(self) -> None:
        """Say that the provider answers, be it with a refusal."""
        self._end(works=True)

    def failed(self, error: ChatkeepError) -> None:
        """Say that there was *error* in place of a first byte."""
        is_down = isinstance(error, ModelUnavailable | ModelTimeout | ModelBroken)
        self._end(works=not is_down or isinstance(error, ModelRateLimited))

    def called_off(self) -> None:
        """Say that nobody waited for it."""
        self._end(works=None)

    def _end(self, *, works: bool | None) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.took(self, works=works)
