"""Failures of the flows that go through a mailbox or another page: codes, links, PKCE."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError


class OtpExpired(ChatkeepError):
    """The link or code is wrong, used, too old, or not for this: all must look the same."""

    code = "otp_expired"
    status = 403
    default_detail = "Token has expired or is invalid"


class EmailNotConfirmed(ChatkeepError):
    """The password is right, and nobody has shown yet that the mailbox is theirs."""

    code = "email_not_confirmed"
    status = 400
    default_detail = "Email not confirmed"


class ReauthenticationNeeded(ChatkeepError):
    """The sign-in is too long ago for this change: a code from a mail is asked for."""

    code = "reauthentication_needed"
    status = 400
    default_detail = "Password update requires reauthentication"


class ReauthenticationNotValid(ChatkeepError):
    """The nonce is not the one that was mailed, or not any more."""

    code = "reauthentication_not_valid"
    status = 422
    default_detail = "Nonce has expired or is invalid"


class CurrentPasswordRequired(ChatkeepError):
    """A new password needs the old one beside it."""

    code = "current_password_required"
    status = 400
    default_detail = "Current password required when setting new password."


class CurrentPasswordInvalid(ChatkeepError):
    """The old password beside the new one is wrong."""

    code = "current_password_invalid"
    status = 400
    default_detail = "The current password is wrong."


class FlowStateNotFound(ChatkeepError):
    """There is no such authorization code, or it has been used."""

    code = "flow_state_not_found"
    status = 404
    default_detail = "invalid flow state, no valid flow state found"


class FlowStateExpired(ChatkeepError):
    """The authorization code is too old."""

    code = "flow_state_expired"
    status = 422
    default_detail = "invalid flow state, flow state has expired"


class BadCodeVerifier(ChatkeepError):
    """The verifier is not that of whoever began the flow (RFC 7636 section 4.6)."""

    code = "bad_code_verifier"
    status = 400
    default_detail = "code challenge does not match previously saved code verifier"
