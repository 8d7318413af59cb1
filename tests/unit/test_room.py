"""Room for what slow clients take up: who has grown least lately goes first."""

from __future__ import annotations

from functools import partial

from chatkeep.web.room import Room


def test_who_takes_more_now_and_then_becomes_no_younger() -> None:
    """A body that drips in keeps nobody out whose body came later and comes faster."""
    room, ended = Room(100, little_bytes=10), list[str]()
    take = {name: partial(ended.append, name) for name in ("drips", "honest", "new")}
    room.take("drips", 40, take["drips"])
    room.take("honest", 40, take["honest"])
    room.take("drips", 41, take["drips"])
    room.take("new", 30, take["new"])
    assert ended == ["drips"]
    assert room.taken == 70


def test_who_goes_on_growing_stays() -> None:
    """An upload over a slow line is not ended for those that began later and stopped."""
    room, ended = Room(100, little_bytes=10), list[str]()
    take = {name: partial(ended.append, name) for name in ("slow", "stopped", "new")}
    room.take("slow", 20, take["slow"])
    room.take("stopped", 60, take["stopped"])
    room.take("slow", 30, take["slow"])
    room.take("new", 50, take["new"])
    assert ended == ["stopped"]
    assert room.taken == 80


def test_what_is_taken_is_what_was_said_last() -> None:
    """However often it was said; little is nothing, and who left has nothing."""
    room = Room(100, little_bytes=10)
    for size in (50, 60, 20):
        room.take("one", size, lambda: None)
        assert room.taken == size
    room.take("other", 30, lambda: None)
    room.take("other", 9, lambda: None)
    assert room.taken == 20
    room.leave("one")
    room.leave("one")
    assert room.taken == 0
