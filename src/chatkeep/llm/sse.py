"""Server-sent events, read as they arrive: bytes in, `data` payloads out.

Follows the WHATWG rules (HTML Living Standard, section 9.2.6) as far as a model's stream
needs them: the names, ids and retry times of events are dropped, comments too. It does
no I/O, knows no JSON and keeps at most one unfinished event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.errors import ModelBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EVENT_BYTES = 1 << 20

_BOM = b"\xef\xbb\xbf"


class EventParser:
    """Turns the pieces of one stream into payloads; however it was cut, they are the same."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        """Start before the first byte. *max_event_bytes* bounds one event and our memory."""
        self._max = max_event_bytes
        self._pending = bytearray()
        self._after_cr = False
        self._opening: bytes | None = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payload of every event that *data* completes; exhaust it before the next.

        An event that is unfinished when the stream ends is not an event; `rest` has it.

        Raises:
            ModelBroken: an event is longer than *max_event_bytes*.
        """
        if self._opening is not None:
            data = self._without_bom(data)
        if data and (self._after_cr or b"\r" in data):
            data = self._with_plain_line_ends(data)
        for event in self._completed(data):
            if len(event) > self._max:
                raise ModelBroken
            # The common case: one line, which needs no splitting.
            if event.startswith(b"data: ") and b"\n" not in event:
                yield event[6:]
            elif (payload := _payload(event)) is not None:
                yield payload
        if len(self._pending) > self._max:
            raise ModelBroken

    def rest(self) -> bytes | None:
        """Return the payload of the event that no blank line has ended yet, as far as it came."""
        return _payload(bytes(self._pending))

    def _without_bom(self, data: bytes) -> bytes:
        """Drop one byte order mark at the very start, even when it comes byte by byte."""
        opening = (self._opening or b"") + data
        if len(opening) < len(_BOM) and _BOM.startswith(opening):
            self._opening = opening
            return b""
        self._opening = None
        return opening.removeprefix(_BOM)

    def _with_plain_line_ends(self, data: bytes) -> bytes:
        """Make every line end LF. A CR ends its line at once; an LF after it is part of it."""
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _completed(self, data: bytes) -> list[bytes]:
        """Cut off what is finished and keep the rest."""
        if not self._pending:
            *events, rest = data.split(b"\n\n")
            self._pending += rest
            return events
        # Looking only at the seam and what follows keeps a trickled event linear.
        seam = max(0, len(self._pending) - 1)
        self._pending += data
        if self._pending.find(b"\n\n", seam) < 0:
            return []
        *events, rest = bytes(self._pending).split(b"\n\n")
        self._pending = bytearray(rest)
        return events


def _payload(event: bytes) -> bytes | None:
    """Join the data lines of *event*; None if it has none."""
    lines = [
        line[5:].removeprefix(b" ")
        for line in event.split(b"\n")
        if line.startswith(b"data:") or line == b"data"
    ]
    return b"\n".join(lines) if lines else None
