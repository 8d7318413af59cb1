"""Production settings behind a real nginx, set up as the how-to page says."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.free_ports import free_port
from tests.patience import PATIENCE_S
from tests.serving import (
    Stream,
    exchange,
    parsed,
    start_node,
    token,
    types,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

PAGE = Path(__file__).parents[2] / "docs/how-to/run-behind-a-proxy.md"
NAME = "chat.example.com"
ISSUER = "https://project.example"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="there is no nginx on this machine")


class Proxy:
    """A running nginx, and how to ask through it."""

    def __init__(self, node: Node, port: int, plain_port: int, trust: ssl.SSLContext) -> None:
        self.node = node
        self.port = port
        self.plain_port = plain_port
        self.trust = trust
        # 127.0.0.1 is the proxy; people come from elsewhere.
        self.people = "127.0.0.2"

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, *, json: object = None, **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request over TLS and lend the answer as it comes."""
        connector = aiohttp.TCPConnector(local_addr=(self.people, 0))
        named = {"Host": NAME, **{key.replace("_", "-"): value for key, value in headers.items()}}
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.request(
                method,
                f"https://127.0.0.1:{self.port}{path}",
                json=json,
                headers=named,
                ssl=self.trust,
                server_hostname=NAME,
                allow_redirects=False,
            ) as response,
        ):
            yield response

    async def exchange(self, raw: str) -> bytes:
        """Send *raw* over TLS and return the first of what comes."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname=NAME
        )
        try:
            writer.write(raw.encode())
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read(65_536)
        finally:
            writer.transport.abort()  # an orderly end of TLS waits for the other side


def _certificate(folder: Path) -> ssl.SSLContext:
    """Make a key and a certificate for NAME; return who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "fullchain.pem").write_bytes(pem)
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ssl.create_default_context(cadata=pem.decode())


def _configuration(folder: Path, node: Node, port: int, plain_port: int) -> Path:
    """Write the page's configuration, with other ports and files, inside what nginx needs."""
    (site,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for said, here in (
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("listen 80;", f"listen 127.0.0.1:{plain_port};"),
        ("127.0.0.1:8000", f"127.0.0.1:{node.port}"),
        (f"/etc/ssl/{NAME}", str(folder)),
    ):
        assert said in site
        site = site.replace(said, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr notice;\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{ access_log off; {temporary}{site} }}\n"
    )
    return file


async def _is_up(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.fixture(scope="module")
async def proxy(
    database: MigratedDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Proxy]:
    """Chatkeep as in production, and nginx in front of it."""
    folder = tmp_path_factory.mktemp("nginx")
    port, plain_port = free_port(), free_port()
    async with aiohttp.ClientSession() as session:
        node = await start_node(
            database.url,
            session,
            ISSUER,
            ENVIRONMENT="production",
            PUBLIC_URL=f"https://{NAME}",
            TRUSTED_PROXIES="127.0.0.1",
            RATE_LIMITS="on",
        )
        trust = _certificate(folder)
        file = _configuration(folder, node, port, plain_port)
        process = await asyncio.create_subprocess_exec(
            str(NGINX), "-p", str(folder), "-c", str(file), stderr=asyncio.subprocess.DEVNULL
        )
        await until(lambda: _is_up(port))
        yield Proxy(node, port, plain_port, trust)
        process.terminate()
        await process.wait()
        await node.stop()


def bearer(sub: str = "ana") -> str:
    """Return what an Authorization header says for *sub*."""
    return f"Bearer {token(ISSUER, sub)}"


async def test_https_is_seen_through_the_proxy(proxy: Proxy) -> None:
    """What came over TLS is answered, and browsers are told to come back that way."""
    async with proxy.ask("GET", "/auth/me", authorization=bearer()) as answer:
        assert answer.status == 200
        assert (await answer.json())["id"] == "ana"
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert answer.headers["cache-control"] == "no-store"


async def test_plain_http_is_refused_at_either_door(proxy: Proxy) -> None:
    """A token in the clear is a 403 at nginx and at Chatkeep itself, and never redirected."""
    for port in (proxy.plain_port, proxy.node.port):
        raw = (
            f"GET /auth/me HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n"
            f"Authorization: {bearer()}\r\n\r\n"
        )
        answer = parsed(await exchange(port, raw.encode()))
        assert answer.status == 403
        assert "location" not in answer.headers
    home = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
    led = parsed(await exchange(proxy.plain_port, home.encode()))
    assert (led.status, led.headers["location"]) == (301, f"https://{NAME}/")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_forwarded_for": "203.0.113.9"},
        {"x_forwarded_for": "203.0.113.9, 198.51.100.7"},
        {"x_forwarded_for": "127.0.0.1"},
        {"x_forwarded_for": "unknown"},
        {"x_forwarded_for": ", ".join(["203.0.113.9"] * 1000)},
        {"x_real_ip": "203.0.113.9", "forwarded": "for=203.0.113.9;proto=http"},
        {"x_forwarded_proto": "http", "x_forwarded_host": "evil.example"},
    ],
    ids=lambda headers: str(headers)[:60],
)
async def test_client_cannot_choose_its_address(
    proxy: Proxy, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a client says of itself, it is where nginx saw it, and it came over https."""
    caplog.set_level(logging.INFO, "chatkeep.access")
    async with proxy.ask("GET", "/auth/me", authorization=bearer(), **headers) as answer:
        assert answer.status == 200
        request_id = answer.headers["x-request-id"]
    (line,) = [one for one in caplog.records if vars(one).get("request_id") == request_id]
    assert vars(line)["client"] == proxy.people


async def test_answer_arrives_word_by_word(proxy: Proxy) -> None:
    """The first word is here before the model has said the last one."""
    gate = asyncio.Event()
    proxy.node.stage.play(["Once", gate, " upon a time."])
    text = {"role": "user", "parts": [{"type": "text", "text": "Tell"}]}
    body = {"id": "behind-nginx", "messages": [{"id": "m1", **text}]}
    async with proxy.ask("POST", "/api/chat", json=body, authorization=bearer()) as answer:
        assert answer.status == 200
        stream = Stream(answer)
        await stream.until(lambda event: types([event]) == ["text-delta"])
        assert not gate.is_set()
        gate.set()
        assert types(await stream.rest())[-2:] == ["finish", "[DONE]"]


async def test_long_token_passes(proxy: Proxy) -> None:
    """A head of 20 KiB passes; over 32 KiB either of the two refuses it."""
    async with proxy.ask("GET", "/auth/me", authorization=bearer(), x_long="x" * 20_000) as answer:
        assert answer.status == 200
    many = {f"x_long_{n}": "x" * 8000 for n in range(6)}
    async with proxy.ask("GET", "/auth/me", authorization=bearer(), **many) as answer:
        assert answer.status in {400, 431}


async def test_other_name_is_refused(proxy: Proxy) -> None:
    """A name that is not ours gets no answer meant for us, through nginx or past it."""
    async with proxy.ask("GET", "/api/config", Host="evil.example") as answer:
        assert answer.status == 421
        assert (await answer.json())["code"] == "misdirected"
    raw = (
        "GET /api/config HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Proto: https\r\n"
        "Connection: close\r\n\r\n"
    )
    assert parsed(await exchange(proxy.node.port, raw.encode())).status == 421


async def test_name_without_proof_is_dead_behind_a_proxy(proxy: Proxy) -> None:
    """That the proxy is on this machine makes nobody a developer."""
    async with proxy.ask("GET", "/auth/me", x_user_id="ana") as answer:
        assert answer.status == 401


async def test_body_over_the_cap_is_refused_unread(proxy: Proxy) -> None:
    """A length that is too large is refused before any of the body is sent."""
    raw = (
        f"POST /api/v1/chat/message HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: {bearer()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {2 << 20}\r\n\r\n"
    )
    assert parsed(await proxy.exchange(raw)).status == 413


async def test_two_requests_in_one_are_not_smuggled(proxy: Proxy) -> None:
    """What nginx and Chatkeep could read differently is refused, and answers nobody else."""
    inner = f"GET /auth/me HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: {bearer('bo')}\r\n\r\n"
    heads = (
        f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked",
        f"Transfer-Encoding: chunked\r\nContent-Length: {len(inner) + 5}",
        "Transfer-Encoding: xchunked",
        f"Transfer-Encoding : chunked\r\nContent-Length: {len(inner) + 5}",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    )
    for head in heads:
        raw = (
            f"POST /auth/token/validate HTTP/1.1\r\nHost: {NAME}\r\n"
            f"Content-Type: application/json\r\n{head}\r\n\r\n0\r\n\r\n{inner}"
        )
        answer = await proxy.exchange(raw)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), (head, answer[:100])
        assert json.dumps("bo").encode() not in answer
