"""An OpenID provider as a way to sign in: the code flow, and ID tokens from applications.

OpenID Connect Core 1.0 section 3.1, always with PKCE (RFC 7636) and a nonce. Its ID token is
verified by our own verifier, with keys that its discovery document leads to.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from chatkeep.discovery import Discovery
from chatkeep.errors import (
    BadIdToken,
    BadOAuthCallback,
    IssuerUnavailable,
    TokenExpired,
    TokenInvalid,
    TokenNotActive,
    TokenWrongAudience,
)
from chatkeep.fetching import FetchFailed
from chatkeep.issuers import RelyingParty
from chatkeep.jwks import JwksClient
from chatkeep.providers.asking import NotAnswered, ask, exchange, read_object
from chatkeep.providers.proofs import Proof, Shown, proof_of
from chatkeep.sessions.provider_sessions import ProviderSession
from chatkeep.tokens import ASYMMETRIC_ALGORITHMS, Rules, check, is_identifier, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.config import SignInProvider
    from chatkeep.discovery import Provider as Described
    from chatkeep.issuance import ProviderTokens
    from chatkeep.providers.proofs import Returned, Sent
    from chatkeep.tokens import Unverified

_CLOCK_LEEWAY_S: Final = 5
#: What the application may not say for us in the request.
RESERVED: Final = frozenset(
    {
        *("client_id", "client_secret", "redirect_uri", "response_type", "response_mode"),
        *("state", "nonce", "code_challenge", "code_challenge_method", "scope", "request"),
        *("request_uri", "registration", "claims", "id_token_hint", "dpop_jkt"),
    }
)


class OpenIdProvider:
    """The OpenID provider of *settings*. Nothing is fetched before somebody signs in."""

    response_mode: str | None = None

    def __init__(self, settings: SignInProvider, *, redirect_uri: str, public_only: bool) -> None:
        """Remember whom to ask, and where browsers come back to."""
        self.name = settings.name
        self.title = settings.title
        self.issuer = settings.issuer
        self.client_id = settings.client_ids[0]
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._public_only = public_only
        self._discovery = Discovery(settings.issuer, public_only=public_only, hosts=settings.hosts)
        self._keys = JwksClient(
            settings.issuer,
            algorithms=ASYMMETRIC_ALGORITHMS,
            public_only=public_only,
            locate=self._discovery.keys,
        )
        self._rules = Rules(
            iss=settings.issuer,
            audiences=frozenset(settings.client_ids),
            algorithms=frozenset(ASYMMETRIC_ALGORITHMS),
            types=frozenset({None, "jwt"}),
            leeway_s=_CLOCK_LEEWAY_S,
        )

    @property
    def relying_party(self) -> RelyingParty:
        """As whom it may tell us of log-outs: any of our clients (see `Provider`)."""
        return RelyingParty(
            iss=self.issuer, client_ids=frozenset(self._settings.client_ids), keys=self._keys
        )

    async def authorization_url(self, sent: Sent) -> str:
        """Return where the browser goes (see `Provider`)."""
        described = await self._described()
        if described.authorization_url is None:
            raise IssuerUnavailable
        asked = {
            **{name: value for name, value in sent.more.items() if name not in RESERVED},
            "client_id": self.client_id,
            "redirect_uri": self._redirect_uri,
            "response_type": "code",
            "scope": " ".join(dict.fromkeys((*self._settings.scopes, *sent.scopes))),
            "state": sent.state,
            "nonce": sent.nonce,
            "code_challenge": challenge_of(sent.verifier),
            "code_challenge_method": "S256",
        }
        if self.response_mode is not None:
            asked["response_mode"] = self.response_mode
        return with_query(described.authorization_url, asked)

    async def proof(self, returned: Returned) -> Proof:
        """Return who came back (see `Provider`)."""
        described = await self._described()
        # RFC 9207 section 2.4: an answer of another provider is not sent on to this one.
        if returned.issuer != self.issuer and (described.names_itself or returned.issuer):
            raise BadOAuthCallback
        if described.token_url is None:
            raise IssuerUnavailable
        form = {
            "grant_type": "authorization_code",
            "code": returned.code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": returned.verifier,
        }
        headers: dict[str, str] = {}
        if described.secret_in_body:
            form |= {"client_id": self.client_id, "client_secret": self._secret()}
        else:
            headers["Authorization"] = _basic(self.client_id, self._secret())
        answer = await exchange(
            self.name, described.token_url, form, headers=headers, public_only=self._public_only
        )
        try:
            token = await self._verified(
                answer.id_token or "", {self.client_id}, access_token=answer.access_token
            )
        except TokenInvalid as error:
            raise BadOAuthCallback from error
        claims = token.claims
        if claims.get("nonce") != returned.nonce:
            raise BadOAuthCallback
        if "email" not in claims and described.userinfo_url is not None:
            claims = await self._completed(claims, described.userinfo_url, answer.access_token)
        return self._proof(claims | self._told(returned), answer.handed_on())

    async def proof_of_id_token(
        self, id_token: str, *, nonce: str | None, access_token: str | None
    ) -> Proof:
        """Return who an ID token is about that an application was given (see `Provider`)."""
        try:
            token = await self._verified(
                id_token, set(self._settings.client_ids), access_token=access_token
            )
        except TokenInvalid as error:
            raise BadIdToken from error
        said = token.claims.get("nonce")
        if (said is None) != (nonce is None):
            raise BadIdToken("Passed nonce and nonce in id_token should either both exist or not.")
        # The application told the provider the hash, so that who sees the token cannot use it.
        if nonce is not None and said != hashlib.sha256(nonce.encode()).hexdigest():
            raise BadIdToken("Nonces mismatch", error="invalid nonce")
        # Not of the signature: ES256 has two for each token.
        shown = Shown(
            token_hash=hashlib.sha256(token.signing_input).digest(),
            expires_at=datetime.fromtimestamp(float(str(token.claims["exp"])), UTC),
        )
        return replace(self._proof(token.claims, None), shown=shown)

    async def close(self) -> None:
        """Stop fetching keys."""
        await self._keys.close()

    def _secret(self) -> str:
        return str(self._settings.client_secret)

    def _told(self, returned: Returned) -> dict[str, Any]:  # noqa: ARG002 -- Apple's says something
        """What comes beside the ID token, and counts for nothing but to be shown."""
        return {}

    def _proof(self, claims: Mapping[str, Any], tokens: ProviderTokens | None) -> Proof:
        return replace(proof_of(self, claims, tokens=tokens), session=_session(self.issuer, claims))

    async def _described(self) -> Described:
        try:
            return await self._discovery.provider()
        except (FetchFailed, ValueError) as error:
            raise IssuerUnavailable from error

    async def _verified(
        self, id_token: str, clients: set[str], *, access_token: str | None
    ) -> Unverified:
        """Return the ID token, which is verified then (Core 1.0 section 3.1.3.7).

        Raises:
            TokenInvalid: it does not hold.
            IssuerUnavailable: its key is not known, and nobody can be asked.
        """
        token = read(id_token)
        self._rules.admit(token.header)
        _, key = await self._keys.find(token.header)
        try:
            check(token, key=key, rules=self._rules, now=time.time())
        except (TokenExpired, TokenNotActive, TokenWrongAudience) as error:
            raise TokenInvalid from error
        if "iat" not in token.claims or not _is_for(token.claims, clients):
            raise TokenInvalid
        if access_token is not None and not _hash_fits(token, access_token):
            raise TokenInvalid
        return token

    async def _completed(
        self, claims: dict[str, Any], url: str, access_token: str
    ) -> dict[str, Any]:
        """Add what the UserInfo endpoint says of the same person (Core 1.0 section 5.3.2)."""
        try:
            body = await ask(self.name, url, access_token, public_only=self._public_only)
            said = read_object(body)
        except (NotAnswered, ValueError):
            return claims
        if said.get("sub") != claims["sub"]:
            raise BadOAuthCallback
        return said | claims


def _session(issuer: str, claims: Mapping[str, Any]) -> ProviderSession:
    """Return which session at the provider a verified ID token is about."""
    name = claims.get("sid")
    return ProviderSession(
        issuer=issuer,
        subject=str(claims["sub"]),
        name=name if is_identifier(name) else None,
        issued_at=datetime.fromtimestamp(float(str(claims["iat"])), UTC),
    )


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of *verifier* (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def with_query(address: str, asked: Mapping[str, str]) -> str:
    """Return *address* with *asked* added to its query (RFC 6749 section 3.1)."""
    parts = urlsplit(address)
    query = "&".join(one for one in (parts.query, urlencode(asked)) if one)
    return parts._replace(query=query).geturl()


def _basic(client_id: str, secret: str) -> str:
    # RFC 6749 section 2.3.1: each is encoded as in a form before they are joined.
    both = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {b64encode(both.encode()).decode()}"


def _is_for(claims: Mapping[str, Any], clients: set[str]) -> bool:
    """Whether the token is for one of *clients*, and was given to it (sections 2 and 3.1.3.7)."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    party = claims.get("azp")
    if clients.isdisjoint(audiences):
        return False
    if party is not None and party not in clients:
        # Android apps get theirs as one client and for another; both are ours then.
        return False
    return len(audiences) == 1 or party is not None


_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


def _hash_fits(token: Unverified, access_token: str) -> bool:
    """Whether the ID token's `at_hash`, if it has one, is of *access_token* (section 3.1.3.6)."""
    said = token.claims.get("at_hash")
    if said is None:
        return True
    # RFC 8032: Ed25519 hashes with SHA-512.
    digest = _HASHES.get(token.header.alg[-3:], hashlib.sha512)(access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    return isinstance(said, str) and hmac.compare_digest(said.encode(), half.encode())
