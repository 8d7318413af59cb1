"""The JWKS client against a real server that misbehaves in every way we could think of."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import logging
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from chatkeep import fetching
from chatkeep.errors import IssuerUnavailable, TokenInvalid
from chatkeep.fetching import is_public
from chatkeep.issuers import Issuer, Issuers
from chatkeep.jwks import COOLDOWN_S, MAX_AGE_S, MAX_STALE_S, REFRESH_AGE_S, JwksClient
from chatkeep.tokens import read
from tests import forge
from tests.forge import ASYMMETRIC, NOW, RULES, document, header, jwk
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

TOKEN = forge.forge(algorithm="ES256")
ROTATED = forge.forge(header("EdDSA"), algorithm="EdDSA")
HEADER = read(TOKEN).header
OLD, NEW = document(jwk("ES256")), document(jwk("ES256"), jwk("EdDSA"))


def response(body: bytes, *, status: str = "200 OK", head: str = "") -> bytes:
    """Return an HTTP answer."""
    start = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    return start.encode() + body


class Server:
    """An issuer's web server that answers as it is told and counts who asks."""

    def __init__(self) -> None:
        """Publish one key."""
        self.body = OLD
        self.answer: Answer | None = None
        self.requests: list[str] = []
        self.connections = 0
        self.url = ""
        self.arrived = asyncio.Event()
        self.let_go = asyncio.Event()

    def serve(self, raw: bytes) -> None:
        """Answer with *raw* from now on."""

        async def write(writer: asyncio.StreamWriter) -> None:
            writer.write(raw)
            await writer.drain()

        self.answer = write

    def hold(self, raw: bytes = b"") -> None:
        """Say *raw*, and the rest only once let go."""

        async def wait(writer: asyncio.StreamWriter) -> None:
            writer.write(raw)
            await self.let_go.wait()
            if not raw:
                writer.write(response(self.body))

        self.answer = wait

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            self.arrived.set()
            if self.answer is None:
                writer.write(response(self.body))
            else:
                await self.answer(writer)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def running(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run a server on a free port."""
    server = Server()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/jwks.json"
    try:
        yield server
    finally:
        server.let_go.set()
        listener.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a server that publishes one ES256 key until told otherwise."""
    async with running() as server:
        yield server


class Clock:
    """A clock that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock that the client goes by."""
    return Clock()


@pytest.fixture
async def client(server: Server, clock: Clock) -> AsyncIterator[JwksClient]:
    """Return a client of the server."""
    client = JwksClient(server.url, algorithms=ASYMMETRIC, public_only=False, clock=clock)
    yield client
    await client.close()


@pytest.fixture
def issuers(client: JwksClient) -> Issuers:
    """Return the table of the one issuer whose keys the server has."""
    issuer = Issuer(name="supabase", preset="supabase", rules=RULES, keys=client, primary=True)
    return Issuers([issuer], clock=lambda: NOW)


def token_of(kid: str) -> str:
    """Return an honest token whose key id nobody has published."""
    return forge.forge(header("ES256", kid=kid), algorithm="ES256")


async def outcome(issuers: Issuers, token: str) -> str:
    """Return what became of *token*."""
    try:
        await issuers.authenticate(token)
    except (TokenInvalid, IssuerUnavailable) as error:
        return error.code
    return "taken"


async def landed(client: JwksClient) -> None:
    """Wait until no fetch is under way."""
    while client._flight is not None:
        await asyncio.wait([client._flight])


# --- when it asks -----------------------------------------------------------------------------


async def test_five_hundred_first_requests_ask_once(server: Server, issuers: Issuers) -> None:
    """Nobody asks before the first token, and then one does for all."""
    assert server.connections == 0
    outcomes = await asyncio.gather(*(outcome(issuers, TOKEN) for _ in range(500)))
    assert set(outcomes) == {"taken"}
    assert server.connections == 1


async def test_five_hundred_first_requests_of_strangers_ask_once(
    server: Server, issuers: Issuers
) -> None:
    """An answer that is newer than the question is not asked for again."""
    tokens = [token_of(f"stranger-{number}") for number in range(500)]
    outcomes = await asyncio.gather(*(outcome(issuers, token) for token in tokens))
    assert set(outcomes) == {"token_invalid"}
    assert server.connections == 1


async def test_rotation_costs_one_question_and_no_failure(
    server: Server, issuers: Issuers, clock: Clock
) -> None:
    """The first token of a new key brings the key; everybody beside it is served."""
    assert await outcome(issuers, TOKEN) == "taken"
    server.body = NEW
    clock.now += 1
    tokens = [TOKEN, ROTATED] * 200
    assert {*await asyncio.gather(*(outcome(issuers, one) for one in tokens))} == {"taken"}
    assert server.connections == 2


async def test_flood_of_unknown_keys_costs_one_question_a_cooldown(
    server: Server, issuers: Issuers, clock: Clock
) -> None:
    """Random key ids reach the issuer once in a while, and take no memory."""
    assert await outcome(issuers, TOKEN) == "taken"
    clock.now += 1
    for number in range(2000):
        assert await outcome(issuers, token_of(f"random-{number}")) == "token_invalid"
    assert server.connections == 2
    clock.now += COOLDOWN_S - 0.001
    assert await outcome(issuers, token_of("early")) == "token_invalid"
    assert server.connections == 2
    clock.now += 0.001
    assert await outcome(issuers, token_of("late")) == "token_invalid"
    assert server.connections == 3
    assert await outcome(issuers, TOKEN) == "taken"


async def test_rotation_during_a_flood_is_learnt_within_one_cooldown(
    server: Server, issuers: Issuers, clock: Clock
) -> None:
    """A flood can delay a new key by the cooldown, and no longer."""
    assert COOLDOWN_S <= 60
    await outcome(issuers, TOKEN)
    clock.now += 1
    await outcome(issuers, token_of("flood"))
    server.body = NEW
    await outcome(issuers, token_of("flood"))
    clock.now += COOLDOWN_S
    assert await outcome(issuers, token_of("flood")) == "token_invalid"
    assert await outcome(issuers, ROTATED) == "taken"
    assert server.connections == 3


async def test_question_under_way_may_be_too_old_for_a_new_key(
    server: Server, issuers: Issuers, client: JwksClient, clock: Clock
) -> None:
    """Whoever joins a fetch that began before the rotation still gets the new key."""
    await outcome(issuers, TOKEN)
    clock.now += REFRESH_AGE_S
    server.arrived.clear()
    server.hold()
    assert await outcome(issuers, TOKEN) == "taken"  # starts the fetch, does not wait for it
    await server.arrived.wait()
    clock.now += 1
    waiting = asyncio.create_task(outcome(issuers, ROTATED))
    await asyncio.sleep(0)
    server.answer = None
    server.let_go.set()
    await landed_once(client)
    server.body = NEW
    assert await waiting == "taken"
    assert server.connections == 3


async def landed_once(client: JwksClient) -> None:
    """Wait for the fetch that is under way now."""
    assert client._flight is not None
    await asyncio.wait([client._flight])


async def test_tokens_that_can_never_match_ask_nobody(
    server: Server, issuers: Issuers, clock: Clock
) -> None:
    """Another algorithm, another issuer, a bad shape: refused without a question."""
    canary = {"jku": server.url, "x5u": server.url}
    for token in (
        forge.forge(),
        forge.forge({"alg": "none"}),
        forge.forge(payload=forge.claims(iss="https://elsewhere.example"), algorithm="ES256"),
        forge.forge(header("ES256", typ="logout+jwt", **canary), algorithm="ES256"),
        "opaque",
        f"{TOKEN}.",
    ):
        assert await outcome(issuers, token) == "token_invalid"
    assert server.connections == 0


async def test_missing_key_id_asks_nobody_again(
    server: Server, issuers: Issuers, clock: Clock
) -> None:
    """A token that names no key is served by the only one it can mean, or by none."""
    server.body = document(jwk("ES256"), jwk("EdDSA"), jwk("EdDSA", kid="second"))
    one, two = (forge.forge(header(name, kid=...), algorithm=name) for name in ("ES256", "EdDSA"))
    assert await outcome(issuers, one) == "taken"
    clock.now += COOLDOWN_S
    assert await outcome(issuers, two) == "token_invalid"
    assert server.connections == 1


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_address_in_a_token_is_never_visited(
    name: str, server: Server, issuers: Issuers
) -> None:
    """A token may name any address it likes; only the configured one is asked."""
    async with running() as canary:
        for address in (canary.url, canary.url.replace("http", "https"), "file:///etc/passwd"):
            head = header("ES256", kid="stranger", **{name: address})
            token = forge.forge(head, algorithm="ES256")
            assert await outcome(issuers, token) == "token_invalid"
        assert canary.connections == 0
    assert server.connections == 1


# --- how long keys live -----------------------------------------------------------------------


async def test_keys_are_renewed_behind_the_back_of_who_asks(
    server: Server, issuers: Issuers, client: JwksClient, clock: Clock
) -> None:
    """From a certain age on keys are fetched anew, and nobody waits for it."""
    await outcome(issuers, TOKEN)
    clock.now += REFRESH_AGE_S - 1
    await outcome(issuers, TOKEN)
    assert server.connections == 1
    clock.now += 1
    server.hold()
    server.arrived.clear()
    assert await outcome(issuers, TOKEN) == "taken"
    await server.arrived.wait()
    assert {await outcome(issuers, TOKEN) for _ in range(100)} == {"taken"}
    server.let_go.set()
    await landed(client)
    assert server.connections == 2


async def test_removed_key_is_refused_within_its_age(
    server: Server, issuers: Issuers, client: JwksClient, clock: Clock
) -> None:
    """A key that the issuer took away opens nothing once its set was due, seen before or not."""
    server.body = NEW
    assert await outcome(issuers, ROTATED) == "taken"
    server.body = OLD
    clock.now += REFRESH_AGE_S
    await outcome(issuers, ROTATED)
    await landed(client)
    assert await outcome(issuers, ROTATED) == "token_invalid"


async def test_removed_key_is_refused_after_a_quiet_hour(
    server: Server, issuers: Issuers, clock: Clock
) -> None:
    """When nobody came for long, the first one waits for fresh keys instead of using old ones."""
    server.body = NEW
    assert await outcome(issuers, ROTATED) == "taken"
    server.body = OLD
    clock.now += MAX_AGE_S
    assert await outcome(issuers, ROTATED) == "token_invalid"


async def test_unchanged_keys_keep_what_was_verified(
    server: Server, issuers: Issuers, client: JwksClient, clock: Clock
) -> None:
    """The same document again is the same generation: nothing is verified twice."""
    first = await issuers.authenticate(TOKEN)
    clock.now += MAX_AGE_S
    await client.find(HEADER)
    assert server.connections == 2
    assert await issuers.authenticate(TOKEN) is first


# --- when the issuer is away ------------------------------------------------------------------

HUGE = b'{"keys":[' + b"1," * 200_000 + b"1]}"
FAILURES = {
    "not found": response(b"gone", status="404 Not Found"),
    "server error": response(OLD, status="500 Internal Server Error"),
    "unavailable": response(b"", status="503 Service Unavailable"),
    "no content": response(b"", status="204 No Content"),
    "created": response(OLD, status="201 Created"),
    "redirect": response(b"", status="302 Found", head="Location: {canary}\r\n"),
    "permanent redirect": response(b"", status="308 Gone", head="Location: {canary}\r\n"),
    "closed": b"",
    "not HTTP": b"\x00\x01\x02\x03\r\n\r\n",
    "cut off": response(OLD)[:-10],
    "page": response(b"<!doctype html><title>Sign in</title>"),
    "empty": response(b""),
    "empty object": response(b"{}"),
    "no keys": response(b'{"keys":[]}'),
    "keys are a text": response(b'{"keys":"x"}'),
    "only unfit keys": response(document({"kty": "oct", "k": "AAAA", "kid": "key-ES256"})),
    "too large": response(HUGE),
    "too large by a byte": response(NEW.ljust(256 * 1024 + 1)),
    "too large by its word": response(b"", head="X: y\r\n").replace(b": 0", b": 52428800"),
    "endless": b"HTTP/1.1 200 OK\r\n\r\n" + HUGE,
    "too many keys": response(document(*[jwk("EdDSA", kid=f"{n}") for n in range(101)])),
    "deep": response(b'{"keys":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "compressed": response(gzip.compress(OLD), head="Content-Encoding: gzip\r\n"),
    "compression bomb": response(
        gzip.compress(b" " * 50_000_000), head="Content-Encoding: gzip\r\n"
    ),
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
    "long header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "UTF-16": response(OLD.decode().encode("utf-16")),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failure_keeps_the_keys_we_have(
    name: str, server: Server, issuers: Issuers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the issuer answers instead of keys, known keys go on and others are a 503."""
    async with running() as canary:
        assert await outcome(issuers, TOKEN) == "taken"
        server.serve(FAILURES[name].replace(b"{canary}", canary.url.encode()))
        clock.now += MAX_AGE_S
        assert await outcome(issuers, TOKEN) == "taken"
        assert await outcome(issuers, ROTATED) == "issuer_unavailable"
        assert canary.connections == 0
    assert caplog.text.count("no keys from") == 1
    assert server.connections <= 3  # aiohttp tries once more where the line goes dead
    server.answer, server.body = None, NEW
    clock.now += COOLDOWN_S
    assert await outcome(issuers, ROTATED) == "taken"


async def test_largest_document_is_taken(server: Server, issuers: Issuers) -> None:
    """The cap on size is a cap."""
    server.body = OLD.ljust(256 * 1024)
    assert await outcome(issuers, TOKEN) == "taken"


@pytest.mark.parametrize("name", FAILURES)
async def test_first_failure_takes_nobody_in(
    name: str, server: Server, issuers: Issuers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """With no keys at all a token is neither good nor bad, and is told when to come back."""
    server.serve(FAILURES[name])
    with pytest.raises(IssuerUnavailable) as away:
        await issuers.authenticate(TOKEN)
    assert away.value.status == 503
    assert away.value.retry_after_s == COOLDOWN_S
    clock.now += 4.2
    with pytest.raises(IssuerUnavailable) as still:
        await issuers.authenticate(TOKEN)
    assert still.value.retry_after_s == 11
    assert caplog.text.count("no keys from") == 1
    server.answer = None
    clock.now += COOLDOWN_S
    assert await outcome(issuers, TOKEN) == "taken"


async def test_refused_connection_is_an_outage(clock: Clock) -> None:
    """Nobody listening is an issuer that is away."""
    async with running() as gone:
        pass
    client = JwksClient(gone.url, algorithms=ASYMMETRIC, public_only=False, clock=clock)
    with pytest.raises(IssuerUnavailable):
        await client.find(HEADER)


async def test_name_that_cannot_be_resolved_is_an_outage(clock: Clock) -> None:
    """So is a name without an address."""
    client = JwksClient("http://x.invalid/", algorithms=ASYMMETRIC, public_only=False, clock=clock)
    with pytest.raises(IssuerUnavailable):
        await client.find(HEADER)


async def test_old_keys_end_some_day(server: Server, issuers: Issuers, clock: Clock) -> None:
    """An outage is survived for a day and not for ever."""
    assert await outcome(issuers, TOKEN) == "taken"
    server.serve(b"")
    clock.now += MAX_AGE_S
    assert await outcome(issuers, TOKEN) == "taken"
    clock.now += MAX_STALE_S - MAX_AGE_S - 1
    assert await outcome(issuers, TOKEN) == "taken"
    clock.now += 1
    assert await outcome(issuers, TOKEN) == "issuer_unavailable"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_slow_issuer_is_given_up_on(
    said: bytes, server: Server, issuers: Issuers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One deadline covers everything; when it strikes once, nobody waits for the next."""
    assert fetching.DEADLINE_S <= 5
    assert await outcome(issuers, TOKEN) == "taken"
    monkeypatch.setattr("chatkeep.jwks.DEADLINE_S", 0.05)
    server.hold(said)
    clock.now += MAX_AGE_S
    assert await outcome(issuers, TOKEN) == "taken"
    assert await outcome(issuers, ROTATED) == "issuer_unavailable"
    clock.now += COOLDOWN_S
    monkeypatch.setattr("chatkeep.jwks.DEADLINE_S", 3600.0)
    async with asyncio.timeout(PATIENCE_S):
        assert await outcome(issuers, TOKEN) == "taken"
    assert server.connections == 2


async def test_dripping_issuer_is_given_up_on(
    server: Server, issuers: Issuers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then does not stretch the deadline."""
    monkeypatch.setattr("chatkeep.jwks.DEADLINE_S", 0.1)

    async def drip(writer: asyncio.StreamWriter) -> None:
        for byte in response(OLD):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)

    server.answer = drip
    assert await outcome(issuers, TOKEN) == "issuer_unavailable"


async def test_leader_who_hangs_up_takes_nobody_down(server: Server, issuers: Issuers) -> None:
    """The request that started the fetch may be cancelled; the others are served by it."""
    server.hold()
    leader = asyncio.create_task(issuers.authenticate(TOKEN))
    await server.arrived.wait()
    followers = [asyncio.create_task(outcome(issuers, TOKEN)) for _ in range(20)]
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    server.let_go.set()
    assert {*await asyncio.gather(*followers)} == {"taken"}
    assert server.connections == 1


async def test_closing_ends_a_fetch_under_way(server: Server, client: JwksClient) -> None:
    """A server that shuts down does not wait for its issuers."""
    server.hold()
    asking = asyncio.create_task(client.find(HEADER))
    await server.arrived.wait()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert client._flight is None


# --- what it takes ----------------------------------------------------------------------------


async def test_unfit_keys_are_left_out_with_a_word(
    server: Server, issuers: Issuers, caplog: pytest.LogCaptureFixture
) -> None:
    """A poisoned set costs its bad keys only, and the log says so."""
    poison = {"kty": "oct", "k": "c2VjcmV0", "kid": "key-EdDSA", "alg": "HS256"}
    server.body = document(
        poison, jwk("ES256", kid="twice"), jwk("ES512", kid="twice"), jwk("ES256")
    )
    with caplog.at_level(logging.WARNING):
        assert await outcome(issuers, TOKEN) == "taken"
    forged = forge.forge(header("HS256", kid="key-EdDSA"), sign=forge.hmac_signer(b"secret"))
    assert await outcome(issuers, forged) == "token_invalid"
    assert await outcome(issuers, token_of("twice")) == "token_invalid"
    assert caplog.text.count("is left out") == 2
    assert "secret or private" in caplog.text
    assert "c2VjcmV0" not in caplog.text


async def test_key_without_alg_serves_better_auths_tokens(server: Server, issuers: Issuers) -> None:
    """An OKP key with `crv`, `x`, `kty` and `kid` alone is what some issuers publish."""
    server.body = document(jwk("EdDSA", use=...))
    assert await outcome(issuers, ROTATED) == "taken"
    server.body = document(jwk("EdDSA", alg=..., use=...))
    assert await outcome(issuers, ROTATED) == "taken"


async def test_question_is_plain(server: Server, issuers: Issuers) -> None:
    """It asks for JSON, uncompressed, and says nothing about who is signing in."""
    await outcome(issuers, TOKEN)
    (request,) = server.requests
    assert request.startswith("GET /jwks.json HTTP/1.1\r\n")
    lowered = request.lower()
    assert "accept-encoding: identity" in lowered
    assert "cookie" not in lowered
    assert "authorization" not in lowered


# --- where it goes ----------------------------------------------------------------------------


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """Return the TLS of a server that nobody vouches for."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    began, key = dt.datetime.now(dt.UTC), forge.EC_KEYS["ES256"]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(began)
        .not_valid_after(began + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = tmp_path / "both.pem"
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_certificate_that_nobody_vouches_for_is_refused(
    self_signed: ssl.SSLContext, clock: Clock
) -> None:
    """Over https the issuer has to prove its name."""
    async with running(self_signed) as server:
        client = JwksClient(server.url, algorithms=ASYMMETRIC, public_only=False, clock=clock)
        with pytest.raises(IssuerUnavailable):
            await client.find(HEADER)
        assert server.requests == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"]
)
async def test_private_address_is_refused_in_production(host: str, clock: Clock) -> None:
    """Not even a connection is made to an address that is not on the public internet."""
    async with running() as server:
        url = server.url.replace("http:", "https:").replace("127.0.0.1", host)
        client = JwksClient(url, algorithms=ASYMMETRIC, public_only=True, clock=clock)
        with pytest.raises(IssuerUnavailable):
            await client.find(HEADER)
        assert server.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
        *("::127.0.0.1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "192.0.0.192"),
        *("192.88.99.1", "3fff::1", "5f00::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_address_that_is_not_public_is_known_as_such(host: str) -> None:
    """Loopback, private, link-local, shared, multicast, and each of these in disguise."""
    assert not is_public(host)


@pytest.mark.parametrize("host", ["1.1.1.1", "104.18.38.10", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_address_is_known_as_such(host: str) -> None:
    """What the world can reach may be asked."""
    assert is_public(host)


def test_socket_is_made_for_a_public_address_only() -> None:
    """The address about to be connected to decides, not the name that led there."""
    public = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("1.1.1.1", 443))
    fetching._public_socket(public).close()
    with pytest.raises(OSError, match="not a public address"):
        fetching._public_socket((*public[:4], ("10.0.0.1", 443)))


@pytest.mark.parametrize(
    "url", ["http://x.example/", "ftp://x.example/", "file:///etc/passwd", "", "x.example"]
)
def test_only_https_is_asked_in_production(url: str) -> None:
    """Keys that anybody on the way could change are not fetched."""
    with pytest.raises(ValueError, match="https"):
        JwksClient(url, algorithms=ASYMMETRIC, public_only=True)
