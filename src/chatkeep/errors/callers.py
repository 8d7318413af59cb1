"""Who is calling, and may they: failures of credentials and rights."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError, Unavailable
from chatkeep.errors.requests import BadRequest


class Unauthenticated(ChatkeepError):
    """No credential where one is needed."""

    code = "unauthenticated"
    status = 401
    default_detail = "Missing Authorization Bearer token"

    @property
    def challenge(self) -> str:
        """Only of which kind a credential is (RFC 6750 section 3.1)."""
        return "Bearer"


class TokenInvalid(ChatkeepError):
    """The credential does not verify; the caller must not learn which check failed."""

    code = "token_invalid"
    status = 401
    default_detail = "Invalid or expired token"

    @property
    def challenge(self) -> str:
        """The same of all of them (RFC 6750 section 3.1)."""
        return 'Bearer error="invalid_token"'


class TokenExpired(TokenInvalid):
    """The signature verified, but the token is at or after its `exp` (both in seconds)."""

    code = "token_expired"

    def __init__(
        self,
        detail: str | None = None,
        *,
        expires_at: int | None = None,
        issued_at: int | None = None,
    ) -> None:
        """Keep its times for whoever asks; they are not part of the answer's body."""
        self.expires_at = expires_at
        self.issued_at = issued_at
        super().__init__(detail)


class TokenWithoutExpiry(TokenInvalid):
    """The signature verified, but the token would be good for ever."""

    code = "token_without_expiry"


class TokenNotActive(TokenInvalid):
    """The signature verified, but the token is before its `nbf`."""

    code = "token_not_active"


class TokenRevoked(TokenInvalid):
    """The signature verified, but the session or token was ended."""

    code = "token_revoked"


class AccountNotFound(TokenRevoked):
    """The token verified, but nobody has its address at the issuer (any more).

    With the words and the status that support chats have promised; elsewhere this is
    worded as the 401 of a revoked token.
    """

    code = "account_not_found"
    status = 404
    default_detail = "User not found with provided email"


class NoActiveSession(TokenRevoked):
    """The token verified, but its person has signed out everywhere, or is banned.

    As `AccountNotFound`, worded differently elsewhere.
    """

    code = "no_active_session"
    status = 404
    default_detail = "No active sessions found for user"


class TokenWrongAudience(TokenInvalid):
    """The signature verified, but the token is meant for somebody else."""

    code = "token_wrong_audience"


class CredentialsConflict(ChatkeepError):
    """More than one credential was sent and they do not name the same caller."""

    code = "credentials_conflict"
    status = 400
    default_detail = "Send exactly one credential with a request."


class Forbidden(ChatkeepError):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403
    default_detail = "You may not do this."


class StepUpRequired(ChatkeepError):
    """The sign-in is too weak or too long ago for this; another one would do (RFC 9470).

    Its members `acr_values` and `max_age` (seconds) say what would.
    """

    code = "step_up_required"
    status = 401
    default_detail = "Sign in again, with a second factor, to do this."

    def __init__(self, *, acr_values: str | None = None, max_age: int | None = None) -> None:
        """Ask for a level, for a sign-in of at most *max_age* seconds ago, or for both."""
        detail = None
        if max_age is None:
            detail = "Show your second factor to do this: verify it, and try again."
        elif acr_values is None:
            detail = "Sign in again to do this: you did so too long ago."
        super().__init__(detail)
        wanted = {"acr_values": acr_values, "max_age": max_age}
        self.members |= {name: value for name, value in wanted.items() if value is not None}

    @property
    def challenge(self) -> str:
        """What `WWW-Authenticate` says (RFC 9470 section 3)."""
        wanted = [
            f', {name}="{self.members[name]}"'
            for name in ("acr_values", "max_age")
            if name in self.members
        ]
        return 'Bearer error="insufficient_user_authentication"' + "".join(wanted)


class CrossSiteRequest(Forbidden):
    """A write with a cookie that another site sent, or nobody who says where they are."""

    code = "cross_site_request"
    default_detail = "This request came from another site, or does not say where it is from."


class ClaimsRefused(ChatkeepError):
    """A session token cannot be made of these claims; names where, never what was there."""

    code = "claims_refused"
    status = 500
    default_detail = "The session token cannot be issued."


class IssuerUnavailable(Unavailable):
    """A token names a key we do not have, and its issuer cannot be asked now."""

    code = "issuer_unavailable"


class LogoutTokenInvalid(BadRequest):
    """What says that somebody signed out elsewhere does not verify, or says too little."""

    code = "logout_token_invalid"
    default_detail = "The logout token is missing or does not verify."


class LogoutTokenUsed(BadRequest):
    """The logout token was taken before: what it was about has ended."""

    code = "logout_token_used"
    default_detail = "The logout token has been used already."


class RefreshTokenRefused(ChatkeepError):
    """Whoever issued a refresh token does not take it (any more): sign in again."""

    code = "refresh_token_refused"
    status = 401
    default_detail = "The refresh token is not good any more: sign in again."
