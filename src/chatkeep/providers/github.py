"""GitHub as a way to sign in: OAuth 2 without ID tokens, so who it is is asked of its API.

A person is their number there: names can be changed, and taken by others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from chatkeep.errors import BadIdToken, BadOAuthCallback
from chatkeep.providers.asking import NotAnswered, ask, exchange
from chatkeep.providers.openid import RESERVED, challenge_of, with_query
from chatkeep.providers.proofs import Proof, proof_of

if TYPE_CHECKING:
    from chatkeep.config import SignInProvider
    from chatkeep.providers.proofs import Returned, Sent

_PUBLIC: Final = "https://github.com"
_PUBLIC_API: Final = "https://api.github.com"
_ACCEPT: Final = "application/vnd.github+json"


class _User(msgspec.Struct):
    id: int
    login: str
    name: str | None = None
    avatar_url: str | None = None


class _Address(msgspec.Struct):
    email: str
    primary: bool
    verified: bool


class GitHubProvider:
    """Sign in with GitHub, or with a GitHub Enterprise Server, which tell nobody of log-outs."""

    relying_party: None = None

    def __init__(self, settings: SignInProvider, *, redirect_uri: str, public_only: bool) -> None:
        """Remember whom to ask, and where browsers come back to."""
        self.name = settings.name
        self.title = settings.title
        self.issuer = settings.issuer
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._public_only = public_only
        base = settings.issuer.rstrip("/")
        self._oauth = f"{base}/login/oauth"
        self._api = _PUBLIC_API if base == _PUBLIC else f"{base}/api/v3"

    async def authorization_url(self, sent: Sent) -> str:
        """Return where the browser goes (see `Provider`)."""
        asked = {
            **{name: value for name, value in sent.more.items() if name not in RESERVED},
            "client_id": self._settings.client_ids[0],
            "redirect_uri": self._redirect_uri,
            "response_type": "code",
            "scope": " ".join(dict.fromkeys((*self._settings.scopes, *sent.scopes))),
            "state": sent.state,
            "code_challenge": challenge_of(sent.verifier),
            "code_challenge_method": "S256",
        }
        return with_query(f"{self._oauth}/authorize", asked)

    async def proof(self, returned: Returned) -> Proof:
        """Return who came back (see `Provider`)."""
        # RFC 9207 section 2.4: whoever says another name is another.
        if returned.issuer is not None and returned.issuer != self.issuer:
            raise BadOAuthCallback
        form = {
            "grant_type": "authorization_code",
            "client_id": self._settings.client_ids[0],
            "client_secret": str(self._settings.client_secret),
            "code": returned.code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": returned.verifier,
        }
        answer = await exchange(
            self.name,
            f"{self._oauth}/access_token",
            form,
            headers={"Accept": "application/json"},
            public_only=self._public_only,
        )
        claims = await self._claims(answer.access_token)
        return proof_of(self, claims, tokens=answer.handed_on())

    async def proof_of_id_token(
        self,
        id_token: str,  # noqa: ARG002 -- what every `Provider` is asked
        *,
        nonce: str | None,  # noqa: ARG002 -- as above
        access_token: str | None,  # noqa: ARG002 -- as above
    ) -> Proof:
        """Refuse: GitHub signs nothing (see `Provider`)."""
        raise BadIdToken

    async def close(self) -> None:
        """Hold nothing."""

    async def _claims(self, access_token: str) -> dict[str, Any]:
        """Return who has *access_token*, in the words of OpenID Connect."""
        try:
            about = await self._ask("/user", access_token)
            addresses = await self._ask("/user/emails", access_token)
            user = msgspec.json.decode(about, type=_User)
            listed = msgspec.json.decode(addresses, type=list[_Address])
        except (NotAnswered, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadOAuthCallback from error
        if user.id <= 0:
            raise BadOAuthCallback
        primary = next((one for one in listed if one.primary), None)
        return {
            "sub": str(user.id),
            "email": primary and primary.email,
            "email_verified": primary is not None and primary.verified,
            "name": user.name or user.login,
            "preferred_username": user.login,
            "picture": user.avatar_url,
        }

    async def _ask(self, path: str, access_token: str) -> bytes:
        url = f"{self._api}{path}"
        return await ask(
            self.name, url, access_token, public_only=self._public_only, accept=_ACCEPT
        )
