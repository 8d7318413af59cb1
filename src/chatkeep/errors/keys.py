"""Personal API keys: what they may not do, and how many there may be."""

from __future__ import annotations

from chatkeep.errors.callers import Forbidden
from chatkeep.errors.requests import Conflict


class InsufficientScope(Forbidden):
    """A personal API key that was made for other things; `scope` names what it lacks."""

    code = "insufficient_scope"
    default_detail = "This API key was not made for that."

    @classmethod
    def of(cls, *scopes: str) -> InsufficientScope:
        """Return the error for a key that lacks *scopes*."""
        said = " and ".join(scopes)
        detail = f"This API key was not made for {said}: make one that has it."
        return cls(detail, scope=" ".join(scopes))

    @property
    def challenge(self) -> str:
        """What `WWW-Authenticate` says (RFC 6750 section 3.1)."""
        return f'Bearer error="insufficient_scope", scope="{self.members.get("scope", "")}"'


class ApiKeyNotAccepted(Forbidden):
    """A personal API key where only whoever is signed in may act."""

    code = "api_key_not_accepted"
    default_detail = "API keys are not accepted here: sign in instead."


class TooManyKeys(Conflict):
    """The person has as many API keys as one may have."""

    code = "too_many_keys"
    default_detail = "You have as many API keys as you may: revoke one first."
