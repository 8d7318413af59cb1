"""What a provider's error means to us, and that none of its words reach our caller."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from chatkeep.errors import (
    ChatkeepError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.llm.failures import read_retry_after, understand

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, None, ModelRefused),
        (401, None, ModelMisconfigured),
        (401, {"type": "invalid_request_error", "code": None}, ModelMisconfigured),
        (401, {"type": "invalid_request_error", "code": "invalid_api_key"}, ModelMisconfigured),
        (
            402,
            {"code": 402, "metadata": {"limit_source": "openrouter_credits"}},
            ModelMisconfigured,
        ),
        (
            402,
            {"code": 402, "metadata": {"limit_source": "openrouter_in_flight_budget"}},
            ModelRateLimited,
        ),
        (403, {"metadata": {"error_type": "permission_denied"}}, ModelMisconfigured),
        (403, {"code": 403, "metadata": {"reasons": ["hate"], "flagged_input": "…"}}, ModelRefused),
        (403, {"metadata": {"error_type": "content_policy_violation"}}, ModelRefused),
        (404, {"code": "model_not_found"}, ModelMisconfigured),
        (405, None, ModelMisconfigured),
        (301, None, ModelMisconfigured),
        (307, None, ModelMisconfigured),
        (408, None, ModelTimeout),
        (409, None, ModelUnavailable),
        (413, None, ModelRefused),
        (422, None, ModelRefused),
        (422, {"metadata": {"error_type": "image_too_large"}}, ModelRefused),
        (429, None, ModelRateLimited),
        (429, {"code": "insufficient_quota"}, ModelMisconfigured),
        (451, None, ModelRefused),
        (500, None, ModelUnavailable),
        (500, {"metadata": {"error_type": "context_length_exceeded"}}, ModelRefused),
        (502, None, ModelUnavailable),
        (503, None, ModelUnavailable),
        (504, None, ModelTimeout),
        (524, None, ModelTimeout),
        (529, {"type": "overloaded_error"}, ModelUnavailable),
        (599, "boom", ModelUnavailable),
    ],
)
def test_every_status_has_its_meaning(
    status: int, error: object, expected: type[ChatkeepError]
) -> None:
    """The provider's stable words go before its status, and its 401 is never our caller's."""
    named = understand(error, status=status).as_error()
    assert type(named) is expected
    assert named.status not in {401, 402, 403}


@pytest.mark.parametrize("status", [*range(300, 600)])
def test_no_status_is_left_without_a_meaning(status: int) -> None:
    """Also those that no provider has thought of yet."""
    assert understand(None, status=status).meaning is not None


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        ({"code": "context_length_exceeded"}, "The conversation is too long for this model."),
        (
            {"metadata": {"error_type": "content_policy_violation"}},
            "The model's provider refused this content.",
        ),
        ({"code": 422}, "The model refused this request."),
    ],
)
def test_refusals_say_what_the_caller_can_change(error: dict[str, Any], detail: str) -> None:
    """In our words."""
    assert understand(error).as_error().detail == detail


def test_words_we_do_not_know_are_not_repeated() -> None:
    """A provider could put our key or somebody's text anywhere."""
    canary = "sk-canary-0123456789"
    error = {"message": canary, "type": canary, "code": canary, "metadata": {"error_type": canary}}
    failure = understand(error | {"metadata": {"error_type": canary, canary: canary}}, status=400)
    assert canary not in repr(failure) + repr(failure.as_error().__dict__)
    image = understand({"metadata": {"error_type": f"image_{canary}"}})
    assert image.meaning == "refused"
    assert canary not in repr(image)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        ("0", 1),
        ("1.2", 2),
        ("86400", 3600),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), None),
        ("Thu, 01 Jan 2026 00:00:05 -0000", 5),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: int | None) -> None:
    """Seconds or a date, at most an hour; nonsense is as good as nothing."""
    assert read_retry_after(header, now=NOW) == seconds


def test_retry_after_reaches_the_caller() -> None:
    """A limit says when to come back; without a time, soon."""
    assert understand(None, status=429, retry_after_s=7).as_error().retry_after_s == 7
    assert understand(None, status=429).as_error().retry_after_s == 2
    assert understand(None, status=500, retry_after_s=9).as_error().retry_after_s == 9
