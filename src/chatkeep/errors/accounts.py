"""Failures of our own issuer: accounts, passwords, sessions, refresh tokens."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError


class InvalidCredentials(ChatkeepError):
    """Wrong password, or nobody has that address: the two must look the same."""

    code = "invalid_credentials"
    status = 400
    default_detail = "Invalid login credentials"


class SignUpDisabled(ChatkeepError):
    """The operator lets nobody make an account."""

    code = "signup_disabled"
    status = 422
    default_detail = "Signups not allowed for this instance"


class UserAlreadyExists(ChatkeepError):
    """Sign-up with an address that has an account."""

    code = "user_already_exists"
    status = 422
    default_detail = "User already registered"


class EmailExists(ChatkeepError):
    """A change to an address that is another account's."""

    code = "email_exists"
    status = 422
    default_detail = "A user with this email address has already been registered"


class EmailAddressInvalid(ChatkeepError):
    """The address cannot be one."""

    code = "email_address_invalid"
    status = 400
    default_detail = "Unable to validate email address: invalid format"


class WeakPassword(ChatkeepError):
    """The password is too easy; `weak_password` in *members* lists the reasons."""

    code = "weak_password"
    status = 422
    default_detail = "Password is too weak."


class SamePassword(ChatkeepError):
    """The new password is the old one."""

    code = "same_password"
    status = 422
    default_detail = "New password should be different from the old password."


class UserBanned(ChatkeepError):
    """The account is suspended."""

    code = "user_banned"
    status = 400
    default_detail = "User is banned"


class UserNotFound(ChatkeepError):
    """The token is sound, but its user is gone."""

    code = "user_not_found"
    status = 403
    default_detail = "User from sub claim in JWT does not exist"


class SessionNotFound(ChatkeepError):
    """The token is sound, but its session has ended."""

    code = "session_not_found"
    status = 403
    default_detail = "Session from session_id claim in JWT does not exist"


class SessionExpired(ChatkeepError):
    """The session was unused for too long, or is too old: sign in again."""

    code = "session_expired"
    status = 400
    default_detail = "Invalid Refresh Token: Session Expired"


class RefreshTokenNotFound(ChatkeepError):
    """No live session has this refresh token."""

    code = "refresh_token_not_found"
    status = 400
    default_detail = "Invalid Refresh Token: Refresh Token Not Found"


class RefreshTokenReused(ChatkeepError):
    """An old refresh token came back: the session is ended (RFC 9700 section 4.14.2)."""

    code = "refresh_token_already_used"
    status = 400
    default_detail = "Invalid Refresh Token: Already Used"


class LastAdministrator(ChatkeepError):
    """Nobody else could administer if this were done."""

    code = "last_administrator"
    status = 409
    default_detail = "Nobody else is an administrator. Make somebody else one first."
