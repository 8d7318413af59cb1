"""A model provider for benchmarks: canned chunks, as many and as fast as the question says.

    python -m benchmarks.upstream PORT

The last words of a question like `bench chunks=500 pause_ms=20 burst=1` say how long the
answer is, how long each pause, and how many chunks are sent at once. Each chunk's text is a
mark and the time it was sent at (`sent_at`), so that a reader on the same machine knows how
long it was on its way. It keeps connections alive and costs as little as it can.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable

#: Stands once in the text of each chunk, and nowhere else in an answer.
MARK = b"~"
#: The clock of the marks begins anew after so many seconds, to be of a fixed width.
WRAPS_S = 1000
STAMP_BYTES = 10

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_WISH = re.compile(rb"bench chunks=(\d+) pause_ms=(\d+) burst=(\d+)")
_STREAMED = re.compile(rb'"stream": ?true')
_EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_BARE = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "gpt-4o-mini"}
_USAGE = {"prompt_tokens": 9, "completion_tokens": 500, "total_tokens": 509}


def question(*, chunks: int, pause_ms: int = 0, burst: int = 1) -> str:
    """Return what to ask for an answer of so many chunks."""
    return f"bench chunks={chunks} pause_ms={pause_ms} burst={burst}"


def sent_at(data: bytes, mark: int) -> float | None:
    """Return how long ago the chunk was sent whose mark stands at *mark*; None: cut off."""
    stamp = data[mark + 1 : mark + 1 + STAMP_BYTES]
    if len(stamp) < STAMP_BYTES:
        return None
    return (time.perf_counter() % WRAPS_S - float(stamp)) % WRAPS_S


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    chunk = {**_BARE, "object": "chat.completion.chunk", "choices": choices, **more}
    return _wrapped(b"data: %s\n\n" % json.dumps(chunk, separators=(",", ":")).encode())


def _wrapped(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish_reason}]


_STAMP = b"0" * STAMP_BYTES
_FIRST = _event(_choice({"role": "assistant", "content": ""}))
_BEFORE, _AFTER = _event(_choice({"content": " " + (MARK + _STAMP).decode()})).split(_STAMP)
_LAST = (
    _event(_choice({}, "stop")) + _event([], usage=_USAGE) + _wrapped(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)  # fmt: skip


def _texts(count: int) -> bytes:
    stamp = b"%010.6f" % (time.perf_counter() % WRAPS_S)
    return (_BEFORE + stamp + _AFTER) * count


class _Ticker:
    """Calls back whoever waits, in steps of a millisecond: one timer for all streams."""

    def __init__(self) -> None:
        self._due: dict[int, list[Callable[[], None]]] = {}
        self._done = int(time.perf_counter() * 1000)

    def at(self, milliseconds: int, call: Callable[[], None]) -> None:
        self._due.setdefault(max(milliseconds, self._done + 1), []).append(call)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            now = int(time.perf_counter() * 1000)
            while self._done < now:
                self._done += 1
                for call in self._due.pop(self._done, ()):
                    call()


class _Connection(asyncio.Protocol):
    """One connection of a client; one answer at a time."""

    def __init__(self, ticker: _Ticker) -> None:
        self._ticker = ticker
        self._buffer = b""
        self._left = self._pause_ms = self._burst = self._due = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a TCP one

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(_HEAD_END)
        length = _LENGTH.search(head)
        if not separator or len(body) < (int(length[1]) if length else 0):
            return
        self._buffer = b""
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        wish = _WISH.findall(body)
        if not wish:
            self._whole(json.dumps({"object": "list", "data": [{"id": "gpt-4o-mini"}]}).encode())
            return
        self._left, self._pause_ms, self._burst = (int(number) for number in wish[-1])
        if not _STREAMED.search(body):
            self._whole(_completion(self._left))
            return
        self._due = int(time.perf_counter() * 1000)
        self._transport.write(_EVENT_STREAM + _FIRST)
        self._go_on()

    def _whole(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)

    def _go_on(self) -> None:
        if self._paused or self._transport.is_closing():
            return
        count = min(self._burst, self._left)
        self._left -= count
        if self._left:
            self._transport.write(_texts(count))
            self._due += self._pause_ms
            self._ask_again()
        else:
            self._transport.write(_texts(count) + _LAST)

    def _ask_again(self) -> None:
        if self._pause_ms:
            self._ticker.at(self._due, self._go_on)
        else:
            asyncio.get_running_loop().call_soon(self._go_on)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._left and not self._pause_ms:
            self._go_on()


def _completion(words: int) -> bytes:
    message = {"role": "assistant", "content": " word" * words, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    whole = {**_BARE, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    return json.dumps(whole).encode()


async def _serve(port: int) -> None:
    loop, ticker = asyncio.get_running_loop(), _Ticker()
    server = await loop.create_server(lambda: _Connection(ticker), "127.0.0.1", port, backlog=4096)
    async with server:
        await ticker.run()


if __name__ == "__main__":
    gc.disable()  # its pauses would be taken for those of who asks it
    uvloop.run(_serve(int(sys.argv[1])))
