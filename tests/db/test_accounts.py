"""People sign up once per address, change themselves and nobody else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from argon2 import PasswordHasher

from chatkeep import accounts
from chatkeep.accounts import normal_address, storable
from chatkeep.db import Database
from chatkeep.errors import (
    EmailAddressInvalid,
    EmailExists,
    Invalid,
    InvalidCredentials,
    SamePassword,
    SignUpDisabled,
    UserAlreadyExists,
    UserBanned,
    UserNotFound,
    WeakPassword,
)
from chatkeep.passwords import Passwords
from chatkeep.sign_in import password_accounts
from chatkeep.sign_in.password_accounts import Wish
from tests.signing_in import (
    DEVICE,
    PASSWORD,
    SECRET,
    locate,
    new_address,
    open_test_issuer,
    sign_up,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import LiteralString

    from chatkeep.issuance import EmbeddedIssuer
    from tests.postgres_servers import MigratedDatabase


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """The issuer of this module's database."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Ana@Example.COM", "ana@example.com"),
        ("ana+chat@example.com", "ana+chat@example.com"),
        ("E\u0301va@example.com", "\u00e9va@example.com"),
        ("ana@EXÄMPLE.com", "ana@exämple.com"),
        ("ana@shop.test", "ana@shop.test"),
    ],
)
def test_address_has_one_spelling(typed: str, kept: str) -> None:
    """Case and composition do not make another person."""
    assert normal_address(typed) == kept
    assert normal_address(kept) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ana",
        "@example.com",
        "ana@",
        "ana@localhost",
        "a b@example.com",
        "ana@example.com\n",
        "ana@example.com\x00",
        "ana@ex..com",
        "x" * 250 + "@example.com",
        "<ana@example.com>",
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    """What cannot be delivered to is refused without asking the network."""
    with pytest.raises(EmailAddressInvalid):
        normal_address(typed)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": 2**63},
        {"a": -(2**63)},
        {"a": [1e300]},
        {"a": {"b": 9.3e18}},
        {"a": "x" * 4090},
    ],
)
def test_metadata_that_would_not_come_back_is_refused(metadata: dict[str, Any]) -> None:
    """Too large numbers and too much text are refused."""
    with pytest.raises(Invalid):
        storable(metadata)


def test_deep_metadata_is_refused() -> None:
    """Nesting that no reader follows is malformed input, not a failure of ours."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Invalid):
        storable({"a": deep})


def test_whole_numbers_count_as_they_will_be_written() -> None:
    """Many short 9e18 become long numbers in the database, and are measured as such."""
    assert storable({"a": 9e18}) == {"a": 9_000_000_000_000_000_000}
    with pytest.raises(Invalid):
        storable({"a": [9e18] * 300})


async def test_sign_up_makes_a_person_who_can_sign_in(issuer: EmbeddedIssuer) -> None:
    """The person is there with one identity, confirmed, and signs in with the password."""
    email = new_address()
    wish = Wish(email=email.upper(), password=PASSWORD, metadata={"name": "Ana", "n": 1.5})
    made = (await password_accounts.sign_up(issuer, wish, DEVICE)).user
    again = (
        await password_accounts.sign_in(issuer, f"{email[0].upper()}{email[1:]}", PASSWORD, DEVICE)
    ).user
    assert (made.id, made.email) == (again.id, email)
    assert again.user_metadata == {"name": "Ana", "n": 1.5}
    assert again.app_metadata == {"provider": "email", "providers": ["email"]}
    assert again.email_confirmed_at is not None
    assert again.last_sign_in_at is not None
    assert made.last_sign_in_at is not None
    assert again.last_sign_in_at > made.last_sign_in_at
    (identity,) = again.identities
    assert (identity["provider"], identity["provider_id"]) == ("email", str(made.id))
    assert identity["identity_data"]["email"] == email


async def test_token_speaks_for_the_person(issuer: EmbeddedIssuer) -> None:
    """The largest metadata still fits into a token that verifies."""
    wish = Wish(email=new_address(), password=PASSWORD, metadata={"a": "x" * 4088})
    grant = await password_accounts.sign_up(issuer, wish, DEVICE)
    here = await locate(issuer, grant)
    assert here.user == grant.user
    assert here.session.id == grant.session_id


async def test_address_signs_up_once(issuer: EmbeddedIssuer) -> None:
    """Of twenty sign-ups with one address at once, one makes an account."""
    email = new_address()
    results = await asyncio.gather(
        *(sign_up(issuer, email) for _ in range(20)), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, UserAlreadyExists)]
    assert len(refused) == 19


async def test_failed_sign_up_leaves_nothing(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """A refused sign-up makes neither account, nor identity, nor session."""
    email = new_address()
    await sign_up(issuer, email)
    count = "select count(*) from chatkeep.identities, public.user_sessions"
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        before = connection.execute(count).fetchone()
        with pytest.raises(UserAlreadyExists):
            await sign_up(issuer, email)
        assert connection.execute(count).fetchone() == before


async def test_sign_up_can_be_switched_off(db: Database) -> None:
    """With sign-up off nobody gets in, and who is there still signs in."""
    opened = await open_test_issuer(db)
    email = new_address()
    await sign_up(opened, email)
    opened.close()
    closed = await open_test_issuer(db, sign_up=False)
    with pytest.raises(SignUpDisabled):
        await sign_up(closed)
    assert (await password_accounts.sign_in(closed, email, PASSWORD, DEVICE)).user.email == email
    closed.close()


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (Wish(email="nobody", password=PASSWORD), EmailAddressInvalid),
        (Wish(email="ana@example.com", password="1234567"), WeakPassword),
        (Wish(email="ana@example.com", password="x" * 73), Invalid),
        (Wish(email="ana@example.com", password=PASSWORD, metadata={"a": 1e300}), Invalid),
        (Wish(email="ana@example.com", password=PASSWORD, metadata={"a": "\x00"}), Invalid),
    ],
)
async def test_bad_sign_up_is_refused(
    issuer: EmbeddedIssuer, wish: Wish, error: type[Exception]
) -> None:
    """Bad addresses, passwords and metadata are refused."""
    with pytest.raises(error):
        await password_accounts.sign_up(issuer, wish, DEVICE)


@pytest.mark.parametrize("password", ["wrong", "", PASSWORD + "x" * 72, PASSWORD.lower(), "\x00"])
async def test_wrong_password_is_refused(issuer: EmbeddedIssuer, password: str) -> None:
    """No other password signs in."""
    email = new_address()
    await sign_up(issuer, email)
    with pytest.raises(InvalidCredentials):
        await password_accounts.sign_in(issuer, email, password, DEVICE)


@pytest.mark.parametrize(
    "email", ["nobody@example.com", "no address", "", "%", "' or true --@example.com"]
)
async def test_unknown_person_is_refused_as_a_wrong_password(
    issuer: EmbeddedIssuer, email: str
) -> None:
    """Nothing tells whether the address has an account."""
    await sign_up(issuer)
    with pytest.raises(InvalidCredentials) as refused:
        await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    assert refused.value.detail == InvalidCredentials.default_detail


async def test_unknown_person_costs_one_password_check(
    issuer: EmbeddedIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known, unknown and impossible addresses all pay for exactly one check."""
    checks: list[bool] = []
    check = Passwords._check

    def counted(self: Passwords, password: str, stored: str | None) -> bool:
        checks.append(stored is not None)
        return check(self, password, stored)

    email = new_address()
    await sign_up(issuer, email)
    monkeypatch.setattr(Passwords, "_check", counted)
    for address in (email, "nobody@example.com", "no address"):
        with pytest.raises(InvalidCredentials):
            await password_accounts.sign_in(issuer, address, "wrong", DEVICE)
    assert checks == [True, False, False]


async def test_outdated_hash_is_renewed_at_sign_in(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Whoever comes with a hash of lower costs leaves with one of today's."""
    email = new_address()
    user = (await sign_up(issuer, email)).user
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    database.operate("update chatkeep.users set password_hash = %s where id = %s", cheap, user.id)
    await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    credential = await accounts.get_credential(issuer.db, user.id)
    assert credential.password_hash is not None
    assert not issuer.passwords.is_outdated(credential.password_hash)
    await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)


async def test_suspended_account_can_neither_sign_in_nor_refresh(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """A suspension refuses sign-in, refresh and use; a wrong password learns nothing of it."""
    email = new_address()
    grant = await sign_up(issuer, email)
    suspend = "update chatkeep.users set banned_until = now() + %s::interval where id = %s"
    database.operate(suspend, "1 hour", grant.user.id)
    with pytest.raises(InvalidCredentials):
        await password_accounts.sign_in(issuer, email, "wrong", DEVICE)
    with pytest.raises(UserBanned):
        await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    with pytest.raises(UserBanned):
        await issuer.refresh(grant.refresh_token, DEVICE)
    with pytest.raises(UserBanned):
        await locate(issuer, grant)
    database.operate(suspend, "-1 second", grant.user.id)
    assert (
        await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    ).user.id == grant.user.id
    assert await issuer.refresh(grant.refresh_token, DEVICE)


async def test_suspended_account_begins_no_session(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """A refused sign-in leaves no session behind."""
    email = new_address()
    grant = await sign_up(issuer, email)
    database.operate(
        "update chatkeep.users set banned_until = 'infinity' where id = %s",
        grant.user.id,
    )
    with pytest.raises(UserBanned):
        await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    with psycopg.connect(database.admin_url) as connection:
        sessions = connection.execute(
            "select id from public.user_sessions where user_id = %s", [str(grant.user.id)]
        ).fetchall()
    assert sessions == [(grant.session_id,)]


async def test_deleted_person_is_gone_everywhere(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Their tokens speak for nobody, and their password is like any other."""
    email = new_address()
    grant = await sign_up(issuer, email)
    database.operate("delete from chatkeep.users where id = %s", grant.user.id)
    with pytest.raises(UserNotFound):
        await locate(issuer, grant)
    with pytest.raises(InvalidCredentials):
        await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    with pytest.raises(UserNotFound):
        await accounts.get_credential(issuer.db, grant.user.id)
    with pytest.raises(UserNotFound):
        await accounts.get_user(issuer.db, uuid4())


async def test_standing_is_as_of_now(issuer: EmbeddedIssuer, database: MigratedDatabase) -> None:
    """Roles and factors count from the moment they are there; who is suspended has no standing."""
    person = (await sign_up(issuer)).user.id

    async def standing() -> tuple[frozenset[str], bool] | None:
        found = await accounts.find_standing(issuer.db, person)
        return None if found is None else (found.roles, found.has_second_factor)

    def change(said: LiteralString) -> None:
        statement = "update chatkeep.users set " + said + " where id = %s"  # noqa: S608 -- one of those below
        database.operate(statement, person)

    assert await standing() == (frozenset(), False)
    database.operate(
        "insert into chatkeep.factors (user_id, id, factor_type)"
        " values (%s, gen_random_uuid(), 'webauthn')",
        person,
    )
    assert await standing() == (frozenset(), False), "nobody has shown that factor"
    database.operate("update chatkeep.factors set status = 'verified' where user_id = %s", person)
    change("""app_metadata = '{"roles": ["admin"]}'""")
    assert await standing() == (frozenset({"admin"}), True)
    for ended, lasting in (
        ("banned_until = now() + interval '1 h'", "banned_until = now() - interval '1 s'"),
        ("deleted_at = now()", "deleted_at = null"),
    ):
        change(ended)
        assert await standing() is None
        change(lasting)
        assert await standing() is not None
    assert await accounts.find_standing(issuer.db, uuid4()) is None


async def test_metadata_is_merged_and_null_takes_out(issuer: EmbeddedIssuer) -> None:
    """A change keeps what it does not name; null removes a member; parallel ones all count."""
    here = await locate(issuer, await sign_up(issuer))
    await password_accounts.update(
        issuer, here, Wish(metadata={"a": 1, "b": "x", "gone": {"deep": True}})
    )
    user = await password_accounts.update(issuer, here, Wish(metadata={"b": "y", "gone": None}))
    assert user.user_metadata == {"a": 1, "b": "y"}
    assert user.updated_at > here.user.updated_at
    names = [f"n{number}" for number in range(8)]
    await asyncio.gather(
        *(password_accounts.update(issuer, here, Wish(metadata={name: 1})) for name in names)
    )
    kept = (await accounts.get_user(issuer.db, user.id)).user_metadata
    assert kept == {"a": 1, "b": "y"} | dict.fromkeys(names, 1)


async def test_metadata_cannot_grow_beyond_its_limit(issuer: EmbeddedIssuer) -> None:
    """Small changes do not add up to a token that nobody takes; what was there stays."""
    here = await locate(issuer, await sign_up(issuer))
    await password_accounts.update(issuer, here, Wish(metadata={"a": "x" * 3000}))
    with pytest.raises(Invalid):
        await password_accounts.update(issuer, here, Wish(metadata={"b": "x" * 3000}))
    kept = await accounts.get_user(issuer.db, here.user.id)
    assert kept.user_metadata == {"a": "x" * 3000}


async def test_address_changes_at_once(issuer: EmbeddedIssuer) -> None:
    """Sign-in follows the new address, in the account and in its identity."""
    old, new = new_address(), new_address()
    here = await locate(issuer, await sign_up(issuer, old))
    user = await password_accounts.update(issuer, here, Wish(email=new.upper()))
    assert user.email == new
    assert user.identities[0]["identity_data"]["email"] == new
    assert (await password_accounts.sign_in(issuer, new, PASSWORD, DEVICE)).user.id == user.id
    with pytest.raises(InvalidCredentials):
        await password_accounts.sign_in(issuer, old, PASSWORD, DEVICE)
    assert (await sign_up(issuer, old)).user.id != user.id


async def test_address_of_somebody_else_is_refused(issuer: EmbeddedIssuer) -> None:
    """A taken address is refused with everything else in the same change; one's own is fine."""
    taken, mine = new_address(), new_address()
    await sign_up(issuer, taken)
    here = await locate(issuer, await sign_up(issuer, mine))
    with pytest.raises(EmailExists):
        await password_accounts.update(issuer, here, Wish(email=taken, metadata={"a": 1}))
    with pytest.raises(EmailAddressInvalid):
        await password_accounts.update(issuer, here, Wish(email="nobody"))
    user = await password_accounts.update(issuer, here, Wish(email=mine))
    assert (user.email, user.user_metadata) == (mine, {})


async def test_new_password_replaces_the_old(issuer: EmbeddedIssuer) -> None:
    """The new one signs in, the old one does not; too weak and unchanged ones are refused."""
    email = new_address()
    here = await locate(issuer, await sign_up(issuer, email))
    with pytest.raises(SamePassword):
        await password_accounts.update(issuer, here, Wish(password=PASSWORD))
    with pytest.raises(WeakPassword):
        await password_accounts.update(issuer, here, Wish(password="1234567"))
    await password_accounts.update(issuer, here, Wish(password="another one"))
    with pytest.raises(InvalidCredentials):
        await password_accounts.sign_in(issuer, email, PASSWORD, DEVICE)
    assert await password_accounts.sign_in(issuer, email, "another one", DEVICE)


async def test_nothing_secret_is_printed(issuer: EmbeddedIssuer) -> None:
    """Wishes, credentials, grants and keys keep their secrets out of logs."""
    grant = await sign_up(issuer)
    credential = await accounts.get_credential(issuer.db, grant.user.id)
    shown = repr(
        (Wish(password=PASSWORD), credential, grant, issuer.signing_keys, issuer.supabase_keys)
    )
    for secret in (PASSWORD, "argon2", grant.access_token, grant.refresh_token, SECRET):
        assert secret not in shown


async def test_people_of_a_secondary_issuer_have_prefixed_ids(db: Database) -> None:
    """Beside a primary issuer our own people cannot be mistaken for its people."""
    issuer = await open_test_issuer(db, primary=False)
    grant = await sign_up(issuer)
    here = await locate(issuer, grant)
    assert here.session.user_id == f"embedded:{here.user.id}"
    assert (await issuer.refresh(grant.refresh_token, DEVICE)).user.id == here.user.id
    issuer.close()


async def test_one_connection_survives_refusals(database: MigratedDatabase) -> None:
    """A pool of one connection serves on after many refused and failed statements."""
    one = Database(database.url, pool_size=1)
    await one.open()
    issuer = await open_test_issuer(one)
    taken = new_address()
    await sign_up(issuer, taken)
    for _ in range(12):
        with pytest.raises(UserAlreadyExists):
            await sign_up(issuer, taken)
        grant = await sign_up(issuer)
        assert (await issuer.refresh(grant.refresh_token, DEVICE)).counter == 2
        here = await locate(issuer, grant)
        with pytest.raises(EmailExists):
            await password_accounts.update(issuer, here, Wish(email=taken))
    assert (
        await password_accounts.sign_in(issuer, taken, PASSWORD, DEVICE)
    ).expires_at > datetime.now(UTC).timestamp()
    issuer.close()
    await one.close()
