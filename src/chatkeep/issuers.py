"""The table of issuers: whose token is it, and who does it speak for.

An `Issuer` is a name with everything that belongs to it: what its tokens look like, its
keys, and how its claims become a `Principal`. Keys never cross issuers. Revocation is
somebody else's: a principal returned here is verified, not yet admitted.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Protocol

from chatkeep.config import PUBLISHED_SECRETS
from chatkeep.errors import SetupError, TokenInvalid
from chatkeep.jwks import JwksClient
from chatkeep.principal import Principal
from chatkeep.tokens import (
    HMAC_ALGORITHMS,
    Header,
    Key,
    KeySet,
    Rules,
    Unverified,
    check,
    is_identifier,
    read,
    token_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Preset = Literal["supabase", "embedded"]

#: What an issuer may be called. Its people's ids begin with this and a colon, unless it is
#: the primary one; whatever looks like that cannot be a primary id.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LOOKS_PREFIXED = re.compile(r"[a-z][a-z0-9-]{0,31}:")

#: Roles of API keys and servers in Supabase Auth. Never a person, however well signed.
_GOTRUE_SYSTEM_ROLES: Final = frozenset({"anon", "service_role", "supabase_admin"})
_SUPABASE_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "Ed25519")
_FOREIGN_CLOCK_LEEWAY_S: Final = 5
_MAX_VERIFIED: Final = 8192
_MIN_SECRET_BYTES: Final = 32
_MIN_DISTINCT_CHARACTERS: Final = 8
_MAX_TEXT_LENGTH: Final = 1024
#: Invisible, but part of how names and emoji are spelled.
_JOINERS: Final = {0x200C: None, 0x200D: None}


class KeySource(Protocol):
    """Where an issuer's public keys come from."""

    def current(self) -> KeySet | None:
        """Return the keys to verify with now; None means that `find` has to wait."""

    async def find(self, header: Header) -> tuple[KeySet, Key]:
        """Return the key for *header* and the set it is in.

        Raises:
            TokenInvalid: there is no such key.
            IssuerUnavailable: nobody could be asked.
        """

    async def close(self) -> None:
        """Let go of what is held."""


class StaticKeys:
    """Keys we were given, and may be given anew at any time."""

    def __init__(self, keys: KeySet) -> None:
        """Start with *keys*."""
        self._keys = keys

    def replace(self, keys: KeySet) -> None:
        """Use *keys* from now on; what was verified with the others is verified again."""
        self._keys = keys

    def current(self) -> KeySet:
        """Return the keys."""
        return self._keys

    async def find(self, header: Header) -> tuple[KeySet, Key]:
        """Return the key for *header*; there is nobody else to ask."""
        key = self._keys.find(header)
        if key is None:
            raise TokenInvalid
        return self._keys, key

    async def close(self) -> None:
        """Hold nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Where an issuer's claims say what a `Principal` tells.

    Each is a list of places, the first that holds a text wins; a place is the path to it,
    one member name a step (a dot in a claim's name is just a dot).
    """

    session_id: str = "session_id"
    name: tuple[tuple[str, ...], ...] = (("name",),)
    picture: tuple[tuple[str, ...], ...] = (("picture",),)


_GOTRUE_CLAIMS: Final = ClaimNames(
    name=(("user_metadata", "full_name"), ("user_metadata", "name")),
    picture=(("user_metadata", "avatar_url"), ("user_metadata", "picture")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Somebody who signs tokens, and everything that is theirs alone.

    *secret* serves HMAC algorithms only and *keys* the others only, so that nothing an
    issuer publishes can ever be taken for a secret. Exactly one issuer is *primary*: the
    ids of its people stand bare.
    """

    name: str
    preset: Preset
    rules: Rules
    secret: StaticKeys | None = None
    keys: KeySource | None = None
    claim_names: ClaimNames = ClaimNames()
    primary: bool = False

    def source_for(self, header: Header) -> KeySource:
        """Return where the key for *header* is to be found.

        Raises:
            TokenInvalid: this issuer signs nothing like that.
        """
        self.rules.admit(header)
        source = self.secret if header.alg in HMAC_ALGORITHMS else self.keys
        if source is None:
            raise TokenInvalid
        return source

    def user_id(self, subject: str) -> str:
        """Return our id for the person this issuer calls *subject*.

        Raises:
            TokenInvalid: a bare *subject* looks like the id of somebody at another
                issuer, now or after the next change of the configuration.
        """
        if not self.primary:
            return f"{self.name}:{subject}"
        if _LOOKS_PREFIXED.match(subject):
            raise TokenInvalid
        return subject

    def principal(self, token: Unverified) -> Principal:
        """Return who *token*, which has been verified, speaks for.

        Raises:
            TokenInvalid: what names the session or the token is no text to go by.
        """
        claims, names = token.claims, self.claim_names
        subject = str(claims["sub"])
        session_id = _identifier(claims.get(names.session_id))
        token_id = _identifier(claims.get("jti"))
        if session_id is None and token_id is None:
            # Something to revoke it by. Not of the signature: ES256 has two for each.
            token_id = hashlib.sha256(token.signing_input).hexdigest()
        return Principal(
            user_id=self.user_id(subject),
            issuer=self.name,
            subject=subject,
            session_id=session_id,
            token_id=token_id,
            email=_text_at(claims, ("email",)),
            email_verified=claims.get("email_verified") is True,
            name=_first_text(claims, names.name),
            picture=_first_text(claims, names.picture),
            aal="aal2" if claims.get("aal") == "aal2" else "aal1",
            issued_at=_moment(claims.get("iat")),
            expires_at=_moment(claims["exp"]),
            claims=MappingProxyType(claims),
        )


def _identifier(value: object) -> str | None:
    if value is None or is_identifier(value):
        return value  # type: ignore[return-value]  # a str, as is_identifier says
    raise TokenInvalid


def _first_text(claims: Mapping[str, object], places: tuple[tuple[str, ...], ...]) -> str | None:
    return next((text for place in places if (text := _text_at(claims, place))), None)


def _text_at(claims: Mapping[str, object], path: tuple[str, ...]) -> str | None:
    """Return the text at *path*; what could not be stored or shown counts as absent."""
    value: object = claims
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    if type(value) is str and 0 < len(value) <= _MAX_TEXT_LENGTH:
        return value if value.translate(_JOINERS).isprintable() else None
    return None


def _moment(seconds: object) -> datetime | None:
    if isinstance(seconds, int | float):
        return datetime.fromtimestamp(seconds, UTC)
    return None


@dataclass(frozen=True, slots=True)
class _Verified:
    """A verdict, and what has to be so still for it to stand."""

    principal: Principal
    until: float
    source: KeySource
    keys: KeySet


class Issuers:
    """All issuers whose tokens are taken here.

    Raises:
        SetupError: two of them could not be told apart.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        clock: Callable[[], float] = time.time,
        max_verified: int = _MAX_VERIFIED,
    ) -> None:
        """Index *issuers*; nothing is fetched yet."""
        self._issuers = tuple(issuers)
        if problems := _problems(self._issuers):
            raise SetupError(*problems)
        self._by_iss = {one.rules.iss: one for one in self._issuers}
        self._clock = clock
        self._max_verified = max_verified
        self._verified: dict[bytes, _Verified] = {}

    def __iter__(self) -> Iterator[Issuer]:
        """Go through the issuers in the order they were given."""
        return iter(self._issuers)

    async def authenticate(self, token: str) -> Principal:
        """Return who *token* speaks for. Whether that was revoked is not looked at.

        Raises:
            TokenInvalid, TokenExpired, TokenNotActive, TokenWrongAudience: as `tokens.verify`.
            IssuerUnavailable: it names a key that we cannot ask its issuer for now.
        """
        # The whole text is the key: tokens that begin alike are common.
        digest = hashlib.sha256(token_bytes(token)).digest()
        seen = self._verified.get(digest)
        if seen and seen.source.current() is seen.keys and self._clock() < seen.until:
            return seen.principal
        self._verified.pop(digest, None)
        if "." not in token:
            # An opaque token, which only an issuer with a look-up could know. None has.
            raise TokenInvalid
        verified = await self._verify(read(token))
        self._remember(digest, verified)
        return verified.principal

    async def close(self) -> None:
        """Stop whatever the issuers do in the background."""
        for issuer in self._issuers:
            if issuer.keys is not None:
                await issuer.keys.close()

    async def _verify(self, token: Unverified) -> _Verified:
        issuer = self._issuer_of(token.claims)
        source = issuer.source_for(token.header)
        keys = source.current()
        key = None if keys is None else keys.find(token.header)
        if keys is None or key is None:
            keys, key = await source.find(token.header)
        until = check(token, key=key, rules=issuer.rules, now=self._clock())
        return _Verified(issuer.principal(token), until, source, keys)

    def _issuer_of(self, claims: dict[str, object]) -> Issuer:
        """Choose by what the token claims; only that issuer's keys are then tried."""
        iss = claims.get("iss")
        if not isinstance(iss, str | None) or (iss is None and "iss" in claims):
            raise TokenInvalid
        issuer = self._by_iss.get(iss) or self._by_iss.get(None)
        if issuer is None:
            raise TokenInvalid
        return issuer

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        if len(self._verified) >= self._max_verified:
            del self._verified[next(iter(self._verified))]  # the oldest
        self._verified[digest] = verified


def _problems(issuers: tuple[Issuer, ...]) -> list[str]:
    names = [one.name for one in issuers]
    addresses = [one.rules.iss for one in issuers]
    found = [f"{name!r} cannot be an issuer's name." for name in names if not _NAME.fullmatch(name)]
    if len(set(names)) != len(names):
        found.append("Two issuers have the same name.")
    if len(set(addresses)) != len(addresses):
        found.append("Two issuers have the same iss, or two have none: set their addresses.")
    if sum(one.primary for one in issuers) > 1:
        found.append("Only one issuer can be the primary one.")
    return found


def supabase_issuer(
    *,
    project_url: str | None,
    jwt_secret: str | None,
    audience: str = "authenticated",
    production: bool,
    primary: bool = False,
) -> Issuer:
    """Return the issuer that a Supabase project is.

    The shared secret and the project's published keys work side by side, as they must
    while a project moves from one to the other. Without *project_url* its `iss` is not
    known: it is then whoever is none of the other issuers.

    Raises:
        SetupError: neither is given, or one of them cannot be used.
    """
    base = project_url and f"{project_url.rstrip('/')}/auth/v1"
    if problems := _supabase_problems(base, jwt_secret, production=production):
        raise SetupError(*problems)
    return Issuer(
        name="supabase",
        preset="supabase",
        rules=Rules(
            iss=base,
            audiences=frozenset({audience}),
            algorithms=frozenset({*_SUPABASE_ALGORITHMS, "HS256"}),
            refused_roles=_GOTRUE_SYSTEM_ROLES,
            leeway_s=_FOREIGN_CLOCK_LEEWAY_S,
        ),
        secret=None if jwt_secret is None else StaticKeys(KeySet.of_secret(jwt_secret.encode())),
        keys=None if base is None else _gotrue_keys(base, public_only=production),
        claim_names=_GOTRUE_CLAIMS,
        primary=primary,
    )


def _supabase_problems(base: str | None, jwt_secret: str | None, *, production: bool) -> list[str]:
    if base is None and jwt_secret is None:
        return ["A Supabase issuer needs SUPABASE_PROJECT_URL, SUPABASE_JWT_SECRET or both."]
    found = []
    if base and production and not base.startswith("https://"):
        found.append("SUPABASE_PROJECT_URL must be https in production.")
    if jwt_secret is not None:
        weak = check_shared_secret(jwt_secret, production=production)
        found += [f"SUPABASE_JWT_SECRET: {problem}" for problem in weak]
    return found


def _gotrue_keys(base: str, *, public_only: bool) -> JwksClient:
    address = f"{base}/.well-known/jwks.json"
    return JwksClient(address, algorithms=_SUPABASE_ALGORITHMS, public_only=public_only)


def embedded_issuer(
    *, base_url: str, keys: StaticKeys, audience: str = "authenticated", primary: bool = False
) -> Issuer:
    """Return the issuer that this server is itself; *keys* are its public ES256 keys.

    No leeway: the clock that signs is the clock that checks.
    """
    return Issuer(
        name="embedded",
        preset="embedded",
        rules=Rules(
            iss=f"{base_url.rstrip('/')}/auth/v1",
            audiences=frozenset({audience}),
            algorithms=frozenset({"ES256"}),
            types=frozenset({"jwt"}),
            refused_roles=_GOTRUE_SYSTEM_ROLES,
        ),
        keys=keys,
        claim_names=_GOTRUE_CLAIMS,
        primary=primary,
    )


def check_shared_secret(secret: str, *, production: bool) -> list[str]:
    """Return what is wrong with *secret*, a sentence each, never quoting it."""
    problems = []
    if len(secret.encode()) < _MIN_SECRET_BYTES:
        problems.append(f"The shared secret must have at least {_MIN_SECRET_BYTES} bytes.")
    if secret != secret.strip():
        problems.append("The shared secret must not begin or end with white space.")
    if len(set(secret)) < _MIN_DISTINCT_CHARACTERS:
        problems.append("The shared secret repeats a few characters: anybody can guess it.")
    if production and secret in PUBLISHED_SECRETS:
        problems.append("The shared secret is a published default: anybody can sign with it.")
    return problems
