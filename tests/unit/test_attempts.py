"""Attempts at an account: counted at the account, and no stranger locks its owner out."""

from __future__ import annotations

import asyncio

import pytest

from chatkeep.errors import RateLimited
from chatkeep.limits import RATES, Attempt, Attempts, Limits

ALLOWED = RATES["account_password"].burst
HOME, WORK, ELSEWHERE = "192.0.2.7", "198.51.100.4", "203.0.113.9"
OWNER = "ana@example.com"


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


async def from_home(account: str, network: str) -> bool:
    """Ana has signed in from home, and from work."""
    return account == OWNER and network in {HOME, WORK}


def new_attempts(clock: Clock | None = None) -> Attempts:
    """Return attempts of which nothing is counted."""
    return Attempts(Limits(clock=clock or Clock()), is_known=from_home)


async def admitted(of: Attempts, times: int, account: str = OWNER, network: str = ELSEWHERE) -> int:
    """Return how many of *times* wrong guesses at once are let through."""
    guesses = (of.spend("password", account, network) for _ in range(times))
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert all(isinstance(one, RateLimited) for one in results if isinstance(one, Exception))
    return sum(not isinstance(one, Exception) for one in results)


async def test_a_thousand_guesses_at_once_are_a_thousand() -> None:
    """Counted before they are made, so no more come through than may."""
    assert await admitted(new_attempts(), 1000) == ALLOWED


async def test_a_botnet_shares_one_allowance() -> None:
    """A guess from each of a thousand addresses is still a thousand guesses at one account."""
    counts = new_attempts()
    passed = [await admitted(counts, 1, network=f"203.0.{n // 250}.{n % 250}") for n in range(1000)]
    assert sum(passed) == ALLOWED


async def test_stranger_cannot_lock_the_owner_out() -> None:
    """Who signed in from there lately keeps an allowance that guesses elsewhere do not touch."""
    counts = new_attempts()
    await admitted(counts, 10_000)
    assert await admitted(counts, 1000, network=HOME) == ALLOWED
    assert await admitted(counts, 10) == 0


async def test_each_known_network_has_its_own_allowance() -> None:
    """Whoever guesses beside the owner at work does not lock them out at home."""
    counts = new_attempts()
    await admitted(counts, 1000)
    assert await admitted(counts, 1000, network=WORK) == ALLOWED
    assert await admitted(counts, 1000, network=HOME) == ALLOWED


async def test_mails_to_one_mailbox_are_counted_together() -> None:
    """Whatever follows a `+`; and its owner still has an allowance where they signed in."""
    counts = new_attempts()
    addresses = [f"ana+{number}@example.com" for number in range(100)]
    spent = (counts.spend("mail", one, ELSEWHERE) for one in addresses)
    results = await asyncio.gather(*spent, return_exceptions=True)
    passed = [one for one in results if not isinstance(one, Exception)]
    assert len(passed) == RATES["account_mailbox"].burst
    assert {type(one) for one in results} == {Attempt, RateLimited}
    with pytest.raises(RateLimited):
        await counts.spend("mail", OWNER, ELSEWHERE)
    assert await counts.spend("mail", OWNER, HOME)


async def test_known_network_is_known_for_its_account_only() -> None:
    """Having an account oneself opens no way to guess at another."""
    counts = new_attempts()
    await admitted(counts, 1000, "bo@example.com")
    assert await admitted(counts, 1, "bo@example.com", HOME) == 0


async def test_other_spelling_of_an_address_is_no_new_allowance() -> None:
    """Upper case, white space and what is no address at all are counted as one."""
    counts = new_attempts()
    await admitted(counts, ALLOWED)
    for spelling in ("ANA@example.com", "Ana@EXAMPLE.COM", " ana@example.com "):
        assert await admitted(counts, 1, spelling) == 0, spelling
    assert await admitted(counts, 1000, "No address") == ALLOWED
    assert await admitted(counts, 1, "no address ") == 0


async def test_unknown_account_is_counted_like_a_known_one() -> None:
    """Number and wait are the same, so the limit tells nobody who has an account."""
    waits = []
    for account in (OWNER, "nobody@example.com"):
        counts = new_attempts()
        assert await admitted(counts, 1000, account) == ALLOWED
        with pytest.raises(RateLimited) as refused:
            await counts.spend("password", account, ELSEWHERE)
        waits.append(refused.value.retry_after_s)
    assert waits[0] == waits[1] == RATES["account_password"].interval_s


async def test_right_password_gives_back_its_own_guess_and_no_other() -> None:
    """The owner's daily sign-ins cost nothing, and make no wrong guess undone."""
    counts = new_attempts()
    for _ in range(100):
        await counts.give_back(await counts.spend("password", OWNER, ELSEWHERE))
    await admitted(counts, ALLOWED - 1)
    right = await counts.spend("password", OWNER, HOME)
    await counts.give_back(right)
    assert await admitted(counts, 1000) == 1


async def test_giving_back_makes_no_allowance_larger_than_whole() -> None:
    """Given back long after it refilled, it is gone."""
    clock = Clock()
    counts = new_attempts(clock)
    attempt = await counts.spend("password", OWNER, ELSEWHERE)
    clock.now += RATES["account_password"].period_s
    await counts.give_back(attempt)
    await counts.give_back(attempt)
    assert await admitted(counts, 1000) == ALLOWED


async def test_kinds_have_allowances_of_their_own() -> None:
    """Who was guessed at can still ask for a mail."""
    counts = new_attempts()
    await admitted(counts, 1000)
    await counts.spend("mail", OWNER, ELSEWHERE)
    await counts.spend("code", OWNER, ELSEWHERE)


async def test_endless_account_name_takes_no_memory() -> None:
    """What is kept of a name is a digest."""
    counts = new_attempts()
    attempt = await counts.spend("password", "x" * 1_000_000 + "\ud800", ELSEWHERE)
    assert len(attempt.key) == 64
