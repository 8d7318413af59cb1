"""Apple as a way to sign in: an OpenID provider with a few habits of its own.

The client secret is a token that we sign; with a scope the answer comes as a form; and the
person's name comes once, beside the code, signed by nobody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from joserfc.jwk import ECKey

from chatkeep import tokens
from chatkeep.issuers import shown_text
from chatkeep.providers.asking import read_object
from chatkeep.providers.openid import OpenIdProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.issuance import ProviderTokens
    from chatkeep.providers.proofs import Proof, Returned

_SECRET_LIFE_S: Final = 300
_LONGEST_NAME: Final = 4096


class AppleProvider(OpenIdProvider):
    """Sign in with Apple."""

    response_mode = "form_post"

    def _secret(self) -> str:
        """Return a client secret for one request: a token signed with the team's key."""
        key = ECKey.import_key(
            str(self._settings.client_secret),
            {"alg": "ES256", "kid": str(self._settings.key_id), "use": "sig"},
        )
        now = int(time.time())
        claims = {
            "iss": self._settings.team_id,
            "iat": now,
            "exp": now + _SECRET_LIFE_S,
            "aud": self.issuer,
            "sub": self.client_id,
        }
        return tokens.issue(claims, key)

    def _told(self, returned: Returned) -> dict[str, Any]:
        name = _name_in(returned.user) if returned.user else None
        return {} if name is None else {"name": name}

    def _proof(self, claims: Mapping[str, Any], tokens: ProviderTokens | None) -> Proof:
        # A text where everybody else has a boolean.
        verified = claims.get("email_verified") in {True, "true"}
        return super()._proof({**claims, "email_verified": verified}, tokens)


def _name_in(user: str) -> str | None:
    """Return the name in what came beside the code. Its address is nobody's word."""
    try:
        name = read_object(user[:_LONGEST_NAME].encode("utf-8", "replace")).get("name")
    except ValueError:
        return None
    if not isinstance(name, dict):
        return None
    parts = [name.get(part) for part in ("firstName", "lastName")]
    return shown_text(" ".join(one for one in parts if isinstance(one, str) and one))
