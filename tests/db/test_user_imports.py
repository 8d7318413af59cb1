"""People of other servers' exports sign in here with what they know, and a rerun is nothing."""

from __future__ import annotations

import json
import re
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
    identities = files.read_records(EXPORTS / "supabase-identities.csv", "user_id")
    return list(supabase.arrivals(files.read_records(SUPABASE, "id"), identities))


def of_better_auth() -> list[tuple[str, Arrival | Skipped]]:
    """Read the export of Better Auth."""
    return list(
        better_auth.arrivals(*files.tables(EXPORTS / "better-auth.json", "user", "account"))
    )


def of_auth0() -> list[tuple[str, Arrival | Skipped]]:
    """Read both exports of Auth0, which are in one file."""
    return list(auth0.arrivals(files.read_records(EXPORTS / "auth0.ndjson", "user_id", "_id")))


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
    found = list(supabase.arrivals(files.read_records(EXPORTS / "supabase-users.json", "id")))
    assert next(one for _, one in found) == next(
        one for _, one in supabase.arrivals(files.read_records(SUPABASE, "id"))
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


BCRYPT = "$2b$04$WBfu/4PmuZJFSqBxqXt64.y10LB0tP2bf6RiTp/aKJ8wqQEENG2z."


def auth0_hash(account: str, email: str, **more: object) -> dict[str, Any]:
    """Return a line of Auth0's export of hashes, with Ana's old password."""
    return {"_id": {"$oid": account}, "email": email, "email_verified": True} | {
        "passwordHash": BCRYPT,
        **more,
    }


async def signed_in_as(issuer: EmbeddedIssuer, email: str) -> dict[str, Any]:
    """Sign in with the old password; return their `app_metadata`."""
    grant = await password_accounts.sign_in(issuer, email, OLD_PASSWORD, DEVICE)
    return dict(grant.user.app_metadata)


@pytest.mark.parametrize("profile_first", [True, False])
async def test_password_of_a_linked_account_of_auth0_comes_along(
    issuer: EmbeddedIssuer, profile_first: bool
) -> None:
    """Whoever has linked a password to their Google account is one person, with both."""
    profile = {
        "user_id": "google-oauth2|117",
        "email": "ana@example.com",
        "email_verified": True,
        "identities": [
            {"provider": "google-oauth2", "user_id": "117", "isSocial": True},
            {"provider": "auth0", "user_id": "60425da9", "isSocial": False},
        ],
    }
    lines = [profile, auth0_hash("60425da9", "ana@example.com")]
    found = list(auth0.arrivals(lines if profile_first else lines[::-1]))
    assert [one.result for one in (await take_in(issuer, found)).outcomes] == ["imported"]
    known = await signed_in_as(issuer, "ana@example.com")
    assert known["original_id"] == "google-oauth2|117"
    assert known["providers"] == ["email", "google"]


async def test_own_password_of_auth0_comes_before_a_linked_one(issuer: EmbeddedIssuer) -> None:
    """Of two, it is the one that goes with the address; a linked one verifies no other address."""
    profile = {
        "user_id": "auth0|first",
        "email": "ana@example.com",
        "identities": [
            {"provider": "auth0", "user_id": "first"},
            {"provider": "auth0", "user_id": "second"},
        ],
    }
    linked = auth0_hash("second", "other@example.com", passwordHash="$2b$04$" + "x" * 53)
    own = auth0_hash("first", "ana@example.com", email_verified=False)
    found = list(auth0.arrivals([linked, own, profile]))
    assert [one.result for one in (await take_in(issuer, found, confirmed=True)).outcomes] == [
        "imported"
    ]
    assert (await signed_in_as(issuer, "ana@example.com"))["original_id"] == "auth0|first"
    (_, linked_alone) = next(auth0.arrivals([profile, linked]))
    assert linked_alone.password_hash == linked["passwordHash"]  # type: ignore[union-attr]
    assert linked_alone.email_confirmed_at is None  # type: ignore[union-attr]


async def test_ids_that_auth0_was_given_are_found(issuer: EmbeddedIssuer) -> None:
    """`alt_id` is the id of whom a custom database or the Management API named."""
    profile = {"user_id": "auth0|euclid", "email": "ana@example.com", "email_verified": True}
    found = list(auth0.arrivals([profile, auth0_hash("5dea", "ana@example.com", alt_id="euclid")]))
    assert [one.result for one in (await take_in(issuer, found)).outcomes] == ["imported"]
    assert (await signed_in_as(issuer, "ana@example.com"))["original_id"] == "auth0|euclid"


async def test_address_among_the_identifiers_of_auth0(issuer: EmbeddedIssuer) -> None:
    """Some lines with a hash have their address nowhere else."""
    line = auth0_hash("5dea", "") | {
        "identifiers": [
            {"type": "username", "value": "ana"},
            {"type": "email", "value": "ana@example.com", "verified": True},
        ]
    }
    await take_in(issuer, list(auth0.arrivals([line])))
    assert (await signed_in_as(issuer, "ana@example.com"))["original_id"] == "auth0|5dea"


async def test_passwordless_people_of_auth0_sign_in_by_mail(issuer: EmbeddedIssuer) -> None:
    """Their identity is the one that everybody with an address has here."""
    await take_in(
        issuer,
        list(auth0.arrivals([{"user_id": "email|5f", "email": "ana@example.com"}])),
    )
    ana = await person(issuer, "ana@example.com")
    assert [(one["provider"], one["provider_id"]) for one in ana.identities] == [
        ("email", str(ana.id))
    ]


def test_line_may_hold_any_character(tmp_path: Path) -> None:
    """What Unicode calls an end of a line, JSON does not; and one person is one line."""
    path = tmp_path / "export"
    names = [f"Ana{mark}López" for mark in "\u2028\u2029\x85"]
    for count in (3, 1):
        lines = [json.dumps({"id": "1", "name": name}, ensure_ascii=False) for name in names]
        path.write_text("\r\n".join(lines[:count]), encoding="utf-8")
        assert [one["name"] for one in files.read_records(path, "id")] == names[:count]


async def test_tables_of_supabase_in_each_others_place(issuer: EmbeddedIssuer) -> None:
    """Nobody becomes a person by the row of an identity."""
    with pytest.raises(SetupError, match=r"supabase-users\.csv is called user_id"):
        files.read_records(SUPABASE, "user_id")
    identities = files.read_records(EXPORTS / "supabase-identities.csv", "id")
    report = await take_in(issuer, list(supabase.arrivals(identities)))
    assert set(report.notes()) == {"is a row of auth.identities, and no person"}


async def test_report_grows_with_the_run(issuer: EmbeddedIssuer) -> None:
    """What became of people is told a few hundred at a time, for a run that breaks off."""
    people = [{"id": str(one), "email": f"p{one}@example.com"} for one in range(300)]
    told_of: list[int] = []
    report = await Import(issuer, "test", dry=True).run(
        supabase.arrivals(people), lambda outcomes: told_of.append(len(outcomes))
    )
    assert told_of == [200, 100]
    assert report.count("imported") == 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: is no JSON"),
        ("[" * 200_000, "line 1: is no JSON"),
        ('{"id": 1}\n{"id"', "line 2: is no JSON"),
        ("[1]", "must hold lists of JSON objects"),
        ('{"users": []}', "must hold a list of people"),
        ('id,email\n"x', "cannot be read as CSV"),
        (
            "7d9f1f0a,ana@example.com\n7d9f1f0b,bo@example.com",
            "begin with the names of its columns",
        ),
        ("id;email\n1;ana@example.com", "begin with the names of its columns"),
        ('[{"uid": 1}]', "Nothing in .* is called id. Is it the export that was asked for"),
    ],
)
def test_file_that_is_no_export(tmp_path: Path, text: str, said: str) -> None:
    """One sentence says what is wrong, and where."""
    path = tmp_path / "export"
    path.write_text(text)
    with pytest.raises(SetupError) as refused:
        files.read_records(path, "id")
    assert re.search(said, str(refused.value))


def test_table_that_is_called_otherwise_is_missed(tmp_path: Path) -> None:
    """Without their accounts people would come without passwords, and a second run is too late."""
    path = tmp_path / "export.json"
    path.write_text('{"user": [{"id": "1"}], "accounts": []}')
    with pytest.raises(SetupError, match=r"json has no table account, but user, accounts\."):
        files.tables(path, "user", "account")


@pytest.mark.parametrize("url", ["mysql://ana:secret@db/auth", "postgresql://ana:se@cret@db/auth"])
def test_address_of_another_database_is_not_repeated(url: str) -> None:
    """It has a password; the sentence says what an address is like."""
    with pytest.raises(SetupError, match="--database-url must") as refused:
        better_auth.read_database(url)
    assert "cret" not in str(refused.value)


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
