"""How answers are kept while they are made: each often enough, and hundreds not all at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from chatkeep.answering import checkpoints, keeper
from chatkeep.answering.keeper import Keeper
from chatkeep.answering.working import ended
from chatkeep.db import ConstraintViolated
from chatkeep.errors import DatabaseUnavailable
from chatkeep.events import Usage
from chatkeep.ids import new_id
from chatkeep.runs import LEASE_S
from tests import virtual_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.answering.checkpoints import Checkpoint
    from chatkeep.answering.working import Work

EVERY_S = 0.25
#: Of a database that has much to do.
EXCHANGE_S = 0.06
FOR_EVER_S = 3600.0
ROUNDS = 8


class Noting(Keeper):
    """Notes when which answers were kept; each exchange takes a while, or for *hangs* for ever."""

    def __init__(self, hangs: Sequence[Work] = ()) -> None:
        """Begin with nothing kept."""
        nothing: Any = None
        super().__init__(nothing, nothing, nothing, stop=lambda _: None)
        self.begun: list[tuple[float, int]] = []
        self.kept: defaultdict[str, list[float]] = defaultdict(list)
        self.most_at_once = self._now_at_once = 0
        self._hangs = {name(work) for work in hangs}

    async def _keep(self, some: Sequence[Work]) -> None:
        began = asyncio.get_running_loop().time()
        self.begun.append((began, len(some)))
        self._now_at_once += 1
        self.most_at_once = max(self.most_at_once, self._now_at_once)
        hangs = self._hangs & {name(work) for work in some}
        await asyncio.sleep(FOR_EVER_S if hangs else EXCHANGE_S)
        self._now_at_once -= 1
        for work in some:
            self.kept[name(work)].append(began)


def an_answer(*, changed: bool = True, asking: bool = True) -> Work:
    """Return as much of an answer as is looked at before it is kept."""
    live = SimpleNamespace(changed=changed, address=SimpleNamespace(id=new_id()))
    return cast("Work", SimpleNamespace(asking=asking, renewed=float("inf"), live=live))


def name(work: Work) -> str:
    """Return the id of the run."""
    return work.live.address.id


def kept_for(rounds: int, some: Sequence[Work], noting: Noting | None = None) -> Noting:
    """Keep *some* for so many rounds; return what was noted."""
    noting = noting or Noting()

    async def keep_on() -> Noting:
        with suppress(TimeoutError):
            async with asyncio.timeout((rounds - 0.5) * EVERY_S):
                await noting.keep_on(lambda: some, every_s=EVERY_S)
        return noting

    return virtual_time.run(keep_on())


@pytest.mark.parametrize("count", [1, 31, 33, 500, 511, 600])
def test_each_is_kept_every_quarter_second(count: int) -> None:
    """Also where the exchanges before it take long: it does not wait for their answers."""
    noting = kept_for(ROUNDS, [an_answer() for _ in range(count)])
    assert len(noting.kept) == count
    for times in noting.kept.values():
        assert len(times) >= ROUNDS - 2
        assert max(after - before for before, after in pairwise(times)) <= EVERY_S + EXCHANGE_S


def test_hundreds_are_spread_over_that_time() -> None:
    """So that a question which comes meanwhile waits for a few of them, and has a connection."""
    noting = kept_for(ROUNDS, [an_answer() for _ in range(500)])
    assert noting.most_at_once <= keeper._AT_ONCE
    assert max(size for _, size in noting.begun) == keeper._TOGETHER
    first_round = [at for at, _ in noting.begun if at < EVERY_S]
    apart = [after - before for before, after in pairwise(first_round)]
    assert min(apart) > EVERY_S / len(first_round) / 2


def test_thousands_take_longer_and_no_more_connections() -> None:
    """What the database cannot take in that time it takes later, each as often as the others."""
    noting = kept_for(80, [an_answer() for _ in range(5000)])
    assert noting.most_at_once == keeper._AT_ONCE
    assert max(size for _, size in noting.begun) == keeper._TOGETHER
    times = {len(times) for times in noting.kept.values()}
    assert len(noting.kept) == 5000
    assert max(times) - min(times) <= 1
    assert min(times) >= 8
    assert max(times) < 40


def test_an_exchange_that_hangs_holds_up_nobody_else() -> None:
    """As many as there are places but one may hang: the others are kept as ever."""
    hanging = [an_answer() for _ in range((keeper._AT_ONCE - 1) * keeper._TOGETHER)]
    others = [an_answer() for _ in range(100)]
    noting = kept_for(ROUNDS, [*hanging, *others], Noting(hanging))
    assert set(noting.kept) == {name(work) for work in others}
    for times in noting.kept.values():
        assert len(times) >= ROUNDS - 2
    assert len(noting.begun) < ROUNDS * 7


def test_who_hangs_is_tried_again_before_its_lease_has_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On another connection: else other nodes took an answer that is being made for dead."""
    tried: list[float] = []

    async def hang(*_: object) -> list[bool]:
        tried.append(asyncio.get_running_loop().time())
        if len(tried) == 1:
            await asyncio.sleep(FOR_EVER_S)
        return [False]

    monkeypatch.setattr(checkpoints, "keep", hang)
    said: Any = SimpleNamespace(tells=lambda _: False)
    work, nothing = an_answer(), cast("Any", None)
    live: Any = work.live
    live.user_id, live.content, live.stored_parts = "ana", "Yes", lambda: None
    keeping = Keeper(nothing, said, nothing, stop=lambda _: None)

    async def keep_on() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(keeper._PATIENCE_S + 1):
                await keeping.keep_on(lambda: [work], every_s=EVERY_S)

    virtual_time.run(keep_on())
    assert len(tried) == 2
    assert keeper._LEASE_RENEWAL_S + tried[1] + EVERY_S < LEASE_S
    assert not work.live.changed


@pytest.mark.parametrize(
    "error", [ConstraintViolated("said"), psycopg.InternalError(), TypeError()]
)
def test_one_that_cannot_be_kept_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever the database has against it, as where a page of one conversation is broken."""
    kept: defaultdict[str, list[float]] = defaultdict(list)

    async def keep(_: object, some: Sequence[Checkpoint]) -> list[bool]:
        await asyncio.sleep(EXCHANGE_S)
        if any(one.user_id == "broken" for one in some):
            raise error
        for one in some:
            kept[one.run.id].append(asyncio.get_running_loop().time())
        return [False] * len(some)

    monkeypatch.setattr(checkpoints, "keep", keep)
    said: Any = SimpleNamespace(tells=lambda _: False)
    some, nothing = [an_answer() for _ in range(3)], cast("Any", None)
    for work, user_id in zip(some, ("ana", "broken", "bo"), strict=True):
        live: Any = work.live
        live.user_id, live.content, live.stored_parts = user_id, "Yes", lambda: None
    keeping = Keeper(nothing, said, nothing, stop=lambda _: None)

    def said_more() -> Sequence[Work]:
        for work in some:
            work.live.changed = True
        return some

    async def keep_on() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(ROUNDS * EVERY_S):
                await keeping.keep_on(said_more, every_s=EVERY_S)

    virtual_time.run(keep_on())
    assert kept.keys() == {name(some[0]), name(some[2])}
    for times in kept.values():
        assert len(times) >= ROUNDS / 2
        assert max(after - before for before, after in pairwise(times)) <= 3 * EVERY_S


def test_what_has_nothing_new_or_has_ended_is_let_be() -> None:
    """Of two thousand that speak slowly a few are kept each time, with few exchanges."""
    some = [an_answer(changed=number % 8 == 0) for number in range(2000)]
    some += [an_answer(asking=False)] * 10
    noting = kept_for(ROUNDS, some)
    assert set(noting.kept) == {name(work) for work in some if work.live.changed and work.asking}
    assert len(noting.begun) <= ROUNDS * 8


def test_operators_see_how_often() -> None:
    """So much is lost when the process is killed; a process that answers nobody says nothing."""
    before, up_to = keeper._EVERY.count(), keeper._EVERY.counts()
    noting = kept_for(ROUNDS, [an_answer()])
    told = keeper._EVERY.count() - before
    assert told == len(noting.begun)
    assert keeper._EVERY.bounds[0] < EVERY_S + 2 * EXCHANGE_S < keeper._EVERY.bounds[1]
    assert keeper._EVERY.counts()[1] - up_to[1] == told
    before = keeper._EVERY.count()
    kept_for(ROUNDS, [])
    assert keeper._EVERY.count() == before


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


def test_an_outage_is_told_once_whatever_is_kept_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the checkpoints and ends of all answers together; and once that it is over for all."""
    caplog.set_level("INFO", keeper.__name__)

    def is_away() -> bool:
        return asyncio.get_running_loop().time() < 40 * EVERY_S

    async def keep(*arguments: Any) -> list[bool]:  # noqa: ANN401 -- as it is called
        if is_away():
            raise DatabaseUnavailable
        return [False] * len(arguments[1])

    async def finish(*_: object, **__: object) -> bool:
        if is_away():
            raise DatabaseUnavailable
        return False

    monkeypatch.setattr(checkpoints, "keep", keep)
    monkeypatch.setattr(checkpoints, "finish", finish)
    nothing, said = cast("Any", None), cast("Any", SimpleNamespace())
    said.tells, said.settling = lambda _: False, lambda *_: []
    some = [an_answer() for _ in range(60)]
    for work in some:
        live: Any = work.live
        live.user_id, live.content, live.stored_parts, live.paused = "ana", "Yes", str, None
        live.model, live.usage, work.charge = "m", Usage(), nothing
    keeping = Keeper(nothing, said, said, stop=lambda _: None)

    async def keep_on() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(80 * EVERY_S), asyncio.TaskGroup() as ends:
                for work in some[:20]:
                    work.asking = False
                    ends.create_task(keeping.keep_end(work, ended(work.live, "done"), None))
                await keeping.keep_on(lambda: some[20:], every_s=EVERY_S)

    virtual_time.run(keep_on())
    assert [one.getMessage() for one in caplog.records] == [
        "cannot keep what answers say: database_unavailable",
        "can keep what answers say again",
    ]
