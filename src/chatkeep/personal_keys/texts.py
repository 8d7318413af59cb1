"""Personal API keys as text: `ck_`, 32 random characters, and a checksum of six.

The prefix and the fixed length let scanners for secrets find one that leaked. The checksum
finds what was cut off or mistyped, without a question to the database; it proves nothing.
Of a key only its SHA-256 is kept: 190 random bits cannot be guessed, so a slow or keyed hash
would protect nothing more, and a change of the server's secret ends no key. Pure.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from typing import Final

PREFIX: Final = "ck_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM: Final = 32
_CHECKED: Final = 6
_SHOWN: Final = len(PREFIX) + 6
_KEY: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECKED}}}")


def new_key() -> str:
    """Return a new key."""
    begun = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return begun + _checksum(begun)


def claims_to_be_one(text: str) -> bool:
    """Whether *text* is meant as a key: no other credential that is taken begins so."""
    return text.startswith(PREFIX)


def is_sound(text: str) -> bool:
    """Whether *text* could be a key that we made."""
    return _KEY.fullmatch(text) is not None and text[-_CHECKED:] == _checksum(text[:-_CHECKED])


def shown_part(key: str) -> str:
    """Return the beginning by which its owner knows *key* again, too little to guess the rest."""
    return key[:_SHOWN]


def hash_of(key: str) -> bytes:
    """Return what is kept of *key*."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _checksum(begun: str) -> str:
    rest, digits = zlib.crc32(begun.encode()), ""
    for _ in range(_CHECKED):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
