"""ChatKit requests answered: what the SDK leaves to whoever serves it.

A stream is made by a task of its own, never by the request: a reader who hangs up is told
to it as a cancellation, once, after which it may still await the database. One change at a
time is made to a thread, on whichever node. A retry that says nothing leaves the answer
that was there.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.store import NotFoundError
from chatkit.types import (
    ErrorEvent,
    ItemsFeedbackReq,
    ThreadsDeleteReq,
    ThreadsRetryAfterItemReq,
    is_streaming_req,
)

from chatkeep import conversations, runs
from chatkeep.chatkit import records
from chatkeep.chatkit.answering import EngineServer
from chatkeep.chatkit.requests import CHANGES, Checks, read_request, thread_of
from chatkeep.chatkit.store import generated_id
from chatkeep.errors import ChatkeepError, NotFound, RunInProgress, TokenRevoked, Unavailable
from chatkeep.idempotency import KEPT_AT_MOST
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkit.types import ChatKitReq

    from chatkeep.chatkit.answering import Engine
    from chatkeep.chatkit.context import ChatKitContext

_log = logging.getLogger(__name__)


class Recording(Protocol):
    """Where everything that a stream says is kept, for whoever sends the same request again."""

    async def renew(self) -> None:
        """Hear that the stream is still being made."""

    async def keep(self, said: bytes) -> None:
        """Keep what was said, all of it."""


_HEARTBEAT: Final = b": keep-alive\n\n"
_HEARTBEAT_S: Final = 10.0
_FRAMES_AT_MOST: Final = 64
_LEAVING_WITHIN_S: Final = 10.0
_NEWS_WITHIN_S: Final = 1.0
_RENEWAL_S: Final = 5.0


@dataclass(slots=True, eq=False)
class _Work:
    """One stream being made. *leaving*: nobody reads it any more, or it is about to end.

    *told* is everything that was said in it, where that is wanted.
    """

    frames: asyncio.Queue[bytes | None] = field(
        default_factory=lambda: asyncio.Queue(_FRAMES_AT_MOST)
    )
    task: asyncio.Task[None] | None = None
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    unread: bool = False
    told: bytearray | None = None

    async def tell(self, frame: bytes | None) -> None:
        """Hand *frame* to the reader, as soon as they take it, if there is one."""
        if self.told is not None and frame is not None and len(self.told) <= KEPT_AT_MOST:
            self.told += frame  # more than that is not kept anyhow
        if not self.unread:
            await self.frames.put(frame)

    async def leaves(self) -> bool:
        """Whether it ends now: who hangs up and asks on may be faster than the news of it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_NEWS_WITHIN_S):
                await self.leaving.wait()
        return self.leaving.is_set()

    def forget_reader(self) -> None:
        """Wait for nobody."""
        self.unread = True
        while not self.frames.empty():
            self.frames.get_nowait()


class Surface:
    """Answers ChatKit's requests with a `ChatKitServer`."""

    def __init__(
        self, server: ChatKitServer[ChatKitContext], engine: Engine, *, goes_on: bool
    ) -> None:
        """Answer with *server*; *goes_on*: also when the reader has hung up."""
        self._server = server
        self._engine = engine
        self._db = engine.db
        self._goes_on = goes_on
        self._checks = Checks(server, engine, own=isinstance(server, EngineServer))
        self._work: dict[tuple[str, str], _Work] = {}

    @property
    def farewell(self) -> bytes:
        """The end of a stream whose reader was signed out."""
        return _frame(ErrorEvent(code="custom", message=TokenRevoked().detail))

    async def process(
        self, body: bytes, context: ChatKitContext, *, recording: Recording | None = None
    ) -> bytes | AsyncGenerator[bytes, None]:
        """Return the whole JSON answer, or the frames of a stream.

        A stream goes to *recording* when it has ended, also where its reader had left before:
        what it changed is changed.

        Raises the errors of `Checks.check` and `read_request`, and
        RunInProgress: the thread is being answered.
        """
        request = read_request(body)
        context["metadata"] = request.metadata
        await self._checks.check(request, context)
        token = await self._take(request, context)
        if is_streaming_req(request):
            return self._frames(request, context, token, recording)
        try:
            return await self._whole(request, context)
        except NotFoundError as error:
            raise NotFound from error
        finally:
            await self._give_back(request, context, token)

    async def close(self, *, drain_s: float) -> None:
        """Let the streams end, and cut short what has not by then."""
        tasks = [work.task for work in self._work.values() if work.task is not None]
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=drain_s)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_LEAVING_WITHIN_S)

    async def _whole(self, request: ChatKitReq, context: ChatKitContext) -> bytes:
        user_id = context.who.user_id
        if isinstance(request, ThreadsDeleteReq):
            await self._engine.replies.stop(user_id, request.params.thread_id)
        if isinstance(request, ItemsFeedbackReq):
            rated = dict.fromkeys(request.params.item_ids, request.params.kind)
            await records.keep_feedback(self._db, user_id, request.params.thread_id, dict(rated))
        result = await self._server.process(request.model_dump_json(), context)
        assert isinstance(result, NonStreamingResult)  # noqa: S101 -- is_streaming_req has decided
        return aware(result.json)

    # --- one change at a time ---

    async def _take(self, request: ChatKitReq, context: ChatKitContext) -> str:
        """Take the thread that *request* changes, '' where it changes none."""
        thread_id = thread_of(request)
        if thread_id is None or not isinstance(request, CHANGES):
            return ""
        user_id, token = context.who.user_id, new_id()
        before = self._work.get((user_id, thread_id))
        if before is not None and before.task is not None and await before.leaves():
            await asyncio.wait([before.task], timeout=_LEAVING_WITHIN_S)
        running = await runs.find_active(self._db, user_id, thread_id)
        if running is not None:
            raise RunInProgress(run_id=running)
        if not await records.take(self._db, user_id, thread_id, token):
            raise RunInProgress
        return token

    async def _give_back(self, request: ChatKitReq, context: ChatKitContext, token: str) -> None:
        thread_id = thread_of(request)
        if token and thread_id is not None:
            with suppress(Unavailable):  # it is free again when its lease runs out
                await records.give_back(self._db, context.who.user_id, thread_id, token)

    async def _keep_taken(self, user_id: str, thread_id: str, token: str) -> None:
        while True:
            await asyncio.sleep(_RENEWAL_S)
            with suppress(Unavailable):
                await records.take(self._db, user_id, thread_id, token)

    # --- streams ---

    async def _frames(
        self, request: ChatKitReq, context: ChatKitContext, token: str, recording: Recording | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the stream. It is begun by the first read."""
        work = _Work(told=None if recording is None else bytearray())
        thread = thread_of(request)
        if thread is None:
            thread = context.progress.thread_id = generated_id("thread")
        place = context.who.user_id, thread
        self._work[place] = work
        work.task = asyncio.create_task(self._run(work, request, context, token, recording))
        work.task.add_done_callback(lambda _: self._work.pop(place, None))
        try:
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT_S):
                        frame = await work.frames.get()
                except TimeoutError:
                    frame = _HEARTBEAT
                if frame is None:
                    return
                yield frame
        finally:
            self._hang_up(work)

    def _hang_up(self, work: _Work) -> None:
        if work.task is None or work.task.done():
            return
        work.forget_reader()
        if not self._goes_on:
            if not work.leaving.is_set():
                work.task.cancel()
            work.leaving.set()

    async def _run(
        self,
        work: _Work,
        request: ChatKitReq,
        context: ChatKitContext,
        token: str,
        recording: Recording | None,
    ) -> None:
        """Make one stream from its first frame to the thread's release."""
        thread_id = thread_of(request) or ""
        keeping = asyncio.create_task(self._keep_taken(context.who.user_id, thread_id, token))
        renewing = asyncio.create_task(_keep_alive(recording))
        if not token:
            keeping.cancel()
        try:
            await self._stream(work, request, context)
        except asyncio.CancelledError:
            _forget_cancellation()
        except Exception:  # noqa: BLE001 -- a bug must end the stream too, said and logged
            _log.exception("a ChatKit stream failed")
            await work.tell(_frame(ErrorEvent(code="custom", message=ChatkeepError().detail)))
        finally:
            work.leaving.set()
            keeping.cancel()
            await self._give_back(request, context, token)
            renewing.cancel()
            if recording is not None and work.told is not None:
                with suppress(Unavailable):  # its key is free again when its lease runs out
                    await recording.keep(bytes(work.told))
            await work.tell(None)

    async def _stream(self, work: _Work, request: ChatKitReq, context: ChatKitContext) -> None:
        retried = None
        if isinstance(request, ThreadsRetryAfterItemReq):
            retried = await self._begin_retry(request, context)
        result = await self._server.process(request.model_dump_json(), context)
        assert isinstance(result, StreamingResult)  # noqa: S101 -- is_streaming_req has decided
        cancelling: asyncio.Handle | None = None
        try:
            async for frame in result.json_events:
                try:
                    await work.tell(aware_frame(frame))
                except asyncio.CancelledError:
                    # The SDK's generators, one in another, stand at a `yield` and would not hear
                    # of it: they do as soon as they wait for something again.
                    work.forget_reader()
                    cancelling = _cancel_again()
        finally:
            if cancelling is not None:
                cancelling.cancel()
            await result.json_events.aclose()
            if isinstance(request, ThreadsRetryAfterItemReq):
                await self._end_retry(request, context, retried)

    # --- retrying ---

    async def _begin_retry(
        self, request: ThreadsRetryAfterItemReq, context: ChatKitContext
    ) -> str | None:
        """Let the thread end with the question; return where it ended."""
        user_id, params = context.who.user_id, request.params
        found = await records.find_thread(self._db, user_id, params.thread_id)
        context.progress.retrying = True
        await records.show_up_to(self._db, user_id, params.thread_id, params.item_id)
        return found.head_id if found else None

    async def _end_retry(
        self, request: ThreadsRetryAfterItemReq, context: ChatKitContext, head_id: str | None
    ) -> None:
        """Show the earlier answer again when the new one has not said anything."""
        user_id, thread_id = context.who.user_id, request.params.thread_id
        context.progress.retrying = False
        found = await records.find_thread(self._db, user_id, thread_id)
        if found is None or found.head_id is None or head_id is None or context.progress.added:
            return
        ends = await conversations.list_messages(self._db, user_id, thread_id, [found.head_id])
        says_nothing = all(not one.content and one.status != "done" for one in ends)
        if found.head_id == request.params.item_id or says_nothing:
            await records.show_up_to(self._db, user_id, thread_id, head_id)
            await records.show_items(self._db, user_id, thread_id, context.progress.hidden)


def aware(body: bytes) -> bytes:
    """Return *body* with the zone of every time of a thread or item said.

    The SDK and applications write times without one, which clients take for their own.
    """
    if b'"created_at"' not in body:
        return body
    found: Any = msgspec.json.decode(body)
    for one in (found, found.get("updated_item"), *found.get("data", ())):
        _say_zone(one)
    for one in (found.get("items") or {}).get("data", ()):
        _say_zone(one)
    return msgspec.json.encode(found)


def aware_frame(frame: bytes) -> bytes:
    """Return one event of a stream, as `aware`."""
    if b'"created_at"' not in frame:
        return frame
    found: Any = msgspec.json.decode(frame.removeprefix(b"data: "))
    for one in (found.get("item"), found.get("thread")):
        _say_zone(one)
    for one in ((found.get("thread") or {}).get("items") or {}).get("data", ()):
        _say_zone(one)
    return b"data: " + msgspec.json.encode(found) + b"\n\n"


def _say_zone(one: Any) -> None:  # noqa: ANN401 -- JSON can be anything
    written = one.get("created_at") if isinstance(one, dict) else None
    if isinstance(written, str):
        one["created_at"] = datetime.fromisoformat(written).astimezone().isoformat()


async def _keep_alive(recording: Recording | None) -> None:
    while recording is not None:
        await asyncio.sleep(_RENEWAL_S)
        with suppress(Unavailable):
            await recording.renew()


def _frame(event: ErrorEvent) -> bytes:
    return b"data: " + event.model_dump_json(exclude_none=True).encode() + b"\n\n"


def _cancel_again() -> asyncio.Handle:
    """Let the task at hand be cancelled where it waits next, not here."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- only tasks are cancelled
    task.uncancel()
    return task.get_loop().call_soon(task.cancel)


def _forget_cancellation() -> None:
    """Let what ends a task await again as if nothing had been asked of it."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
