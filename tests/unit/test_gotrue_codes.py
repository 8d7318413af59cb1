"""Every error code of `/auth/v1` is one that Supabase Auth has, with a status it has there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import chatkeep
from chatkeep import errors
from chatkeep.web.gotrue.errors import worded

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The codes of Supabase Auth 2.196 and the statuses that it gives them.
THEIRS: Final[dict[str, set[int]]] = {
    "unknown": set(),
    "unexpected_failure": {500},
    "validation_failed": {400, 404, 422},
    "bad_json": {400},
    "email_exists": {400, 422},
    "phone_exists": {422},
    "bad_jwt": {400, 403},
    "not_admin": {403},
    "no_authorization": {401, 403},
    "user_not_found": {403, 404, 422},
    "session_not_found": {400, 403},
    "session_expired": {400, 403},
    "refresh_token_not_found": {400},
    "refresh_token_already_used": {400},
    "flow_state_not_found": {400, 404, 422},
    "flow_state_expired": {422},
    "flow_state_already_used": {400},
    "oauth_client_state_not_found": {422},
    "oauth_client_state_expired": {422},
    "oauth_invalid_state": {400},
    "signup_disabled": {422},
    "user_banned": {400, 403},
    "provider_email_needs_verification": {422},
    "invite_not_found": {404},
    "bad_oauth_state": {400},
    "bad_oauth_callback": {400},
    "oauth_provider_not_supported": {400},
    "unexpected_audience": {403},
    "single_identity_not_deletable": {422},
    "email_conflict_identity_not_deletable": {422},
    "identity_already_exists": {422},
    "email_provider_disabled": {400, 422},
    "phone_provider_disabled": {400, 422},
    "too_many_enrolled_mfa_factors": {422},
    "mfa_factor_name_conflict": {422},
    "mfa_factor_not_found": {404, 422},
    "mfa_ip_address_mismatch": {422},
    "mfa_challenge_expired": {422},
    "mfa_verification_failed": {422},
    "mfa_verification_rejected": {403},
    "insufficient_aal": {401, 403, 422},
    "captcha_failed": {400},
    "saml_provider_disabled": {404},
    "manual_linking_disabled": {404},
    "sms_send_failed": {422},
    "email_not_confirmed": {400, 403, 422},
    "phone_not_confirmed": {400, 403, 422},
    "saml_relay_state_not_found": {404},
    "saml_relay_state_expired": {422},
    "saml_idp_not_found": {404},
    "saml_assertion_no_user_id": {400},
    "saml_assertion_no_email": {400},
    "user_already_exists": {422},
    "sso_provider_not_found": {404},
    "sso_provider_disabled": {404},
    "saml_metadata_fetch_failed": {400},
    "saml_idp_already_exists": {422},
    "sso_domain_already_exists": {400},
    "saml_entity_id_mismatch": {400},
    "conflict": {400, 409, 422},
    "provider_disabled": {400},
    "user_sso_managed": {422},
    "reauthentication_needed": {400},
    "same_password": {422},
    "reauthentication_not_valid": {422},
    "current_password_invalid": {400},
    "current_password_required": {400},
    "otp_expired": {403},
    "otp_disabled": {422},
    "identity_not_found": {422},
    "weak_password": {422},
    "over_request_rate_limit": {429},
    "over_email_send_rate_limit": {429},
    "over_sms_send_rate_limit": {429},
    "bad_code_verifier": {400},
    "anonymous_provider_disabled": {422},
    "hook_timeout": {422},
    "hook_timeout_after_retry": {422},
    "hook_payload_over_size_limit": {422},
    "hook_payload_invalid_content_type": {400},
    "request_timeout": {504},
    "mfa_phone_enroll_not_enabled": {422},
    "mfa_phone_verify_not_enabled": {422},
    "mfa_totp_enroll_not_enabled": {422},
    "mfa_totp_verify_not_enabled": {422},
    "mfa_webauthn_enroll_not_enabled": {422},
    "mfa_webauthn_verify_not_enabled": {422},
    "mfa_verified_factor_exists": {422},
    "invalid_credentials": {400},
    "email_address_not_authorized": {400},
    "email_address_invalid": {400},
    "web3_provider_disabled": {422},
    "web3_unsupported_chain": {400},
    "oauth_dynamic_client_registration_disabled": {403},
    "email_address_not_provided": set(),
    "feature_disabled": {404},
    "oauth_client_not_found": {400, 404},
    "oauth_authorization_not_found": {404},
    "oauth_consent_not_found": {404},
    "request_entity_too_large": {413},
    "custom_provider_not_found": {404},
    "over_custom_provider_quota": {400},
    "passkey_disabled": {404},
    "too_many_passkeys": {422},
    "webauthn_credential_not_found": set(),
    "webauthn_challenge_not_found": {400},
    "webauthn_challenge_expired": {400},
    "webauthn_verification_failed": {400},
    "webauthn_credential_exists": {422},
}
#: Codes of ours alone: of failures that Supabase Auth does not have, or leaves to its gateway.
OURS: Final[dict[str, int]] = {
    "access_token_hook_failed": 500,
    "access_token_hook_refused": 403,
    "bad_id_token": 400,  # answered in the shape of OAuth, which has no code
    "claims_refused": 500,
    "cross_site_request": 403,
    "database_unavailable": 503,
    "issuer_unavailable": 503,
    "method_not_allowed": 405,
    "mfa_recovery_codes_locked": 429,
    "mfa_recovery_codes_sole_factor": 422,
    "not_found": 404,
    "unavailable": 503,
    "unsupported_media_type": 415,
}
#: One code, one status; but these tell two callers of two routes apart, as Supabase Auth does.
TWICE: Final[dict[str, set[int]]] = {
    "user_not_found": {403, 404},  # of the bearer; of an administrator's path
    "no_authorization": {401, 403},  # nobody; an anonymous person
    "validation_failed": {400, 404},  # everything; an id in a path that cannot be one
}
SOURCES: Final = Path(chatkeep.__file__).parent
#: What only other surfaces answer, or nobody over HTTP.
ELSEWHERE: Final = {
    *(
        "answer_interrupted",
        "answer_not_interrupted",
        "answer_not_kept",
        "answer_refused",
        "api_key_not_accepted",
        "budget_exhausted",
        "check_failed",
        "client_gone",
        "link_ended",
        "conversation_forbidden",
        "file_storage_unavailable",
        "forbidden",
        "insufficient_scope",
        "message_refused",
        "not_waiting",
        "queue_full",
        "request_in_progress",
        "responder_broken",
        "retrieval_failed",
        "too_many_keys",
    ),
    *("headers_too_large", "idempotency_key_reused", "insecure_transport", "last_administrator"),
    *("misdirected", "model_broken", "model_misconfigured", "model_not_found"),
    *("model_rate_limited", "model_refused", "model_timeout", "model_unavailable"),
    *("precondition_failed", "refresh_token_refused", "request_timeout", "run_in_progress"),
    *("setup", "step_up_required"),
}


def _errors() -> Iterator[tuple[str, int]]:
    """Return code and status of each foreseen failure, as this surface words it."""
    kinds = [errors.ChatkeepError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("chatkeep.errors."):
            said = worded(kind())
            yield said.code, said.status


def _refusals() -> Iterator[tuple[str, int]]:
    """Return code and status of each refusal that is written out in the source."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal":
                said = [one.value for one in node.args if isinstance(one, ast.Constant)]
                if len(said) > 1 and isinstance(said[0], int):
                    yield str(said[1]), said[0]


def answered() -> dict[str, set[int]]:
    """Return every code that can be answered, with its statuses."""
    found: dict[str, set[int]] = {}
    for code, status in (*_errors(), *_refusals()):
        if code not in ELSEWHERE:
            found.setdefault(code, set()).add(status)
    return found


@pytest.mark.parametrize(("code", "statuses"), sorted(answered().items()))
def test_code_is_known_to_supabase_clients(code: str, statuses: set[int]) -> None:
    """It is one of theirs with one of their statuses, or one of the few that are ours."""
    if code in OURS:
        assert statuses == {OURS[code]}
    else:
        assert code in THEIRS
        assert statuses <= THEIRS[code] or not THEIRS[code]  # declared there, and never answered


@pytest.mark.parametrize(("code", "statuses"), sorted(answered().items()))
def test_code_has_one_status(code: str, statuses: set[int]) -> None:
    """Clients need not look at both; the exceptions are written down."""
    assert statuses == TWICE.get(code, statuses)
    assert len(statuses) == 1 or code in TWICE


def test_lists_name_nothing_that_is_gone() -> None:
    """Each code on the lists is still answered."""
    found = answered()
    assert set(OURS) | set(TWICE) <= set(found)
