"""Argon2: how new passwords are kept, and the hashes of it that people bring along.

libsodium checks all of ours, and of the others what it can: it uses the widest registers that the
processor has, and takes a third less time than argon2-cffi, which is compiled for the oldest. That
one does the rest: several lanes, salts that are not of 16 bytes, the kinds i and d, version 1.0.

Both only derive keys here, and what they derive is compared by us: where there is no memory, what
libsodium says of a whole hash is the same as of a wrong password. Either works in the thread that
calls it and in no other, so that as many processors are busy as `Passwords` has threads, and the
time that a check took is the time of its thread. Slow: call it in a thread of `Passwords`.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Final

from argon2.low_level import Type, core, ffi
from nacl.pwhash import argon2id

from chatkeep.errors import Unavailable

#: In KiB. As much memory as this is used by each thread that checks passwords.
MOST_MEMORY: Final = 128 * 1024
#: Memory times passes: about half a second.
MOST_WORK: Final = 512 * 1024
MOST_LANES: Final = 16

#: How it is written.
ARGON2: Final = re.compile(
    r"\$argon2(id|i|d)(?:\$v=(16|19))?\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})"
    r"\$([A-Za-z0-9+/]{11,128})\$([A-Za-z0-9+/]{16,172})"
)
_TYPES: Final = {"id": Type.ID, "i": Type.I, "d": Type.D}
#: Versions 1.3 and 1.0, as a hash writes them; one that names none is of the older.
_NEWER: Final = 19
_OLDER: Final = 16
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What it takes to hash a password: *memory* in KiB, gone through *passes* times."""

    memory: int
    passes: int


#: The OWASP minimum.
OUR_COSTS: Final = Costs(memory=19 * 1024, passes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2:
    """A hash of Argon2, whoever made it."""

    kind: str
    version: int
    costs: Costs
    lanes: int
    salt: bytes = field(repr=False)
    kept: bytes = field(repr=False)

    def is_made_with(self, costs: Costs) -> bool:
        """Whether `hash_password` would make such a one for the same password."""
        return self._is_for_libsodium() and self.costs == costs and len(self.kept) == _KEY_BYTES

    def matches(self, password: str) -> bool:
        """Whether *password* is the one that was hashed.

        Raises:
            Unavailable: there is no memory for it.
        """
        derive = self._libsodium if self._is_for_libsodium() else self._argon2_cffi
        return hmac.compare_digest(derive(password.encode()), self.kept)

    def _is_for_libsodium(self) -> bool:
        return (
            (self.kind, self.version, self.lanes) == ("id", _NEWER, 1)
            and len(self.salt) == argon2id.SALTBYTES
            and len(self.kept) >= argon2id.BYTES_MIN
        )

    def _libsodium(self, password: bytes) -> bytes:
        memory = self.costs.memory * 1024
        try:
            return argon2id.kdf(len(self.kept), password, self.salt, self.costs.passes, memory)
        except RuntimeError as error:
            raise _no_memory() from error

    def _argon2_cffi(self, password: bytes) -> bytes:
        """Derive the key without the threads that argon2-cffi would begin, one for each lane."""
        buffers = {
            "out": ffi.new("uint8_t[]", len(self.kept)),
            "pwd": ffi.new("uint8_t[]", password),
            "salt": ffi.new("uint8_t[]", self.salt),
        }
        lengths = {"outlen": len(self.kept), "pwdlen": len(password), "saltlen": len(self.salt)}
        context = ffi.new("argon2_context *", buffers | lengths)
        context.version = self.version
        context.m_cost, context.t_cost = self.costs.memory, self.costs.passes
        context.lanes, context.threads = self.lanes, 1
        if core(context, _TYPES[self.kind].value) != 0:  # the number of an error
            raise _no_memory()
        return bytes(ffi.buffer(buffers["out"]))


def read_argon2(found: re.Match[str]) -> Argon2 | None:
    """Return the hash that `ARGON2` *found*, None if it is too much work to check.

    Raises:
        ValueError: its salt or key is not base64.
    """
    memory, passes, lanes = map(int, found.group(3, 4, 5))
    sound = lanes <= MOST_LANES and 8 * lanes <= memory <= MOST_MEMORY
    if not sound or memory * passes > MOST_WORK:
        return None
    return Argon2(
        kind=found[1],
        version=int(found[2] or _OLDER),
        costs=Costs(memory=memory, passes=passes),
        lanes=lanes,
        salt=_decoded(found[6]),
        kept=_decoded(found[7]),
    )


def hash_password(password: str, costs: Costs) -> str:
    """Return *password* as it may be stored.

    Raises:
        Unavailable: there is no memory for it.
    """
    try:
        return argon2id.str(password.encode(), costs.passes, costs.memory * 1024).decode()
    except RuntimeError as error:
        raise _no_memory() from error


def _no_memory() -> Unavailable:
    return Unavailable("There is no memory to check a password with. Try again shortly.")


def _decoded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
