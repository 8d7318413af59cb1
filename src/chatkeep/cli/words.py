"""How commands speak: for people, without secrets, and without what a terminal would obey."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from chatkeep.config import Settings

_HOW_TO_GET_A_LARGE_ONE = "set OPENROUTER_API_KEY or OPENAI_API_KEY for one that knows something"


def model_in_words(settings: Settings) -> str:
    """Say which model answers when nobody chooses one, and who provides it."""
    if settings.responder is not None:
        return f"none is asked: {settings.responder} answers, the RESPONDER"
    from chatkeep.llm.choice import BUILT_IN, default_model_id  # noqa: PLC0415 -- slow to import

    model = default_model_id(settings)
    if settings.openrouter_api_key is not None:
        return f"{model}, by {urlsplit(settings.openrouter_base_url).hostname}"
    if settings.openai_api_key is not None:
        return f"{model}, by {urlsplit(settings.openai_base_url).hostname}"
    provider = "built in" if model == BUILT_IN else f"played by the built-in {BUILT_IN}"
    return f"{model}, {provider}; {_HOW_TO_GET_A_LARGE_ONE}"


def database_in_words(url: str) -> str:
    """Name the database at *url*, without who logs in and how."""
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 -- slow to import

    parts = conninfo_to_dict(url)
    return f"PostgreSQL database {parts.get('dbname')} on {parts.get('host') or 'this machine'}"


def examples(*lines: str) -> str:
    """Return *lines* as the end of a command's help, left as they are."""
    # A line with a backspace alone tells click not to fill the paragraph that follows.
    shown = "\n".join(f"  {line}" if line else "\n\b" for line in lines)
    return f"\b\nExamples:\n{shown}"


def mail_in_words(settings: Settings) -> str:
    """Return where mail goes, without a password."""
    if settings.smtp_url is not None:
        parts = urlsplit(settings.smtp_url)
        return f"through {parts.hostname}, from {settings.mail_from}"
    if settings.mail_enabled:
        return f"{settings.base_url}/outbox shows it, because SMTP_URL is not set"
    return "none is sent, because SMTP_URL is not set"


def printable(line: str) -> str:
    """Return *line* so that no name which people chose moves the cursor of a terminal."""
    return "".join(one if one.isprintable() else "?" for one in line)
