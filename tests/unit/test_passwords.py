"""Passwords are kept slow to guess, checked a few at a time, and never told apart by time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from statistics import median
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher, extract_parameters
from nacl.pwhash import argon2id

from chatkeep.errors import Invalid, Unavailable, WeakPassword
from chatkeep.passwords import Passwords, require_acceptable

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Checks a password that is right, and hashes one, where there is room for 8 MiB more.
_WITHOUT_MEMORY = """
import resource, sys
from pathlib import Path
from chatkeep.errors import Unavailable
from chatkeep.passwords import read_hash
from chatkeep.passwords.argon2_hashes import OUR_COSTS, hash_password

found = read_hash(sys.argv[1])
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 8 * 1024 * 1024
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for work in (lambda: found.matches("correct"), lambda: hash_password("correct", OUR_COSTS)):
    try:
        print(work())
    except Unavailable as error:
        print(type(error).__name__)
"""


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """What checks passwords, with one thread and room for one more."""
    made = Passwords(threads=1, queue=1)
    yield made
    made.close()


async def test_password_matches_its_own_hash_only(passwords: Passwords) -> None:
    """The right password matches, another one does not, and nothing matches no hash."""
    stored = await passwords.hash("correct horse")
    assert await passwords.matches("correct horse", stored)
    assert not await passwords.matches("Correct horse", stored)
    assert not await passwords.matches("correct horse", None)
    assert not await passwords.matches("correct horse", "")
    assert not await passwords.matches("correct horse", "no hash at all")


async def test_hash_has_the_costs_that_were_decided(passwords: Passwords) -> None:
    """Argon2id, two passes over 19 MiB, one lane, and a salt of its own each time."""
    stored = await passwords.hash("correct horse")
    costs = extract_parameters(stored)
    assert stored.startswith("$argon2id$")
    assert (costs.time_cost, costs.memory_cost, costs.parallelism) == (2, 19 * 1024, 1)
    assert stored != await passwords.hash("correct horse")


async def test_hash_made_by_argon2_cffi_is_as_good_as_ours(passwords: Passwords) -> None:
    """Nobody's password is hashed anew because another library hashes them now."""
    stored = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash("a horse")
    assert await passwords.matches("a horse", stored)
    assert not await passwords.matches("another horse", stored)
    assert not passwords.is_outdated(stored)
    assert PasswordHasher().verify(await passwords.hash("a horse"), "a horse")


async def test_our_hashes_and_nobodys_are_checked_by_libsodium(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, so that they take the same time; argon2-cffi is for others' hashes."""
    checked: list[tuple[int, int]] = []
    derive = argon2id.kdf

    def watched(size: int, password: bytes, salt: bytes, passes: int, memory: int) -> bytes:
        checked.append((passes, memory))
        return derive(size, password, salt, passes, memory)

    stored = await passwords.hash("correct horse")
    monkeypatch.setattr(argon2id, "kdf", watched)
    for one in (stored, None, "", "no hash at all"):
        await passwords.matches("wrong", one)
    assert checked == [(2, 19 * 1024 * 1024)] * 4


async def test_password_goes_on_behind_a_zero(passwords: Passwords) -> None:
    """What ends a text in C does not end a password."""
    stored = await passwords.hash("correct\0horse")
    assert await passwords.matches("correct\0horse", stored)
    assert not await passwords.matches("correct\0", stored)
    assert not await passwords.matches("correct\0mouse", stored)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no bound to set")
@pytest.mark.parametrize("lanes", [1, 2], ids=["libsodium", "argon2-cffi"])
def test_no_memory_is_not_a_wrong_password(lanes: int) -> None:
    """Whoever signs in then is told to come back, and has not guessed wrong."""
    brought = PasswordHasher(time_cost=2, memory_cost=64 * 1024, parallelism=lanes).hash("correct")
    told = subprocess.run(
        [sys.executable, "-c", _WITHOUT_MEMORY, brought],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.split() == ["Unavailable", "Unavailable"]


async def test_hash_with_other_costs_is_outdated(passwords: Passwords) -> None:
    """Hashes made with lower costs still match, and are known to be due for renewal."""
    cheap = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("correct horse")
    assert await passwords.matches("correct horse", cheap)
    assert passwords.is_outdated(cheap)
    assert not passwords.is_outdated(await passwords.hash("correct horse"))


async def test_no_hash_takes_as_long_as_a_wrong_password(passwords: Passwords) -> None:
    """Whether somebody has an account cannot be seen in how long the refusal takes."""
    stored = await passwords.hash("correct horse")
    took: dict[str | None, list[float]] = {stored: [], None: []}
    for _ in range(15):
        for kept, times in took.items():
            began = time.process_time()
            await passwords.matches("wrong", kept)
            times.append(time.process_time() - began)
    assert 0.6 < median(took[None]) / median(took[stored]) < 1.7


@pytest.mark.parametrize(
    ("passes", "memory", "lanes"),
    [(1, 8, 1), (4, 32 * 1024, 1), (2, 32 * 1024, 4)],
    ids=["quick", "slow", "slow in four lanes"],
)
async def test_hash_of_other_costs_is_not_told_by_time(
    passwords: Passwords, passes: int, memory: int, lanes: int
) -> None:
    """Who moved here with a quicker or slower Argon2 hash is refused no sooner or later.

    A quicker one is no less work than nobody's; for a slower one everybody waits for one moment,
    which lies behind the work of either.
    """
    costly = PasswordHasher(time_cost=passes, memory_cost=memory, parallelism=lanes)
    brought = costly.hash("correct")
    await passwords.matches("wrong", brought)
    worked: dict[str | None, list[float]] = {brought: [], None: []}
    for _ in range(9):
        for one in (brought, None):
            moment = passwords._slowest_s
            began, began_work = time.perf_counter(), time.process_time()
            assert not await passwords.matches("wrong", one)
            worked[one].append(time.process_time() - began_work)
            assert time.perf_counter() - began > 0.99 * moment
    assert median(worked[brought]) > 0.6 * median(worked[None])
    assert all(passwords._slowest_s > 1.1 * median(times) for times in worked.values())


async def test_event_loop_keeps_turning_while_passwords_are_checked() -> None:
    """Checking happens in threads of its own."""
    passwords = Passwords(threads=1)
    checking = asyncio.gather(*(passwords.hash("correct horse") for _ in range(5)))
    turns = 0
    while not checking.done():
        turns += 1
        await asyncio.sleep(0)
    passwords.close()
    assert turns > 100


async def test_full_queue_is_busy_and_recovers(passwords: Passwords) -> None:
    """More than fit are refused at once with a time to come back; the others are served."""
    asked = [passwords.hash("correct horse") for _ in range(5)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in results if isinstance(one, Unavailable)]
    assert len(refused) == 3
    assert all(one.retry_after_s for one in refused)
    await passwords.hash("correct horse")


async def test_what_a_check_raises_is_raised_and_frees_its_place(passwords: Passwords) -> None:
    """Whoever asked is told, and those who come after are served."""

    def fail() -> None:
        raise Unavailable("no memory")

    for _ in range(4):
        with pytest.raises(Unavailable, match="no memory"):
            await passwords._run(fail)
    assert await passwords.hash("correct horse")


async def test_what_waits_at_the_end_is_cancelled() -> None:
    """A server that stops makes nobody wait for a check that is never made."""
    passwords = Passwords(threads=1)
    held = threading.Event()
    blocker = asyncio.ensure_future(passwords._run(held.wait))
    waiting = asyncio.ensure_future(passwords.hash("correct horse"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(passwords.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.set()
    await closing
    assert await blocker


async def test_cancelled_check_frees_its_place(passwords: Passwords) -> None:
    """Callers who hang up while they wait do not use the queue up."""
    for _ in range(4):
        held = threading.Event()
        blocker = asyncio.ensure_future(passwords._run(held.wait))
        waiting = asyncio.ensure_future(passwords.hash("correct horse"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        held.set()
        await blocker
    assert await passwords.hash("correct horse")


@pytest.mark.parametrize("password", ["12345678", "é" * 36, "x" * 72, "        "])
def test_password_of_eight_characters_to_72_bytes_is_taken(password: str) -> None:
    """Eight characters to 72 bytes are taken, whatever they are."""
    require_acceptable(password)


@pytest.mark.parametrize("password", ["", "1234567", "é" * 7])
def test_short_password_is_weak(password: str) -> None:
    """Fewer than eight characters are refused, with the reason clients look for."""
    with pytest.raises(WeakPassword) as refused:
        require_acceptable(password)
    assert refused.value.members == {"weak_password": {"reasons": ["length"]}}


@pytest.mark.parametrize("password", ["x" * 73, "é" * 37])
def test_long_password_is_refused(password: str) -> None:
    """More than 72 bytes are refused, because they could not move to where bcrypt is used."""
    with pytest.raises(Invalid):
        require_acceptable(password)


async def test_too_long_a_password_matches_nothing(passwords: Passwords) -> None:
    """A password that nobody can have is wrong, even where its beginning is right."""
    stored = await passwords.hash("x" * 72)
    assert not await passwords.matches("x" * 73, stored)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority to lower")
async def test_hashing_gives_way_to_the_event_loop(passwords: Passwords) -> None:
    """The thread that hashes is nicer than the one that serves, which stays as it was."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert await passwords._run(_niceness) == min(before + 10, 19)
    assert _niceness() == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not told")
def test_as_many_are_hashed_at_once_as_processors_may_be_used() -> None:
    """In a container of one processor on a large machine that is one, and 19 MiB."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        one = Passwords()
        one.close()
    finally:
        os.sched_setaffinity(0, allowed)
    assert one._threads._max_workers == 1


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
