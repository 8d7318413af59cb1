"""Whether mail can go out, found by trying: what is wrong, in words, and what to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from chatkeep.errors import SetupError
from chatkeep.ids import new_id
from chatkeep.mail.mails import Mail
from chatkeep.mail.messages import message, on_the_wire
from chatkeep.mail.rendering import rendered
from chatkeep.mail.smtp import NotSent, mail_server
from chatkeep.mail.templates import load_templates
from chatkeep.setup_checks.findings import Finding

if TYPE_CHECKING:
    from chatkeep.config import Settings

_NO_MAIL: Final = "none is sent, so a lost password is lost: SMTP_URL is not set"
_ADVICE: Final = {
    "unreachable": "nobody answers there: check host and port of SMTP_URL.",
    "timeout": "it does not answer in time: check host and port of SMTP_URL, or the firewall.",
    "disconnected": "it hangs up: check that smtp:// or smtps:// in SMTP_URL goes with its port.",
    "untrusted_certificate": (
        "its certificate is not good for that name: check the host of SMTP_URL, or give the"
        " certificate of its authority in SSL_CERT_FILE."
    ),
    "no_encryption": "it does not speak TLS there: check smtp:// or smtps:// in SMTP_URL.",
    "starttls_or_login_not_offered": (
        "it offers no STARTTLS, or no login: check the port of SMTP_URL, and SMTP_TLS."
    ),
    "login": "it refuses the user or the password of SMTP_URL.",
    "recipient": "it refuses the address of the recipient.",
    "message": "it refuses the mail, or MAIL_FROM as its sender.",
    "server": "it is not ready for mail now.",
    "bad_address": "the address has a form that cannot be written to.",
    "not_supported": "it cannot take an address outside of ASCII.",
}


async def examine_mail(settings: Settings) -> Finding:
    """Read the templates, and greet the mail server without sending anything."""
    try:
        load_templates(settings.mail_templates)
    except SetupError as error:
        return Finding(name="Mail", problems=error.problems)
    server = mail_server(settings)
    if server is None and settings.mail_enabled:
        return Finding(name="Mail", note="is shown at /outbox, because SMTP_URL is not set")
    if server is None:
        return Finding(name="Mail", note=_NO_MAIL)
    place = f"{server.host}:{server.port}"
    try:
        await server.greet()
    except NotSent as error:
        return Finding(name="Mail", problems=(f"{place}: {advice(error)}",))
    return Finding(name="Mail", note=f"goes through {place}, from {settings.mail_from}")


async def send_test(settings: Settings, address: str) -> str:
    """Send a test mail to *address* now; return through which mail server it went.

    Raises:
        SetupError: it could not be sent; the text says why and what to do.
    """
    templates = load_templates(settings.mail_templates)
    server = mail_server(settings)
    if server is None or settings.mail_from is None:
        shown = ", and only shown at /outbox" if settings.mail_enabled else ""
        raise SetupError(f"Set SMTP_URL and MAIL_FROM: without them no mail is sent{shown}.")
    place = f"{server.host}:{server.port}"
    try:
        mail = Mail(kind="test", to=address)
        made = message(
            rendered(mail, templates, product=settings.mail_name, home=settings.base_url),
            to=address,
            sender=settings.mail_from,
            sender_name=settings.mail_name,
            at=time.time(),
            identity=new_id(),
        )
        await server.send(made, sender=settings.mail_from, to=on_the_wire(address))
    except (ValueError, IndexError):  # the standard library's ways to say: no address
        raise SetupError(f"{address!r} is no address that can be written to.") from None
    except NotSent as error:
        raise SetupError(f"{place}: {advice(error)}") from None
    return place


def advice(error: NotSent) -> str:
    """Return what *error* means and what to do, to follow the name of the server."""
    what, _, code = error.reason.rpartition("_")
    if code.isdigit():
        return f"{_ADVICE[what]} (It answers {code}.)"
    return _ADVICE[error.reason]
