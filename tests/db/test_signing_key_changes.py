"""Keys take turns: published before they sign, and after; revoked ones are good for nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from chatkeep import audit, tokens
from chatkeep.db import AUTH, Database
from chatkeep.errors import DatabaseUnavailable, SetupError, TokenInvalid, Unavailable
from chatkeep.reencryption import reencrypt
from chatkeep.signing_keys import changes, load_signing_keys, open_ring
from chatkeep.signing_keys.imported import private_key_of, shared_secret_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from chatkeep.signing_keys import SigningKeys
    from tests.postgres_servers import Server

    Made = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey

SECRET = b"s" * 32
NEW_SECRET = b"n" * 32
WAIT = timedelta(minutes=20)
SHARED = b"the secret of a former issuer: 0123456789abcdef"
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


@pytest.fixture
def address(postgres: Server) -> Iterator[str]:
    """The administrator's address of a database that this test alone uses."""
    name = postgres.new_database(template=postgres.migrated_template())
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
async def own(address: str) -> AsyncIterator[Database]:
    """The door to it, with a first key."""
    opened = Database(address, pool_size=3)
    await opened.open()
    await load_signing_keys(opened, SECRET)
    yield opened
    await opened.close()


async def let_time_pass(db: Database, how_long: str) -> None:
    """Move all that the keys remember into the past."""
    await db.execute(
        AUTH,
        "update chatkeep.signing_keys set created_at = created_at - %s::interval,"
        " signs_since = signs_since - %s::interval, retired_at = retired_at - %s::interval",
        (how_long, how_long, how_long),
    )


def published(keys: SigningKeys) -> set[str]:
    """Return the ids in the published set, of which none has a private member."""
    found = msgspec.json.decode(keys.jwks)["keys"]
    assert all(not PRIVATE & one.keys() for one in found)
    return {one["kid"] for one in found}


async def test_a_key_is_published_for_the_whole_wait_before_it_signs(own: Database) -> None:
    """Asking again before that changes nothing; after it the next one is published at once."""
    first = await load_signing_keys(own, SECRET)
    asked = await changes.rotate(own, SECRET, wait=WAIT, at_once=False)
    again = await changes.rotate(own, SECRET, wait=WAIT, at_once=False)
    assert asked == again
    assert asked.ready_at is not None
    keys = await load_signing_keys(own, SECRET)
    assert keys.current.kid == first.current.kid
    assert published(keys) == {asked.current, asked.standby}
    await let_time_pass(own, "19 minutes 50 seconds")
    assert (await changes.rotate(own, SECRET, wait=WAIT, at_once=False)).ready_at is not None
    await let_time_pass(own, "11 seconds")
    done = await changes.rotate(own, SECRET, wait=WAIT, at_once=False)
    assert (done.current, done.previous, done.ready_at) == (asked.standby, asked.current, None)
    keys = await load_signing_keys(own, SECRET)
    assert keys.current.kid == asked.standby
    assert published(keys) == {done.current, done.previous, done.standby}


async def test_what_the_old_key_signed_verifies_until_its_last_token_has_ended(
    own: Database,
) -> None:
    """Published for eight days after it signed last: a session cookie lives for seven."""
    before = await load_signing_keys(own, SECRET)
    await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    assert before.current.kid in published(await load_signing_keys(own, SECRET))
    await let_time_pass(own, "7 days 23 hours")
    assert before.current.kid in published(await load_signing_keys(own, SECRET))
    await let_time_pass(own, "1 hour 1 second")
    assert before.current.kid not in published(await load_signing_keys(own, SECRET))


async def test_in_an_emergency_a_key_signs_at_once(own: Database) -> None:
    """With nothing waiting, one is made; the log says that it did not wait."""
    before = await load_signing_keys(own, SECRET)
    done = await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    after = await load_signing_keys(own, SECRET)
    assert after.current.kid == done.current != before.current.kid
    (entry,) = await audit.listed(own, action="signing_key.rotated")
    assert (entry.actor, entry.details["at_once"]) == ("operator", True)


async def test_the_key_that_signs_cannot_be_revoked_and_any_other_can(own: Database) -> None:
    """A revoked one is neither published nor kept in private, and stays revoked."""
    done = await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    with pytest.raises(SetupError, match="rotate --now"):
        await changes.revoke(own, done.current)
    with pytest.raises(SetupError, match="no key"):
        await changes.revoke(own, "none of ours")
    for kid in (str(done.previous), str(done.standby), str(done.standby)):
        await changes.revoke(own, kid)
    keys = await load_signing_keys(own, SECRET)
    assert published(keys) == {done.current}
    assert len(await audit.listed(own, action="signing_key.revoked")) == 2


async def test_retired_and_revoked_keys_keep_no_private_half(own: Database, address: str) -> None:
    """What signs no more cannot be made to sign again."""
    done = await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    await changes.revoke(own, str(done.standby))
    with psycopg.connect(address) as connection:
        kept = connection.execute(
            "select status from chatkeep.signing_keys where private_key <> ''"
        ).fetchall()
    assert kept == [("current",)]


MADE_ELSEWHERE: dict[str, Callable[[], Made]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", MADE_ELSEWHERE)
async def test_an_imported_key_signs_when_its_turn_comes(own: Database, algorithm: str) -> None:
    """Not before the wait; what it signs verifies with what is published."""
    made = MADE_ELSEWHERE[algorithm]()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = private_key_of(pem, SECRET)
    await changes.add(own, key)
    with pytest.raises(SetupError, match="there already"):
        await changes.add(own, private_key_of(pem, SECRET))
    assert (await changes.rotate(own, SECRET, wait=WAIT, at_once=False)).ready_at is not None
    await let_time_pass(own, "21 minutes")
    assert (await changes.rotate(own, SECRET, wait=WAIT, at_once=False)).current == key.kid
    keys = await load_signing_keys(own, SECRET)
    token = tokens.issue({"sub": "ana", "aud": "a", "iat": 1, "exp": 2}, keys.current)
    rules = tokens.Rules(iss=None, audiences=frozenset({"a"}), algorithms=frozenset({algorithm}))
    assert tokens.verify(token, keys=keys.verifying, rules=rules, now=1)["sub"] == "ana"
    assert key.kid in published(keys)


async def test_an_imported_key_is_the_next_one(own: Database) -> None:
    """It takes the place of the key that was waiting, which has signed nothing."""
    done = await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    pem = MADE_ELSEWHERE["ES256"]().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = private_key_of(pem, SECRET)
    await changes.add(own, key)
    assert published(await load_signing_keys(own, SECRET)) == {done.current, done.previous, key.kid}
    await let_time_pass(own, "21 minutes")
    assert (await changes.rotate(own, SECRET, wait=WAIT, at_once=False)).current == key.kid


@pytest.mark.parametrize(
    "pem",
    [
        b"no PEM",
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        rsa.generate_private_key(65537, 1024).private_bytes(  # noqa: S505 -- that is the point
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
        ),
    ],
    ids=["no PEM", "P-384", "RSA of 1024 bits", "encrypted"],
)
def test_what_cannot_sign_safely_is_refused(pem: bytes) -> None:
    """In one sentence, before anything is stored."""
    with pytest.raises(SetupError):
        private_key_of(pem, SECRET)


@pytest.mark.parametrize(
    "text", [b"short", b"a" * 40, b"\xff" * 40], ids=["short", "same", "bytes"]
)
def test_a_shared_secret_that_can_be_guessed_is_refused(text: bytes) -> None:
    """Because whoever guesses it signs in as anybody."""
    with pytest.raises(SetupError):
        shared_secret_of(text, SECRET)


async def test_a_shared_secret_is_published_nowhere_and_never_signs(
    own: Database, address: str
) -> None:
    """It verifies, is kept encrypted, is the only one, and goes like a retired key."""
    key = shared_secret_of(SHARED + b"\n", SECRET)
    await changes.add(own, key)
    with pytest.raises(SetupError, match="already"):
        await changes.add(own, shared_secret_of(SHARED, SECRET))
    keys = await load_signing_keys(own, SECRET)
    assert key.kid not in published(keys)
    assert keys.shared.algorithms == {"HS256"}
    await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    assert (await load_signing_keys(own, SECRET)).current.alg == "ES256"
    with psycopg.connect(address) as connection:
        rows = connection.execute("select t::text from chatkeep.signing_keys t").fetchall()
        log = connection.execute("select t::text from chatkeep.audit_log t").fetchall()
    assert SHARED.hex() not in str(rows)
    assert SHARED.decode() not in str(rows) + str(log)
    await changes.revoke(own, key.kid)
    assert len((await load_signing_keys(own, SECRET)).shared) == 0


async def test_a_new_secret_opens_what_was_encrypted_anew(own: Database) -> None:
    """Signing goes on with the same key, the audit log verifies, and it can be repeated."""
    await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    await changes.add(own, shared_secret_of(SHARED, SECRET))
    await audit.seal(own, SECRET)
    before = await load_signing_keys(own, SECRET)
    with pytest.raises(SetupError, match="neither"):
        await reencrypt(own, old=b"w" * 32, new=NEW_SECRET)
    assert (await load_signing_keys(own, SECRET)).jwks == before.jwks
    assert await reencrypt(own, old=SECRET, new=NEW_SECRET) == 4
    assert await reencrypt(own, old=SECRET, new=NEW_SECRET) == 0
    after = await load_signing_keys(own, NEW_SECRET)
    assert (after.current.kid, after.jwks) == (before.current.kid, before.jwks)
    assert len(after.shared) == 1
    with pytest.raises(SetupError, match="another secret"):
        await load_signing_keys(own, SECRET)
    await audit.seal(own, NEW_SECRET)
    assert (await audit.verify(own, NEW_SECRET)).broken is None


async def test_a_running_server_follows_every_change(own: Database) -> None:
    """Its ring signs with the new key and verifies with all of them, after one look."""
    ring = await open_ring(own, SECRET)
    done = await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    assert ring.current.kid == done.previous
    await ring.look()
    assert ring.current.kid == done.current
    before = ring.published.current()
    await ring.look()
    assert ring.published.current() is before
    await changes.revoke(own, str(done.previous))
    await ring.look()
    assert ring.published.current() is not before
    assert ring.shared.current() is None


async def test_answer_that_comes_late_brings_no_old_keys_back(
    own: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two looks the one that was asked later counts, whichever is answered first."""
    ring, fetch_all = await open_ring(own, SECRET), own.fetch_all
    answered, comes = asyncio.Event(), asyncio.Event()

    async def late(*asked: Any) -> Any:  # noqa: ANN401 -- handed on
        found = await fetch_all(*asked)
        if not answered.is_set():
            answered.set()
            await comes.wait()
        return found

    monkeypatch.setattr(own, "fetch_all", late)
    ring.start()
    await answered.wait()
    done = await changes.rotate(own, SECRET, wait=WAIT, at_once=True)
    looking = asyncio.create_task(ring.look_since(ring.now()))
    await asyncio.wait([looking], timeout=0.5)
    comes.set()
    await looking
    for _ in range(10):
        await asyncio.sleep(0)
    assert ring.current.kid == done.current
    await ring.close()


async def test_key_that_nobody_could_look_for_is_not_one_that_is_unknown(
    own: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a look that fails is told to come again, and nobody is signed out."""
    ring, wanted = await open_ring(own, SECRET), tokens.Header("ES256", "unknown", "jwt")

    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(own, "fetch_all", away)
        finding = [ring.published.find(wanted) for _ in range(3)]
        found = await asyncio.gather(*finding, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in found)
    with pytest.raises(TokenInvalid):
        await ring.published.find(wanted)
