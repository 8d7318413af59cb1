"""Settings: second factors and passkeys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from chatkeep.config import values as read
from chatkeep.config.reading import setting

if TYPE_CHECKING:
    from chatkeep.config.settings import Settings

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
    if not _DOMAIN.fullmatch(text) or is_address(text):
        raise read.Refused("must be a domain in lower case like example.com")
    return text


def is_address(text: str) -> bool:
    """Whether *text* is a network address and no domain."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def factor_problems(settings: Settings) -> list[str]:
    """What is wrong with the settings of keys, taken together."""
    own = urlsplit(settings.base_url).hostname or ""
    domain_of_keys = settings.webauthn_rp_id or own
    origins = settings.webauthn_origins
    problems = []
    if any(not _is_within(urlsplit(one).hostname or "", domain_of_keys) for one in origins):
        problems.append(
            f"WEBAUTHN_ORIGINS must be on {domain_of_keys}, the domain that keys belong to, or"
            " below it: see WEBAUTHN_RP_ID."
        )
    if settings.webauthn_rp_id and not origins and not _is_within(own, settings.webauthn_rp_id):
        problems.append(
            "WEBAUTHN_RP_ID needs WEBAUTHN_ORIGINS when PUBLIC_URL is not on that domain."
        )
    if settings.production and any(one.startswith("http:") for one in origins):
        problems.append("WEBAUTHN_ORIGINS must be https in production.")
    return problems


def _is_within(host: str, owner: str) -> bool:
    """Whether keys of *owner* work at *host* (a registrable suffix, WebAuthn section 5.1.3)."""
    # Pages of this machine may say any of its names; a key's domain there is localhost.
    return host == owner or host.endswith(f".{owner}") or {host, owner} <= read.THIS_MACHINE


@dataclass(frozen=True, kw_only=True)
class FactorSettings:
    """Second factors and passkeys."""

    mfa_required: MfaRequired = setting("MFA_REQUIRED", mfa_required, default="none")
    passkeys: bool = setting("PASSKEYS", read.flag, default=True)
    webauthn_rp_id: str | None = setting("WEBAUTHN_RP_ID", domain)
    webauthn_origins: tuple[str, ...] = setting("WEBAUTHN_ORIGINS", read.origins, default=())
