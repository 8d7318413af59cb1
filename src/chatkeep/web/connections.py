"""The HTTP/1.1 connection, with the limits that uvicorn's leaves out.

A head over the cap, a request that is sent a little at a time to hold the connection, two
ways to say how long the body is, and more connections than the process can hold are
refused here, before any application code. Who does not take the answer they asked for is
cut off, because it stays in memory until they do; so is who is not there any more, of whom
the kernel would tell us after a quarter of an hour. Nothing here knows a route.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import ref

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from chatkeep.errors import BadRequest, ChatkeepError, HeadersTooLarge, RequestTimeout, Unavailable
from chatkeep.ids import new_id
from chatkeep.web.afterwards import LINE
from chatkeep.web.problems import body_of
from chatkeep.web.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_HEAD_BYTES: Final = 32 * 1024
#: Every so many bytes of body buy one second more, so that a slow line may upload.
_BODY_BYTES_A_SECOND: Final = 16 * 1024
#: Bytes of a body's wrapping (chunk extensions, trailers) that carry nothing.
_MAX_IDLE_BYTES: Final = 64 * 1024
#: How much of a body is still taken, and dropped, after its answer: a client that sends all
#: before it reads would otherwise not see why it was refused.
_MAX_LATE_BYTES: Final = 2 * 1024 * 1024
#: What the kernel takes off our hands without sending it. By default it is megabytes, and a
#: slow reader would look like one who has stopped.
_KERNEL_HOLDS_BYTES: Final = 128 * 1024
#: How much of answers may wait in memory for their readers, all of them together; and how much
#: of bodies for the rest of them.
_WAITING_AT_MOST: Final = 256 * 1024 * 1024
_KERNEL_HOLDS = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # not on every platform
#: What Linux tells of a connection; `struct tcp_info` of linux/tcp.h, which only ever grows.
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_RETRANSMITS_AND_LAST_ACK: Final = struct.Struct("=2xB53xI")


#: Of a request whose body is taken, and that nobody waits for any more.
_UNHEARD: Final = asyncio.Event()


class _Awaiting(Enum):
    """What the client has to send next."""

    REQUEST = auto()
    HEAD = auto()
    BODY = auto()


class _Waiting(list[Any]):
    """Requests that wait on one connection: hardly ever any, and an empty deque takes 0.7 KiB."""

    def appendleft(self, one: object) -> None:
        """Put in the one that came last."""
        self.insert(0, one)


class Line:
    """The connection of one request, for an answer that goes on for long.

    The request has it, so it must not have the request: a ring of both is left to Python's
    collector, which looks through thousands of streams for those of a second.
    """

    __slots__ = ("_connection", "_cycle", "_lost")

    def __init__(self, connection: GuardedProtocol, cycle: RequestResponseCycle) -> None:
        """Stand for *connection* while *cycle* is answered."""
        self._connection = connection
        self._cycle = ref(cycle)
        self._lost: Callable[[], None] | None = None

    def begin(self, lost: Callable[[], None]) -> None:
        """Forget the request, and call *lost*, once, when the client hangs up or has done so."""
        connection, cycle = self._connection, self._cycle()
        if cycle is None:  # it has been answered
            lost()
            return
        scope = cast("Any", cycle.scope)
        method = scope["method"]
        scope["headers"].clear()
        scope.clear()
        scope.update(type="http", method=method)
        cycle.message_event = _UNHEARD
        self._lost = lost
        connection.line = self
        connection.flow.resume_reading()  # a connection that is not read is not seen to end
        if cycle.disconnected or cycle.response_complete or connection.transport.is_closing():
            self.hung_up()

    def end(self) -> None:
        """Call nobody any more."""
        self._lost = None
        if self._connection.line is self:
            self._connection.line = None

    def hung_up(self) -> None:
        """The client has."""
        if (cycle := self._cycle()) is not None:
            cycle.disconnected = True
        if (lost := self._lost) is not None:
            self.end()
            lost()


class GuardedProtocol(HttpToolsProtocol):
    """One connection of a client. uvicorn makes them; see its `http` option."""

    #: More than these at once are refused. A subclass may set it.
    max_connections = 10_000
    #: How long a request may take to arrive. A subclass may set it.
    receive_s = 15.0
    #: Within this time a client takes `taken_bytes` of an answer, or the rest of it. A
    #: subclass may set both.
    take_s = 60.0
    taken_bytes = 60 * 1024
    #: Who has acknowledged nothing for so long, though something was sent again, is gone. Not
    #: sooner: a phone comes out of a tunnel. `listening` has the same for who is sent nothing.
    silent_s = 20.0
    looked_every_s = 5.0
    #: What the clients of this process have not taken yet, and what of theirs is not whole yet.
    unsent = Room(_WAITING_AT_MOST, little_bytes=256 * 1024)
    arriving = Room(_WAITING_AT_MOST, little_bytes=32 * 1024)

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- uvicorn's, handed on
        super().__init__(*arguments, **options)
        self.pipeline = _Waiting()  # type: ignore[assignment]  # all that uvicorn does with it
        self._awaiting = _Awaiting.REQUEST
        self._idle_bytes = 0
        self._body_bytes = 0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._listening_for: asyncio.TimerHandle | None = None
        self._refusal: ChatkeepError | None = None
        self._deaf = False
        #: Who is told when the client hangs up.
        self.line: Line | None = None

    # --- the connection -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Take the connection, unless there are too many; it must then say something soon."""
        super().connection_made(transport)
        if _KERNEL_HOLDS is not None and (sock := transport.get_extra_info("socket")):
            sock.setsockopt(socket.IPPROTO_TCP, _KERNEL_HOLDS, _KERNEL_HOLDS_BYTES)
        if len(self.connections) > self.max_connections:
            self._refuse(Unavailable())
            return
        self._arm()
        if _TCP_INFO is not None:
            self._listen_for_the_client()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._disarm()
        if self._listening_for is not None:
            self._listening_for.cancel()
        self.resume_writing()
        self.arriving.leave(self)
        super().connection_lost(exc)
        if self.line is not None:
            self.line.hung_up()

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse when it leads nowhere."""
        if self.transport.is_closing() or self._deaf:
            return
        if self._timer is None:
            self._arm()  # stray line ends before a request switch uvicorn's own timer off
        self._idle_bytes += len(data)
        super().data_received(data)
        most = _MAX_IDLE_BYTES if self._awaiting is _Awaiting.BODY else MAX_HEAD_BYTES
        if self._is_late():
            most = _MAX_LATE_BYTES
        if self._idle_bytes > most and not self.transport.is_closing():
            self._refuse(HeadersTooLarge())

    # --- the parser's callbacks -----------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins: from here on the head counts."""
        super().on_message_begin()
        self._awaiting = _Awaiting.HEAD
        self._idle_bytes = 0
        self._arm()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; drop a trailer, which must not pass for one (RFC 9110 section 6.5.1)."""
        if self._awaiting is _Awaiting.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, unless the head is one that servers read differently."""
        self._refusal = _head_problem(self.url, self.headers, self.parser.get_http_version())
        upgrade = self.parser.should_upgrade()
        if upgrade and _has_body(self.headers):
            self._refusal = BadRequest("Send a body without asking for another protocol.")
        if self._refusal is not None:
            raise self._refusal
        super().on_headers_complete()
        cast("Any", self.scope)["extensions"] = {LINE: Line(self, self.cycle)}
        if upgrade:
            # The parser takes the request for ended here, and what follows for the other
            # protocol. We speak no other: this request is answered, and is the last one.
            self.cycle.keep_alive = False
            self._deaf = True
        self._awaiting = _Awaiting.BODY
        self._idle_bytes = self._body_bytes = 0
        self._arm()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body, which buys time for the next while it is wanted."""
        if not self._is_late():
            self._idle_bytes = 0
            self._deadline += len(body) / _BODY_BYTES_A_SECOND
            self._body_bytes += len(body)
            self.arriving.take(self, self._body_bytes, self._give_up_body)
        else:
            self.arriving.leave(self)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is here: the client owes nothing."""
        super().on_message_complete()
        self.arriving.leave(self)
        self._awaiting = _Awaiting.REQUEST
        self._idle_bytes = 0
        self._disarm()

    # --- refusing -------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed; uvicorn calls this for every parser's error."""
        refusal, self._refusal = self._refusal, None
        self._refuse(refusal or BadRequest(msg))

    def _refuse(self, error: ChatkeepError) -> None:
        self._disarm()
        # An answer that is on its way must not get another one mixed in.
        cycle = self._unanswered()
        if self._is_late():
            pass  # it has its answer
        elif cycle is None or (self._awaiting is _Awaiting.BODY and not cycle.response_started):
            self.transport.write(self._answer(error))
        self.transport.close()

    def _give_up_body(self) -> None:
        """Let go of a client whose request is too slow to arrive, because others need the room."""
        if not self.transport.is_closing():
            self._refuse(Unavailable())

    def _is_late(self) -> bool:
        """Whether a body is still coming whose request has been answered."""
        return self._awaiting is _Awaiting.BODY and self._unanswered() is None

    def _unanswered(self) -> RequestResponseCycle | None:
        """The request that the application works on, None before the first and between two."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _answer(self, error: ChatkeepError) -> bytes:
        request_id = new_id()
        body = msgspec.json.encode(body_of(error, request_id))
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(error.retry_after_s).encode()))
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return STATUS_LINE[error.status] + lines + b"\r\n" + body

    # --- who does not read ----------------------------------------------------------------

    def pause_writing(self) -> None:
        """More is written than the client has taken: from here on it has to take some."""
        super().pause_writing()
        self._expect_taken()
        self.unsent.take(self, self.transport.get_write_buffer_size(), self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken nearly all."""
        self.unsent.leave(self)
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also when the client never takes what is left for it."""
        super().timeout_keep_alive_handler()
        if self._taking is None and self.transport.get_write_buffer_size():
            self._taking = self.loop.call_later(self.take_s, self.transport.abort)

    def _expect_taken(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self.take_s, self._look_what_was_taken, left)

    def _look_what_was_taken(self, before: int) -> None:
        # Nothing is added meanwhile: the application waits until writing is resumed.
        if before - self.transport.get_write_buffer_size() < self.taken_bytes:
            self.transport.abort()
        else:
            self._expect_taken()

    # --- who is not there any more --------------------------------------------------------

    def _listen_for_the_client(self) -> None:
        self._listening_for = self.loop.call_later(self.looked_every_s, self._look_who_is_there)

    def _look_who_is_there(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return  # a proxy on this machine: its end is never silent
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RETRANSMITS_AND_LAST_ACK.size)
        again, silent_ms = _RETRANSMITS_AND_LAST_ACK.unpack(info)
        # Who only reads slowly acknowledges: what is full is then asked about, not sent again.
        if again and silent_ms >= self.silent_s * 1000:
            self.transport.abort()
        else:
            self._listen_for_the_client()

    # --- the clock ------------------------------------------------------------------------

    def _arm(self) -> None:
        self._deadline = self.loop.time() + self.receive_s
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._look_at_the_clock)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._is_our_turn():
            self._arm()
        elif self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._look_at_the_clock)
        else:
            self._refuse(RequestTimeout())

    def _is_our_turn(self) -> bool:
        """Whether it is we who keep the client waiting: unread body, or answer unfinished."""
        if self.flow.read_paused:
            return True
        return self._awaiting is not _Awaiting.BODY and self._unanswered() is not None


def _head_problem(
    url: bytes, headers: Sequence[tuple[bytes, bytes]], version: str
) -> ChatkeepError | None:
    size = len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
    if size > MAX_HEAD_BYTES:
        return HeadersTooLarge()
    names = [name for name, _ in headers]
    if version not in {"1.0", "1.1"}:
        return BadRequest("Speak HTTP/1.1.")
    # RFC 9112 section 6.3: two lengths are how a request is smuggled past a proxy.
    lengths = names.count(b"content-length") + (b"transfer-encoding" in names)
    if lengths > 1 or (version != "1.1" and b"transfer-encoding" in names):
        return BadRequest("Say the length of the body in one way only.")
    if names.count(b"host") != 1 and version == "1.1":  # RFC 9112 section 3.2
        return BadRequest("Send one Host header.")
    return None


def _has_body(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    lengths = {b"content-length", b"transfer-encoding"}
    return any(name in lengths and value != b"0" for name, value in headers)
