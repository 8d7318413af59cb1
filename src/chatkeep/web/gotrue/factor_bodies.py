"""What Supabase clients send about second factors and passkeys."""

from __future__ import annotations

from typing import Any

import msgspec


class EnrollBody(msgspec.Struct):
    """`POST /factors`."""

    factor_type: str | None = None
    friendly_name: str | None = None
    issuer: str | None = None
    phone: str | None = None


class VerifyFactorBody(msgspec.Struct):
    """`POST /factors/{factor_id}/verify`: a code, or what an authenticator signed."""

    challenge_id: str | None = None
    code: str | None = None
    webauthn: dict[str, Any] | None = None


class RecoveryCodesBody(msgspec.Struct):
    """`POST /factors/recovery-codes`."""

    friendly_name: str | None = None


class RecoveryCodeBody(msgspec.Struct):
    """`POST /factors/recovery-codes/verify`."""

    code: str | None = None


class PasskeyBody(msgspec.Struct):
    """`POST /passkeys/registration/verify` and `/passkeys/authentication/verify`."""

    challenge_id: str | None = None
    credential: dict[str, Any] | None = None


class PasskeyNameBody(msgspec.Struct):
    """`PATCH /passkeys/{passkey_id}`."""

    friendly_name: str | None = None
