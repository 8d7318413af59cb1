"""An issuer: a name with everything that belongs to it, and nothing of anybody else's.

What its tokens look like, where its keys come from, and how its claims become a
`Principal`. No token is verified here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Protocol

from chatkeep.errors import TokenInvalid
from chatkeep.principal import Principal
from chatkeep.tokens import (
    HMAC_ALGORITHMS,
    LAST_MOMENT,
    Header,
    Key,
    KeySet,
    Rules,
    Unverified,
    is_identifier,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chatkeep.discovery import Discovery

Preset = Literal["supabase", "better-auth", "oidc", "embedded"]

#: What an issuer may be called. Its people's ids begin with this and a colon, unless it is
#: the primary one; whatever looks like that cannot be a primary id.
NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LOOKS_PREFIXED = re.compile(r"[a-z][a-z0-9-]{0,31}:")

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

    session_id: str | None = "session_id"
    name: tuple[tuple[str, ...], ...] = (("name",),)
    picture: tuple[tuple[str, ...], ...] = (("picture",),)
    roles: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where an issuer renews and revokes what it gave out, and as whom we ask there.

    None where it has no such thing. *discovery* knows the two addresses of an issuer that
    says them only itself.
    """

    refresh_url: str | None = None
    revoke_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    discovery: Discovery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Somebody who signs tokens, and everything that is theirs alone.

    *secret* serves HMAC algorithms only and *keys* the others only, so that nothing an
    issuer publishes can ever be taken for a secret. *is_access_token* has the last word on
    tokens that verified, for issuers who sign other kinds alike. Exactly one issuer is
    *primary*: the ids of its people stand bare.
    """

    name: str
    preset: Preset
    rules: Rules
    secret: KeySource | None = None
    keys: KeySource | None = None
    claim_names: ClaimNames = ClaimNames()
    is_access_token: Callable[[Unverified], bool] | None = None
    endpoints: Endpoints = Endpoints()
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
            TokenInvalid: it is no access token, or what names the session or the token is no
                text to go by.
        """
        if self.is_access_token is not None and not self.is_access_token(token):
            raise TokenInvalid
        claims, names = token.claims, self.claim_names
        subject = str(claims["sub"])
        session_id = _identifier(claims.get(names.session_id)) if names.session_id else None
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
            roles=_words(claims, names.roles),
            scopes=_words(claims, (("scope",),)),
            aal="aal2" if claims.get("aal") == "aal2" else "aal1",
            authenticated_at=_authenticated_at(claims),
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
    return shown_text(_value_at(claims, path))


def shown_text(value: object) -> str | None:
    """Return *value* if it is a text; what could not be stored or shown counts as absent."""
    if type(value) is str and 0 < len(value) <= _MAX_TEXT_LENGTH:
        return value if value.translate(_JOINERS).isprintable() else None
    return None


def _value_at(claims: Mapping[str, object], path: tuple[str, ...]) -> object:
    value: object = claims
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _words(claims: Mapping[str, object], places: tuple[tuple[str, ...], ...]) -> frozenset[str]:
    """Return the words at *places*: a text of words, or a list of them."""
    found: set[str] = set()
    for path in places:
        value = _value_at(claims, path)
        if isinstance(value, str):
            found.update(value.split())
        elif isinstance(value, list):
            found.update(word for word in value if isinstance(word, str) and word)
    return frozenset(found)


def _authenticated_at(claims: Mapping[str, object]) -> datetime | None:
    """When the person proved who they are: `auth_time`, or the newest proof in `amr`."""
    methods = claims.get("amr")
    proofs = [
        one["timestamp"]
        for one in (methods if isinstance(methods, list) else ())
        if isinstance(one, dict)
        and type(one.get("timestamp")) is int
        and one.get("method") != "token_refresh"
    ]
    newest = claims.get("auth_time", max(proofs, default=None))
    return _moment(newest) if type(newest) is int and 0 <= newest <= LAST_MOMENT else None


def _moment(seconds: object) -> datetime | None:
    if isinstance(seconds, int | float):
        return datetime.fromtimestamp(seconds, UTC)
    return None
