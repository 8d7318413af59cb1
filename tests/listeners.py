"""Ending a listener of asyncio without leaving a connection behind."""

from __future__ import annotations

import asyncio


async def accept_no_more(listener: asyncio.Server) -> None:
    """Accept nothing from now on, and let what was accepted get its transport.

    A connection that is accepted in the turn of the loop in which `Server.close` is called is
    closed by nobody (CPython issue 109564), and its socket would fail some later test.
    """
    loop = asyncio.get_running_loop()
    for listening in listener.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
