"""The door for requests that make something: sent again with its key, nothing is made again.

    @router.post("/things")
    async def make_thing(who: SignedIn, services: ServicesDep, once: Once) -> Thing:
        async def make(thing_id: str) -> Thing:
            await services.limits.spend("thing", who.user_id)
            return await things.make(services.db, who.user_id, thing_id)

        return await once.answer(who, make)

*make* is called for the first request with an `Idempotency-Key` and for each without one.
What it is given is an id: without a key a new one, with a key the same on every attempt. A
stream that it returns is recorded while it is sent. What it raises is not kept, so the
request may be made again; but `AnswerNotKept` is, by which *make* says that it was done before.
`begun_once` is the same for what begins a run, where the run itself is what is found again.

What is asked all day makes an `OnceDoor` of its own: a dependency takes 20 us each time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import runs
from chatkeep.errors import AnswerNotKept, ChatkeepError, RateLimited, Unavailable
from chatkeep.idempotency import DONE, KEPT_AT_MOST, RENEWAL_S, Held, Kept
from chatkeep.ids import new_id
from chatkeep.web.schemas import IdempotencyKey
from chatkeep.web.services import Services, services_of
from chatkeep.web.sse import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.answering.answers import Answer
    from chatkeep.answering.turns import Turn
    from chatkeep.idempotency import Marked
    from chatkeep.principal import Principal

_Made = TypeVar("_Made", bound=BaseModel | Response)

#: It says of an answer that it was given before.
REPLAYED: Final = "idempotency-replayed"
_KEPT_HEADERS: Final = ("location", "content-disposition", "cache-control")
_BEGINS_WITHIN_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.02
#: In memory JSON takes up to thirty times as many bytes.
_READ_AT_MOST: Final = 1 << 20


class OnceDoor:
    """Lets each request of a person, by its key, be done once."""

    def __init__(self, services: Services, request: Request, key: str | None) -> None:
        """*key* None: every request is a new one."""
        self._services = services
        self._request = request
        self.key = key or None

    async def answer(
        self,
        who: Principal,
        make: Callable[[str], Awaitable[_Made]],
        *,
        status: int = 200,
        body: bytes | None = None,
        shown_once: bool = False,
    ) -> _Made | Response:
        """Return what *make* makes, or what it made when the request came first.

        *status* is the route's own, with which a model that *make* returns is answered; *body*
        is what was sent, where the route has read it itself. What is *shown_once* is not kept.

        Raises what *make* raises, and
        AnswerNotKept: it was done, and is not shown again.
        IdempotencyKeyReused: the key came with another request.
        RequestInProgress: the same request is still being answered.
        """
        if self.key is None:
            return await make(new_id())
        held = await self.take(who, body)
        if isinstance(held, Kept):
            return replayed(held)
        async with kept_or_given_up(held):
            made = await make(held.id)
        if shown_once:
            await _keep(held, DONE)
        elif isinstance(made, EventStream):
            made.record(Recorded(made.frames, held))
        else:
            await kept(made, held, status)
        return made

    async def take(self, who: Principal, body: bytes | None = None) -> Held | Kept:
        """Return the right to answer, or the answer; for whoever keeps the answer itself."""
        assert self.key is not None  # noqa: S101 -- asked by the caller
        return await self._services.idempotency.take(
            who.user_id, self.key, await fingerprint_of(self._request, body)
        )

    async def mark(self, who: Principal) -> Marked | None:
        """Note the key of a request that begins a run; None without one.

        Raises:
            IdempotencyKeyReused: the key came with another request.
        """
        if self.key is None:
            return None
        return await self._services.idempotency.mark(
            who.user_id, self.key, await fingerprint_of(self._request)
        )


async def once(request: Request, idempotency_key: IdempotencyKey = "") -> OnceDoor:
    """Hand a route the door, for the key of the request at hand."""
    return OnceDoor(services_of(request), request, idempotency_key)


Once = Annotated[OnceDoor, Depends(once)]


def key_of(marked: Marked) -> str:
    """Return by what a run is found that the request of a key began."""
    return f"key:{marked.id}"


async def begun_before(services: Services, who: Principal, marked: Marked | None) -> Answer | None:
    """Find the answer that the same request began, by its key, whatever has come of it since."""
    if marked is None or not marked.seen:
        return None
    same = await runs.find_by_request(services.db, who.user_id, key_of(marked))
    return None if same is None else await services.replies.join(who.user_id, same.id)


async def begun_once(
    services: Services,
    who: Principal,
    turn: Turn,
    begin: Callable[[Turn], Awaitable[Answer]],
    *,
    marked: Marked | None = None,
) -> Answer:
    """Begin *turn*, or join the run that the same request began: then no limit is counted.

    With *marked* its key says what is the same, otherwise *turn*'s own `request_key`.

    Raises what *begin* raises, and
    RateLimited: this would be one answer too many.
    """
    if marked is not None:
        turn = replace(turn, request_key=key_of(marked))
    replies, user_id = services.replies, who.user_id
    if (
        marked is not None
        and marked.seen
        and (same := await replies.find_repeated(user_id, turn)) is not None
    ):
        return same
    may_repeat = turn.request_key is not None and (marked is None or marked.seen)
    find = partial(replies.find_repeated, user_id, turn) if may_repeat else None
    if (same := await counted(services, who, find)) is not None:
        return same
    return await begun_of_counted(services, who, turn, begin)


async def counted(
    services: Services, who: Principal, find: Callable[[], Awaitable[Answer | None]] | None
) -> Answer | None:
    """Count a question, and return None; or the one it repeats, which *find* finds, if any.

    Raises:
        RateLimited: this would be one too many.
    """
    try:
        await services.limits.spend("chat", who.user_id)
    except RateLimited:
        # The one it repeats may have been let in a moment ago.
        if find is not None and (same := await _found_soon(find)) is not None:
            return same
        raise
    return None


async def begun_of_counted(
    services: Services, who: Principal, turn: Turn, begin: Callable[[Turn], Awaitable[Answer]]
) -> Answer:
    """Begin *turn*, which was counted; not so if that joins a run that was begun before."""
    answer = await begin(turn)
    if answer.address.id != turn.run_id:
        await services.limits.give_back("chat", who.user_id)
    return answer


async def _found_soon(find: Callable[[], Awaitable[Answer | None]]) -> Answer | None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_BEGINS_WITHIN_S):
            while True:
                if (same := await find()) is not None:
                    return same
                await asyncio.sleep(_LOOK_EVERY_S)
    return None


async def fingerprint_of(request: Request, body: bytes | None = None) -> bytes:
    """Return what says that two requests are the same: method, address and *body*."""
    if body is None:
        body = await request.body()
    # Members have no order; what is no JSON, too deep to be any, or so long that reading it would
    # keep everybody else waiting, is taken as it is.
    if len(body) <= _READ_AT_MOST:
        with suppress(msgspec.DecodeError, RecursionError):
            body = msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    said = f"{request.method} {request.url.path}?{request.url.query}\n"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass") + body).digest()


def replayed(kept: Kept) -> Response:
    """Return an answer that was given before."""
    headers = {**kept.headers, REPLAYED: "true"}
    return Response(kept.body, kept.status, headers, media_type=kept.media_type or None)


class Recorded(AsyncGenerator[bytes, None]):
    """A stream that is kept when it has been sent to its end, and is as if never begun if not."""

    def __init__(self, frames: AsyncGenerator[bytes, None], held: Held) -> None:
        """Record *frames* under *held*."""
        self._frames = frames
        self._held: Held | None = held
        self._sent = bytearray()

    async def asend(self, value: None) -> bytes:
        """Return the next frame."""
        try:
            frame = await self._frames.asend(value)
        except StopAsyncIteration:
            held, self._held = self._held, None
            if held is not None:
                await _keep(held, _recorded(bytes(self._sent)))
            raise
        if self._held is not None:
            if len(self._sent) <= KEPT_AT_MOST:  # more than that is not kept anyhow
                self._sent += b"" if frame.startswith(b":") else frame
            with suppress(Unavailable):  # it is asked again soon
                await self._held.renew()
        return frame

    async def athrow(self, *error: Any) -> bytes:  # noqa: ANN401 -- as generators have it
        """Hand *error* on."""
        return await self._frames.athrow(*error)

    async def aclose(self) -> None:
        """End the stream; what was not sent whole may be asked for again."""
        held, self._held = self._held, None
        try:
            await self._frames.aclose()
        finally:
            if held is not None:
                await asyncio.shield(_given_up(held))


class StreamRecording:
    """Keeps a stream that is made to its end whoever reads it."""

    def __init__(self, held: Held) -> None:
        """Keep it under *held*."""
        self._held = held

    async def renew(self) -> None:
        """Say that it is still being made."""
        await self._held.renew()

    async def keep(self, said: bytes) -> None:
        """Keep all of it."""
        await self._held.keep(_recorded(said))


def _recorded(sent: bytes) -> Kept:
    headers = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
    return Kept(status=200, body=sent, media_type="text/event-stream", headers=headers)


async def kept(made: BaseModel | Response, held: Held, status: int = 200) -> None:
    """Keep what was made for whoever comes with the same request again."""
    answer = made
    if isinstance(answer, BaseModel):
        answer = Response(answer.model_dump_json(), status, media_type="application/json")
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    whole = Kept(
        status=answer.status_code,
        body=bytes(answer.body),
        media_type=answer.headers.get("content-type", ""),
        headers=headers,
    )
    await _keep(held, whole)


async def _keep(held: Held, kept: Kept) -> None:
    with suppress(Unavailable):  # it was done all the same; the key is free when its lease ends
        await held.keep(kept)


async def _given_up(held: Held, error: BaseException | None = None) -> None:
    refused = isinstance(error, ChatkeepError) and not isinstance(error, Unavailable)
    with suppress(Unavailable):  # it is free again when its lease ends
        if isinstance(error, AnswerNotKept):
            await held.keep(DONE)
        elif error is None or refused:
            await held.release()
        else:
            # It may have been done all the same: the database was too slow to say so, or this
            # process ends, or has a fault after it.
            await held.leave()


@asynccontextmanager
async def kept_or_given_up(held: Held) -> AsyncIterator[None]:
    """Hold the right while the block works, and give it up where the block fails."""
    task = asyncio.create_task(_renew(held))
    try:
        yield
    except BaseException as error:
        await asyncio.shield(_given_up(held, error))
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _renew(held: Held) -> None:
    while True:
        await asyncio.sleep(RENEWAL_S)
        with suppress(Unavailable):
            await held.renew()
