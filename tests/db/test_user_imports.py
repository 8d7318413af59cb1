"""People of other servers' exports sign in here with what they know, and a rerun is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from chatkeep import accounts
from chatkeep.errors import InvalidCredentials, SetupError, UserBanned
from chatkeep.sign_in import password_accounts
from chatkeep.user_imports import Import, auth0, better_auth, files, supabase
from tests.signing_in import DEVICE, open_test_issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkeep.accounts import User
    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.user_imports import Arrival, Report, Skipped
    from tests.postgres_servers import MigratedDatabase

EXPORTS = Path(__file__).parents[1] / "fixtures" / "exports"
SUPABASE = EXPORTS / "supabase-users.csv"
ANA = UUID("7d9f1f0a-3c1e-4a55-9a6c-000000000001")
OLD_PASSWORD = "ana's old password"


@pytest.fixture
async def issuer(db: Database, database: MigratedDatabase) -> AsyncIterator[EmbeddedIssuer]:
    """Our own issuer, with nobody in it."""
    with psycopg.connect(database.admin_url) as admin:
        admin.execute("delete from chatkeep.users")
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


def of_supabase() -> list[tuple[str, Arrival | Skipped]]:
    """Read the export of Supabase with its identities."""
    identities = files.read_records(EXPORTS / "supabase-identities.csv")
    return list(supabase.arrivals(files.read_records(SUPABASE), identities))


def of_better_auth() -> list[tuple[str, Arrival | Skipped]]:
    """Read the export of Better Auth."""
    return list(
        better_auth.arrivals(*files.tables(EXPORTS / "better-auth.json", "user", "account"))
    )


def of_auth0() -> list[tuple[str, Arrival | Skipped]]:
    """Read both exports of Auth0, which are in one file."""
    return list(auth0.arrivals(files.read_records(EXPORTS / "auth0.ndjson")))


async def take_in(
    issuer: EmbeddedIssuer, found: list[tuple[str, Arrival | Skipped]], **how: bool
) -> Report:
    """Import everybody."""
    return await Import(issuer, "test", **how).run(found)


def told(report: Report) -> dict[str, tuple[str, str | None]]:
    """Return result and note by the end of the original id."""
    return {one.original_id[-2:]: (one.result, one.note) for one in report.outcomes}


async def person(issuer: EmbeddedIssuer, email: str) -> User:
    """Return who has this address."""
    found = await accounts.find_credential(issuer.db, email)
    assert found is not None
    return await accounts.get_user(issuer.db, found.id)


async def test_export_of_supabase(issuer: EmbeddedIssuer) -> None:
    """Everybody with an address comes, and the report says why the others do not."""
    report = await take_in(issuer, of_supabase())
    odd = "has a password in an unknown format: they must set another one"
    assert told(report) == {
        "01": ("imported", None),
        "02": ("imported", None),
        "03": ("skipped", "has no e-mail address"),
        "04": ("skipped", "is anonymous"),
        "05": ("skipped", "was deleted"),
        "06": ("imported", None),
        "07": ("skipped", "another account has the address"),
        "08": ("imported", None),
        "09": ("imported", odd),
        "10": ("skipped", "has an address that cannot be one"),
        "11": ("skipped", "User metadata must not be longer than 4096 bytes"),
        "12": ("skipped", "has metadata that cannot be read"),
    }


async def test_person_of_supabase_is_who_they_were(issuer: EmbeddedIssuer) -> None:
    """Id, address, times, metadata and identities, but no role: that would be a right here."""
    await take_in(issuer, of_supabase())
    ana = await accounts.get_user(issuer.db, ANA)
    assert (ana.email, ana.created_at.year) == ("ana.lopez@example.com", 2023)
    assert ana.email_confirmed_at is not None
    assert ana.last_sign_in_at is not None
    assert ana.user_metadata == {"full_name": "Ana López", "note": 'a, "quoted" one'}
    assert ana.app_metadata == {
        "provider": "email",
        "providers": ["email", "google"],
        "tier": "gold",
    }
    assert {(one["provider"], one["provider_id"]) for one in ana.identities} == {
        ("email", str(ANA)),
        ("google", "108123456789012345678"),
    }
    assert (await person(issuer, "unconfirmed@example.com")).email_confirmed_at is None


async def test_old_password_goes_on_working(issuer: EmbeddedIssuer) -> None:
    """It is hashed anew at the first sign-in, and works after that as well."""
    await take_in(issuer, of_supabase())
    for _ in range(2):
        grant = await password_accounts.sign_in(
            issuer, "Ana.Lopez@Example.com", OLD_PASSWORD, DEVICE
        )
        assert grant.user.id == ANA
    kept = await accounts.get_credential(issuer.db, ANA)
    assert (kept.password_hash or "").startswith("$argon2id$")
    for email, password in (
        ("ana.lopez@example.com", "another"),
        ("bo@example.com", ""),
        ("odd@example.com", "x"),
    ):
        with pytest.raises(InvalidCredentials):
            await password_accounts.sign_in(issuer, email, password, DEVICE)


async def test_banned_person_stays_banned(issuer: EmbeddedIssuer) -> None:
    """With the right password they learn it."""
    await take_in(issuer, of_supabase())
    with pytest.raises(UserBanned):
        await password_accounts.sign_in(issuer, "banned@example.com", "banned password", DEVICE)


@pytest.mark.parametrize("read", [of_supabase, of_better_auth, of_auth0])
async def test_second_run_changes_nothing(
    issuer: EmbeddedIssuer,
    database: MigratedDatabase,
    read: Callable[[], list[tuple[str, Arrival | Skipped]]],
) -> None:
    """Also not what people have changed meanwhile."""
    await take_in(issuer, read())
    with psycopg.connect(database.admin_url) as admin:
        admin.execute("update chatkeep.users set user_metadata = '{\"mine\": 1}'")
        everything = "select to_jsonb(u) from chatkeep.users u order by id"
        before = admin.execute(everything).fetchall()
        admin.commit()
        again = await take_in(issuer, read())
        assert again.count("imported") == 0
        assert again.count("already_here") == len(before)
        assert admin.execute(everything).fetchall() == before


async def test_dry_run_says_the_same_and_writes_nothing(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """The report is that of the run."""
    tried = await take_in(issuer, of_supabase(), dry=True)
    with psycopg.connect(database.admin_url) as admin:
        assert admin.execute("select count(*) from chatkeep.users").fetchone() == (0,)
    assert told(tried) == told(await take_in(issuer, of_supabase()))


async def test_json_export_of_supabase(issuer: EmbeddedIssuer) -> None:
    """Is read as the CSV is."""
    found = list(supabase.arrivals(files.read_records(EXPORTS / "supabase-users.json")))
    assert next(one for _, one in found) == next(
        one for _, one in supabase.arrivals(files.read_records(SUPABASE))
    )


async def test_nobody_takes_over_an_account_by_its_address(issuer: EmbeddedIssuer) -> None:
    """Somebody who is here already keeps their account, password and id."""
    wish = password_accounts.Wish(email="ana.lopez@example.com", password="mine, not theirs")
    mine = await password_accounts.sign_up(issuer, wish, DEVICE)
    assert told(await take_in(issuer, of_supabase()))["01"] == (
        "skipped",
        "another account has the address",
    )
    with pytest.raises(InvalidCredentials):
        await password_accounts.sign_in(issuer, "ana.lopez@example.com", OLD_PASSWORD, DEVICE)
    assert (await person(issuer, "ana.lopez@example.com")).id == mine.user.id


async def test_identity_of_somebody_else_is_not_taken(issuer: EmbeddedIssuer) -> None:
    """Whoever is second with it is skipped; the others of the same batch come."""
    await take_in(issuer, of_supabase()[:1])
    report = await take_in(issuer, of_auth0())
    assert sorted(one.result for one in report.outcomes) == [
        *("imported", "imported", "skipped", "skipped"),
    ]
    assert "an identity of theirs, or their id, is another account's" in report.notes()


async def test_export_of_better_auth(issuer: EmbeddedIssuer) -> None:
    """Ids that are no UUIDs become UUIDs, the same in each run; provider tokens stay behind."""
    report = await take_in(issuer, of_better_auth())
    assert [one.note for one in report.outcomes] == [
        "got another id",
        None,
        "got another id",
    ]
    ana = (await password_accounts.sign_in(issuer, "ana@example.com", OLD_PASSWORD, DEVICE)).user
    assert ana.app_metadata["original_id"] == "zT9gq3vXH0eJ5aYwKfR2uLmB7cDnPsQ1"
    assert ana.app_metadata["providers"] == ["email", "google"]
    assert "roles" not in ana.app_metadata
    assert "secret" not in json.dumps(ana.identities, default=str)
    assert ana.user_metadata["avatar_url"] == "https://cdn.example/ana.png"
    bo = await person(issuer, "bo@example.com")
    assert str(bo.id) == "0199f1c2-7a6e-7b1f-9d3c-5a0e6f0d2b11"
    assert (bo.is_banned, bo.email_confirmed_at) == (True, None)
    assert [one["provider"] for one in bo.identities] == ["github"]


async def test_profiles_and_hashes_of_auth0_are_put_together(issuer: EmbeddedIssuer) -> None:
    """Profiles and hashes are put together, and what was verified stays so."""
    report = await take_in(issuer, of_auth0())
    assert report.notes()["has no e-mail address"] == 1
    ana = (await password_accounts.sign_in(issuer, "ana@example.com", OLD_PASSWORD, DEVICE)).user
    assert ana.email_confirmed_at is not None
    assert ana.user_metadata["language"] == "es"
    assert ana.app_metadata["original_id"] == "auth0|60425da93519d90068f82966"
    assert (ana.app_metadata["plan"], "roles" in ana.app_metadata) == ("pro", False)
    assert {one["provider"] for one in ana.identities} == {"email", "google"}
    bo = await person(issuer, "bo@example.com")
    assert [(one["provider"], one["provider_id"]) for one in bo.identities] == [("google", "117")]
    assert (await person(issuer, "blocked@example.com")).is_banned


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: is no JSON"),
        ("[" * 200_000, "line 1: is no JSON"),
        ('{"id": 1}\n{"id"', "line 2: is no JSON"),
        ("[1]", "must hold lists of JSON objects"),
        ('{"users": []}', "must hold a list of people"),
        ('id,email\n"x', "cannot be read as CSV"),
    ],
)
def test_file_that_is_no_export(tmp_path: Path, text: str, said: str) -> None:
    """One sentence says what is wrong, and where."""
    path = tmp_path / "export"
    path.write_text(text)
    with pytest.raises(SetupError) as refused:
        files.read_records(path)
    assert said in str(refused.value)


async def test_hostile_export_breaks_nothing(issuer: EmbeddedIssuer) -> None:
    """Whatever a record holds, it is skipped with a reason and the next one comes."""
    hostile: list[Any] = [
        {},
        {"id": 7, "email": ["x"]},
        {"id": "a", "email": "a@example.com", "created_at": "yesterday"},
        {"id": "b", "email": "b@example.com", "created_at": 1e300},
        {"id": "c", "email": "c@example.com", "raw_user_meta_data": "[]"},
        {"id": "d", "email": "d@example.com", "raw_user_meta_data": {"x": "\0"}},
        {"id": "e", "email": "e@example.com", "raw_user_meta_data": {"x": "\ud800"}},
        {"id": "f", "email": "f@example.com", "encrypted_password": {"x": 1}},
        {"id": "g\0", "email": "g@example.com"},
        {"id": "\ud800", "email": "i@example.com"},
        {"id": "j", "email": "j@example.com", "raw_user_meta_data": "[" * 50_000},
        {"id": "h", "email": "h@example.com", "banned_until": "infinity"},
    ]
    report = await take_in(issuer, list(supabase.arrivals(hostile)))
    results = [one.result for one in report.outcomes]
    assert len(results) == len(hostile)
    assert results.count("imported") == 2
    assert (await person(issuer, "h@example.com")).is_banned
