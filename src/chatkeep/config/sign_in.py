"""Settings: how people prove who they are to our own issuer, beside a password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from chatkeep.config import values as read
from chatkeep.config.reading import setting

# A browser runs or opens these itself instead of handing them to an application.
_NO_APPLICATION: Final = frozenset(
    {"javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source"}
)
_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9.*_-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~*%/-]*)?")
_WEB: Final = frozenset({"http", "https"})


def redirect_urls(text: str) -> tuple[str, ...]:
    """Read a list of addresses, each with `*` or `**` where anything may stand."""
    for word in read.words(text):
        if not _PATTERN.fullmatch(word) or urlsplit(word).scheme in _NO_APPLICATION:
            raise read.Refused(
                "must list addresses like https://app.example.com/** or myapp://callback,"
                " with commas between, without user name, query or fragment"
            )
        parts = urlsplit(word)
        owned = (parts.hostname or "").split(".")[-2:]
        if parts.scheme in _WEB and any("*" in name for name in owned):
            raise read.Refused("must name the domain of each address: * stands only before it")
    return read.words(text)


@dataclass(frozen=True, kw_only=True)
class SignInSettings:
    """How people prove who they are to our own issuer, beside a password."""

    redirect_urls: tuple[str, ...] = setting("REDIRECT_URLS", redirect_urls, default=())
    mailer_autoconfirm: bool | None = setting("MAILER_AUTOCONFIRM", read.flag)
    one_time_token_life_s: int = setting("MAILER_OTP_EXPIRY", read.whole(60, 86_400), default=3600)
    mail_links_ask: bool = setting("MAIL_LINKS_ASK", read.flag, default=True)
    secure_email_change: bool = setting("SECURE_EMAIL_CHANGE", read.flag, default=True)
    reauthentication: bool = setting("PASSWORD_REAUTHENTICATION", read.flag, default=False)
    current_password: bool = setting("PASSWORD_CURRENT_REQUIRED", read.flag, default=False)
    anonymous_sign_in: bool = setting("ANONYMOUS_SIGN_IN", read.flag, default=False)


def sign_in_problems(settings: SignInSettings, *, mail_enabled: bool) -> list[str]:
    """What is wrong with these settings taken together with the rest."""
    needing = {
        "MAILER_AUTOCONFIRM=off": settings.mailer_autoconfirm is False,
        "PASSWORD_REAUTHENTICATION": settings.reauthentication,
    }
    return [
        f"{name} needs a way to send mail: set SMTP_URL."
        for name, asked in needing.items()
        if asked and not mail_enabled
    ]
