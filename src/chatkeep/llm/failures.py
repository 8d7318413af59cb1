"""What a provider's error means to us.

Reads the status and the error object of an OpenAI-compatible provider (OpenRouter's
`metadata.error_type` first, because it is their stable field) and names one error of
`chatkeep.errors`. The provider's own text goes nowhere: it may hold our key, our address
or somebody's words. Its 401 and 402 are about our key, never about our caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)

Meaning = Literal[
    "too_long", "moderated", "refused", "misconfigured", "limited", "timeout", "unavailable"
]

_MAX_RETRY_AFTER_S = 3600

#: The words of OpenRouter (`metadata.error_type`) and OpenAI (`code`, `type`) that say
#: more than the status does.
_WORDS: dict[str, Meaning] = {
    "context_length_exceeded": "too_long",
    "max_tokens_exceeded": "too_long",
    "token_limit_exceeded": "too_long",
    "string_too_long": "too_long",
    "string_above_max_length": "too_long",
    "payload_too_large": "too_long",
    "content_policy_violation": "moderated",
    "content_filter": "moderated",
    "moderation_blocked": "moderated",
    "refusal": "moderated",
    "invalid_request": "refused",
    "invalid_prompt": "refused",
    "unprocessable": "refused",
    "precondition_failed": "refused",
    "authentication": "misconfigured",
    "authentication_error": "misconfigured",
    "invalid_api_key": "misconfigured",
    "permission_denied": "misconfigured",
    "permission_error": "misconfigured",
    "payment_required": "misconfigured",
    "insufficient_quota": "misconfigured",
    "billing_hard_limit_reached": "misconfigured",
    "not_found": "misconfigured",
    "model_not_found": "misconfigured",
    "rate_limit_exceeded": "limited",
    "rate_limit_error": "limited",
    "provider_overloaded": "unavailable",
    "overloaded_error": "unavailable",
    "provider_unavailable": "unavailable",
    "timeout": "timeout",
}

#: The words that only count when there is no telling status: OpenAI says
#: `invalid_request_error` for a missing key too.
_VAGUE_WORDS: dict[str, Meaning] = {
    "invalid_request_error": "refused",
    "server": "unavailable",
    "server_error": "unavailable",
    "internal_server_error": "unavailable",
    "api_error": "unavailable",
}

_STATUSES: dict[int, Meaning] = {
    400: "refused",
    408: "timeout",
    409: "unavailable",
    413: "too_long",
    422: "refused",
    425: "unavailable",
    429: "limited",
    451: "moderated",
    504: "timeout",
    524: "timeout",
}

_DETAILS: dict[Meaning, str] = {
    "too_long": "The conversation is too long for this model.",
    "moderated": "The model's provider refused this content.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A provider's error, understood. *word* is theirs and safe to log: we know it."""

    meaning: Meaning | None
    status: int | None
    word: str | None
    retry_after_s: int | None = None

    def as_error(self) -> ChatkeepError:
        """Name it for the caller, as the answer to a request that was not accepted."""
        if self.meaning in {"too_long", "moderated", "refused"}:
            return ModelRefused(_DETAILS.get(self.meaning))
        if self.meaning == "misconfigured":
            return ModelMisconfigured()
        if self.meaning is None:
            return ModelBroken()
        kinds = {"limited": ModelRateLimited, "timeout": ModelTimeout}
        return kinds.get(self.meaning, ModelUnavailable)(retry_after_s=self.retry_after_s or 2)

    def as_error_in_stream(self) -> ChatkeepError:
        """Name it for the caller, when it came inside an accepted answer.

        A provider that fails after its 200 has broken its answer off; only what the caller
        can act on keeps its own name.
        """
        return ModelBroken() if self.meaning == "unavailable" else self.as_error()


def understand(
    error: object, *, status: int | None = None, retry_after_s: int | None = None
) -> Failure:
    """Say what *error* means: the provider's error object, or None, text or nonsense.

    Without *status* (inside a stream) a numeric `code` counts as the status.
    """
    fields: dict[str, Any] = error if isinstance(error, dict) else {}
    metadata: dict[str, Any] = _dict(fields.get("metadata"))
    status = status if status is not None else _as_status(fields.get("code"))
    said = [metadata.get("error_type"), fields.get("code"), fields.get("type")]
    words = [word.lower() for word in said if isinstance(word, str)]
    telling = next((word for word in words if word in _WORDS or word.startswith("image_")), None)
    vague = next((word for word in words if word in _VAGUE_WORDS), None)
    return Failure(
        meaning=_meaning(telling, vague, status, metadata),
        status=status,
        word=telling if telling in _WORDS else vague,
        retry_after_s=retry_after_s,
    )


def _meaning(
    telling: str | None, vague: str | None, status: int | None, metadata: dict[str, Any]
) -> Meaning | None:
    # Their own brake on what is under way, not an empty account: it passes by itself.
    if metadata.get("limit_source") == "openrouter_in_flight_budget":
        return "limited"
    if telling is not None:
        return _WORDS.get(telling, "refused")
    if status == 403 and ("reasons" in metadata or "flagged_input" in metadata):  # noqa: PLR2004 -- "forbidden"; a name would say less
        return "moderated"
    by_status = _by_status(status) if status is not None else None
    return by_status or (_VAGUE_WORDS[vague] if vague else None)


def _by_status(status: int) -> Meaning | None:
    """Redirects count as misconfigured: we follow none, and the address must be mended."""
    if status in _STATUSES:
        return _STATUSES[status]
    if 300 <= status < 500:  # noqa: PLR2004 -- redirects and refusals, as HTTP numbers them
        return "misconfigured"
    return "unavailable" if 500 <= status < 600 else None  # noqa: PLR2004 -- the provider's own failures


def _as_status(code: object) -> int | None:
    """Read an error status out of a `code` that may be 429, "429" or a word."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == len("429"):
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else None  # noqa: PLR2004 -- the range of HTTP errors


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def read_retry_after(header: str | None, *, now: datetime | None = None) -> int | None:
    """Read `Retry-After`, seconds or a date (RFC 9110 section 10.2.3), at most an hour."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = _seconds_until(header, now or datetime.now(UTC))
    if not 0 <= seconds < math.inf:
        return None
    return max(1, min(_MAX_RETRY_AFTER_S, math.ceil(seconds)))


def _seconds_until(header: str, now: datetime) -> float:
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return -1
    # "-0000" makes it naive; RFC 9110 dates are always UTC.
    return (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds()
