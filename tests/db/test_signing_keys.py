"""Signing keys are made once, kept encrypted, and open with the right secret only."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING

import msgspec
import psycopg
import pytest

from chatkeep import tokens
from chatkeep.db import AUTH, Database
from chatkeep.errors import SetupError
from chatkeep.signing_keys import load_signing_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.postgres_servers import MigratedDatabase

SECRET = b"s" * 32


@pytest.fixture
async def empty(db: Database) -> AsyncIterator[Database]:
    """A database without keys, before and after."""
    statement = "update chatkeep.signing_keys set status = 'revoked'"
    await db.execute(AUTH, statement, ())
    yield db
    await db.execute(AUTH, statement, ())


async def test_first_start_makes_a_key_and_the_next_keeps_it(empty: Database) -> None:
    """The key that signs is the same after a restart."""
    first = await load_signing_keys(empty, SECRET)
    again = await load_signing_keys(empty, SECRET)
    assert first.current.kid == again.current.kid
    assert first.jwks == again.jwks


async def test_nodes_that_start_together_make_one_key(
    empty: Database, database: MigratedDatabase
) -> None:
    """Twenty starts at once on connections of their own agree on one key."""
    others = [Database(database.url, pool_size=1) for _ in range(20)]
    await asyncio.gather(*(one.open() for one in others))
    loaded = await asyncio.gather(*(load_signing_keys(one, SECRET) for one in others))
    await asyncio.gather(*(one.close() for one in others))
    assert len({one.current.kid for one in loaded}) == 1
    assert len({one.jwks for one in loaded}) == 1


async def test_published_set_has_public_members_only(empty: Database) -> None:
    """Each published key says what it is for, is named by its thumbprint, and hides its half."""
    keys = await load_signing_keys(empty, SECRET)
    (published,) = msgspec.json.decode(keys.jwks)["keys"]
    assert set(published) == {"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops"}
    assert (published["alg"], published["use"], published["key_ops"]) == (
        "ES256",
        "sig",
        ["verify"],
    )
    assert published["kid"] == keys.current.thumbprint()


async def test_what_is_signed_verifies_with_what_is_published(empty: Database) -> None:
    """A token of the current key verifies with the published set."""
    keys = await load_signing_keys(empty, SECRET)
    token = tokens.issue({"sub": "ana", "aud": "a", "iat": 1, "exp": 2}, keys.current)
    rules = tokens.Rules(iss=None, audiences=frozenset({"a"}), algorithms=frozenset({"ES256"}))
    assert tokens.verify(token, keys=keys.verifying, rules=rules, now=1)["sub"] == "ana"


async def test_other_secret_is_refused_and_says_which_setting(empty: Database) -> None:
    """Starting with another secret fails in one sentence, and makes no second key."""
    before = await load_signing_keys(empty, SECRET)
    with pytest.raises(SetupError, match="CHATKEEP_SECRET"):
        await load_signing_keys(empty, b"t" * 32)
    assert (await load_signing_keys(empty, SECRET)).jwks == before.jwks


async def test_database_holds_no_private_key_in_clear(
    empty: Database, database: MigratedDatabase
) -> None:
    """What is stored contains neither the private number nor a key encoding."""
    keys = await load_signing_keys(empty, SECRET)
    with psycopg.connect(database.admin_url) as connection:
        stored = connection.execute(
            "select private_key from chatkeep.signing_keys where status = 'current'"
        ).fetchone()
    assert stored is not None
    half = keys.current.as_dict(private=True)["d"]
    assert urlsafe_b64decode(f"{half}=") not in stored[0]
    assert b"PRIVATE KEY" not in stored[0]


async def test_swapped_rows_do_not_open(empty: Database, database: MigratedDatabase) -> None:
    """A private part that was moved to another key's row is refused."""
    await load_signing_keys(empty, SECRET)
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update chatkeep.signing_keys set kid = 'other' where status = 'current'"
        )
    with pytest.raises(SetupError):
        await load_signing_keys(empty, SECRET)


async def test_waiting_and_former_keys_are_published_and_do_not_sign(
    empty: Database, database: MigratedDatabase
) -> None:
    """Standby and previous keys verify, revoked ones do not, and only the current one signs."""
    kids = {}
    for status in ("previous", "standby", "revoked", "current"):
        kids[status] = (await load_signing_keys(empty, SECRET)).current.kid
        if status == "current":
            break
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            connection.execute(
                "update chatkeep.signing_keys set status = %s where status = 'current'", [status]
            )
    keys = await load_signing_keys(empty, SECRET)
    published = {one["kid"] for one in msgspec.json.decode(keys.jwks)["keys"]}
    assert published == {kids["previous"], kids["standby"], kids["current"]}
    assert keys.current.kid == kids["current"]
