"""Refresh tokens rotate, converge under races, and take the family with them when stolen."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.devices import Device
from chatkeep.errors import (
    Invalid,
    InvalidCredentials,
    RefreshTokenNotFound,
    RefreshTokenReused,
    SessionExpired,
    SessionNotFound,
    TokenInvalid,
    Unavailable,
)
from chatkeep.issuance import Grant, Here
from chatkeep.principal import Principal
from chatkeep.sessions.refresh_tokens import RefreshToken
from chatkeep.sign_in import password_accounts
from chatkeep.sign_in.password_accounts import Wish
from tests.machine_time import quick
from tests.signing_in import (
    DEVICE,
    PASSWORD,
    locate,
    new_address,
    open_test_issuer,
    shown,
    sign_up,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer
    from tests.postgres_servers import MigratedDatabase


#: How often each race is run; `make races` runs more.
RACES = int(os.environ.get("RACES", "50"))


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """The issuer of this module's database."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


def let_time_pass(database: MigratedDatabase, grant: Grant, how_long: str) -> None:
    """Move all that the session remembers into the past."""
    database.operate(
        "update public.user_sessions set refreshed_at = refreshed_at - %s::interval,"
        " created_at = created_at - %s::interval, expires_at = expires_at - %s::interval,"
        " last_activity_at = last_activity_at - %s::interval where id = %s",
        *[how_long] * 4,
        grant.session_id,
    )


async def refresh(issuer: EmbeddedIssuer, grant: Grant) -> Grant:
    """Exchange the refresh token of *grant*."""
    return await issuer.refresh(grant.refresh_token, DEVICE)


async def refresh_until_served(issuer: EmbeddedIssuer, grant: Grant) -> Grant:
    """Try again while the answer is "busy", as clients do."""
    while True:
        with suppress(Unavailable):
            return await refresh(issuer, grant)


async def is_dead(issuer: EmbeddedIssuer, *grants: Grant) -> bool:
    """Whether neither the refresh nor the access token of any of *grants* works any more."""
    for grant in grants:
        with pytest.raises(RefreshTokenNotFound):
            await refresh(issuer, grant)
        with pytest.raises(SessionNotFound):
            await locate(issuer, grant)
        assert issuer.revocations.knows(shown(grant.session_id))
    return True


async def test_refresh_rotates_and_keeps_the_session(issuer: EmbeddedIssuer) -> None:
    """Each exchange gives another refresh token of the same session and person."""
    first = await sign_up(issuer)
    second = await refresh(issuer, first)
    third = await refresh(issuer, second)
    grants = (first, second, third)
    assert len({one.refresh_token for one in grants}) == 3
    assert len({one.access_token for one in grants}) == 3
    assert {one.session_id for one in grants} == {first.session_id}
    assert [one.counter for one in grants] == [1, 2, 3]
    assert third.user.id == first.user.id


async def test_every_sign_in_is_a_session_of_its_own(issuer: EmbeddedIssuer) -> None:
    """Two devices do not share a session."""
    email = new_address()
    first = await sign_up(issuer, email)
    second = await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    assert first.session_id != second.session_id


@pytest.mark.parametrize("many", [2, 10, 100])
async def test_parallel_refreshes_get_one_successor(issuer: EmbeddedIssuer, many: int) -> None:
    """However many exchange one token at once, all get the same next one, and it works."""
    first = await sign_up(issuer)
    grants = await asyncio.gather(*(refresh(issuer, first) for _ in range(many)))
    assert len({one.refresh_token for one in grants}) == 1
    assert sum(not one.again for one in grants) == 1
    assert (await refresh(issuer, grants[-1])).counter == 3


async def test_parallel_chains_converge(issuer: EmbeddedIssuer) -> None:
    """Tabs that refresh again and again at once never sign each other out."""
    first = await sign_up(issuer)

    async def tab() -> Grant:
        grant = await refresh(issuer, first)
        return await refresh(issuer, grant)

    grants = await asyncio.gather(*(tab() for _ in range(20)))
    assert {one.counter for one in grants} == {3}
    assert await refresh(issuer, grants[0])


async def test_lost_answer_is_given_again(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """The previous token gets the same successor while that was never used, days later too."""
    first = await sign_up(issuer)
    second = await refresh(issuer, first)
    let_time_pass(database, first, "6 days")
    again = await refresh(issuer, first)
    assert again.refresh_token == second.refresh_token
    assert again.again
    assert (await refresh(issuer, second)).counter == 3


async def test_slow_request_is_served_within_the_grace(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """A token whose successor was used some seconds ago still gets that successor."""
    first = await sign_up(issuer)
    second = await refresh(issuer, first)
    third = await refresh(issuer, second)
    let_time_pass(database, first, "9 seconds")
    assert (await refresh(issuer, first)).refresh_token == second.refresh_token
    assert (await refresh(issuer, third)).counter == 4


@pytest.mark.parametrize(
    ("there", "dies"), [("2001:db8::8:1", False), ("2001:db8:0:1::7", True), ("192.0.2.7", True)]
)
async def test_grandparent_from_another_network_ends_the_family(
    issuer: EmbeddedIssuer, there: str, dies: bool
) -> None:
    """Slow parallel requests come from one network; from another it is a copy, grace or not."""
    home = Device(name="Firefox on Linux", address="2001:db8::7")
    first = await sign_up(issuer)
    second = await issuer.refresh(first.refresh_token, home)
    third = await issuer.refresh(second.refresh_token, home)
    late = issuer.refresh(first.refresh_token, replace(home, address=there))
    if not dies:
        assert (await late).refresh_token == second.refresh_token
        return
    with pytest.raises(RefreshTokenReused):
        await late
    assert await is_dead(issuer, first, second, third)


async def test_old_token_after_the_grace_ends_the_family(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Reuse is refused, and the newest tokens of the family are dead from then on."""
    first = await sign_up(issuer)
    second = await refresh(issuer, first)
    third = await refresh(issuer, second)
    let_time_pass(database, first, "11 seconds")
    with pytest.raises(RefreshTokenReused):
        await refresh(issuer, first)
    assert await is_dead(issuer, first, second, third)


async def test_token_older_than_two_steps_ends_the_family_at_once(issuer: EmbeddedIssuer) -> None:
    """Within the grace, too, a token that lags three steps behind is a copy in other hands."""
    first = await sign_up(issuer)
    grants = [first]
    for _ in range(3):
        grants.append(await refresh(issuer, grants[-1]))
    with pytest.raises(RefreshTokenReused):
        await refresh(issuer, first)
    assert await is_dead(issuer, *grants)


async def test_reuse_ends_that_family_only(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """The person's other devices stay signed in."""
    email = new_address()
    first = await sign_up(issuer, email)
    other = await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    await refresh(issuer, await refresh(issuer, first))
    let_time_pass(database, first, "1 minute")
    with pytest.raises(RefreshTokenReused):
        await refresh(issuer, first)
    assert await refresh(issuer, other)


async def test_end_of_a_family_is_committed_before_it_is_told(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """The moment the refusal is known, another connection sees why the session ended."""
    first = await sign_up(issuer)
    await refresh(issuer, await refresh(issuer, first))
    let_time_pass(database, first, "1 minute")
    with pytest.raises(RefreshTokenReused):
        await refresh(issuer, first)
    with psycopg.connect(database.admin_url) as connection:
        found = connection.execute(
            "select is_active, reason, revoked_at is not null from public.user_sessions"
            " where id = %s",
            [first.session_id],
        ).fetchone()
    assert found == (False, "refresh_token_reused", True)


async def test_parallel_thieves_do_not_revive_a_family(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Old and newest tokens shown at once: whatever the order, the family is dead after."""
    first = await sign_up(issuer)
    newest = await refresh(issuer, await refresh(issuer, first))
    let_time_pass(database, first, "1 minute")
    shown = [first, newest] * 10
    results = await asyncio.gather(*(refresh(issuer, one) for one in shown), return_exceptions=True)
    assert sum(isinstance(one, RefreshTokenReused) for one in results) == 1
    given = [one for one in results if not isinstance(one, BaseException)]
    assert await is_dead(issuer, first, newest, *given)


async def test_token_from_the_future_is_refused(issuer: EmbeddedIssuer) -> None:
    """A counter that the database never reached (it was restored) is refused, and kills nobody."""
    first = await sign_up(issuer)
    ahead = RefreshToken(session_id=first.session_id, counter=7)
    with pytest.raises(Invalid, match="Not Issued By This Server"):
        await issuer.refresh(issuer.refresh_tokens.write(ahead), DEVICE)
    assert await refresh(issuer, first)


async def test_unused_session_expires(issuer: EmbeddedIssuer, database: MigratedDatabase) -> None:
    """After seven days without a refresh: sign in again."""
    grant = await sign_up(issuer)
    let_time_pass(database, grant, "6 days 23 hours")
    grant = await refresh(issuer, grant)
    let_time_pass(database, grant, "7 days")
    with pytest.raises(SessionExpired):
        await refresh(issuer, grant)
    with pytest.raises(SessionNotFound):
        await locate(issuer, grant)


async def test_session_ends_after_thirty_days_of_use(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """However often it is refreshed, and no access token outlives it."""
    grant = await sign_up(issuer)
    for _ in range(5):
        let_time_pass(database, grant, "5 days 23 hours 59 minutes")
        grant = await refresh(issuer, grant)
    assert grant.expires_in <= 5 * 60
    let_time_pass(database, grant, "10 minutes")
    with pytest.raises(SessionExpired):
        await refresh(issuer, grant)


async def test_log_out_ends_what_its_scope_says_of_this_person(issuer: EmbeddedIssuer) -> None:
    """Local ends this device, others all but this, global all: of this person only."""
    email = new_address()
    stranger = await sign_up(issuer)
    grants = [await sign_up(issuer, email)]
    grants += [await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE) for _ in range(3)]
    await issuer.sign_out(await locate(issuer, grants[0]), "local")
    assert await is_dead(issuer, grants[0])
    await issuer.sign_out(await locate(issuer, grants[1]), "others")
    assert await is_dead(issuer, grants[2], grants[3])
    grants[1] = await refresh(issuer, grants[1])
    last = await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    await issuer.sign_out(await locate(issuer, grants[1]), "global")
    assert await is_dead(issuer, grants[1], last)
    assert await refresh(issuer, stranger)


async def test_log_out_during_refresh_leaves_no_live_token(issuer: EmbeddedIssuer) -> None:
    """Races of log-out against refresh: afterwards nothing of the session works."""
    email = new_address()
    await sign_up(issuer, email)
    refreshed = 0
    for delay in range(RACES):
        grant = await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
        here = await locate(issuer, grant)

        async def late(turns: int, here: Here = here) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await issuer.sign_out(here, "local")

        results = await asyncio.gather(
            *(refresh(issuer, grant) for _ in range(3)), late(delay % 12), return_exceptions=True
        )
        given = [one for one in results if isinstance(one, Grant)]
        refreshed += bool(given)
        assert await is_dead(issuer, grant, *given)
    assert refreshed


async def test_new_password_ends_the_other_sessions(issuer: EmbeddedIssuer) -> None:
    """Whoever else was signed in is out; this device stays."""
    email = new_address()
    mine = await sign_up(issuer, email)
    others = [await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE) for _ in range(3)]
    await password_accounts.update(issuer, await locate(issuer, mine), Wish(password="another one"))
    assert await is_dead(issuer, *others)
    assert await refresh(issuer, mine)


async def test_sign_in_with_the_old_password_never_outlives_its_change(
    issuer: EmbeddedIssuer,
) -> None:
    """Eight races: a session begun with the old password is dead once it was changed."""
    email = new_address()
    mine = await sign_up(issuer, email)
    old = PASSWORD
    for number in range(8):
        here, new = await locate(issuer, mine), f"password {number}"
        sign_ins = [password_accounts.sign_in(issuer, email, old, DEVICE) for _ in range(3)]
        results = await asyncio.gather(
            *sign_ins,
            password_accounts.update(issuer, here, Wish(password=new)),
            return_exceptions=True,
        )
        for one in results:
            if isinstance(one, Grant):
                assert await is_dead(issuer, one)
            elif isinstance(one, BaseException):
                assert isinstance(one, InvalidCredentials)
        old = new


async def test_ended_session_cannot_change_the_password_back(issuer: EmbeddedIssuer) -> None:
    """A change that was begun in a session which another change has ended is refused."""
    email = new_address()
    mine = await locate(issuer, await sign_up(issuer, email))
    thief = await locate(issuer, await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE))
    await password_accounts.update(issuer, mine, Wish(password="another one"))
    with pytest.raises(SessionNotFound):
        await password_accounts.update(
            issuer, thief, Wish(password="the thief's own", email=new_address())
        )
    assert await password_accounts.sign_in(issuer, email, "another one", DEVICE)


async def test_operator_ends_a_session_by_hand(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """An update typed in psql is as good as a log-out."""
    grant = await sign_up(issuer)
    database.operate(
        "update public.user_sessions set is_active = false where id = %s",
        grant.session_id,
    )
    await issuer.revocations.catch_up()
    assert await is_dead(issuer, grant)


async def test_session_is_described(issuer: EmbeddedIssuer, database: MigratedDatabase) -> None:
    """Device and address are those of the last refresh; the way of signing in is kept."""
    grant = await sign_up(issuer)
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        read = (
            "select device, host(address), amr->0->>'method' from public.user_sessions"
            " where id = %s"
        )
        found = connection.execute(read, [grant.session_id]).fetchone()
        assert found == ("Firefox on Linux", "192.0.2.7", "password")
        await issuer.refresh(
            grant.refresh_token, type(DEVICE)(name="Safari on iPhone", address="2001:db8::1")
        )
        found = connection.execute(read, [grant.session_id]).fetchone()
        assert found == ("Safari on iPhone", "2001:db8::1", "password")


async def test_activity_is_written_at_most_once_a_minute(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Looking oneself up writes nothing, until the last note is a minute old."""
    grant = await sign_up(issuer)
    first = (await locate(issuer, grant)).session.last_activity_at
    assert (await locate(issuer, grant)).session.last_activity_at == first
    let_time_pass(database, grant, "61 seconds")
    await locate(issuer, grant)
    assert (await locate(issuer, grant)).session.last_activity_at >= first


async def test_busy_session_is_unavailable_not_lost(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """While somebody holds the session's row, a refresh ends as "busy" in bounded time."""
    grant = await sign_up(issuer)
    async with await psycopg.AsyncConnection.connect(database.admin_url) as holder:
        await holder.execute(
            "select from public.user_sessions where id = %s for update", [grant.session_id]
        )
        with quick(5.0), pytest.raises(Unavailable) as busy:
            await refresh(issuer, grant)
        assert busy.value.retry_after_s
    assert await refresh(issuer, grant)


async def test_database_holds_nothing_that_refreshes(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """No column of the session contains the token or a part of its proof."""
    grant = await sign_up(issuer)
    with psycopg.connect(database.admin_url) as connection:
        row = connection.execute(
            "select to_jsonb(s)::text from public.user_sessions s where id = %s", [grant.session_id]
        ).fetchone()
    assert row is not None
    assert grant.refresh_token[-20:] not in row[0]


async def test_killed_connection_leaves_one_usable_token(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Whenever the server dies during a refresh, the shown token or its successor works after."""
    for _ in range(RACES):
        grant = await sign_up(issuer)
        going = asyncio.ensure_future(refresh(issuer, grant))
        await asyncio.sleep(0)
        database.operate(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()",
        )
        (result,) = await asyncio.gather(going, return_exceptions=True)
        assert isinstance(result, Grant | Unavailable)
        assert (await refresh_until_served(issuer, grant)).counter == 2


async def test_tokens_of_others_are_refused(issuer: EmbeddedIssuer) -> None:
    """A principal of another issuer, or one without a session, is nobody here."""
    here = await locate(issuer, await sign_up(issuer))
    for issuer_name, session_id in (("supabase", str(here.session.id)), ("embedded", None)):
        principal = Principal(
            user_id=here.session.user_id,
            issuer=issuer_name,
            subject=str(here.user.id),
            session_id=session_id,
        )
        with pytest.raises(TokenInvalid):
            await issuer.locate(principal)


async def test_session_of_somebody_else_is_not_found(issuer: EmbeddedIssuer) -> None:
    """Person and session must belong together."""
    ana, bo = [await locate(issuer, await sign_up(issuer)) for _ in range(2)]
    principal = Principal(
        user_id=ana.session.user_id,
        issuer="embedded",
        subject=str(ana.user.id),
        session_id=str(bo.session.id),
    )
    with pytest.raises(SessionNotFound):
        await issuer.locate(principal)
