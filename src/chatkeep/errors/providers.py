"""Failures of signing in with other providers, and of linking them to an account."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError


class BadOAuthState(ChatkeepError):
    """The browser comes back from a provider for which nobody sent it away, or too late."""

    code = "bad_oauth_state"
    status = 400
    default_detail = "OAuth state not found or expired: begin the sign-in again"


class FlowStateAlreadyUsed(ChatkeepError):
    """The browser comes back from a provider a second time."""

    code = "flow_state_already_used"
    status = 400
    default_detail = "This sign-in has been completed already: begin again"


class BadOAuthCallback(ChatkeepError):
    """What the provider sent the browser back with does not hold. *error* is OAuth's word."""

    code = "bad_oauth_callback"
    status = 400
    default_detail = "The provider's answer could not be verified"

    def __init__(self, detail: str | None = None, *, error: str = "invalid_request") -> None:
        """Keep what RFC 6749 section 4.1.2.1 calls it."""
        self.error = error
        super().__init__(detail)


class BadIdToken(ChatkeepError):
    """An ID token does not verify, or is not meant for this server, or was shown before.

    *error* is the word for it that Supabase Auth has.
    """

    code = "bad_id_token"
    status = 400
    default_detail = "Bad ID token"

    def __init__(self, detail: str | None = None, *, error: str = "invalid request") -> None:
        """Keep the word."""
        self.error = error
        super().__init__(detail)


class ProviderEmailNeedsVerification(ChatkeepError):
    """The provider has not seen that the address is the person's."""

    code = "provider_email_needs_verification"
    status = 422
    default_detail = "Verify your email address with the provider, then sign in again"


class IdentityAlreadyExists(ChatkeepError):
    """The identity is linked already, to this account or to another one."""

    code = "identity_already_exists"
    status = 422
    default_detail = "Identity is already linked"


class IdentityNotFound(ChatkeepError):
    """The account has no such identity."""

    code = "identity_not_found"
    status = 422
    default_detail = "Identity doesn't exist"


class SingleIdentityNotDeletable(ChatkeepError):
    """Without its last identity nobody could sign in to the account."""

    code = "single_identity_not_deletable"
    status = 422
    default_detail = "User must have at least 1 identity after unlinking"


class EmailConflictIdentityNotDeletable(ChatkeepError):
    """The address that the account would then have is another account's."""

    code = "email_conflict_identity_not_deletable"
    status = 422
    default_detail = "Unable to unlink identity due to email conflict"


class ManualLinkingDisabled(ChatkeepError):
    """The operator lets nobody link providers to their account."""

    code = "manual_linking_disabled"
    status = 404
    default_detail = "Manual linking is disabled"
