"""What a node remembers of who reads which answer elsewhere."""

from __future__ import annotations

from uuid import uuid4

from chatkeep.answering.tails import Tails


class _Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_readers_of_others_answers_are_forgotten() -> None:
    """Every node hears of every reader; a node that makes none of their answers keeps none."""
    clock = _Clock()
    tails = Tails(clock=clock)
    for _ in range(1000):
        tails.told(f"?{uuid4()}")
        clock.now += 1.0
    assert len(tails._by_notice) < 20


def test_reader_who_goes_on_asking_is_told() -> None:
    """However many others have asked meanwhile."""
    clock = _Clock()
    tails = Tails(clock=clock)
    for _ in range(100):
        tails.told("?mine")
        assert tails.tells("mine")
        tails.told(f"?{uuid4()}")
        clock.now += 5.0
    clock.now += 60.0
    assert not tails.tells("mine")


def test_news_for_a_reader_who_has_left_are_not_kept() -> None:
    """What a stream said last is remembered for as long as somebody reads it."""
    tails = Tails()
    with tails.following("run"):
        tails._take("run", [(b"1-0", {})])
        assert tails._seen == {"run": b"1-0"}
    assert tails._seen == {}
    tails._take("run", [(b"2-0", {})])
    assert tails._seen == {}
