"""What is to be erased is erased in the end, however much it is and however long it takes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from chatkeep import conversations, idempotency
from chatkeep import db as door
from chatkeep.answering import charges
from chatkeep.answering.charges import Budgets
from chatkeep.personal_data import erasure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

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


def _deleted(database: MigratedDatabase, user_id: str) -> None:
    database.operate(
        "insert into chat.conversations (user_id, id, deleted_at) select %s, 'c' || n,"
        " now() - interval '25 hours' - n * interval '1 second' from generate_series(1, %s) n",
        user_id,
        _MANY,
    )


def _left(database: MigratedDatabase, table: str) -> int:
    ((left,),) = database.operate(f"select count(*) from {table}")  # noqa: S608 -- names of this file
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


async def test_keys_of_more_than_a_statement_are_forgotten(
    db: Database, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As are there where all servers stood still, or the database was busy for long."""
    database.operate(
        "insert into chat.idempotency_keys (user_id, key, fingerprint, created_at) select 'ana',"
        " 'k' || n, '', now() - interval '25 hours' - n * interval '1 second'"
        " from generate_series(1, %s) n",
        _MANY,
    )
    monkeypatch.setattr(door, "_STATEMENT_TIMEOUT", "400ms")
    monkeypatch.setattr(idempotency, "_FORGOTTEN_AT_ONCE", 2)
    with _slowly_deleted(database, "chat.idempotency_keys", each_s=0.1):
        assert await idempotency.forget_old(db) == _MANY
    assert _left(database, "chat.idempotency_keys") == 0


async def test_charges_of_more_than_a_statement_are_forgotten(
    db: Database, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above."""
    database.operate(
        "insert into chat.charges (user_id, id, day, model, prompt_tokens, output_tokens,"
        " prompt_cost, cost, tokens_ceiling, cost_ceiling, expires_at, settled_at) select 'ana',"
        " 'c' || n, current_date, 'm', 1, 1, 0, 0, 'infinity', 'infinity', now(),"
        " now() - interval '4 days' from generate_series(1, %s) n",
        _MANY,
    )
    monkeypatch.setattr(door, "_STATEMENT_TIMEOUT", "400ms")
    monkeypatch.setattr(charges, "_FORGOTTEN_AT_ONCE", 2)
    with _slowly_deleted(database, "chat.charges", each_s=0.1):
        await Budgets(db).forget_old()
    assert _left(database, "chat.charges") == 0
