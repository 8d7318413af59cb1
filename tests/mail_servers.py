"""A real mail server for tests: it takes mail, or refuses it as the test says, over real TLS."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from email.message import EmailMessage
    from pathlib import Path

USER = "postmaster@example.com"
PASSWORD = "p@ss word/of:mail"


@dataclass(slots=True)
class Certificate:
    """A certificate for this machine, in files."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return how a server shows it."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.certificate, self.key)
        return made


def make_certificate(folder: Path, *, names: tuple[str, ...] = ("localhost",)) -> Certificate:
    """Make a certificate that signs itself, good for this machine's address and *names*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    alternatives: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
    if "localhost" in names:
        alternatives.append(x509.IPAddress(ip_address("127.0.0.1")))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / f"{names[0]}.pem", folder / f"{names[0]}.key")
    files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@dataclass(slots=True)
class Received:
    """One mail that was handed in."""

    to: list[str]
    sender: str
    message: EmailMessage
    encrypted: bool
    logged_in: bool

    @property
    def text(self) -> str:
        """The plain text of it."""
        part = self.message.get_body(("plain",))
        assert part is not None
        return str(part.get_content())

    @property
    def html(self) -> str:
        """The HTML of it."""
        part = self.message.get_body(("html",))
        assert part is not None
        return str(part.get_content())


@dataclass(slots=True)
class MailServerOfTests:
    """What was handed in, and what to say instead of taking it."""

    port: int
    received: list[Received] = field(default_factory=list)
    #: Answers to give to the next recipients and messages, instead of taking them.
    to_recipients: list[str] = field(default_factory=list)
    to_messages: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    #: While set, an answer to a whole message waits for it.
    gate: asyncio.Event | None = None
    at_gate: int = 0
    #: Whether to hang up where a client says goodbye.
    without_goodbye: bool = False

    @property
    def address(self) -> str:
        """Where it is."""
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self,
        server: SMTP,
        session: object,
        envelope: Any,  # noqa: ANN401 -- aiosmtpd has no types
        address: str,
        options: object,
    ) -> str:
        """Take a recipient, or not."""
        self.recipients.append(address)
        if self.to_recipients:
            return self.to_recipients.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: ANN401, N802 -- as above
        """Take a message, or not."""
        if self.to_messages:
            return self.to_messages.pop(0)
        message = message_from_bytes(envelope.content, policy=default)
        self.received.append(
            Received(
                to=list(envelope.rcpt_tos),
                sender=envelope.mail_from,
                message=message,
                encrypted=session.ssl is not None,
                logged_in=bool(session.authenticated),
            )
        )
        if self.gate is not None:
            self.at_gate += 1
            await self.gate.wait()
        return "250 taken"

    async def handle_QUIT(self, server: SMTP, session: object, envelope: object) -> str:  # noqa: N802 -- as above
        """Say goodbye, or not."""
        if self.without_goodbye and server.transport is not None:
            server.transport.close()
        return "221 Bye"


@asynccontextmanager
async def mail_server(
    certificate: Certificate | None = None,
    *,
    encrypted: bool = False,
    with_login: bool = False,
    port: int | None = None,
) -> AsyncIterator[MailServerOfTests]:
    """Run a mail server: in plain text, with STARTTLS, or *encrypted* from the first byte."""
    handler = MailServerOfTests(port or free_port())
    context = None if certificate is None else certificate.context()

    def authenticator(_s: object, _n: object, _e: object, _m: object, data: Any) -> AuthResult:  # noqa: ANN401 -- as above
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right)

    def protocol() -> SMTP:
        return SMTP(
            handler,
            enable_SMTPUTF8=True,
            hostname="mail.example.com",
            tls_context=None if encrypted else context,
            require_starttls=context is not None and not encrypted,
            authenticator=authenticator if with_login else None,
            # aiosmtpd does not know of encryption from the first byte; `logged_in` tells.
            auth_required=with_login and not encrypted,
            auth_require_tls=not encrypted,
        )

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        protocol, "127.0.0.1", handler.port, ssl=context if encrypted else None
    )
    try:
        yield handler
    finally:
        if handler.gate is not None:
            handler.gate.set()
        listening.close()
