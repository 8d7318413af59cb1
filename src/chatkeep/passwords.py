"""Passwords: what is taken for one, how it is kept, and how many are checked at a time.

Argon2id with t=2, m=19 MiB, p=1 (the OWASP minimum; 18 ms a check). Checking is made to
be slow, so it happens in a few threads (argon2 lets go of the interpreter lock) behind a
bounded queue: a flood of sign-ins is answered "busy" and never stops the event loop. No
account and no database here, and a password is never logged.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from chatkeep.errors import Invalid, Unavailable, WeakPassword

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

#: NIST SP 800-63B asks for at least 8 characters; Supabase's default of 6 is too few.
MIN_LENGTH: Final = 8
#: Supabase's limit (bcrypt's): an account must be movable from and to it.
MAX_BYTES: Final = 72

#: With 18 ms each, the last in the queue waits about a second.
_QUEUE_PER_THREAD = 64

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
        workers = threads or os.cpu_count() or 1
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        self._places = workers + (_QUEUE_PER_THREAD * workers if queue is None else queue)
        # What an unknown person's password is compared with, so that it takes as long.
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    def close(self) -> None:
        """Finish what is being hashed, drop what waits."""
        self._threads.shutdown(cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Return *password* as it may be stored.

        Raises:
            Unavailable: too many are waiting.
        """
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether *password* is the one *stored*; with None, False after the same time.

        Raises:
            Unavailable: too many are waiting.
        """
        found = stored if stored is not None and len(password.encode()) <= MAX_BYTES else None
        return await self._run(lambda: self._check(password[:MAX_BYTES], found))

    def is_outdated(self, stored: str) -> bool:
        """Whether *stored* was made with other costs than today's and should be made anew."""
        return self._hasher.check_needs_rehash(stored)

    def _check(self, password: str, stored: str | None) -> bool:
        try:
            self._hasher.verify(stored or self._nobodys_hash, password)
        except VerifyMismatchError:
            return False
        except InvalidHashError:  # an account that was made without a password
            return self._check(password, None)
        return stored is not None

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
