"""What a provider is asked, and what it says: the words that its kinds have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from chatkeep.accounts import normal_address
from chatkeep.errors import EmailAddressInvalid
from chatkeep.issuers import shown_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chatkeep.issuance import ProviderTokens
    from chatkeep.issuers import RelyingParty
    from chatkeep.sessions.provider_sessions import ProviderSession

#: Where providers say what a person is called and looks like, and what Supabase calls that.
_SHOWN = {
    "name": ("name", "full_name"),
    "picture": ("picture", "avatar_url"),
    "preferred_username": ("preferred_username", "user_name"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A browser about to be sent to a provider.

    *state*, *nonce* and *verifier* are this flow's and nobody else's. *scopes* are asked for
    beside our own; *more* are further parameters, which cannot change what we ask.
    """

    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    scopes: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A browser that came back: with a *code*, and perhaps who it came from (RFC 9207).

    *user* is what Apple sends beside the code, the first time only, signed by nobody.
    """

    code: str = field(repr=False)
    issuer: str | None
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    user: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An ID token that an application showed: a hash of it, and when it stops being good."""

    token_hash: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Who somebody is, by a provider's word.

    *issuer* and *subject* together are the identity. *email* is in the one spelling that
    accounts have; *data* is what is kept of the rest, and shown to the person. *shown* is
    set if an application brought the proof. *session* is theirs at the provider, if it is one
    that can say later that it has ended.
    """

    provider: str
    title: str
    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    data: dict[str, Any]
    tokens: ProviderTokens | None = field(default=None, repr=False)
    shown: Shown | None = None
    session: ProviderSession | None = None


class Named(Protocol):
    """Somebody whose word is taken for who a person is, by name."""

    @property
    def name(self) -> str:
        """What it is called here."""

    @property
    def title(self) -> str:
        """What people are shown."""

    @property
    def issuer(self) -> str:
        """Its exact name."""


class Provider(Named, Protocol):
    """Somebody whose word is taken for who a person is."""

    @property
    def relying_party(self) -> RelyingParty | None:
        """As whom it may tell us of log-outs; None if it cannot."""

    async def authorization_url(self, sent: Sent) -> str:
        """Return where the browser goes.

        Raises:
            IssuerUnavailable: the provider cannot be asked where that is.
        """

    async def proof(self, returned: Returned) -> Proof:
        """Return who came back.

        Raises:
            BadOAuthCallback: what the provider says does not hold.
            IssuerUnavailable: it cannot be asked.
        """

    async def proof_of_id_token(
        self, id_token: str, *, nonce: str | None, access_token: str | None
    ) -> Proof:
        """Return who an ID token is about that an application was given.

        Raises:
            BadIdToken: it does not hold, or the provider has no such thing.
            IssuerUnavailable: its key is not known, and the provider cannot be asked.
        """

    async def close(self) -> None:
        """Let go of what is held."""


def proof_of(
    provider: Named, claims: Mapping[str, Any], *, tokens: ProviderTokens | None = None
) -> Proof:
    """Return what *claims* of *provider*, which were verified, prove."""
    subject = str(claims["sub"])
    email = _address(claims.get("email"))
    verified = email is not None and claims.get("email_verified") is True
    data: dict[str, Any] = {
        "iss": provider.issuer,
        "sub": subject,
        "provider_id": subject,
        "email_verified": verified,
        "phone_verified": False,
    }
    if email is not None:
        data["email"] = email
    for claim, names in _SHOWN.items():
        if (text := shown_text(claims.get(claim))) is not None:
            data |= dict.fromkeys(names, text)
    return Proof(
        provider=provider.name,
        title=provider.title,
        issuer=provider.issuer,
        subject=subject,
        email=email,
        email_verified=verified,
        data=data,
        tokens=tokens,
    )


def _address(value: object) -> str | None:
    """Return *value* as accounts keep addresses; what is none counts as absent."""
    if not isinstance(value, str):
        return None
    try:
        return normal_address(value)
    except EmailAddressInvalid:
        return None
