"""A missing claim is looked up as seldom as possible."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from chatkeep.claims import Lookups
from chatkeep.claims.lookups import TTL_S
from chatkeep.errors import DatabaseUnavailable, TokenInvalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class People:
    """Who is asked: knows everybody but "nobody", and remembers the questions."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.failure: Exception | None = None
        self.was_asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, user_ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        """Answer about *user_ids*, once the gate is open."""
        self.asked.append(sorted(user_ids))
        self.was_asked.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return {one: {"companyId": f"of {one}"} for one in user_ids if one != "nobody"}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def people() -> People:
    """Who is asked."""
    return People()


@pytest.fixture
def clock() -> Clock:
    """What the lookups go by."""
    return Clock()


@pytest.fixture
def lookups(people: People, clock: Clock) -> Lookups:
    """What is tested."""
    return Lookups(people, clock=clock, kept_at_most=3)


async def test_thousand_requests_of_one_person_cost_one_read(
    lookups: Lookups, people: People
) -> None:
    """At the same time and afterwards; one of them is the one that asked."""
    answers = await asyncio.gather(*[lookups.of("ana") for _ in range(1000)])
    answers.append(await lookups.of("ana"))
    assert people.asked == [["ana"]]
    assert {str(one.row) for one in answers} == {"{'companyId': 'of ana'}"}
    assert sum(one.was_read for one in answers) == 1


async def test_people_of_a_moment_share_one_query(lookups: Lookups, people: People) -> None:
    """Each gets their own answer."""
    ana, bo, nobody = await asyncio.gather(*[lookups.of(one) for one in ("ana", "bo", "nobody")])
    assert people.asked == [["ana", "bo", "nobody"]]
    assert (ana.row, bo.row) == ({"companyId": "of ana"}, {"companyId": "of bo"})
    assert nobody.row is None


async def test_query_asks_for_so_many_people_only(people: People) -> None:
    """A rush becomes a few queries of a bounded size."""
    lookups = Lookups(people)
    answers = await asyncio.gather(*[lookups.of(str(number)) for number in range(1200)])
    assert sorted(len(one) for one in people.asked) == [200, 500, 500]
    assert [one.row for one in answers] == [{"companyId": f"of {n}"} for n in range(1200)]


async def test_answer_is_good_for_seconds(lookups: Lookups, people: People, clock: Clock) -> None:
    """What operators change is seen soon; that somebody is unknown, too."""
    for who in ("ana", "nobody"):
        await lookups.of(who)
        clock.now += TTL_S - 0.1
        await lookups.of(who)
        clock.now += 0.2
        assert (await lookups.of(who)).was_read
    assert people.asked == [["ana"], ["ana"], ["nobody"], ["nobody"]]


async def test_only_so_many_answers_are_kept(lookups: Lookups, people: People) -> None:
    """The oldest goes first."""
    for who in ("ana", "bo", "cy", "di", "bo", "ana"):
        await lookups.of(who)
    assert len(people.asked) == 5


async def test_answer_that_was_given_anew_is_not_the_oldest(
    lookups: Lookups, people: People, clock: Clock
) -> None:
    """What was asked for again lately stays, and what nobody asked for since goes."""
    for who in ("ana", "bo", "cy"):
        await lookups.of(who)
    clock.now += TTL_S
    for who in ("ana", "di", "ana"):
        await lookups.of(who)
    assert people.asked == [["ana"], ["bo"], ["cy"], ["ana"], ["di"]]


async def test_who_comes_while_one_is_asked_waits_for_the_answer(
    lookups: Lookups, people: People
) -> None:
    """The window is over and the query on its way; nobody asks the same again."""
    people.gate.clear()
    early = asyncio.create_task(lookups.of("ana"))
    await people.was_asked.wait()
    late = asyncio.create_task(lookups.of("ana"))
    other = asyncio.create_task(lookups.of("bo"))
    await asyncio.sleep(0)
    people.gate.set()
    assert (await early).row == (await late).row
    assert (await other).row == {"companyId": "of bo"}
    assert people.asked == [["ana"], ["bo"]]


async def test_who_hangs_up_does_not_take_the_answer_along(
    lookups: Lookups, people: People
) -> None:
    """The others still get it."""
    first = asyncio.create_task(lookups.of("ana"))
    second = asyncio.create_task(lookups.of("ana"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).row == {"companyId": "of ana"}
    assert len(people.asked) == 1


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (ValueError("a bug with ana@example.com in it"), Unavailable),
        (DatabaseUnavailable(), DatabaseUnavailable),
        (TimeoutError(), Unavailable),
        (TokenInvalid(), TokenInvalid),
    ],
)
async def test_failure_is_ours_and_not_remembered(
    lookups: Lookups, people: People, failure: Exception, raised: type[Exception]
) -> None:
    """Everybody who waits is told to come again, and the next one asks anew."""
    people.failure = failure
    told = await asyncio.gather(*[lookups.of("ana") for _ in range(3)], return_exceptions=True)
    assert [type(one) for one in told] == [raised] * 3
    people.failure = None
    assert (await lookups.of("ana")).row == {"companyId": "of ana"}
    assert len(people.asked) == 2


async def test_source_that_answers_nonsense_is_our_failure() -> None:
    """A list is not what was asked for."""

    async def nonsense(_: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        return ["ana"]  # type: ignore[return-value]  # on purpose

    with pytest.raises(Unavailable):
        await Lookups(nonsense).of("ana")


async def test_new_token_is_made_of_what_is_true_now(lookups: Lookups, people: People) -> None:
    """Signing in never goes by what was remembered."""
    await lookups.of("ana")
    assert await lookups.now("ana") == {"companyId": "of ana"}
    assert len(people.asked) == 2


async def test_closing_ends_what_is_asked(lookups: Lookups, people: People) -> None:
    """A source that never answers does not hold up the end."""
    people.gate.clear()
    asking = asyncio.create_task(lookups.of("ana"))
    await people.was_asked.wait()
    await lookups.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
