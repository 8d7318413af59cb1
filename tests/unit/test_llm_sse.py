"""The parser of server-sent events: the WHATWG rules, whatever the cuts."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.errors import ModelBroken
from chatkeep.llm.sse import EventParser

BOM = b"\xef\xbb\xbf"


def parse(*pieces: bytes, max_event_bytes: int = 1 << 20) -> list[bytes]:
    """Feed *pieces* one after the other and return every payload."""
    parser = EventParser(max_event_bytes=max_event_bytes)
    return [payload for piece in pieces for payload in parser.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"data: a\rdata: b\r\r", [b"a\nb"]),
        (b"data: a\ndata\ndata:\n\n", [b"a\n\n"]),
        (b"data\n\n", [b""]),
        (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
        (BOM + b"data: a\n\n", [b"a"]),
        (b"data: a\n\n" + BOM + b"data: b\n\n", [b"a"]),
        (b": OPENROUTER PROCESSING\n\ndata: a\n\n", [b"a"]),
        (b": ping\ndata: a\n: pong\n\n", [b"a"]),
        (b"event: x\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"event: x\n\n", []),
        (b"database: a\n\nDATA: b\n\n data: c\n\n", []),
        (b"data: a\n", []),
        (b"data: a", []),
        ("data: grüße 👋\n\n".encode(), ["grüße 👋".encode()]),
        (b"data: a\x00\xffb\n\n", [b"a\x00\xffb"]),
    ],
)
def test_streams_are_read_as_the_standard_says(stream: bytes, payloads: list[bytes]) -> None:
    """Line ends of all three kinds, comments, several data lines, a byte order mark."""
    assert parse(stream) == payloads
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == payloads


LINES = st.sampled_from(
    [b"data: a", b"data:\xc3\xa9", b"data", b": note", b"event: e", b"", b"", b"", BOM + b"data: b"]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=25).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=10))
def test_any_cut_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    """Where the network cuts a stream changes nothing."""
    marks = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(marks)]
    single = [stream[at : at + 1] for at in range(len(stream))]
    assert parse(*pieces) == parse(*single) == parse(stream) == _by_the_book(stream)


def _by_the_book(stream: bytes) -> list[bytes]:
    """Read a whole stream line by line, as the standard's own words go."""
    text = stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if not line:
            events += [b"\n".join(data)] if data else []
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return events


@pytest.mark.parametrize("piece_bytes", [1, 7, 64])
def test_line_without_an_end_is_refused(piece_bytes: int) -> None:
    """It ends the stream instead of filling the memory."""
    stream = b"data: ok\n\ndata: " + b"x" * 200
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]
    with pytest.raises(ModelBroken):
        parse(*pieces, max_event_bytes=100)
    assert parse(b"data: " + b"x" * 94 + b"\n\n", max_event_bytes=100) == [b"x" * 94]


def test_whole_event_over_the_cap_is_refused_too() -> None:
    """What came before the long event, in the same piece, is still handed out."""
    parser = EventParser(max_event_bytes=10)
    events = parser.feed(b"data: ok\n\ndata: 0123456789\n\ndata: lost\n\n")
    assert next(events) == b"ok"
    with pytest.raises(ModelBroken):
        next(events)


def test_trickled_long_event_takes_linear_time() -> None:
    """A megabyte that comes in tiny pieces is not copied again for each of them."""
    parser = EventParser()
    started = time.process_time()
    for _ in range(100_000):
        assert not list(parser.feed(b"xxxxxxxx"))
    assert time.process_time() - started < 2
