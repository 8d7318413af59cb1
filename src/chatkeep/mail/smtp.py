"""One mail to one mail server: the conversation, and what its end means.

The server's certificate is always checked, and nothing is said in plain text unless the
settings ask for it. No error here quotes what the server said, which may name people.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import aiosmtplib

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from email.message import EmailMessage

    from chatkeep.config import Settings

_PORTS: Final = {"smtp": 587, "smtps": 465}
_FIRST_PERMANENT: Final = 500
_GOODBYE_S: Final = 2.0
_IPV4: Final = 4


class NotSent(Exception):
    """The mail was not taken. *reason* is a stable code; *final*: it never will be."""

    def __init__(self, reason: str, *, final: bool) -> None:
        self.reason = reason
        self.final = final
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail is handed in. *encrypted*: from the first byte; *starttls*: right after hello.

    *own_name* is what we say hello as (RFC 5321 section 4.1.1.1).
    """

    host: str
    port: int
    encrypted: bool
    starttls: bool
    user: str | None
    password: str | None = field(repr=False)
    timeout_s: float
    own_name: str
    trust: ssl.SSLContext = field(repr=False)

    async def send(self, message: EmailMessage, *, sender: str, to: str) -> None:
        """Hand *message* in, for the address *to* alone.

        Raises:
            NotSent: the server cannot be reached, is not who it should be, or said no.
        """
        with _our_errors():
            async with self._conversation() as client:
                await client.send_message(message, sender=sender, recipients=[to])

    async def greet(self) -> None:
        """Connect, encrypt and log in as for a mail, and send none.

        Raises:
            NotSent: as `send`.
        """
        with _our_errors():
            async with self._conversation():
                pass

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """Lend a connection that was encrypted and logged in, and end it however it went.

        aiosmtplib's own block would say goodbye even when it is cancelled, and wait for the
        answer; and a goodbye that fails would look like a mail that was not taken.
        """
        client = aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.user,
            password=self.password,
            use_tls=self.encrypted,
            start_tls=self.starttls,
            tls_context=self.trust,
            timeout=self.timeout_s,
            local_hostname=self.own_name,  # otherwise it asks DNS for one
        )
        try:
            await client.connect()
            yield client
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=_GOODBYE_S)
        finally:
            client.close()


def mail_server(settings: Settings) -> MailServer | None:
    """Return the mail server of *settings*, None when there is none."""
    if settings.smtp_url is None:
        return None
    parts = urlsplit(settings.smtp_url)
    encrypted = parts.scheme == "smtps"
    return MailServer(
        host=parts.hostname or "",
        port=parts.port or _PORTS[parts.scheme],
        encrypted=encrypted,
        starttls=settings.smtp_tls and not encrypted,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        timeout_s=settings.smtp_timeout_s,
        own_name=_own_name(urlsplit(settings.base_url).hostname or "localhost"),
        trust=ssl.create_default_context(),
    )


def _own_name(host: str) -> str:
    """Return *host* as it is said in a hello; an address stands in brackets (section 4.1.3)."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == _IPV4 else f"[IPv6:{address}]"


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except aiosmtplib.SMTPRecipientsRefused as error:
        code = error.recipients[0].code
        raise NotSent(f"recipient_{code}", final=code >= _FIRST_PERMANENT) from None
    except aiosmtplib.SMTPAuthenticationError as error:
        # Whoever is in charge can set that right, and then it goes.
        raise NotSent(f"login_{error.code}", final=False) from None
    except (aiosmtplib.SMTPConnectResponseError, aiosmtplib.SMTPHeloError) as error:
        raise NotSent(f"server_{error.code}", final=False) from None
    except aiosmtplib.SMTPResponseException as error:
        final = error.code >= _FIRST_PERMANENT
        raise NotSent(f"message_{error.code}", final=final) from None
    except aiosmtplib.SMTPNotSupported:  # an address outside ASCII, and a server that has none
        raise NotSent("not_supported", final=True) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise NotSent(_why(error), final=False) from None
    except ValueError:  # an address that has no form on the wire
        raise NotSent("bad_address", final=True) from None


def _why(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "untrusted_certificate"
        if isinstance(cause, ssl.SSLError):
            return "no_encryption"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiosmtplib.SMTPServerDisconnected):
        return "disconnected"
    if isinstance(error, OSError):
        return "unreachable"
    return "starttls_or_login_not_offered"
