"""Redis or Valkey, where one is configured: never waited for, and never believed alone.

Whoever asks gets an answer within a fraction of a second or None, and goes on without. Requests
never wait for a connection: one task makes it, and again after an outage, of which the log has one
line at the beginning and one at the end. All that is asked at about the same moment goes over
one connection in one round trip, so a thousand requests need no thousand connections.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
import time
from asyncio import timeouts
from typing import TYPE_CHECKING, Any, Final, Literal

if sys.version_info < (3, 11, 3):  # as that of Debian 12
    # There the library asks for a package that asyncio's own was made from, and that is not locked.
    sys.modules.setdefault("async_timeout", timeouts)

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError, ResponseError

from chatkeep.going_on import go_on
from chatkeep.metrics import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

_log = logging.getLogger(__name__)
_UP = Gauge(
    "chatkeep_redis_up", "Whether Redis answers and tells this process what is new: 1 or 0."
)
_UP.forget()  # where none is configured there is none to be away

#: The same names as those of PostgreSQL's notifications, for the same news.
Channel = Literal["chatkeep_profiles", "chatkeep_revocations", "chatkeep_tails"]

_PATIENCE_S: Final = 0.05
_LOOKS: Final = 3
_LATE: Final = 1.2
_CONNECT_WITHIN_S: Final = 2.0
_TRY_AGAIN_S: Final = 0.5
_AT_ONE_TIME: Final = 200
_LISTEN_FOR_S: Final = 5.0
#: What is asked of it, to see whether it is there: all that we do with it.
_PROBE: Final = (
    "redis.call('SET', KEYS[1], '1', 'PX', 1000) return redis.call('PUBLISH', KEYS[1], '')"
)
_CHANNELS: Final[tuple[Channel, ...]] = (
    "chatkeep_profiles",
    "chatkeep_revocations",
    "chatkeep_tails",
)
_PROBED: Final = "chatkeep:probe"

Word = str | bytes | int
_Asked = tuple[tuple[Word, ...], "asyncio.Future[Any]"]


class RedisLink:
    """One server, and whether it is there. `open` it before use, `close` it at the end."""

    def __init__(self, url: str, *, patience_s: float = _PATIENCE_S) -> None:
        """Prepare; nothing is connected yet. *url* is as `REDIS_URL`.

        A request goes on without an answer after *patience_s*.
        """
        self._client = _client(url)
        self._patience_s = patience_s
        self._usable = False
        self._lost = asyncio.Event()
        self._lost.set()
        self._asked: list[_Asked] = []
        self._sending = False
        self._told: dict[str, list[Callable[[str], None]]] = {}
        self._untold: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Set while messages of `subscribe`d channels come in.
        self.listening = asyncio.Event()

    @property
    def usable(self) -> bool:
        """Whether it answered when it was asked last."""
        return self._usable

    async def open(self) -> None:
        """Look whether it is there, and keep looking. That it is away is no error."""
        if (problem := await self._reach()) is not None:
            _log.warning("redis is away: going on without it. %s", problem)
        self._show()
        self._start(go_on(self._keep_reaching, "reaching redis"))
        self._start(go_on(self._keep_listening, "listening to redis"))

    async def close(self) -> None:
        """Let go of it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._answer_nobody()
        _UP.forget()
        await self._client.aclose()

    async def ask(self, *command: Word) -> Any:  # noqa: ANN401 -- each command answers otherwise
        """Return what it answers to *command*; None when it is away, slow or refuses."""
        if not self._usable:
            return None
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((command, answer))
        if not self._sending:
            self._sending = True
            self._start(self._send())
        return await answer

    async def read_streams(
        self, seen: Mapping[str, bytes], *, wait_ms: int
    ) -> dict[str, list[tuple[bytes, Mapping[bytes, bytes]]]] | None:
        """Return the entries of streams after those that were *seen*, waiting for the first.

        Nothing within *wait_ms* is none; None is that it is away, slow or refuses.
        """
        if not self._usable:
            return None
        try:
            async with asyncio.timeout(wait_ms / 1000 + _CONNECT_WITHIN_S):
                found = await self._client.xread(
                    {name: entry for name, entry in seen.items()},  # noqa: C416 -- types as it has them
                    block=wait_ms,
                )
        except ResponseError as error:
            _log.debug("redis: no stream (%s)", type(error).__name__)
            return None
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            return None
        return {name.decode(): entries for name, entries in found}

    def subscribe(self, channel: Channel, told: Callable[[str], None]) -> None:
        """Call *told* with each message of *channel*, and with "" when some may be lost.

        Anybody who reaches the server can send any message: it may be taken as
        a hint to look where the truth is, and for nothing else.
        """
        self._told.setdefault(channel, []).append(told)

    def tell(self, channel: Channel, message: str = "") -> None:
        """Send *message* to whoever subscribed to *channel*.

        If it cannot be sent they are told, once the server is there again, that they may have
        missed some.
        """
        self._start(self._tell(channel, message))

    async def _tell(self, channel: Channel, message: str) -> None:
        if await self.ask("PUBLISH", channel, message) is None:
            self._untold.add(channel)

    async def _send(self) -> None:
        try:
            while self._asked:
                batch, self._asked = self._asked[:_AT_ONE_TIME], self._asked[_AT_ONE_TIME:]
                answers: list[Any] = [None] * len(batch)
                try:
                    answers = await self._answers([command for command, _ in batch])
                finally:  # also when the server is being stopped: nobody waits for ever
                    _give(batch, answers)
        finally:
            self._sending = False

    async def _answers(self, commands: list[tuple[Word, ...]]) -> list[Any]:
        try:
            return await _in_time(self._round_trip(commands), self._patience_s)
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            self._answer_nobody()
            return [None] * len(commands)

    async def _round_trip(self, commands: list[tuple[Word, ...]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute()

    def _answer_nobody(self) -> None:
        waiting, self._asked = self._asked, []
        _give(waiting, [None] * len(waiting))

    def _lose(self, error: Exception) -> None:
        if self._usable:
            _log.warning("redis is away (%s): going on without it", type(error).__name__)
        self._usable = False
        self._lost.set()
        self._show()

    def _show(self) -> None:
        _UP.set(float(self._usable and self.listening.is_set()))

    async def _keep_reaching(self) -> None:
        while True:
            await self._lost.wait()
            await asyncio.sleep(_TRY_AGAIN_S)
            if await self._reach() is None:
                _log.warning("redis is there again")

    async def probe(self) -> None:
        """Ask it for all that is ever asked; raises RedisError or OSError when it cannot."""
        command = self._client.execute_command
        await command("EVAL", _PROBE, 1, _PROBED)  # type: ignore[no-untyped-call]  # the library has no types for it

    async def _reach(self) -> str | None:
        """Look whether it is there; return why not, None if it is."""
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                await self.probe()
        except (RedisError, OSError, TimeoutError) as error:
            return _in_words(error)
        self._usable = True
        self._lost.clear()
        self._show()
        untold, self._untold = self._untold, set()
        for channel in untold:
            self.tell(channel)
        return None

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                _log.debug("redis: no messages (%s)", type(error).__name__)
                if not isinstance(error, ResponseError):  # as a user who may not subscribe gets
                    self._lose(error)
            self.listening.clear()
            self._show()
            self._tell_gap()
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _listen(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=False) as messages:
            await messages.subscribe(*_CHANNELS)
            while True:
                message = await messages.get_message(timeout=_LISTEN_FOR_S)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self._tell_gap()
                    self.listening.set()
                    self._show()
                elif message["type"] == "message":
                    self._hear(message["channel"], message["data"])

    def _hear(self, channel: bytes, message: bytes) -> None:
        for told in self._told.get(channel.decode("utf-8", "replace"), ()):
            told(message.decode("utf-8", "replace"))

    def _tell_gap(self) -> None:
        for listeners in self._told.values():
            for told in listeners:
                told("")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _in_time(work: Coroutine[Any, Any, list[Any]], patience_s: float) -> list[Any]:
    """Return what *work* returns within *patience_s*; raise TimeoutError when it does not.

    A process that was itself held up for so long looks once more before it blames another.
    """
    task = asyncio.create_task(work)
    try:
        for _ in range(_LOOKS):
            began = time.monotonic()
            await asyncio.wait({task}, timeout=patience_s)
            if task.done():
                return task.result()
            if time.monotonic() - began < _LATE * patience_s:
                break
        raise TimeoutError
    finally:
        task.cancel()


def _give(asked: list[_Asked], answers: list[Any]) -> None:
    for (_, future), answer in zip(asked, answers, strict=True):
        if not future.done():  # whoever asked may have gone away
            future.set_result(answer)


async def redis_problem(url: str) -> str | None:
    """Return what keeps us from using the server at *url*, as a sentence; None if nothing does."""
    link = RedisLink(url)
    try:
        async with asyncio.timeout(_CONNECT_WITHIN_S):
            await link.probe()
    except (RedisError, OSError, TimeoutError) as error:
        return _in_words(error)
    finally:
        await link.close()
    return None


def _in_words(error: Exception) -> str:
    """Return why it cannot be used, as a sentence that holds no password."""
    match error:
        case TimeoutError():
            return f"It does not answer within {_CONNECT_WITHIN_S:g} s."
        case AuthenticationError():
            return "It refuses the password."
        case ReadOnlyError():
            return "It is a replica, which takes no writes."
        case ResponseError():
            # In the server's own words.
            return f"It refuses our scripts: {str(error).partition(' script:')[0]}."
    return _without_an_answer(error.__cause__ or error.__context__)


def _without_an_answer(why: BaseException | None) -> str:
    match why:
        case ssl.SSLCertVerificationError():
            return f"Its certificate is not trusted: {why.verify_message.rstrip('.')}."
        case FileNotFoundError():
            return "A file that REDIS_URL names is not there."
    return "It cannot be reached."


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_WITHIN_S,
        # The library's own attempts would take longer than anybody here waits.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=10,
        client_name="chatkeep",
        max_connections=8,
    )
