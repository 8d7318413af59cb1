"""Failures of second factors and passkeys, named as Supabase Auth names them."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError


class InsufficientAal(ChatkeepError):
    """The account has a second factor, and this session was begun without it."""

    code = "insufficient_aal"
    status = 403
    default_detail = "This needs a session at AAL2: verify a second factor first."


class FactorNotFound(ChatkeepError):
    """No such factor or challenge, or not the caller's: the two must look the same."""

    code = "mfa_factor_not_found"
    status = 404
    default_detail = "Factor or challenge not found"


class FactorNameConflict(ChatkeepError):
    """The person has a factor of that name."""

    code = "mfa_factor_name_conflict"
    status = 422
    default_detail = "A factor with this friendly name already exists for this user."


class TooManyFactors(ChatkeepError):
    """The person has as many factors as one may have."""

    code = "too_many_enrolled_mfa_factors"
    status = 422
    default_detail = "Maximum number of factors reached, unenroll to continue"


class VerifiedFactorExists(ChatkeepError):
    """There is one set of recovery codes already: it can be replaced, not doubled."""

    code = "mfa_verified_factor_exists"
    status = 422
    default_detail = "Recovery codes exist already: regenerate them instead."


class FactorChallengeExpired(ChatkeepError):
    """The challenge is older than five minutes."""

    code = "mfa_challenge_expired"
    status = 422
    default_detail = "The challenge has expired, verify against another challenge."


class FactorAddressMismatch(ChatkeepError):
    """The challenge was made on another network: somebody may have handed it on."""

    code = "mfa_ip_address_mismatch"
    status = 422
    default_detail = "Challenge and verify must come from the same network."


class FactorVerificationFailed(ChatkeepError):
    """The code or the signature is wrong, or was used before: which one is not told."""

    code = "mfa_verification_failed"
    status = 422
    default_detail = "Invalid code or credential entered"


class RecoveryCodesLocked(ChatkeepError):
    """Too many wrong recovery codes in a row; try again after `retry_after_s`."""

    code = "mfa_recovery_codes_locked"
    status = 429
    default_detail = "Too many wrong recovery codes. Wait, or use another factor."


class RecoveryCodesSoleFactor(ChatkeepError):
    """Recovery codes stand in for another factor, and there is none."""

    code = "mfa_recovery_codes_sole_factor"
    status = 422
    default_detail = "Verify another factor before you make recovery codes."


class PasskeyNotFound(ChatkeepError):
    """No such passkey, or not the caller's: the two must look the same."""

    code = "webauthn_credential_not_found"
    status = 404
    default_detail = "Passkey not found"


class PasskeyChallengeNotFound(ChatkeepError):
    """The challenge was used, or never was."""

    code = "webauthn_challenge_not_found"
    status = 400
    default_detail = "Challenge not found, or used already"


class PasskeyChallengeExpired(ChatkeepError):
    """The challenge is older than five minutes."""

    code = "webauthn_challenge_expired"
    status = 400
    default_detail = "Challenge has expired"


class PasskeyVerificationFailed(ChatkeepError):
    """The passkey does not verify, or nobody has it: the two must look the same."""

    code = "webauthn_verification_failed"
    status = 400
    default_detail = "Passkey verification failed"


class PasskeyExists(ChatkeepError):
    """The authenticator has a passkey here already."""

    code = "webauthn_credential_exists"
    status = 422
    default_detail = "This passkey is registered already"


class TooManyPasskeys(ChatkeepError):
    """The person has as many passkeys as one may have."""

    code = "too_many_passkeys"
    status = 422
    default_detail = "Maximum number of passkeys reached, delete one to continue"
