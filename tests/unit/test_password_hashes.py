"""Hashes of other servers are checked as those check them, and absurd ones never run."""

from __future__ import annotations

import asyncio
import hashlib
import time
import unicodedata
from base64 import b64encode
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

import bcrypt
import pytest
from argon2 import PasswordHasher, Type
from argon2.low_level import hash_secret

from chatkeep.errors import Invalid
from chatkeep.passwords import Passwords, read_hash, require_importable

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "correct horse"
#: The example of Firebase's own scrypt, https://github.com/firebase/scrypt
SIGNER_KEY = (
    "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
)
FIREBASE = (
    f"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk={SIGNER_KEY}$42xEC+ixf3L2lw==$"
    "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
)


def better_auth(password: str) -> str:
    """Hash as Better Auth does: over the salt's text, in NFKC."""
    salt = "0123456789abcdef" * 2
    key = hashlib.scrypt(
        unicodedata.normalize("NFKC", password).encode(),
        salt=salt.encode(),
        n=16384,
        r=16,
        p=1,
        maxmem=1 << 27,
        dklen=64,
    )
    return f"{salt}:{key.hex()}"


def phc_scrypt(password: str) -> str:
    """Hash as the PHC string format writes scrypt."""
    key = hashlib.scrypt(password.encode(), salt=b"salt of 16 bytes", n=1024, r=8, p=1)
    salt, kept = (b64encode(one).decode().rstrip("=") for one in (b"salt of 16 bytes", key))
    return f"$scrypt$ln=10,r=8,p=1${salt}${kept}"


def older_argon2(kind: Type) -> str:
    """Hash with Argon2 1.0."""
    return hash_secret(PASSWORD.encode(), b"salt of 16 bytes", 2, 64, 1, 32, kind, 16).decode()


@cache
def hashed(password: str) -> dict[str, str]:
    """Return *password* in every kind of hash; some of them are meant to take long."""
    plain = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    return {
        "bcrypt": plain,
        "bcrypt 2a": plain.replace("$2b$", "$2a$"),
        "bcrypt 2y": plain.replace("$2b$", "$2y$"),
        "argon2id": PasswordHasher(1, 1024, 1).hash(password),
        "argon2i": PasswordHasher(1, 1024, 1, type=Type.I).hash(password),
        "scrypt": phc_scrypt(password),
        "Better Auth": better_auth(password),
    }


@pytest.fixture(scope="module")
def passwords() -> Iterator[Passwords]:
    """What checks passwords."""
    made = Passwords(threads=1)
    yield made
    made.close()


@pytest.mark.parametrize("kind", hashed(PASSWORD))
@pytest.mark.parametrize("password", [PASSWORD, "Größe ﬁne Ångström", "x" * 100], ids=str)
async def test_right_password_matches(passwords: Passwords, kind: str, password: str) -> None:
    """The right one matches, another does not, and it is due to be hashed as ours are."""
    stored = hashed(password)[kind]
    require_importable(stored)
    assert await passwords.matches(password, stored)
    assert not await passwords.matches(password.upper(), stored)
    assert not await passwords.matches("", stored)
    assert passwords.is_outdated(stored)


@pytest.mark.parametrize(
    "stored",
    [
        PasswordHasher(1, 64, 1).hash(PASSWORD),
        PasswordHasher(1, 64, 1, hash_len=128).hash(PASSWORD),
        PasswordHasher(1, 64, 1, hash_len=12).hash(PASSWORD),
        PasswordHasher(1, 64, 1, salt_len=64).hash(PASSWORD),
        PasswordHasher(1, 64, 1, salt_len=8).hash(PASSWORD),
        PasswordHasher(1, 8, 1, type=Type.I).hash(PASSWORD),
        PasswordHasher(3, 200, 4).hash(PASSWORD),
        PasswordHasher(3, 128, 16, type=Type.I).hash(PASSWORD),
        PasswordHasher(1, 64, 2, type=Type.D).hash(PASSWORD),
        older_argon2(Type.ID),
        older_argon2(Type.I),
        older_argon2(Type.D).replace("$v=16", ""),
    ],
    ids=lambda stored: stored[: stored.index("p=") + 4],
)
def test_every_argon2_is_checked(stored: str) -> None:
    """Whatever the reference implementation makes: any kind, version, lanes, salt and length."""
    found = read_hash(stored)
    assert found is not None
    assert found.matches(PASSWORD)
    assert not found.matches(PASSWORD.upper())
    assert not found.matches("")


async def test_firebase_example(passwords: Passwords) -> None:
    """The published example matches, in the alphabet of URLs too."""
    for text in (FIREBASE, FIREBASE.replace("+", "-").replace("/", "_")):
        assert await passwords.matches("user1password", text)
        assert not await passwords.matches("user2password", text)


async def test_bcrypt_salt_with_idle_bits(passwords: Passwords) -> None:
    """The last four bits of a salt count for nothing, as everywhere."""
    stored = bcrypt.hashpw(PASSWORD.encode(), b"$2b$04$abcdefghijklmnopqrstu.").decode()
    odd = stored[:28] + "/" + stored[29:]
    assert stored[28] == "."
    assert await passwords.matches(PASSWORD, odd)


async def test_long_passwords_are_nobodys(passwords: Passwords) -> None:
    """More than 512 bytes are wrong, without anything being hashed of them."""
    stored = await passwords.hash("x" * 600)
    assert not await passwords.matches("x" * 600, stored)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "password", "5f4dcc3b5aa765d61d8327deb882cf99", "$1$salt$hash", "md5:x"),
        "$2b$15$" + "." * 53,
        "$2b$99$" + "." * 53,
        "$2b$03$" + "." * 53,
        "$2x$10$" + "." * 53,
        "$2b$10$" + "." * 52,
        "$argon2id$v=19$m=1073741824,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=131073,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=131072,t=5,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=1024,t=4294967295,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=1024,t=0,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=65536,t=1,p=1024$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=7,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=15,t=1,p=2$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=01024,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=1024,t=1,p=0$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=18$m=1024,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRz$" + "A" * 41,
        "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQx$" + "A" * 10,
        "$scrypt$ln=30,r=8,p=1$c2FsdA$" + "A" * 43,
        "$scrypt$ln=14,r=4096,p=1$c2FsdA$" + "A" * 43,
        "$scrypt$ln=14,r=8,p=16$c2FsdA$" + "A" * 43,
        "$scrypt$ln=0,r=8,p=1$c2FsdA$" + "A" * 43,
        "$scrypt$ln=10,r=0,p=1$c2FsdA$" + "A" * 43,
        FIREBASE.replace("n=14", "n=31"),
        FIREBASE.replace("v=1", "v=2"),
        FIREBASE.replace("42xEC+ixf3L2lw==", "A"),
        better_auth("x") + "0",
        better_auth("x").upper(),
        FIREBASE + "A" * 1000,
    ],
    ids=str,
)
async def test_absurd_hash_is_refused_and_never_run(passwords: Passwords, text: str) -> None:
    """At import with an error, and at sign-in as a wrong password, at once."""
    with pytest.raises(Invalid):
        require_importable(text)
    assert read_hash(text) is None
    began = time.process_time()
    assert not await passwords.matches(PASSWORD, text)
    assert time.process_time() - began < 1


async def test_who_came_from_elsewhere_cannot_be_seen(passwords: Passwords) -> None:
    """A wrong password of an imported hash, of one of ours, and nobody's, wait for one moment.

    It lies behind the work of the slowest, so that on an idle machine all are answered then; what
    a busy one adds is not the hash's.
    """
    slow = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    kinds: tuple[str | None, ...] = (slow, await passwords.hash(PASSWORD), None)
    await passwords.matches("wrong", slow)
    worked: dict[str | None, list[float]] = {kind: [] for kind in kinds}
    for _ in range(10):
        for kind in kinds:
            moment = passwords._slowest_s
            began, began_work = time.perf_counter(), time.process_time()
            await passwords.matches("wrong", kind)
            worked[kind].append(time.process_time() - began_work)
            assert time.perf_counter() - began > 0.99 * moment
    assert all(passwords._slowest_s > 1.1 * median(times) for times in worked.values())


async def test_event_loop_keeps_turning_while_imported_hashes_are_checked() -> None:
    """They are checked in the same threads, a few at a time, and let go of the interpreter."""
    passwords = Passwords(threads=1)
    kinds = [bcrypt.hashpw(b"x", bcrypt.gensalt(10)).decode(), better_auth("x"), FIREBASE]
    checking = asyncio.gather(*(passwords.matches("x", one) for one in kinds))
    turns = 0
    while not checking.done():
        turns += 1
        await asyncio.sleep(0)
    passwords.close()
    assert turns > 100
