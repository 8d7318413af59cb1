"""Keys for one purpose each, from the one secret that a server has.

Nothing derived here is stored: a copy of the database without the secret opens nothing.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derived_key(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes that depend on *secret* and *purpose* (HKDF, RFC 5869).

    A purpose, once released, keeps its name for ever: a new name is a new key.
    """
    return HKDF(SHA256(), 32, salt=None, info=f"chatkeep {purpose}".encode()).derive(secret)
