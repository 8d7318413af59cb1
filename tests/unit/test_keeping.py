"""How answers are kept while they are made: each often enough, and hundreds not all at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from chatkeep.answering import checkpoints, keeper
from chatkeep.answering.keeper import Keeper
from chatkeep.answering.working import ended
from chatkeep.errors import DatabaseUnavailable
from chatkeep.events import Usage
from tests import virtual_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.answering.working import Work

WITHIN_S = 0.25
#: Of a database that has much to do.
EXCHANGE_S = 0.05
ROUNDS = 8


class Noting(Keeper):
    """Notes when which answers were kept; each exchange takes a while."""

    def __init__(self) -> None:
        """Begin with nothing kept."""
        nothing: Any = None
        super().__init__(nothing, nothing, nothing, stop=lambda _: None)
        self.begun: list[tuple[float, int]] = []
        self.kept: defaultdict[int, list[float]] = defaultdict(list)
        self.most_at_once = self._now_at_once = 0

    async def _keep(self, some: Sequence[Work]) -> None:
        began = asyncio.get_running_loop().time()
        self.begun.append((began, len(some)))
        self._now_at_once += 1
        self.most_at_once = max(self.most_at_once, self._now_at_once)
        await asyncio.sleep(EXCHANGE_S)
        self._now_at_once -= 1
        for work in some:
            self.kept[id(work)].append(began)


def an_answer(*, changed: bool = True, asking: bool = True) -> Work:
    """Return as much of an answer as is looked at before it is kept."""
    return cast(
        "Work",
        SimpleNamespace(asking=asking, renewed=float("inf"), live=SimpleNamespace(changed=changed)),
    )


def kept_in_rounds(some: Sequence[Work]) -> tuple[Noting, float]:
    """Keep *some* again and again; return what was noted, and how many seconds it took."""

    async def rounds() -> tuple[Noting, float]:
        noting = Noting()
        for _ in range(ROUNDS):
            await noting.keep(some, within_s=WITHIN_S)
        return noting, asyncio.get_running_loop().time()

    return virtual_time.run(rounds())


@pytest.mark.parametrize("count", [1, 31, 33, 500, 511, 600])
def test_each_is_kept_every_quarter_second(count: int) -> None:
    """Also where the exchanges before it take long: it does not wait for their answers."""
    noting, took_s = kept_in_rounds([an_answer() for _ in range(count)])
    assert took_s <= ROUNDS * (WITHIN_S + EXCHANGE_S)
    assert [len(times) for times in noting.kept.values()] == [ROUNDS] * count
    for times in noting.kept.values():
        assert max(after - before for before, after in pairwise(times)) <= WITHIN_S + EXCHANGE_S


def test_hundreds_are_spread_over_that_time() -> None:
    """So that a question which comes meanwhile waits for a few of them, and has a connection."""
    noting, _ = kept_in_rounds([an_answer() for _ in range(500)])
    assert noting.most_at_once <= keeper._AT_ONCE
    assert max(size for _, size in noting.begun) == keeper._TOGETHER
    first_round = [at for at, _ in noting.begun[: len(noting.begun) // ROUNDS]]
    apart = [after - before for before, after in pairwise(first_round)]
    assert min(apart) > WITHIN_S / len(first_round) / 2


def test_thousands_take_longer_and_no_more_connections() -> None:
    """What the database cannot take in that time it takes later."""
    noting, took_s = kept_in_rounds([an_answer() for _ in range(5000)])
    assert noting.most_at_once == keeper._AT_ONCE
    assert max(size for _, size in noting.begun) == keeper._TOGETHER
    assert [len(times) for times in noting.kept.values()] == [ROUNDS] * 5000
    assert took_s > 2 * ROUNDS * WITHIN_S


def test_what_has_nothing_new_or_has_ended_is_let_be() -> None:
    """Of two thousand that speak slowly a few are kept each time, with few exchanges."""
    some = [an_answer(changed=number % 8 == 0) for number in range(2000)]
    some += [an_answer(asking=False)] * 10
    noting, took_s = kept_in_rounds(some)
    assert set(noting.kept) == {id(work) for work in some if work.live.changed and work.asking}
    assert len(noting.begun) == ROUNDS * 8
    assert took_s <= ROUNDS * (WITHIN_S + EXCHANGE_S)


def test_operators_see_how_often() -> None:
    """So much is lost when the process is killed; a process that answers nobody says nothing."""
    rounds, before = keeper._EVERY.count(), keeper._EVERY.counts()
    _, took_s = kept_in_rounds([an_answer()])
    assert keeper._EVERY.count() == rounds + ROUNDS
    assert keeper._EVERY.counts()[0] == before[0] + ROUNDS
    assert took_s / ROUNDS < keeper._EVERY.bounds[0]
    kept_in_rounds([])
    assert keeper._EVERY.count() == rounds + ROUNDS


@pytest.mark.parametrize(("away_s", "kept"), [(240, True), (900, False)])
def test_the_end_outlives_a_database_that_is_replaced(
    monkeypatch: pytest.MonkeyPatch, away_s: float, kept: bool
) -> None:
    """Another PostgreSQL takes its place within minutes; after those, the reader is told."""

    async def finish(*_: object, **__: object) -> bool:
        if asyncio.get_running_loop().time() < away_s:
            raise DatabaseUnavailable
        return False

    monkeypatch.setattr(checkpoints, "finish", finish)
    live: Any = SimpleNamespace(
        user_id="ana", address=SimpleNamespace(id="r"), content="Yes", model="m", usage=Usage()
    )
    live.paused, live.stored_parts = None, lambda: None
    said: Any = SimpleNamespace(tells=lambda _: False, settling=lambda *_: [])
    ending = ended(live, "done")
    work: Any = SimpleNamespace(live=live, charge=None, is_waited_for=False)
    nothing: Any = None
    kept_as = virtual_time.run(
        Keeper(nothing, said, said, stop=lambda _: None).keep_end(work, ending, "Why?")
    )
    assert kept_as.state == ("done" if kept else "failed")


def test_nothing_at_all_takes_as_long() -> None:
    """Who has nothing to keep looks again in a quarter second, not at once."""
    noting, took_s = kept_in_rounds([])
    assert noting.begun == []
    assert took_s == pytest.approx(ROUNDS * WITHIN_S)
