"""Refresh tokens as text: the session, the number in its family, and a proof that we wrote it.

The proof is an HMAC under a key that is not in the database. So a dump of the database
holds nothing usable, and the same token can be written again when an answer was lost.
Pure: whether a token is still good is for `records` to say.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chatkeep.errors import Invalid, RefreshTokenNotFound
from chatkeep.server_secrets import derived_key

#: Names the format, so that a later one can be told from it, and leaked ones be found.
PREFIX: Final = "ckr1"
_COUNTER_BYTES = 5
_BODY_BYTES = 16 + _COUNTER_BYTES
_PROOF_BYTES = 24
_OURS = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{{(_BODY_BYTES + _PROOF_BYTES) * 4 // 3}}}")
#: How Supabase Auth's oldest tokens look: no such token is known here.
_SUPABASE_V1 = re.compile(r"[a-z0-9]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """The *counter*-th token of a session's family; the first is number 1."""

    session_id: UUID
    counter: int


class RefreshTokens:
    """Writes and reads refresh tokens under the server's secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = derived_key(secret, "refresh tokens")

    def write(self, token: RefreshToken) -> str:
        """Return *token* as text: always the same for the same token."""
        body = token.session_id.bytes + token.counter.to_bytes(_COUNTER_BYTES, "big")
        return PREFIX + urlsafe_b64encode(body + self._proof(body)).decode()

    def read(self, text: str) -> RefreshToken:
        """Return the token that *text* is.

        Raises:
            Invalid: it does not look like a refresh token at all.
            RefreshTokenNotFound: we did not write it.
        """
        if not _OURS.fullmatch(text):
            raise RefreshTokenNotFound if _SUPABASE_V1.fullmatch(text) else _malformed()
        raw = urlsafe_b64decode(text.removeprefix(PREFIX))
        body, proof = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        if not hmac.compare_digest(proof, self._proof(body)):
            raise RefreshTokenNotFound
        return RefreshToken(
            session_id=UUID(bytes=body[:16]), counter=int.from_bytes(body[16:], "big")
        )

    def wrote(self, text: str) -> bool:
        """Whether *text* is a token that we wrote; another Chatkeep's only look like it."""
        try:
            self.read(text)
        except (Invalid, RefreshTokenNotFound):
            return False
        return True

    def _proof(self, body: bytes) -> bytes:
        return hmac.digest(self._key, PREFIX.encode() + body, "sha256")[:_PROOF_BYTES]


def _malformed() -> Invalid:
    return Invalid("Refresh token is not valid")
