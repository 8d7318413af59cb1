"""Settings: the mail that people are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chatkeep.config import values as read
from chatkeep.config.reading import setting

if TYPE_CHECKING:
    from pathlib import Path

    from chatkeep.config.values import Secret


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """The mail that people are sent."""

    smtp_url: Secret | None = setting("SMTP_URL", read.smtp_url)
    smtp_tls: bool = setting("SMTP_TLS", read.flag, default=True)
    smtp_timeout_s: float = setting("SMTP_TIMEOUT", read.number(1, 40), default=15.0)
    mail_from: str | None = setting("MAIL_FROM", read.mail_address)
    mail_name: str = setting("MAIL_NAME", read.header_text, default="Chatkeep")
    mail_per_hour: int = setting("MAIL_PER_HOUR", read.whole(1, 1_000_000), default=1000)
    mail_templates: Path | None = setting("MAIL_TEMPLATES", read.folder)


def mail_problems(settings: MailSettings, *, production: bool) -> list[str]:
    """Say what is wrong with the settings of mail taken together."""
    if settings.smtp_url is None:
        return []
    problems = []
    if settings.mail_from is None:
        problems.append("SMTP_URL needs MAIL_FROM: the address that mail comes from.")
    parts = urlsplit(settings.smtp_url)
    plain = parts.scheme == "smtp" and not settings.smtp_tls
    if plain and production and parts.hostname not in read.THIS_MACHINE:
        problems.append(
            "SMTP_TLS must be on in production, because SMTP_URL leads to another machine:"
            " links that sign people in would be readable on the way."
        )
    return problems
