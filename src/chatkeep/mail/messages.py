"""A mail as it is sent: the message with its headers (RFC 5322) and its two parts.

Headers are made of parsed addresses and checked texts only: a line break in a value is
refused, so that it cannot become a header of its own.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING

import idna

if TYPE_CHECKING:
    from chatkeep.mail.rendering import Rendered


def message(
    content: Rendered, *, to: str, sender: str, sender_name: str, at: float, identity: str
) -> EmailMessage:
    """Return the mail from *sender* to the address *to*, queued *at* (seconds since 1970).

    *identity* makes its Message-ID: the same each time that the same mail is tried, so that
    whoever gets it twice can know.

    Raises:
        ValueError: an address or text that cannot stand in a header.
    """
    made = EmailMessage(policy=SMTP)
    made["From"] = Address(sender_name, addr_spec=sender)
    user, _, domain = on_the_wire(to).rpartition("@")
    # By its parts: as one text the standard library takes no name outside ASCII (RFC 6532).
    made["To"] = Address(username=user, domain=domain)
    made["Subject"] = content.subject
    made["Date"] = format_datetime(datetime.fromtimestamp(at, UTC))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
    made["Message-ID"] = f"<{digest}@{sender.rpartition('@')[2]}>"
    # RFC 3834 section 5: so that no vacation notice answers it.
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(content.text)
    made.add_alternative(content.html, subtype="html")
    return made


def on_the_wire(address: str) -> str:
    """Return *address* with its domain in ASCII (RFC 5891), which every mail server takes.

    It is the domain that the address has been kept with. Python's own codec is of the older
    RFC 3490, to which `straße` and `strasse` are one name: they have two owners.

    Raises:
        ValueError: it is none.
    """
    user, at, domain = address.rpartition("@")
    if not address.isprintable() or not user or not at or not domain:
        raise ValueError("not an address")
    return f"{user}@{idna.encode(domain, uts46=True).decode()}"
