"""What a conversation costs that is longer than all that statistics were gathered of."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from chatkeep.conversations import forking, imports, list_conversations
from chatkeep.conversations.imports import Arrival, Line
from chatkeep.db import Database
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase

_IN_A_CENTURY: Final = datetime(2126, 1, 1, tzinfo=UTC)
_PREPARED_BY: Final = 12
_LONG: Final = 600
_READ_AT_MOST: Final = 20


async def test_long_conversation_costs_its_length(database: MigratedDatabase) -> None:
    """Autovacuum has seen as few rows as it ever looks at, and what comes is many more.

    What looks up single rows, foreign keys too, is planned by what it saw, once in a connection.
    """
    few = max(_rows_when_analysed(database, one) for one in ("conversations", "messages"))
    db = Database(database.url, pool_size=1)
    await db.open()
    try:
        for number in range(few):
            await imports.store(db, "ana", _arrival(number, length=1))
        database.operate("analyze")
        before = _read_of_each(database)
        for number in range(_PREPARED_BY):
            await _bring_and_copy(db, _arrival(few + number, length=1))
        await _bring_and_copy(db, _arrival(few + _PREPARED_BY, length=_LONG))
    finally:
        await db.close()
    made = 2 * (_PREPARED_BY + _LONG)
    await _until_counted(database, few + made)
    read = {name: count - before[name] for name, count in _read_of_each(database).items()}
    assert {name: count for name, count in read.items() if count / made > _READ_AT_MOST} == {}


def _rows_when_analysed(database: MigratedDatabase, table: str) -> int:
    """Return at how many rows autovacuum looks at a *table* for the first time."""
    ((rows,),) = database.operate(
        "select 1 + coalesce((select option_value from pg_options_to_table(reloptions)"
        " where option_name = 'autovacuum_analyze_threshold'),"
        " current_setting('autovacuum_analyze_threshold'))::int"
        " from pg_class where oid = %s::regclass",
        f"chat.{table}",
    )
    return int(rows)


async def _bring_and_copy(db: Database, arrival: Arrival) -> None:
    assert await imports.store(db, "ana", arrival)
    (brought,) = await list_conversations(db, "ana", limit=1)
    await forking.fork(db, "ana", brought.id, message_id=None)


def _arrival(number: int, *, length: int) -> Arrival:
    """Return a conversation that is newer than those with lower numbers, and than any copy."""
    at = _IN_A_CENTURY + timedelta(seconds=number)
    lines = [
        Line(number=one, parent=one - 1 if one else None, role="user", text="Hello", at=at)
        for one in range(length)
    ]
    return Arrival(
        source="chatgpt", id=f"chat-{number}", title="Chat", at=at, lines=lines, head=length - 1
    )


def _read_of_each(database: MigratedDatabase) -> dict[str, int]:
    return dict(
        database.operate(
            "select relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
            " from pg_stat_user_tables where schemaname = 'chat'"
        )
    )


async def _until_counted(database: MigratedDatabase, messages: int) -> None:
    """Wait until all of so many *messages* are in the counts, which are told when one leaves."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            ((counted,),) = database.operate(
                "select n_tup_ins from pg_stat_user_tables where relname = 'messages'"
            )
            if counted >= messages:
                return
            await asyncio.sleep(0.05)
