"""Time limits for waits that come by the thousand and nearly all end in time.

`asyncio.timeout` makes a timer for each wait and throws it away: at a streamed chunk with
three such waits, a sixth of what the chunk costs. A `Patience` keeps one timer for all waits
of one stream and looks, when it rings, whether the wait of that moment is over its limit; a
`News` does so for somebody who is to hear of silence too. Imports nothing of ours.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

_NEVER: Final = float("inf")


class Patience:
    """Limits waits, one after the other: `with patience.until(when): await ...`.

    A wait that lasts longer is cancelled, and `TimeoutError` raised in its place, as
    `asyncio.timeout_at` would. Made inside the event loop; `end` it when no wait follows.
    """

    __slots__ = ("_cancelling", "_loop", "_ran_out", "_rings_at", "_task", "_timer", "_until")

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._until = _NEVER
        self._rings_at = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._ran_out = False

    def until(self, when: float) -> Patience:
        """Limit the next wait to *when*, on the event loop's clock."""
        self._until = when
        return self

    def end(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        self._task = asyncio.current_task(self._loop)
        if self._task is None:
            raise RuntimeError("only a task can wait")
        self._cancelling = self._task.cancelling()
        if self._timer is None or self._until < self._rings_at:
            self.end()
            self._ring_at(self._until)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if not self._ran_out:
            return
        self._ran_out = False
        # Somebody else's cancellation goes before our time limit.
        is_ours = task is not None and task.uncancel() <= self._cancelling
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _ring_at(self, when: float) -> None:
        self._rings_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return  # the next wait sets it again
        if self._loop.time() < self._until:
            self._ring_at(self._until)
            return
        self._ran_out = True
        self._task.cancel()


class News:
    """Whether one reader has something to read, and its wait for it.

    One timer for the whole stream, which looks twice in the time that a silence may last
    whether the reader has waited ever since it last looked.
    """

    __slots__ = ("_look_every_s", "_loop", "_silent", "_timer", "_waiter", "heard")

    def __init__(self, silent_s: float) -> None:
        """Expect news at least every *silent_s*."""
        self.heard = False
        self._look_every_s = silent_s / 2
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._silent = False
        self._timer = self._loop.call_later(self._look_every_s, self._look)

    def tell(self) -> None:
        """There is something to read."""
        self.heard = True
        self._wake(heard=True)

    async def come(self) -> bool:
        """Wait for news; False when there were none for a while."""
        self._silent = False
        self._waiter = self._loop.create_future()
        return await self._waiter

    def end(self) -> None:
        """Wait no more."""
        self._timer.cancel()

    def _wake(self, *, heard: bool) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(heard)

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._look_every_s, self._look)
        if self._silent:
            self._wake(heard=False)
        self._silent = True
