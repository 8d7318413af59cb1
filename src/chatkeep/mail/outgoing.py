"""Mail on its way: queued in the transaction it belongs to, and sealed while it waits.

A queued mail holds one-time links and codes, so the database holds only what opens with a
key derived from the server's secret (AES-GCM, NIST SP 800-38D). Nothing here sends.
"""

from __future__ import annotations

import os
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chatkeep.db import Query
from chatkeep.mail.mails import Mail  # noqa: TC001 -- msgspec reads the annotation
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from chatkeep.config import Settings

#: Where mail waits: to be sent, or in development to be looked at.
Place = Literal["mail", "outbox"]
#: The name by which the queue knows what is to be done with it.
TASK: Final = "send_mail"
_NONCE_BYTES: Final = 12  # SP 800-38D section 8.2: 96 random bits for each message
_CONTEXT: Final = b"chatkeep queued mail 1"


@dataclass(frozen=True, slots=True)
class Queued:
    """That a mail was queued; there is no such row where no mail can be sent."""

    queued: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A mail, and when it was queued, in seconds since 1970."""

    mail: Mail
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """Where this server's mail goes (*place*: None is nowhere), and the key it is sealed with.

    *home* is the server's public address: links in mail lead there and nowhere else.
    """

    place: Place | None
    home: str
    key: bytes = field(repr=False)

    def sealed(self, posted: Posted) -> str:
        """Return *posted* as a text that opens with our key only."""
        nonce = os.urandom(_NONCE_BYTES)
        content = AESGCM(self.key).encrypt(nonce, msgspec.json.encode(posted), _CONTEXT)
        return b64encode(nonce + content).decode()

    def opened(self, sealed: str) -> Posted | None:
        """Return what was sealed; None when it was with another secret, or was changed."""
        try:
            raw = b64decode(sealed, validate=True)
            content = AESGCM(self.key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _CONTEXT)
            return msgspec.json.decode(content, type=Posted)
        except (InvalidTag, ValueError):  # msgspec's errors are ValueErrors too
            return None


def outgoing_mail(settings: Settings, secret: bytes) -> Outgoing:
    """Return where mail goes by *settings*; *secret* is the server's."""
    place: Place | None = "mail" if settings.smtp_url else "outbox"
    return Outgoing(
        place=place if settings.mail_enabled else None,
        home=settings.base_url,
        key=derived_key(secret, "queued mail"),
    )


def queued(mail: Mail, outgoing: Outgoing) -> Query[Queued]:
    """Return the statement that queues *mail*; it runs as `AUTH`, in its caller's transaction.

    Where no mail can be sent (`settings.mail_enabled`) it queues nothing and returns no row,
    so a notice needs no question first. A flow that depends on a mail asks.

    Raises:
        ValueError: its link leads elsewhere than to this server's public address, as one
            would that was built from a Host header.
    """
    if mail.link is not None and not mail.link.startswith(f"{outgoing.home}/"):
        raise ValueError("links in mail lead to this server's public address")
    return Query(
        "insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args)"
        " select %s, %s, jsonb_build_object('sealed', %s::text) where %s returning true as queued",
        (
            outgoing.place or "mail",
            TASK,
            outgoing.sealed(Posted(mail=mail, at=time.time())),
            outgoing.place is not None,
        ),
        Queued,
    )
