"""Passwords: what is taken for one, how it is kept, and how many are checked at a time.

Argon2id with t=2, m=19 MiB, p=1 (the OWASP minimum; 12 ms a check). Checking is made to
be slow, so it happens in a few threads (libsodium lets go of the interpreter lock) behind a
bounded queue: a flood of sign-ins is answered "busy" and never stops the event loop. Those
threads give way to everything else on their processor, for whoever signs in waits for 12 ms
anyway, and all others wait for the event loop. No account and no database here, and a
password is never logged.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from chatkeep.errors import Invalid, Unavailable, WeakPassword
from chatkeep.passwords.argon2_hashes import OUR_COSTS, Argon2, hash_password
from chatkeep.passwords.foreign_hashes import read_hash

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

#: NIST SP 800-63B asks for at least 8 characters; Supabase's default of 6 is too few.
MIN_LENGTH: Final = 8
#: Supabase's limit (bcrypt's): an account must be movable from and to it.
MAX_BYTES: Final = 72
#: Longer ones are nobody's, wherever they came from: Better Auth takes 128 characters.
MAX_CHECKED_BYTES: Final = 512

#: With 12 ms each, the last in the queue waits for less than a second.
_QUEUE_PER_THREAD = 64
#: A wrong password waits no longer than this for the sake of those with slower hashes.
_LONGEST_WAIT_S: Final = 2.0

#: Among threads that all want a processor one this much nicer gets a tenth of it, and lets
#: the event loop go first whenever that wakes. Not more: on a machine that is never idle
#: people must be able to sign in still, and what holds the interpreter lock must get on.
_NICER_BY: Final = 10
_NICEST: Final = 19

Result = TypeVar("Result")


def require_acceptable(password: str) -> None:
    """Refuse a new password that is too short or too long.

    Raises:
        WeakPassword: fewer than `MIN_LENGTH` characters.
        Invalid: more than `MAX_BYTES` bytes.
    """
    if len(password.encode()) > MAX_BYTES:
        raise Invalid(f"Password cannot be longer than {MAX_BYTES} characters")
    if len(password) < MIN_LENGTH:
        raise WeakPassword(
            f"Password should be at least {MIN_LENGTH} characters.",
            weak_password={"reasons": ["length"]},
        )


class Passwords:
    """Hashes and checks passwords, as many at once as there are processors. One per process."""

    def __init__(self, *, threads: int | None = None, queue: int | None = None) -> None:
        """Start no thread yet; *threads* and *queue* are bounds, by default the machine's."""
        workers = threads or _processors()
        self._costs = OUR_COSTS
        self._threads = ThreadPoolExecutor(
            workers, thread_name_prefix="argon2", initializer=_give_way
        )
        self._places = workers + (_QUEUE_PER_THREAD * workers if queue is None else queue)
        # What an unknown person's password is compared with, so that it takes as long.
        self._nobodys_hash = hash_password(secrets.token_urlsafe(), self._costs)
        self._slowest_s = 0.0

    def close(self) -> None:
        """Finish what is being hashed, drop what waits."""
        self._threads.shutdown(cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Return *password* as it may be stored.

        Raises:
            Unavailable: too many are waiting, or there is no memory.
        """
        return await self._run(lambda: hash_password(password, self._costs))

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether *password* is the one *stored*; with None, False after the same time.

        Raises:
            Unavailable: too many are waiting, or there is no memory.
        """
        began = time.perf_counter()
        short = len(password.encode()) <= MAX_CHECKED_BYTES
        shown = password if short else password[:MAX_BYTES]
        right = await self._run(lambda: self._check(shown, stored if short else None))
        if not right:
            await asyncio.sleep(self._slowest_s - (time.perf_counter() - began))
        return right

    def is_outdated(self, stored: str) -> bool:
        """Whether *stored* was made in another way than today's and should be made anew."""
        found = read_hash(stored)
        return not (isinstance(found, Argon2) and found.is_made_with(self._costs))

    def _check(self, password: str, stored: str | None) -> bool:
        found = None if stored is None else read_hash(stored)
        if found is None:  # nobody's, or of an account that was made without a password
            self._take_as_long(password)
            return False
        began = time.thread_time()
        right = found.matches(password)
        if stored is not None and self.is_outdated(stored):
            if not right:  # what was brought along may be quicker to check than ours
                self._take_as_long(password)
            # A little more than it took, because it does not always take the same.
            took = min(1.5 * (time.thread_time() - began), _LONGEST_WAIT_S)
            self._slowest_s = max(self._slowest_s, took)
        return right

    def _take_as_long(self, password: str) -> None:
        """Check *password* against the hash that is nobody's."""
        nobodys = read_hash(self._nobodys_hash)
        assert nobodys is not None  # noqa: S101 -- made by us
        nobodys.matches(password)

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._places <= 0:
            raise Unavailable("Too many people are signing in. Try again shortly.")
        future: Future[Result] = self._threads.submit(work)
        self._places -= 1
        loop = asyncio.get_running_loop()
        # The thread works on when the request has been cancelled, so only it frees the place.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free))
        return await asyncio.wrap_future(future)

    def _free(self) -> None:
        self._places += 1


def _processors() -> int:
    """Return how many processors this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _give_way() -> None:
    """Let whatever else wants the processor of this thread have it first, where one can say so."""
    if sys.platform != "linux":  # elsewhere it would be the whole process
        return
    me = threading.get_native_id()
    nicer = min(os.getpriority(os.PRIO_PROCESS, me) + _NICER_BY, _NICEST)
    with suppress(OSError):  # a sandbox that forbids it: hashing is as urgent as the rest then
        os.setpriority(os.PRIO_PROCESS, me, nicer)
