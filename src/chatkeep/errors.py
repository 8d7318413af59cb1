"""Every failure Chatkeep foresees, as one tree.

`code` is stable API and has a heading in `docs/reference/errors.md`; `status` is the
plain HTTP number; `detail` may be shown to the caller and therefore never holds a
secret, another person's data or the text of a driver's error. Nothing here knows HTTP
beyond that number: `web/problems.py` words it.
"""

from __future__ import annotations

from typing import ClassVar


class ChatkeepError(Exception):
    """A failure we foresaw.

    *members* become further members of the error body; *retry_after_s* becomes the
    `Retry-After` header, in whole seconds.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    default_detail: ClassVar[str] = "Something went wrong on our side. Try again."

    def __init__(
        self, detail: str | None = None, *, retry_after_s: int | None = None, **members: object
    ) -> None:
        """Keep what the caller may see."""
        self.detail = detail or self.default_detail
        self.retry_after_s = retry_after_s
        self.members = members
        super().__init__(self.detail)


# --- who is calling ---------------------------------------------------------------------


class Unauthenticated(ChatkeepError):
    """No credential where one is needed."""

    code = "unauthenticated"
    status = 401
    default_detail = "Missing Authorization Bearer token"


class TokenInvalid(ChatkeepError):
    """The credential does not verify; the caller must not learn which check failed."""

    code = "token_invalid"
    status = 401
    default_detail = "Invalid or expired token"


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
    """The sign-in is too weak or too long ago for this; another one would do (RFC 9470)."""

    code = "step_up_required"
    status = 401
    default_detail = "Sign in again, or with a second factor, to do this."


class CrossSiteRequest(Forbidden):
    """A write with a cookie that another site sent, or nobody who says where they are."""

    code = "cross_site_request"
    default_detail = "This request came from another site, or does not say where it is from."


class InsecureTransport(ChatkeepError):
    """Plain HTTP on a route that carries a credential, in production."""

    code = "insecure_transport"
    status = 403
    default_detail = "Use https: this server refuses credentials over plain HTTP."


class Misdirected(ChatkeepError):
    """The request names a host that is not this server, in production."""

    code = "misdirected"
    status = 421
    default_detail = "This server has another name: the Host header must be that of PUBLIC_URL."


# --- what was asked for -----------------------------------------------------------------


class NotFound(ChatkeepError):
    """No such thing, or not yours: the two must look the same."""

    code = "not_found"
    status = 404
    default_detail = "Not found"


class NotYourConversation(NotFound):
    """The wording of `NotFound` that the REST conversation routes have promised."""

    code = "conversation_forbidden"
    status = 403
    default_detail = "Conversation does not belong to this user"


class Invalid(ChatkeepError):
    """Malformed input. `errors` in *members* lists `{"field", "message"}`, never values."""

    code = "validation_failed"
    status = 422
    default_detail = "The request is not valid."

    @classmethod
    def of(cls, field: str, message: str) -> Invalid:
        """Return the error for one field of the request."""
        return cls(f"{field}: {message}", errors=[{"field": field, "message": message}])


class BadRequest(ChatkeepError):
    """The request cannot be read at all."""

    code = "bad_request"
    status = 400
    default_detail = "The request could not be read."


class MethodNotAllowed(ChatkeepError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405
    default_detail = "This method is not allowed here."


class Conflict(ChatkeepError):
    """The request contradicts the present state."""

    code = "conflict"
    status = 409
    default_detail = "The request conflicts with the present state."


class RunInProgress(Conflict):
    """The conversation is being answered; `run_id` names the answer that is in the way."""

    code = "run_in_progress"
    default_detail = "This conversation is being answered. Wait for it or stop it first."

    def __init__(self, detail: str | None = None, *, run_id: str = "") -> None:
        """Keep which run it is, for the caller to see and for who wants to join it."""
        super().__init__(detail, run_id=run_id)
        self.run_id = run_id


class PreconditionFailed(ChatkeepError):
    """Somebody changed it since you read it."""

    code = "precondition_failed"
    status = 412
    default_detail = "It was changed since you read it. Read it again and retry."


class PayloadTooLarge(ChatkeepError):
    """The body is over the cap."""

    code = "payload_too_large"
    status = 413
    default_detail = "The request body is too large."


class UnsupportedMediaType(ChatkeepError):
    """The body is not JSON."""

    code = "unsupported_media_type"
    status = 415
    default_detail = "Send the body as application/json."


class HeadersTooLarge(ChatkeepError):
    """The request header is over the cap (RFC 6585 section 5)."""

    code = "headers_too_large"
    status = 431
    default_detail = "The request header is too large."


class RequestTimeout(ChatkeepError):
    """The request did not arrive in time (RFC 9110 section 15.5.9)."""

    code = "request_timeout"
    status = 408
    default_detail = "The request took too long to arrive."


class RateLimited(ChatkeepError):
    """Too many requests; `retry_after_s` says when the next one may come."""

    code = "rate_limited"
    status = 429
    default_detail = "Too many requests. Wait and try again."


# --- signing in with our own issuer -----------------------------------------------------
# These codes and statuses are Supabase Auth's: its clients know them.


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


class ClaimsRefused(ChatkeepError):
    """A session token cannot be made of these claims; names where, never what was there."""

    code = "claims_refused"
    status = 500
    default_detail = "The session token cannot be issued."


# --- what we depend on ------------------------------------------------------------------


class Unavailable(ChatkeepError):
    """Something we need is away for now; try again after `retry_after_s`."""

    code = "unavailable"
    status = 503
    default_detail = "The service is busy or restarting. Try again shortly."

    def __init__(
        self, detail: str | None = None, *, retry_after_s: int | None = 2, **members: object
    ) -> None:
        """Default to a short wait, because a 503 without one invites a stampede."""
        super().__init__(detail, retry_after_s=retry_after_s, **members)


class DatabaseUnavailable(Unavailable):
    """PostgreSQL cannot be reached, or gave no connection in time."""

    code = "database_unavailable"


class IssuerUnavailable(Unavailable):
    """A token names a key we do not have, and its issuer cannot be asked now."""

    code = "issuer_unavailable"


class ModelUnavailable(Unavailable):
    """The model's provider is down, overloaded or unreachable."""

    code = "model_unavailable"
    default_detail = "The model is not available right now. Try again shortly."


class ModelRateLimited(ModelUnavailable):
    """The model's provider limits us."""

    code = "model_rate_limited"
    status = 429
    default_detail = "The model's provider is limiting requests. Try again shortly."


class ModelTimeout(ModelUnavailable):
    """The model's provider did not answer, or stopped answering, in time."""

    code = "model_timeout"
    status = 504
    default_detail = "The model took too long to answer."


class ModelRefused(ChatkeepError):
    """The model's provider refused the request itself (moderation, context length, ...)."""

    code = "model_refused"
    status = 422
    default_detail = "The model refused this request."


class ModelMisconfigured(ChatkeepError):
    """The provider refuses our own key, credit or model name: never the caller's fault."""

    code = "model_misconfigured"
    status = 502
    default_detail = "The model is not set up correctly on this server."


class ModelBroken(ChatkeepError):
    """The provider's answer broke off or could not be understood."""

    code = "model_broken"
    status = 502
    default_detail = "The model's answer broke off."


class AnswerInterrupted(ChatkeepError):
    """The server that was answering went away; what was said so far is kept."""

    code = "answer_interrupted"
    status = 503
    default_detail = "The answer was interrupted. What was said so far is kept."


def error_named(code: str) -> ChatkeepError:
    """Return the error that was kept by its *code* alone."""
    kinds = [ChatkeepError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return next((kind for kind in kinds if kind.code == code), ChatkeepError)()


# --- how it was set up ------------------------------------------------------------------


class SetupError(ChatkeepError):
    """The server cannot start like this. *problems* has one clear sentence each."""

    code = "setup"

    def __init__(self, *problems: str) -> None:
        """Keep every problem, so that one start shows them all."""
        self.problems = problems
        super().__init__("; ".join(problems))
