"""One provider over HTTP: ask, wait and read, with a limit on each, and retry with care.

Knows statuses, bytes and time; what the bytes say is `chunks` and `failures`. It follows
no redirect, keeps no cookie, takes no proxy or password from the environment, and lets
no library error out: their text holds our address and their fields hold our key.
"""

from __future__ import annotations

import asyncio
import io
import logging
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.llm.failures import Failure, read_retry_after, understand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.llm.chat_requests import Kind

#: How often one answer is asked for at most.
TRIES: Final = 3
#: A provider that wants us to wait longer than this is reported, not waited for.
LONGEST_RETRY_AFTER_S: Final = 2

_OK = 200
_JSON = {"Content-Type": "application/json", "Accept": "text/event-stream"}
_RETRIED_STATUSES = frozenset({429, 502, 503})
_POOL = 1000
_READ_BYTES = 1 << 16
_MAX_ERROR_BYTES = 1 << 16
_ERROR_BODY_S = 5.0
#: After the reason to stop, only the usage can come: not worth keeping the reader waiting.
_AFTERMATH_S = 5.0
_LOOK_EVERY_S = 1.0
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


class _NotAccepted(Exception):
    """The provider did not take the request, so it is safe to ask again after *wait_s*."""

    def __init__(self, error: ChatkeepError, wait_s: float | None = None) -> None:
        self.error = error
        self.wait_s = wait_s
        super().__init__(error.code)


class Upstream:
    """The connections to one provider; made at the first request, inside its event loop."""

    def __init__(
        self, base_url: str, *, headers: Mapping[str, str], kind: Kind, timeouts: Timeouts
    ) -> None:
        """Remember where and how. *headers* go with every request."""
        self._base_url = base_url.rstrip("/")
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._kind = kind
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def open_stream(self, path: str, body: bytes) -> Stream:
        """POST *body* and return the event stream that answers it, once it has begun.

        Asks again, at most `TRIES` times in all, when it is certain that nobody is working
        on the request: no connection came about, or the answer was 429, 502 or 503 with no
        or a short `Retry-After` (429: only with one). Never after a time-out or a lost
        connection, because the provider may be at work, and never once the stream is open.

        Raises:
            ChatkeepError: one of the `Model...` errors.
        """
        ends_at = asyncio.get_running_loop().time() + self._timeouts.total_s
        tries = 0
        while True:
            tries += 1
            try:
                return await self._try_stream(path, body, ends_at)
            except _NotAccepted as refusal:
                problem, asked_wait_s = refusal.error, refusal.wait_s
            # At random, so that many waiting answers do not come back as one.
            wait_s = asked_wait_s or random.uniform(0.05, 0.25 * tries)  # noqa: S311 -- spreads load, guards nothing
            if tries >= TRIES or asyncio.get_running_loop().time() + wait_s > ends_at:
                raise problem
            await asyncio.sleep(wait_s)

    async def read_json(self, path: str, *, max_bytes: int, timeout_s: float) -> bytes | None:
        """GET a document of at most *max_bytes*; None when the provider has no such thing.

        Raises:
            ChatkeepError: one of the `Model...` errors.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            response = await self._ask("GET", path, None, deadline)
        except _NotAccepted as refusal:
            raise refusal.error from None
        try:
            if response.status in {404, 405, 501}:
                return None
            if response.status != _OK:
                raise (await self._explain(response)).as_error()
            return await _read_all(response, max_bytes, deadline)
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close every connection; streams that are open break off."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _try_stream(self, path: str, body: bytes, ends_at: float) -> Stream:
        deadline = asyncio.get_running_loop().time() + self._timeouts.first_byte_s
        deadline = min(deadline, ends_at)
        response = await self._ask("POST", path, body, deadline)
        opened = False
        try:
            await self._check(response)
            opened = True
        finally:
            if not opened:
                response.close()
        return Stream(response, self._kind, self._timeouts, first_byte_by=deadline, ends_at=ends_at)

    async def _ask(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the head of its response."""
        session = self._open_session()
        try:
            async with asyncio.timeout_at(deadline):
                return await session.request(
                    method,
                    self._base_url + path,
                    # A file, because aiohttp warns of large bytes; long chats are large.
                    data=None if body is None else io.BytesIO(body),
                    headers=None if body is None else _JSON,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, OSError) as error:
            problem = self._name(error)
        raise problem  # outside of `except`: the library's error holds our key

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ModelUnavailable
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_POOL, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                read_bufsize=_READ_BYTES,
                timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect_s),
                trust_env=False,
            )
        return self._session

    def _name(self, error: Exception) -> Exception:
        """Say in our words why no response came."""
        _log.warning("model provider (%s) gave no response: %s", self._kind, type(error).__name__)
        if isinstance(error, TimeoutError):
            return ModelTimeout()
        if isinstance(error, aiohttp.ClientConnectorError):
            return _NotAccepted(ModelUnavailable())
        if isinstance(error, aiohttp.ClientResponseError):
            return ModelBroken()  # what came was not HTTP
        return ModelUnavailable()

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise unless *response* is the event stream we asked for."""
        media_type = response.headers.get("Content-Type", "text/event-stream").split(";")[0]
        if response.status == _OK and media_type.strip().lower() == "text/event-stream":
            return
        failure = await self._explain(response)
        if response.status == _OK:
            raise failure.as_error_in_stream()
        if response.status in _RETRIED_STATUSES and _soon(failure):
            raise _NotAccepted(failure.as_error(), failure.retry_after_s)
        raise failure.as_error()

    async def _explain(self, response: aiohttp.ClientResponse) -> Failure:
        """Read and log what the provider reports in place of an answer."""
        deadline = asyncio.get_running_loop().time() + _ERROR_BODY_S
        try:
            error = _error_in(await _read_all(response, _MAX_ERROR_BYTES, deadline))
        except ChatkeepError:
            error = None  # the status alone must do
        failure = understand(
            error,
            status=None if response.status == _OK else response.status,
            retry_after_s=read_retry_after(response.headers.get("Retry-After")),
        )
        _report(self._kind, failure.word, response)
        return failure


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
    ) -> None:
        """Take over *response*; the deadlines are on the event loop's clock."""
        self._response = response
        self._kind = kind
        self._between_s = timeouts.between_chunks_s
        self._first_byte_by: float | None = first_byte_by
        self._ends_at = ends_at
        self._now = asyncio.get_running_loop().time

    async def read(self, *, finished: bool) -> bytes:
        """Return what has come, waiting for at least a byte; nothing means the end.

        When *finished*, the answer is known to be complete: then a silence or a lost
        connection is an end like any other.

        Raises:
            ModelTimeout: nothing came in time.
            ModelBroken: the connection was lost.
        """
        deadline = self._deadline(finished=finished)
        problem: ChatkeepError | None = None
        while problem is None:
            look_at = min(deadline, self._now() + _LOOK_EVERY_S)
            try:
                async with asyncio.timeout_at(look_at):
                    data = await self._response.content.readany()
                self._first_byte_by = None
                return data
            except TimeoutError:
                problem = ModelTimeout() if look_at == deadline else self._loss()
            except _LOST:
                problem = ModelBroken()
        if finished:
            return b""
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
        _report(self._kind, (failure and failure.word) or error.code, self._response)

    def close(self) -> None:
        """Close the connection at once, unless the response was read to its end."""
        self._response.close()

    def _loss(self) -> ModelBroken | None:
        """Notice a connection that is gone without a word.

        aiohttp 3.14 wakes nobody who waits for a body whose chunked framing turns out to be
        nonsense, or whose session is closed.
        """
        connection = self._response.connection
        lost = connection is None or connection.transport is None
        return ModelBroken() if lost else None

    def _deadline(self, *, finished: bool) -> float:
        if self._first_byte_by is not None:
            return self._first_byte_by
        wait_s = min(self._between_s, _AFTERMATH_S) if finished else self._between_s
        return min(self._ends_at, self._now() + wait_s)


def _report(kind: Kind, word: str | None, response: aiohttp.ClientResponse) -> None:
    """Log what the operator needs to ask the provider, and none of the provider's words."""
    ids = (response.headers.get(name, "") for name in _REQUEST_ID_HEADERS)
    request = next((id_ for id_ in ids if _REQUEST_ID.fullmatch(id_)), None)
    _log.warning(
        "model provider (%s) failed: status=%s error=%s request=%s",
        *(kind, response.status, word, request),
    )


async def _read_all(response: aiohttp.ClientResponse, max_bytes: int, deadline: float) -> bytes:
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


def _error_in(body: bytes) -> object:
    """Find the error object of a body: under `error`, the body itself, or in a list."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and value:
        value = value[0]
    return (value.get("error") or value) if isinstance(value, dict) else None


def _soon(failure: Failure) -> bool:
    """Whether waiting as asked costs the reader little; a limit without a time does not say."""
    if failure.meaning not in {"limited", "unavailable"}:
        return False
    if failure.retry_after_s is None:
        return failure.meaning == "unavailable"
    return failure.retry_after_s <= LONGEST_RETRY_AFTER_S
