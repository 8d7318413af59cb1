"""Which tokens of an OpenID provider are access tokens.

A provider signs ID tokens, logout tokens and access tokens with the same keys and says the
same `iss` and `sub` in them. Whoever takes one kind for another lets every site that people
sign in at act as them here (RFC 8725 section 3.11, RFC 9068 section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.tokens import Unverified

#: RFC 9068: the header says that it is an access token, and nothing else may.
_PROFILE: Final = "at+jwt"
#: Only ID tokens and logout tokens have these (OpenID Connect Core 1.0 sections 2 and
#: 3.3.2.11, Back-Channel Logout 1.0 section 2.4).
_OF_OTHER_KINDS: Final = ("nonce", "at_hash", "c_hash", "s_hash", "events")
#: What a right is granted by, or to whom: without one of these it is no access token.
_OF_ACCESS_TOKENS: Final = ("scope", "scp", "client_id")
#: Keycloak and Cognito say in a claim what the header does not.
_OWN_WORDS: Final = (("typ", "bearer"), ("token_use", "access"))


def openid_access_token(client_id: str | None) -> Callable[[Unverified], bool]:
    """Return what tells whether a verified token is an access token of a person.

    *client_id* is ours at the provider; what is meant for that is an ID token.
    """

    def is_access_token(token: Unverified) -> bool:
        claims = token.claims
        if claims["sub"] == claims.get("client_id"):  # the client itself, and no person
            return False
        if token.header.typ == _PROFILE:
            return True
        return (
            not any(name in claims for name in _OF_OTHER_KINDS)
            and any(name in claims for name in _OF_ACCESS_TOKENS)
            and all(_says(claims.get(name, word), word) for name, word in _OWN_WORDS)
            and client_id not in _listed(claims.get("aud"))
        )

    return is_access_token


def _says(value: object, word: str) -> bool:
    return isinstance(value, str) and value.lower() == word


def _listed(audience: object) -> list[object]:
    return audience if isinstance(audience, list) else [audience]
