"""What a provider sends back, read with a limit on every wait.

Only bytes and time: what they say is `chunks` and `failures`, how they were asked for is
`upstream`. No error of a library gets out, nor any text of the provider's.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from chatkeep.errors import ChatkeepError, ModelBroken, ModelTimeout
from chatkeep.patience import Patience

if TYPE_CHECKING:
    from chatkeep.llm.breaker import Trial
    from chatkeep.llm.chat_requests import Kind
    from chatkeep.llm.crowds import Crowd
    from chatkeep.llm.failures import Failure

#: After the reason to stop, only the usage can come: not worth keeping the reader waiting.
_AFTERMATH_S = 5.0
#: aiohttp 3.14 wakes nobody who waits for a body whose framing turns out to be nonsense, or
#: whose session is closed; but asked anew, it says so.
_LOOK_EVERY_S = 1.0
#: A look that comes so much too late says that this process was stopped, and nothing of the peer.
_HELD_UP_S = 1.0
#: What aiohttp raises when a body cannot be read on; RuntimeError when the connection is
#: gone before it is asked.
_LOST = (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError)
#: How long the end of the response may lag behind `[DONE]` and still save the connection.
_DRAIN_S = 0.25
_MAX_DRAINED_BYTES = 1 << 16
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_REQUEST_ID_HEADERS = ("x-generation-id", "x-request-id", "cf-ray")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each stage of one answer may take, in seconds.

    *first_byte_s* runs from one try's start, connecting included, to the first byte of
    the stream; *total_s* bounds everything, retries included. Comments of a provider that
    is still thinking are bytes.
    """

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    between_chunks_s: float = 60.0
    total_s: float = 600.0


class Stream:
    """The bytes of one answer. Close it, or its connection stays with the provider."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        kind: Kind,
        timeouts: Timeouts,
        *,
        first_byte_by: float,
        ends_at: float,
        crowd: Crowd,
    ) -> None:
        """Take over *response*, one of a *crowd*; deadlines are on the event loop's clock."""
        self._response = response
        self._kind = kind
        self._between_s = timeouts.between_chunks_s
        self._first_byte_by: float | None = first_byte_by
        self._ends_at = ends_at
        self._now = asyncio.get_running_loop().time
        self._patience = Patience()
        self._crowd = crowd
        self._is_open = True
        crowd.enter()
        self._trial: Trial | None = None

    def tell(self, trial: Trial) -> None:
        """Tell *trial* whether a first byte comes."""
        self._trial = trial

    async def read(self, *, finished: bool, hurried: bool = True) -> bytes:
        """Return what has come, waiting for at least a byte; nothing means the end.

        Unless it is *hurried*, it may rest first, as `Crowd` says.
        When *finished*, the answer is known to be complete: then a silence or a lost
        connection is an end like any other.

        Raises:
            ModelTimeout: nothing came in time.
            ModelBroken: the connection was lost.
        """
        if not hurried and (rest_s := self._crowd.rest_s):
            await asyncio.sleep(rest_s)
        deadline = self._deadline(finished=finished)
        problem: ChatkeepError | None = None
        while problem is None:
            look_at = min(deadline, self._now() + _LOOK_EVERY_S)
            try:
                with self._patience.until(look_at):
                    data = await self._response.content.readany()
                if self._first_byte_by is not None:
                    self._begun(data)
                return data
            except TimeoutError:
                if (now := self._now()) - look_at > _HELD_UP_S:
                    # What has come meanwhile was not read yet: timers go first.
                    deadline = max(deadline, now + _LOOK_EVERY_S)
                problem = ModelTimeout() if look_at == deadline else None
            except _LOST:
                problem = ModelBroken()
        if finished:
            return b""
        if self._trial is not None:
            self._trial.failed(problem)
        raise problem

    async def drain(self) -> None:
        """Read to the end of the response if it is near, so that the connection is kept."""
        drained = 0
        try:
            async with asyncio.timeout(_DRAIN_S):
                while drained < _MAX_DRAINED_BYTES:
                    data = await self._response.content.readany()
                    if not data:
                        return
                    drained += len(data)
        except _LOST:  # a time-out is an OSError
            return  # the answer is complete; the caller closes the connection

    def report(self, error: ChatkeepError, failure: Failure | None) -> None:
        """Log that the answer broke off with *error*, because the provider said *failure*."""
        report(self._kind, (failure and failure.word) or error.code, self._response)

    def close(self) -> None:
        """Close the connection at once, unless the response was read to its end."""
        self._patience.end()
        if self._is_open:
            self._is_open = False
            self._crowd.leave()
        self._response.close()
        if self._trial is not None:
            self._trial.called_off()

    def _begun(self, data: bytes) -> None:
        self._first_byte_by = None
        if self._trial is None:
            return
        if data:
            self._trial.worked()
        else:
            self._trial.failed(ModelBroken())

    def _deadline(self, *, finished: bool) -> float:
        if self._first_byte_by is not None:
            return self._first_byte_by
        wait_s = min(self._between_s, _AFTERMATH_S) if finished else self._between_s
        return min(self._ends_at, self._now() + wait_s)


async def read_whole(response: aiohttp.ClientResponse, max_bytes: int, deadline: float) -> bytes:
    """Read a whole body, never more than *max_bytes* of it."""
    body = bytearray()
    problem: ChatkeepError
    try:
        async with asyncio.timeout_at(deadline):
            while data := await response.content.readany():
                body += data
                if len(body) > max_bytes:
                    raise ModelBroken
        return bytes(body)
    except TimeoutError:
        problem = ModelTimeout()
    except _LOST:
        problem = ModelBroken()
    raise problem


def report(kind: Kind, word: str | None, response: aiohttp.ClientResponse) -> None:
    """Log what the operator needs to ask the provider, and none of the provider's words."""
    ids = (response.headers.get(name, "") for name in _REQUEST_ID_HEADERS)
    request = next((id_ for id_ in ids if _REQUEST_ID.fullmatch(id_)), None)
    _log.warning(
        "model provider (%s) failed: status=%s error=%s request=%s",
        *(kind, response.status, word, request),
    )
