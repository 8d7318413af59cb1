"""What is to be erased is erased in the end, however much it is and however long it takes."""

# ruff: noqa: S608 -- names and statements of this file

from __future__ import annotations

import ast
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import chatkeep
from chatkeep import conversations, idempotency, one_time_tokens
from chatkeep import db as door
from chatkeep.answering.charges import Budgets
from chatkeep.personal_data import erasure
from chatkeep.personal_keys import records as keys
from chatkeep.sessions import forgetting
from chatkeep.sign_in import authorization_codes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase

_MANY: Final = 6


@contextmanager
def _slowly_deleted(database: MigratedDatabase, table: str, *, each_s: float) -> Iterator[None]:
    """Let each row of *table* take so long to be deleted, as a conversation of many messages."""
    database.operate(
        "create or replace function public.takes_long() returns trigger language plpgsql as"
        " $$ begin perform pg_sleep(tg_argv[0]::float8); return old; end $$"
    )
    database.operate(
        f"create trigger takes_long before delete on {table}"
        f" for each row execute function public.takes_long('{each_s}')"
    )
    try:
        yield
    finally:
        database.operate(f"drop trigger takes_long on {table}")


@contextmanager
def _sizes_of_deletions(database: MigratedDatabase, table: str) -> Iterator[list[int]]:
    """Give, after the block, how many rows of *table* each statement deleted."""
    database.operate("create table public.deletions (number serial, size integer)")
    database.operate(
        "create function public.note_size() returns trigger language plpgsql security definer as"
        " $$ begin insert into public.deletions (size) select count(*) from gone;"
        " return null; end $$"
    )
    database.operate(
        f"create trigger note_size after delete on {table} referencing old table as gone"
        " for each statement execute function public.note_size()"
    )
    sizes: list[int] = []
    try:
        yield sizes
        sizes += [
            size
            for (size,) in database.operate("select size from public.deletions order by number")
        ]
    finally:
        database.operate("drop function public.note_size cascade; drop table public.deletions")


def _deleted(database: MigratedDatabase, user_id: str) -> None:
    database.operate(
        "insert into chat.conversations (user_id, id, deleted_at) select %s, 'c' || n,"
        " now() - interval '25 hours' - n * interval '1 second' from generate_series(1, %s) n",
        user_id,
        _MANY,
    )


def _left(database: MigratedDatabase, table: str) -> int:
    ((left,),) = database.operate(f"select count(*) from {table}")
    return int(left)


async def test_long_conversations_keep_no_other_from_being_erased(
    db: Database, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither many of them, nor one that takes longer by itself than a statement may."""
    _deleted(database, "ana")
    monkeypatch.setattr(door, "_STATEMENT_TIMEOUT", "50ms")
    with _slowly_deleted(database, "chat.conversations", each_s=0.1):
        assert await conversations.purge_deleted(db) == _MANY
    assert _left(database, "chat.conversations") == 0


async def test_two_nodes_do_not_wait_for_each_other(
    db: Database, database: MigratedDatabase
) -> None:
    """The second one leaves it to the first."""
    _deleted(database, "ana")
    async with db.acting_as(door.WORKER) as first:
        await first.execute(conversations.changes._ALONE)
        assert await conversations.purge_deleted(db) == 0
    assert await conversations.purge_deleted(db) == _MANY


async def test_who_said_much_is_erased(
    db: Database, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one statement can erase; as many conversations at a time as it can."""
    _deleted(database, "ana")
    monkeypatch.setattr(door, "_STATEMENT_TIMEOUT", "400ms")
    with _slowly_deleted(database, "chat.conversations", each_s=0.15):
        assert await erasure.erase_words(db, "ana") == _MANY
    assert _left(database, "chat.conversations") == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chore:
    """What is forgotten of a *table* when it is old; *filled* with so many, all of them are."""

    table: str
    filled: str
    done: Callable[[Database], Awaitable[object]]


_PEOPLE: Final = (
    "with person as (insert into chatkeep.users (id, is_anonymous)"
    " select gen_random_uuid(), true from generate_series(1, %s) returning id)"
)
_CHORES: Final = (
    _Chore(
        table="chat.idempotency_keys",
        filled="insert into chat.idempotency_keys (user_id, key, fingerprint, created_at)"
        " select 'ana', 'k' || n, '', now() - interval '25 hours' - n * interval '1 second'"
        " from generate_series(1, %s) n",
        done=idempotency.forget_old,
    ),
    _Chore(
        table="chat.charges",
        filled="insert into chat.charges (user_id, id, day, model, prompt_tokens, output_tokens,"
        " prompt_cost, cost, tokens_ceiling, cost_ceiling, expires_at, settled_at) select 'ana',"
        " 'c' || n, current_date, 'm', 1, 1, 0, 0, 'infinity', 'infinity', now(),"
        " now() - interval '4 days' from generate_series(1, %s) n",
        done=lambda db: Budgets(db).forget_old(),
    ),
    _Chore(
        table="chatkeep.one_time_tokens",
        filled=_PEOPLE + " insert into chatkeep.one_time_tokens (user_id, kind, email, link_hash,"
        " code_hash, expires_at) select id, 'recovery', '', sha256(id::text::bytea), '', now()"
        " from person",
        done=one_time_tokens.sweep,
    ),
    _Chore(
        table="chatkeep.authorization_codes",
        filled=_PEOPLE + " insert into chatkeep.authorization_codes (user_id, code_hash, proof,"
        " code_challenge, code_challenge_method, expires_at) select id, sha256(id::text::bytea),"
        " 'password', 'c', 's256', now() from person",
        done=authorization_codes.sweep,
    ),
    _Chore(
        table="public.user_sessions",
        filled="insert into public.user_sessions (user_id, id, issuer, expires_at) select 'ana',"
        " gen_random_uuid(), 'embedded', now() - interval '91 days' from generate_series(1, %s)",
        done=forgetting.forget,
    ),
    _Chore(
        table="chatkeep.personal_keys",
        filled="insert into chatkeep.personal_keys (user_id, id, issuer, subject, name, shown,"
        " key_hash, scopes, role, roles, expires_at) select 'ana', gen_random_uuid(), 'i', 's',"
        " 'n', 'n', sha256(n::text::bytea), '{}', '', '{}', now() - interval '91 days'"
        " from generate_series(1, %s) n",
        done=keys.forget_old,
    ),
)
_any_chore = pytest.mark.parametrize("chore", _CHORES, ids=[one.table for one in _CHORES])


@_any_chore
async def test_thousands_are_forgotten_a_thousand_at_a_time(
    db: Database, database: MigratedDatabase, chore: _Chore
) -> None:
    """No statement does more, also where the planner thinks that there is nothing: it had been."""
    for _ in range(2):
        database.operate(f"delete from {chore.table}")
        database.operate(f"analyze {chore.table}")
        database.operate(chore.filled, 2500)
    with _sizes_of_deletions(database, chore.table) as sizes:
        await chore.done(db)
    assert [one for one in sizes if one] == [1000, 1000, 500]
    assert _left(database, chore.table) == 0


def test_those_that_a_statement_takes_are_looked_for_once() -> None:
    """See `in_turns`: which they are stands in a part of its own, before the statement."""
    statements = [
        one.value
        for file in Path(chatkeep.__file__).parent.rglob("*.py")
        for one in ast.walk(ast.parse(file.read_text()))
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    ]
    few = [one for one in statements if re.search(r"\blimit\s+[^\s)]+\s+for update\b", one)]
    assert len(few) > 5
    assert [one for one in few if "as materialized (select" not in one] == []
