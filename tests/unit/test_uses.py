"""Uses are written together, none twice within its time, and none lost to a database away."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import Unavailable
from chatkeep.uses import Uses

if TYPE_CHECKING:
    from collections.abc import Mapping


class Book:
    """Where uses are written; a test says whether it is *away* or slow, and what time it is."""

    def __init__(self) -> None:
        """Begin with nothing written."""
        self.written: list[dict[str, int]] = []
        self.away = False
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.now_s = 0.0
        self.uses: Uses[str, int] = Uses(
            self.write,
            what="things",
            every=timedelta(minutes=1),
            remembered_at_most=2,
            clock=lambda: self.now_s,
        )

    async def write(self, waiting: Mapping[str, int]) -> None:
        """Keep what waits."""
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise Unavailable
        self.written.append(dict(waiting))


async def test_thing_is_due_again_after_its_time() -> None:
    """Not while it was noted a moment ago, whether or not that was written."""
    book = Book()
    assert book.uses.is_due("a")
    book.uses.note("a", 1)
    assert not book.uses.is_due("a")
    await book.uses.write()
    await book.uses.write()
    assert book.written == [{"a": 1}]
    book.now_s = 59.9
    assert not book.uses.is_due("a")
    book.now_s = 60.0
    assert book.uses.is_due("a")


async def test_what_could_not_be_written_waits_with_what_came_since() -> None:
    """The newer use of a thing counts."""
    book = Book()
    book.uses.note("a", 1)
    book.uses.note("b", 1)
    book.away = True
    with pytest.raises(Unavailable):
        await book.uses.write()
    book.uses.note("b", 2)
    book.away = False
    await book.uses.write()
    assert book.written == [{"a": 1, "b": 2}]


async def test_use_that_comes_while_it_is_written_away_is_the_newer_one() -> None:
    """A write that fails puts nothing older over it."""
    book = Book()
    book.uses.note("a", 1)

    async def refuse(_: Mapping[str, int]) -> None:
        book.uses.note("a", 2)
        raise Unavailable

    book.uses._write = refuse
    with pytest.raises(Unavailable):
        await book.uses.write()
    book.uses._write = book.write
    await book.uses.write()
    assert book.written == [{"a": 2}]


async def test_of_many_things_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be noted again; and when too many wait, nothing more is noted."""
    book = Book()
    for number, name in enumerate("abc"):
        book.uses.note(name, number)
    assert [name for name in "abc" if book.uses.is_due(name)] == ["a"]
    monkeypatch.setattr("chatkeep.uses._WAITING_AT_MOST", 3)
    assert not book.uses.is_due("d")


async def test_whoever_writes_waits_for_what_another_has_begun_to_write() -> None:
    """What was used is written when `write` returns, whoever wrote it: sessions are ended then."""
    book, gate = Book(), asyncio.Event()
    book.gate = gate
    book.uses.note("a", 1)
    another = asyncio.create_task(book.uses.write())
    await book.begun.wait()
    mine = asyncio.create_task(book.uses.write())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not mine.done()
    gate.set()
    await mine
    assert book.written == [{"a": 1}]
    await another


async def test_whoever_waits_for_another_is_told_that_it_was_not_written() -> None:
    """And it waits to be written."""
    book, gate = Book(), asyncio.Event()
    book.gate, book.away = gate, True
    book.uses.note("a", 1)
    another = asyncio.create_task(book.uses.write())
    await book.begun.wait()
    mine = asyncio.create_task(book.uses.write())
    gate.set()
    for one in (another, mine):
        with pytest.raises(Unavailable):
            await one
    book.away = False
    await book.uses.write()
    assert book.written == [{"a": 1}]


async def test_request_that_is_given_up_loses_nothing_that_it_was_writing() -> None:
    """It wrote what others had used as well."""
    book, gate = Book(), asyncio.Event()
    book.gate = gate
    book.uses.note("a", 1)
    given_up = asyncio.create_task(book.uses.write())
    await book.begun.wait()
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    gate.set()
    await book.uses.write()
    assert book.written == [{"a": 1}]
