"""What the refresh cookie holds: a refresh token and, if another issuer gave it out, whose it is.

A token of ours is written as it is. Another issuer's is written with the issuer's name and the
person that it was given out for, and a proof that we wrote it, so that the answer of the next
refresh can be held against both. Pure: no token is judged here.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

import msgspec

from chatkeep.errors import BadRequest, Invalid
from chatkeep.server_secrets import derived_key
from chatkeep.sessions.refresh_tokens import PREFIX as OURS

#: Names the format, so that a later one can be told from it.
PREFIX: Final = "ckf1"
#: With name and attributes below the 4,096 bytes that every browser keeps.
_LONGEST: Final = 3900


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A refresh token from a cookie. *issuer* None: our own."""

    token: str = field(repr=False)
    issuer: str | None = None
    subject: str | None = None


class _Written(msgspec.Struct, array_like=True):
    issuer: str
    subject: str
    token: str


class RefreshCookies:
    """Writes and reads the cookie's value under the server's secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = derived_key(secret, "refresh cookies")

    def write(self, kept: Kept) -> str:
        """Return the value for *kept*.

        Raises:
            Invalid: no browser would keep so long a cookie.
        """
        if kept.issuer is None:
            return kept.token
        said = _Written(kept.issuer, kept.subject or "", kept.token)
        body = urlsafe_b64encode(msgspec.json.encode(said)).rstrip(b"=")
        value = f"{PREFIX}{body.decode()}.{self._proof(body)}"
        if len(value) > _LONGEST:
            raise Invalid("This refresh token does not fit into a cookie: leave out `cookie`.")
        return value

    def read(self, value: str) -> Kept:
        """Return what *value* holds.

        Raises:
            BadRequest: we did not write it.
        """
        if value.startswith(OURS):
            return Kept(token=value)
        body, dot, proof = value.removeprefix(PREFIX).partition(".")
        if not value.startswith(PREFIX) or not dot or not value.isascii():
            raise BadRequest(_MALFORMED)
        if not hmac.compare_digest(proof, self._proof(body.encode())):
            raise BadRequest(_MALFORMED)
        said = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Written)
        return Kept(token=said.token, issuer=said.issuer, subject=said.subject or None)

    def _proof(self, body: bytes) -> str:
        proof = hmac.digest(self._key, PREFIX.encode() + body, "sha256")
        return urlsafe_b64encode(proof).rstrip(b"=").decode()


_MALFORMED: Final = "The refresh cookie is not one of this server."
