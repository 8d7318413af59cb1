"""One provider over HTTP: ask, and ask again with care.

Knows statuses; what comes back is read by `response` and understood by `chunks` and
`failures`. It follows no redirect, keeps no cookie, takes no proxy or password from the
environment, and lets no library error out: their text holds our address and their fields
hold our key.
"""

from __future__ import annotations

import asyncio
import io
import logging
import random
from asyncio import sleep
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.kept_connections import LONG_S, SHORT_S, KeptConnections
from chatkeep.llm.crowds import Crowd
from chatkeep.llm.failures import Failure, read_retry_after, understand
from chatkeep.llm.response import Stream, read_whole, report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.llm.chat_requests import Kind
    from chatkeep.llm.response import Timeouts

#: How often one answer is asked for at most.
TRIES: Final = 3
#: A provider that wants us to wait longer than this is reported, not waited for.
_LONGEST_RETRY_AFTER_S: Final = 2

_OK = 200
_JSON = {"Content-Type": "application/json", "Accept": "text/event-stream"}
_RETRIED_STATUSES = frozenset({429, 502, 503})
#: Failures that say nothing of the request, and that end the work on it: another provider may
#: answer it. After a time-out somebody may still be at work.
_NOT_ABOUT_THE_REQUEST = frozenset({"limited", "unavailable", "misconfigured"})
#: As many answers at once as the server takes connections (`web.connections`).
_POOL = 10_000
_READ_BYTES = 1 << 16
_MAX_ERROR_BYTES = 1 << 16
_ERROR_BODY_S = 5.0

_log = logging.getLogger(__name__)


class NotTaken(Exception):
    """The provider has taken the request up no further: asking elsewhere makes no second bill."""

    def __init__(self, error: ChatkeepError) -> None:
        """Keep *error*, as its caller may see it."""
        self.error = error
        super().__init__(error.code)


class _Retryable(Exception):
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
        self._crowd = Crowd()

    async def open_stream(self, path: str, body: bytes, *, tries: int = TRIES) -> Stream:
        """POST *body* and return the event stream that answers it, once it has begun.

        Asks again, at most *tries* times in all, when nobody is working on the request: no
        connection came about, or the answer was 429, 502 or 503 with no or a short
        `Retry-After` (429: only with one). Never after a time-out or a lost connection,
        because the provider may be at work and bill twice, and never once the stream is open.

        Raises:
            NotTaken: nobody works on the request, and the fault is not in what it asks.
            ChatkeepError: one of the `Model...` errors.
        """
        ends_at = asyncio.get_running_loop().time() + self._timeouts.total_s
        tried = 0
        while True:
            tried += 1
            try:
                return await self._try_stream(path, body, ends_at)
            except _Retryable as refused:
                problem, asked_wait_s = refused.error, refused.wait_s
            # At random, so that many waiting answers do not come back as one.
            wait_s = asked_wait_s or random.uniform(0.05, 0.25 * tried)  # noqa: S311 -- spreads load, guards nothing
            if tried >= tries or asyncio.get_running_loop().time() + wait_s > ends_at:
                raise NotTaken(problem)
            await sleep(wait_s)

    async def read_json(self, path: str, *, max_bytes: int, timeout_s: float) -> bytes | None:
        """GET a document of at most *max_bytes*; None when the provider has no such thing.

        Raises:
            ChatkeepError: one of the `Model...` errors.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            response = await self._ask("GET", path, None, deadline)
        except _Retryable as refused:
            raise refused.error from None
        try:
            if response.status in {404, 405, 501}:
                return None
            if response.status != _OK:
                raise (await self._explain(response)).as_error()
            return await read_whole(response, max_bytes, deadline)
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
        return Stream(
            response,
            self._kind,
            self._timeouts,
            first_byte_by=deadline,
            ends_at=ends_at,
            crowd=self._crowd,
        )

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
            kept_s = LONG_S if self._base_url.startswith("https:") else SHORT_S
            self._session = aiohttp.ClientSession(
                connector=KeptConnections(limit=_POOL, ttl_dns_cache=60, keepalive_timeout=kept_s),
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
            return _Retryable(ModelUnavailable())
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
            raise _Retryable(failure.as_error(), failure.retry_after_s)
        if failure.meaning in _NOT_ABOUT_THE_REQUEST:
            raise NotTaken(failure.as_error())
        raise failure.as_error()

    async def _explain(self, response: aiohttp.ClientResponse) -> Failure:
        """Read and log what the provider reports in place of an answer."""
        deadline = asyncio.get_running_loop().time() + _ERROR_BODY_S
        try:
            error = _error_in(await read_whole(response, _MAX_ERROR_BYTES, deadline))
        except ChatkeepError:
            error = None  # the status alone must do
        failure = understand(
            error,
            status=None if response.status == _OK else response.status,
            retry_after_s=read_retry_after(response.headers.get("Retry-After")),
        )
        report(self._kind, failure.word, response)
        return failure


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
    return failure.retry_after_s <= _LONGEST_RETRY_AFTER_S
