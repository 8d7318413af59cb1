"""Settings: second factors and passkeys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal

from chatkeep.config import values as read
from chatkeep.config.reading import setting

MfaRequired = Literal["none", "admins", "everybody"]

_DOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")


def mfa_required(text: str) -> MfaRequired:
    """Read of whom a second factor is required."""
    match text:
        case "none" | "admins" | "everybody":
            return text
        case _:
            raise read.Refused("must be none, admins or everybody")


def domain(text: str) -> str:
    """Read the name of a domain; authenticators take no addresses (WebAuthn section 5.1.2)."""
    if not _DOMAIN.fullmatch(text) or _is_address(text):
        raise read.Refused("must be a domain in lower case like example.com")
    return text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class FactorSettings:
    """Second factors and passkeys."""

    mfa_required: MfaRequired = setting("MFA_REQUIRED", mfa_required, default="none")
    passkeys: bool = setting("PASSKEYS", read.flag, default=True)
    webauthn_rp_id: str | None = setting("WEBAUTHN_RP_ID", domain)
    webauthn_origins: tuple[str, ...] = setting("WEBAUTHN_ORIGINS", read.origins, default=())
