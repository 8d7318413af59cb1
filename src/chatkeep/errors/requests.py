"""What is wrong with a request, whoever sends it."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError, Unavailable


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


class NotFound(ChatkeepError):
    """No such thing, or not yours: the two must look the same."""

    code = "not_found"
    status = 404
    default_detail = "Not found"


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


class FileStorageUnavailable(Unavailable):
    """Where the bytes of files are kept is away, or refuses us."""

    code = "file_storage_unavailable"
    default_detail = "Files cannot be read or stored right now. Try again shortly."


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


class ClientGone(ChatkeepError):
    """The client hung up before its answer was there; what was begun for it was stopped.

    Nobody reads this answer; its status is the one that proxies log for it.
    """

    code = "client_gone"
    status = 499
    default_detail = "The client closed the connection."


class RateLimited(ChatkeepError):
    """Too many requests; `retry_after_s` says when the next one may come."""

    code = "rate_limited"
    status = 429
    default_detail = "Too many requests. Wait and try again."


class TooManyMails(RateLimited):
    """Enough mails were sent to this address for now."""

    code = "over_email_send_rate_limit"
    default_detail = "Enough mails were sent to this address. Wait before asking for another."
