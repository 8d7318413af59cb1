"""What somebody who proved who they are is given, and who a token of ours turned out to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from uuid import UUID

    from chatkeep.accounts import User
    from chatkeep.sessions.records import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTokens:
    """Tokens of another provider, for its own API; we keep them no longer than a flow lasts."""

    access: str | None = field(default=None, repr=False)
    refresh: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Tokens for a session. *again*: the refresh token had been given before.

    *provider_tokens* are what another provider gave when the person signed in through it.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    expires_at: int
    user: User
    session_id: UUID
    counter: int
    again: bool = False
    provider_tokens: ProviderTokens | None = field(default=None, repr=False)
    bound_to: str | None = None

    @property
    def token_type(self) -> Literal["bearer", "DPoP"]:
        """How the access token is to be shown (RFC 9449 section 5)."""
        return "DPoP" if (self.bound_to or "").startswith("jkt:") else "bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A person, on one signed-in device.

    *aal* is what the token they showed is good for: less than the session's when it was
    issued before a second factor was verified.
    """

    user: User
    session: Session
    aal: str = "aal1"
