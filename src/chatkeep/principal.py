"""Who a request speaks for, once its credential has been verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

CredentialKind = Literal["bearer", "cookie", "api_key", "development_header"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified caller.

    *user_id* is ours: unique over all issuers, and what row-level security compares.
    *subject* is what *issuer* (its configured name) calls the same person. *claims* is
    the verified token's whole claim set; nothing in it that a user can write (such as
    `user_metadata`) may grant a right: *roles* come from what only the issuer's operator
    writes. *authenticated_at* is when the person last proved who they are; a refreshed
    token does not change it.
    """

    user_id: str
    issuer: str
    subject: str
    credential: CredentialKind = "bearer"
    session_id: str | None = None
    token_id: str | None = None
    email: str | None = None
    email_verified: bool = False
    name: str | None = None
    picture: str | None = None
    role: str = "authenticated"
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    aal: str = "aal1"
    authenticated_at: datetime | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    claims: Mapping[str, object] = field(default_factory=dict)

    @property
    def all_roles(self) -> frozenset[str]:
        """What models and budgets may be given to: *roles*, and the *role* of the token."""
        return self.roles | {self.role}

    @property
    def owed_aal(self) -> str | None:
        """The level that their issuer wants of them before anything else; None: they are there.

        Chatkeep's own issuer says so (`next_aal`) of whoever has a second factor, or must have
        one, and has not shown it in this session.
        """
        wanted = self.claims.get("next_aal")
        return wanted if isinstance(wanted, str) and self.aal < wanted else None

    def expires_within(self, window: timedelta, *, now: datetime) -> bool:
        """Whether the credential ends before *window* has passed; never for one without end."""
        return self.expires_at is not None and self.expires_at - now <= window
