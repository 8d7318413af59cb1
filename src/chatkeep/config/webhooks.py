"""Settings: who is told of what happens here, each by its name."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from chatkeep.config import values as read
from chatkeep.config.reading import read_named, setting

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What can be told of; docs/reference/webhooks.md says what is told.
EVENTS: Final = (
    "user.created",
    "user.deleted",
    "session.ended",
    "conversation.created",
    "conversation.deleted",
    "answer.finished",
    "budget.exhausted",
)
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- how a secret begins, and none itself
_SECRETS_AT_MOST: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """Somebody who is told of *events* at *url*, signed with each of *keys*.

    *text*: with what was said. *private*: it may be in a private network, and reached
    without encryption.
    """

    name: str
    url: str = field(default="", repr=False)
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    events: tuple[str, ...] = EVENTS
    text: bool = False
    private: bool = False

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""
        return f"WEBHOOK_{self.name.upper().replace('-', '_')}"


def _address(text: str) -> str:
    """Read an address, which may have a query: many receivers know us by it."""
    read.exact_web_address(text.partition("?")[0])
    return read.plain_text(text)


def _keys(text: str) -> tuple[bytes, ...]:
    """Read one secret, or two with a comma between: the new one and the one before it.

    As Standard Webhooks writes them: `whsec_` and base64 of 24 to 64 bytes.
    """
    found = []
    for word in read.words(text):
        try:
            key = b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not word.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:  # noqa: PLR2004 -- see above
            raise read.Refused("must be like whsec_...: `chatkeep webhooks secret` makes one")
        found.append(key)
    if not 1 <= len(found) <= _SECRETS_AT_MOST:
        raise read.Refused("must be one secret, or the new one and the old one")
    return tuple(found)


def _events(text: str) -> tuple[str, ...]:
    found = read.words(text)
    if not found or not set(found) <= set(EVENTS):
        raise read.Refused(f"must list some of {', '.join(EVENTS)}")
    return found


_SETTINGS: Final = {
    "URL": ("url", _address),
    "SECRET": ("keys", _keys),
    "EVENTS": ("events", _events),
    "TEXT": ("text", read.flag),
    "PRIVATE": ("private", read.flag),
}


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """Who is told of what happens here."""

    webhook_names: tuple[str, ...] = setting("WEBHOOKS", read.names, default=())
    #: Those that WEBHOOKS names.
    webhooks: tuple[WebhookEndpoint, ...] = ()


def read_webhooks(
    names: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> tuple[WebhookEndpoint, ...]:
    """Read WEBHOOK_<NAME>_URL and so on for each of *names*."""
    return read_named(WebhookEndpoint, _SETTINGS, names, environ, problems, listed="WEBHOOKS")


def webhook_problems(settings: WebhookSettings, *, production: bool) -> list[str]:
    """Return what is wrong with them, a sentence each."""
    problems = []
    for one in settings.webhooks:
        own = one.prefix
        if not one.url:
            problems.append(f"{own}_URL must be set, because {one.name} is named.")
        if not one.keys:
            problems.append(f"{own}_SECRET must be set: `chatkeep webhooks secret` makes one.")
        if production and one.url.startswith("http://") and not one.private:
            problems.append(f"{own}_URL must be https in production, or {own}_PRIVATE must be on.")
    return problems
