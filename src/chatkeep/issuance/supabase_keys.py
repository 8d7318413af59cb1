"""The two keys that Supabase clients want beside a person's token.

Both come from the server's secret, so every node knows them and nothing is stored. The
publishable key is no secret and gives no right: whoever sends it as a bearer is nobody in
particular. The prefixes are the ones by which supabase-js knows a key that is not a JWT.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

from chatkeep.server_secrets import derived_key

_PUBLISHABLE_PREFIX = "sb_publishable_"
_SECRET_PREFIX = "sb_secret_"  # noqa: S105 -- how one begins, not one


@dataclass(frozen=True, slots=True, kw_only=True)
class SupabaseKeys:
    """What `createClient` is given: in browsers the one, on servers the other."""

    publishable: str
    secret: str = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> SupabaseKeys:
        """Return the keys that belong to the server's *secret*."""
        return cls(
            publishable=_PUBLISHABLE_PREFIX + _text(derived_key(secret, "publishable api key")),
            secret=_SECRET_PREFIX + _text(derived_key(secret, "secret api key")),
        )

    def is_publishable(self, text: str) -> bool:
        """Whether *text* is the publishable key."""
        return _same(text, self.publishable)

    def is_secret(self, text: str) -> bool:
        """Whether *text* is the secret key; the time taken does not tell how nearly."""
        return _same(text, self.secret)


def _text(key: bytes) -> str:
    return urlsafe_b64encode(key[:24]).decode()


def _same(text: str, key: str) -> bool:
    return hmac.compare_digest(text.encode(), key.encode())
