"""What other nodes (and operators in psql) tell us: PostgreSQL's LISTEN, kept alive.

A notification is a hint, never the truth: whoever relies on one must also be right, a
little later, when it was lost. After every (re)connection the subscribers are told that
they may have missed some.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg

from chatkeep.db import connection_settings
from chatkeep.outages import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

Channel = Literal[
    "chatkeep_profiles",
    "chatkeep_revocations",
    "chatkeep_runs",
    "chatkeep_signing_keys",
    "chatkeep_tails",
    "chatkeep_titles",
    "procrastinate_any_queue_v1",
]
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a statement returns that tells others of *id*; *told* says nothing."""

    id: str
    told: str | None


class Listener:
    """One connection of its own that listens for all channels."""

    def __init__(self, url: str) -> None:
        """Prepare; `run` connects. *url* must not lead through a transaction pooler."""
        self._url = url
        self._subscribers: dict[str, list[Callable[[str], None]]] = {}
        self._gap_callbacks: list[Callable[[], None]] = []
        self._outage = Outage(_log, "listen for notifications")
        self.connected = asyncio.Event()

    def subscribe(
        self, channel: Channel, told: Callable[[str], None], *, missed: Callable[[], None]
    ) -> None:
        """Call *told* with each payload, and *missed* whenever some may have been lost."""
        self._subscribers.setdefault(channel, []).append(told)
        self._gap_callbacks.append(missed)

    async def run(self) -> None:
        """Listen until cancelled, reconnecting with pauses that grow until it succeeds."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                self._outage.failed(_why(error))
            if self.connected.is_set():
                pause = _FIRST_PAUSE_S
            self.connected.clear()
            self._tell_gap()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._url, **connection_settings(behind_pooler=False)
        ) as connection:
            await connection.execute(
                "listen chatkeep_profiles; listen chatkeep_revocations; listen chatkeep_runs;"
                " listen chatkeep_signing_keys; listen chatkeep_tails;"
                " listen chatkeep_titles;"
                " listen procrastinate_any_queue_v1"
            )
            self._tell_gap()
            self.connected.set()
            self._outage.worked()
            async for note in connection.notifies():
                for told in self._subscribers.get(note.channel, ()):
                    told(note.payload)

    def _tell_gap(self) -> None:
        for missed in self._gap_callbacks:
            missed()


def _why(error: psycopg.Error) -> str:
    """What PostgreSQL says, in a line; of errors that may name parts of the address their kind."""
    if isinstance(error, psycopg.OperationalError) and (said := " ".join(str(error).split())):
        return said
    return type(error).__name__
