"""Ana and Bo: nobody reaches the other's rows, and each policy is needed for that."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from inspect import getsource
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import class_row

from chatkeep.db import Database
from tests.db.twins import (
    CHECKS,
    ON_ONE_VERSION,
    OWNED,
    PROOFS,
    Twins,
    first_failing,
    row_security_is_forced_everywhere,
    seed,
)
from tests.postgres_servers import MigratedDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.db.twins import Check

#: What the checks cannot see the lack of, because something else stands before it.
NOT_SEEN = {
    # The administrator of the tests is a superuser; `test_migrations` has another.
    ("alembic_version_of_owner", "dropped"),
    # The worker has no right to insert or update conversations in the first place.
    ("conversations_to_purge", "check true"),
    # Nor those of keys.
    ("idempotency_keys_to_purge", "check true"),
}


@pytest.fixture(scope="module")
def seeded(database: MigratedDatabase) -> MigratedDatabase:
    """The module's database with the rows of Ana and Bo."""
    with psycopg.connect(database.admin_url) as admin:
        seed(admin)
    return database


@pytest.fixture
async def twins(seeded: MigratedDatabase) -> AsyncIterator[Twins]:
    """Ana and Bo, and the door to their rows."""
    db = Database(seeded.url, pool_size=2)
    await db.open()
    with psycopg.connect(seeded.admin_url, autocommit=True) as admin:
        yield Twins(db, admin)
    await db.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_twins_are_kept_apart(check: Check, twins: Twins) -> None:
    """The check holds on a migrated database."""
    await check(twins)


def test_every_table_of_people_has_twins(seeded: MigratedDatabase) -> None:
    """A table that has a policy for callers must be among the tables checked here."""
    with psycopg.connect(seeded.admin_url) as connection:
        found = connection.execute(
            "select distinct schemaname || '.' || tablename from pg_policies"
            " where concat(qual, with_check) like '%caller_id%'"
        ).fetchall()
    assert {name for (name,) in found} == {table.name for table in OWNED}


@dataclass(frozen=True, slots=True)
class Policy:
    """One row of pg_policies."""

    schemaname: str
    tablename: str
    policyname: str
    permissive: str
    roles: list[str]
    cmd: str
    qual: str | None
    with_check: str | None

    def command(self, template: str) -> sql.Composed:
        """Fill the names of the policy and its table into *template*."""
        return sql.SQL(template).format(
            policy=sql.Identifier(self.policyname),
            table=sql.Identifier(self.schemaname, self.tablename),
        )

    def made_again(self) -> sql.Composed:
        """Return the statement that makes it as it was."""
        statement = self.command(f"create policy {{policy}} on {{table}} for {self.cmd} to ")
        statement += sql.SQL(", ").join(map(sql.Identifier, self.roles))
        if self.qual is not None:
            statement += sql.SQL(f" using ({self.qual})")
        if self.with_check is not None:
            statement += sql.SQL(f" with check ({self.with_check})")
        return statement


@dataclass(frozen=True, slots=True)
class Damage:
    """Something done to a table, and how it is mended."""

    table: str
    what: tuple[str, str]
    done: sql.Composed
    mended: sql.Composed

    def is_far_from(self, check: Check) -> bool:
        """Whether *check* looks at other tables, so that one that names this one goes first."""
        of_everybody = any(self.table == table.name for table in OWNED)
        return not of_everybody and self.table not in getsource(check)


def damages(policy: Policy) -> Iterator[Damage]:
    """What may be done to one policy: take it away, or let it allow everything."""
    table = f"{policy.schemaname}.{policy.tablename}"
    drop = policy.command("drop policy {policy} on {table}")
    yield Damage(table, (policy.policyname, "dropped"), drop, policy.made_again())
    for part, now in (("using", policy.qual), ("with check", policy.with_check)):
        if now not in {None, "true"}:
            allow = policy.command(f"alter policy {{policy}} on {{table}} {part} (true)")
            back = policy.command(f"alter policy {{policy}} on {{table}} {part} ({now})")
            yield Damage(table, (policy.policyname, f"{part.split()[-1]} true"), allow, back)


@contextmanager
def clone_of(seeded: MigratedDatabase) -> Iterator[MigratedDatabase]:
    """Lend a copy that may be damaged."""
    server = seeded.server
    name = server.new_database(template=seeded.name)
    yield MigratedDatabase(server=server, name=name)
    server.drop_database(name)


async def survivors(
    database: MigratedDatabase, harm: list[Damage], checks: tuple[Check, ...]
) -> set[tuple[str, str]]:
    """Do each damage alone; return those that no check notices."""
    unseen = set()
    order = list(checks)
    db = Database(database.url, pool_size=1)
    await db.open()
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        for one in harm:
            admin.execute(one.done)
            order.sort(key=one.is_far_from)
            noticed = await first_failing(Twins(db, admin), order)
            if noticed is None:
                unseen.add(one.what)
            # Like damages follow each other: what noticed this one looks first for the next.
            order.sort(key=lambda check: check.__name__ != noticed)
            admin.execute(one.mended)
            seed(admin)
        assert await first_failing(Twins(db, admin)) is None
    await db.close()
    return unseen


@ON_ONE_VERSION
async def test_every_policy_is_needed(seeded: MigratedDatabase) -> None:
    """Without any one policy, or with one that allows everything, a check fails."""
    with psycopg.connect(seeded.admin_url, row_factory=class_row(Policy)) as connection:
        found = connection.execute(
            "select schemaname, tablename, policyname, permissive, roles::text[] as roles, cmd,"
            " qual, with_check from pg_policies"
            " where schemaname in ('chat', 'chatkeep', 'chatkeep_queue')"
            " or tablename = 'user_sessions'"
        ).fetchall()
    assert len(found) >= 15
    harm = [damage for policy in found for damage in damages(policy)]
    with clone_of(seeded) as clone:
        assert await survivors(clone, harm, CHECKS) == NOT_SEEN


def switched(table: str, setting: str, back: str) -> Damage:
    """Return the damage of switching row-level security off in one way."""
    name = sql.Identifier(*table.split("."))
    statement = sql.SQL("alter table {} {} row level security")
    return Damage(
        table,
        (table, setting),
        statement.format(name, sql.SQL(setting)),
        statement.format(name, sql.SQL(back)),
    )


@ON_ONE_VERSION
async def test_every_table_needs_row_security(seeded: MigratedDatabase) -> None:
    """Without it a person sees another's rows; without forcing it the catalogue shows it."""
    off = [switched(table.name, "disable", "enable") for table in OWNED]
    tables = [table.name for table in OWNED] + [
        f"chatkeep.{name}"
        for name in (
            "users",
            "identities",
            "signing_keys",
            "issuers",
            *PROOFS,
            "claim_counts",
            "revocations",
            "revocation_numbers",
            "sign_in_flows",
            "shown_id_tokens",
            "audit_log",
            "audit_links",
            "audit_head",
            "mail_hours",
            "webhooks",
            "dead_webhooks",
        )
    ]
    tables += [
        f"chatkeep_queue.procrastinate_{name}"
        for name in ("jobs", "events", "workers", "periodic_defers")
    ]
    tables.append("chat.message_words")
    slack = [switched(table, "no force", "force") for table in tables]
    slack += [switched(table, "disable", "enable") for table in tables]
    with clone_of(seeded) as clone:
        assert await survivors(clone, off, CHECKS[:-1]) == set()
        assert await survivors(clone, slack, (row_security_is_forced_everywhere,)) == set()
