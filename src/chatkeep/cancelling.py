"""Whose a cancellation is: that of the task at hand, or of something that it waited for.

Both are the same exception. The first must go on; the second is a fault like any other of
whatever was called, such as a client that cancels a task of its own and waits for it.
"""

from __future__ import annotations

import asyncio


def cancels_us(error: BaseException) -> bool:
    """Whether *error* is raised because somebody has cancelled the task at hand."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
