"""Password hashes that other servers made, so that people who move here keep their passwords.

bcrypt (Supabase, Auth0), argon2 (Supabase; in `argon2_hashes`, with ours), scrypt as Firebase,
Better Auth and the PHC string format write it. A hash says itself how much work it is to check,
so what asks for absurdly much is no hash here: it is refused at import, and never run. Slow:
call it in a thread of `Passwords`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import bcrypt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from chatkeep.errors import Invalid
from chatkeep.passwords.argon2_hashes import ARGON2, MOST_LANES, read_argon2

if TYPE_CHECKING:
    from collections.abc import Callable

#: With 14, one check takes a processor about a second.
MOST_BCRYPT_COST: Final = 14
MOST_SCRYPT_MEMORY: Final = 64 * 1024 * 1024
_LONGEST: Final = 1024
#: Longer passwords are cut there by bcrypt itself, as it is used everywhere.
_BCRYPT_BYTES: Final = 72

_BCRYPT = re.compile(r"(\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21})([./A-Za-z0-9])([./A-Za-z0-9]{31})")
_BCRYPT_ALPHABET: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PHC_SCRYPT = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,4}),p=([0-9]{1,4})"
    r"\$([A-Za-z0-9+/]{1,128})\$([A-Za-z0-9+/]{22,172})"
)
_FIREBASE = re.compile(
    r"\$fbscrypt\$v=1,n=([0-9]{1,2}),r=([0-9]{1,4}),p=([0-9]{1,4})"
    r"(?:,ss=([A-Za-z0-9+/_=-]{0,128}))?,sk=([A-Za-z0-9+/_=-]{1,256})"
    r"\$([A-Za-z0-9+/_=-]{1,128})\$([A-Za-z0-9+/_=-]{22,256})"
)
_BETTER_AUTH = re.compile(r"([0-9a-f]{32}):([0-9a-f]{128})")


class Hash(Protocol):
    """A hash that was read."""

    def matches(self, password: str) -> bool:
        """Whether *password* is the one that was hashed."""
        ...


@dataclass(frozen=True, slots=True)
class _Bcrypt:
    text: str = field(repr=False)

    def matches(self, password: str) -> bool:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], self.text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scrypt:
    """*finish* makes of the derived key what is kept."""

    cost: int
    block: int
    lanes: int
    salt: bytes = field(repr=False)
    kept: bytes = field(repr=False)
    key_length: int
    finish: Callable[[bytes], bytes] = field(default=lambda key: key, repr=False)
    normal_form: bool = False

    def matches(self, password: str) -> bool:
        text = unicodedata.normalize("NFKC", password) if self.normal_form else password
        key = hashlib.scrypt(
            text.encode(),
            salt=self.salt,
            n=self.cost,
            r=self.block,
            p=self.lanes,
            maxmem=2 * MOST_SCRYPT_MEMORY,
            dklen=self.key_length,
        )
        return hmac.compare_digest(self.finish(key), self.kept)


def read_hash(text: str) -> Hash | None:
    """Return the hash that *text* is, None if it is none or too much work to check."""
    if len(text) > _LONGEST:
        return None
    for pattern, read in _KINDS:
        found = pattern.fullmatch(text)
        if found is not None:
            try:
                return read(found)
            except (Base64Error, ValueError):
                return None
    return None


def require_importable(text: str) -> None:
    """Refuse what could not be checked at sign-in.

    Raises:
        Invalid: no known kind of hash, or with parameters beyond the limits of this module.
    """
    if read_hash(text) is None:
        raise Invalid(
            "password_hash must be a bcrypt, argon2 or scrypt hash in a known format,"
            " and not take too much memory or time to check"
        )


def _read_bcrypt(found: re.Match[str]) -> Hash | None:
    if not 4 <= int(found[2]) <= MOST_BCRYPT_COST:  # noqa: PLR2004 -- bcrypt's own least
        return None
    # The salt ends in four bits that say nothing, and some write them as they come.
    last = _BCRYPT_ALPHABET[_BCRYPT_ALPHABET.index(found[3]) & 0b110000]
    return _Bcrypt(found[1] + last + found[4])


def _read_phc_scrypt(found: re.Match[str]) -> Hash | None:
    kept = _decoded(found[5])
    return _sound_scrypt(
        *map(int, found.group(1, 2, 3)), salt=_decoded(found[4]), kept=kept, key_length=len(kept)
    )


def _read_firebase(found: re.Match[str]) -> Hash | None:
    """Read what Supabase Auth calls `fbscrypt`: the key encrypts the project's signer key."""
    signer_key = _decoded(found[5])

    def encrypted(key: bytes) -> bytes:
        encryptor = Cipher(AES(key), CTR(bytes(16))).encryptor()
        return encryptor.update(signer_key) + encryptor.finalize()

    return _sound_scrypt(
        *map(int, found.group(1, 2, 3)),
        salt=_decoded(found[6]) + _decoded(found[4] or ""),
        kept=_decoded(found[7]),
        key_length=32,
        finish=encrypted,
    )


def _read_better_auth(found: re.Match[str]) -> Hash | None:
    # The salt is the text, not the bytes that it stands for.
    return _Scrypt(
        cost=1 << 14,
        block=16,
        lanes=1,
        salt=found[1].encode(),
        kept=bytes.fromhex(found[2]),
        key_length=64,
        normal_form=True,
    )


def _sound_scrypt(
    exponent: int,
    block: int,
    lanes: int,
    *,
    salt: bytes,
    kept: bytes,
    key_length: int,
    finish: Callable[[bytes], bytes] = lambda key: key,
) -> Hash | None:
    if not (1 <= exponent < 32 and block >= 1 and 1 <= lanes <= MOST_LANES):  # noqa: PLR2004 -- 2^32 is beyond all
        return None
    # The lanes are worked off one after another, so they count like memory.
    if 128 * (1 << exponent) * block * lanes > MOST_SCRYPT_MEMORY:
        return None
    return _Scrypt(
        cost=1 << exponent,
        block=block,
        lanes=lanes,
        salt=salt,
        kept=kept,
        key_length=key_length,
        finish=finish,
    )


def _decoded(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return b64decode(plain + "=" * (-len(plain) % 4), validate=True)


_KINDS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Hash | None]], ...]] = (
    (ARGON2, read_argon2),
    (_BCRYPT, _read_bcrypt),
    (_BETTER_AUTH, _read_better_auth),
    (_PHC_SCRYPT, _read_phc_scrypt),
    (_FIREBASE, _read_firebase),
)
