"""Functions of others that block, each in a thread of its own, for which nobody has to wait.

One that never comes back keeps its thread, and nothing else: not the threads that our own work
uses, and not the process, which ends without it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Made = TypeVar("_Made")

#: So many run at once, those included that nobody waits for any more.
AT_MOST: Final = 64


class NoThread(Exception):
    """As many functions of others are running, or hang, as may."""


class Threads:
    """Room for so many functions of one kind. Used by one event loop at a time."""

    def __init__(self, at_most: int = AT_MOST) -> None:
        """Lend *at_most* threads at once."""
        self._free = threading.BoundedSemaphore(at_most)

    async def call(self, function: Callable[..., _Made], *args: object, **named: object) -> _Made:
        """Return what *function* returns, or raise what it raises, from a thread.

        Whoever is cancelled is let go at once; the function goes on.

        Raises:
            NoThread: there are too many that have not come back.
        """
        if not self._free.acquire(blocking=False):
            raise NoThread
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Made] = loop.create_future()
        work = partial(copy_context().run, function, *args, **named)
        thread = threading.Thread(
            target=self._run, args=(work, loop, answer), name="chatkeep-blocking", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the machine has no more of them
            self._free.release()
            raise NoThread from error
        return await answer

    def _run(
        self,
        work: Callable[[], _Made],
        loop: asyncio.AbstractEventLoop,
        answer: asyncio.Future[_Made],
    ) -> None:
        try:
            tell = partial(_set_result, answer, work())
        except BaseException as error:  # noqa: BLE001 -- it is raised where it is waited for
            tell = partial(_set_exception, answer, error)
        finally:
            self._free.release()
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(tell)


def _set_result(answer: asyncio.Future[_Made], made: _Made) -> None:
    if not answer.done():
        answer.set_result(made)


def _set_exception(answer: asyncio.Future[_Made], error: BaseException) -> None:
    if answer.done():
        return
    # They would end whoever waits as if that one had said so, and `sys.exit` the whole process.
    odd = isinstance(error, StopIteration) or not isinstance(error, Exception)
    answer.set_exception(RuntimeError(repr(error)) if odd else error)
