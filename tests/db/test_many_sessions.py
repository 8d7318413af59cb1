"""One person with sessions without number: everything goes on, and nobody waits for them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.db import AUTH
from chatkeep.limits.known_networks import signed_in_from
from chatkeep.revocations import Revocations
from chatkeep.sessions import forgetting as old_sessions
from chatkeep.sessions import own as own_sessions
from chatkeep.sessions.administration import force_out
from chatkeep.sessions.records import ENDED_AT_ONCE, beyond
from chatkeep.sign_in import password_accounts
from tests.machine_time import quick
from tests.patience import PATIENCE_S
from tests.serving import until
from tests.signing_in import DEVICE, PASSWORD, locate, new_address, open_test_issuer, shown, sign_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import LiteralString

    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer
    from tests.postgres_servers import MigratedDatabase

MANY = 20_000
QUICK_S = 10.0


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """Our own issuer."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


def begin_many(database: MigratedDatabase, user_id: str, times: int = MANY) -> None:
    """Begin that many sessions, all of them yesterday."""
    database.operate(
        "insert into user_sessions (user_id, id, expires_at, last_activity_at, created_at, address)"
        " select %s, gen_random_uuid(), now() + interval '7 d', at, at, '192.0.2.1' from"
        " (select now() - interval '1 d' - n * interval '1 s' as at from"
        " generate_series(1, %s) n) many",
        user_id,
        times,
    )


async def test_everybody_goes_on_beside_many_sessions_of_one(
    issuer: EmbeddedIssuer, db: Database, database: MigratedDatabase
) -> None:
    """Signing in, looking at the list and ending them all; and somebody else meanwhile."""
    email = new_address()
    me = await sign_up(issuer, email)
    user_id = issuer.user_id_of(me.user.id)
    begin_many(database, user_id)
    with quick(QUICK_S):
        grant = await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
        assert len(await own_sessions.list_sessions(db, user_id)) == own_sessions._LISTED_AT_MOST
        assert await signed_in_from(db, "", email, "192.0.2.0/24")
    waits: list[float] = []  # one after the other, while twenty turns are taken
    over = asyncio.Event()

    async def somebody_else() -> None:
        while not over.is_set():
            started = time.monotonic()
            other = await sign_up(issuer)
            await issuer.sign_out(await locate(issuer, other), "local")
            waits.append(time.monotonic() - started)

    busy = asyncio.create_task(somebody_else())
    await issuer.sign_out(await locate(issuer, grant), "global")
    over.set()
    await busy
    assert len(waits) >= 5, "a log-out waited for the end of all those others"
    (left,) = database.operate(
        "select count(*) from user_sessions where user_id = %s and is_active", user_id
    )
    assert left == (0,)


async def test_what_ends_together_shares_a_number(
    issuer: EmbeddedIssuer, db: Database, database: MigratedDatabase
) -> None:
    """A plain statement that ends thousands is quick, and every node learns all of them."""
    me = await sign_up(issuer)
    user_id = issuer.user_id_of(me.user.id)
    begin_many(database, user_id, 5000)
    elsewhere = Revocations(db)
    await elsewhere.catch_up()
    database.operate("update user_sessions set is_active = false where user_id = %s", user_id)
    await elsewhere.catch_up()
    ids = database.operate("select id from user_sessions where user_id = %s", user_id)
    assert all(elsewhere.knows(shown(one)) for (one,) in ids)
    numbers = database.operate(
        "select count(distinct number), count(*) from chatkeep.revocations where subject in"
        " (select id::text from user_sessions where user_id = %s)",
        user_id,
    )
    assert numbers == [(1, 5001)]


async def test_two_transactions_never_share_a_number(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Not even on one connection, with a savepoint that was rolled back between."""
    grants = [await sign_up(issuer) for _ in range(3)]
    end: LiteralString = "update user_sessions set is_active = false where id = %s"
    with psycopg.connect(database.admin_url) as operator:
        operator.execute("set chatkeep.revoking = '1 1'")
        operator.execute("set constraints all immediate")
        operator.execute("savepoint before")
        operator.execute(end, [grants[0].session_id])
        operator.execute("rollback to before")
        operator.execute(end, [grants[1].session_id])
        operator.commit()
        operator.execute(end, [grants[2].session_id])
        operator.commit()
    numbers = database.operate(
        "select subject, number from chatkeep.revocations where subject = any(%s)",
        [str(one.session_id) for one in grants],
    )
    assert {one for one, _ in numbers} == {str(one.session_id) for one in grants[1:]}
    assert len({number for _, number in numbers}) == 2
    (newest,) = database.operate("select newest from chatkeep.revocation_numbers")
    assert newest[0] == max(number for _, number in numbers)


@pytest.mark.parametrize(
    ("age", "kept"),
    [
        ("expires_at = now() - interval '89 d'", True),
        ("expires_at = now() - interval '91 d'", False),
        ("is_active = false, revoked_at = now() - interval '89 d'", True),
        ("is_active = false, revoked_at = now() - interval '91 d'", False),
        ("issuer = 'supabase', expires_at = now() - interval '1 d'", True),
        ("issuer = 'supabase', expires_at = now() - interval '3 d'", False),
        ("last_activity_at = now() - interval '1 year'", True),
    ],
)
async def test_only_old_sessions_are_forgotten(
    issuer: EmbeddedIssuer,
    db: Database,
    database: MigratedDatabase,
    age: LiteralString,
    *,
    kept: bool,
) -> None:
    """What lives stays, and what ended stays as long as it says something."""
    grant = await sign_up(issuer)
    database.operate(
        "update user_sessions set " + age + " where id = %s",  # noqa: S608 -- one of those above
        grant.session_id,
    )
    await old_sessions.forget(db)
    left = database.operate("select id from user_sessions where id = %s", grant.session_id)
    assert bool(left) is kept


async def test_forgetting_waits_for_nobody_and_tells_no_node(
    issuer: EmbeddedIssuer, db: Database, database: MigratedDatabase
) -> None:
    """Rows that somebody holds are passed over; the end of what expired long ago is no news."""
    me = await sign_up(issuer)
    user_id = issuer.user_id_of(me.user.id)
    begin_many(database, user_id, 3500)
    database.operate(
        "update user_sessions set expires_at = now() - interval '91 d' where user_id = %s",
        user_id,
    )
    before = database.operate("select newest from chatkeep.revocation_numbers")
    with psycopg.connect(database.admin_url) as operator:
        operator.execute("select from user_sessions where id = %s for update", [me.session_id])
        assert await asyncio.wait_for(old_sessions.forget(db), PATIENCE_S) == 3500
    assert await old_sessions.forget(db) == 1
    assert database.operate("select newest from chatkeep.revocation_numbers") == before


async def test_session_that_somebody_else_is_ending_ends_once(
    issuer: EmbeddedIssuer, db: Database, database: MigratedDatabase
) -> None:
    """Who signs in has the oldest end as one too many, while its device is logging out."""
    me = await sign_up(issuer)
    bounds = replace(issuer.bounds, at_most=0)
    logged_out = "update user_sessions set is_active = false, reason = 'logout' where id = %s"
    with psycopg.connect(database.admin_url) as device:
        device.execute(logged_out, [me.session_id])
        ending = asyncio.create_task(
            db.fetch_all(AUTH, beyond(issuer.user_id_of(me.user.id), bounds))
        )
        await until(lambda: database.waiting_for_locks() > 0)
        device.commit()
    assert await ending == [[]]
    found = database.operate("select reason from user_sessions where id = %s", me.session_id)
    assert found == [("logout",)]


async def test_list_is_read_off_an_index(database: MigratedDatabase) -> None:
    """The newest are found without looking at all the others."""
    begin_many(database, "somebody")
    database.operate("analyze user_sessions")
    plan = database.operate(
        "explain select id from user_sessions where user_id = 'somebody' and is_active"
        " and expires_at > now() order by last_activity_at desc, id desc limit 200",
    )
    assert "user_sessions_active" in str(plan)
    assert "Sort" not in str(plan)


async def test_administrators_end_them_in_turns_too(
    issuer: EmbeddedIssuer, db: Database, database: MigratedDatabase
) -> None:
    """However many somebody has, no transaction ends more than others can wait for."""
    me = await sign_up(issuer)
    user_id = issuer.user_id_of(me.user.id)
    begin_many(database, user_id, 3500)
    assert await force_out(db, issuer.revocations, user_id, actor="an operator") == 3501
    turns = database.operate(
        "select count(*) from chatkeep.revocations where subject in"
        " (select id::text from user_sessions where user_id = %s and not is_active)"
        " group by number",
        user_id,
    )
    assert sum(size for (size,) in turns) == 3501
    assert max(size for (size,) in turns) <= ENDED_AT_ONCE
    noted = database.operate(
        "select actor, reason, count(*) from chatkeep.audit_log where user_id = %s"
        " and action = 'session.ended' group by actor, reason",
        user_id,
    )
    assert noted == [("an operator", "forced_out", 3501)]
