"""The audit log: every entry stays, in its order, and whoever changes one is found out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep import audit
from chatkeep.db import AUTH
from chatkeep.ids import new_id
from tests.serving import until

if TYPE_CHECKING:
    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase


@pytest.mark.parametrize("by", ["user_id", "action", "outcome", "since", "before"])
async def test_entries_are_listed_newest_first_page_by_page(db: Database, by: str) -> None:
    """Each filter takes what fits and nothing else; the last number leads to the next page."""
    ana, bo = new_id(), new_id()
    for person in (bo, ana, ana, ana):
        await db.fetch_all(AUTH, audit.entry("user.updated", user_id=person))
    last = await db.fetch_all(AUTH, audit.entry("session.begun", user_id=ana, outcome="refused"))
    newest = last[0][0].number
    found = await audit.listed(db, user_id=ana, limit=2)
    assert [one.action for one in found] == ["session.begun", "user.updated"]
    match by:
        case "user_id":
            assert len(await audit.listed(db, user_id=ana)) == 4
        case "action":
            assert [
                one.number for one in await audit.listed(db, user_id=ana, action="session.begun")
            ] == [newest]
        case "outcome":
            assert [
                one.number for one in await audit.listed(db, user_id=ana, outcome="refused")
            ] == [newest]
        case "since":
            later = await audit.listed(db, since=found[0].at, until=found[0].at)
            assert later == []
            assert [one.number for one in await audit.listed(db, since=found[0].at)] == [newest]
        case _:
            page = await audit.listed(db, user_id=ana, before=found[-1].number)
            assert [one.action for one in page] == ["user.updated"] * 2


@pytest.mark.parametrize("ends", ["another write", "the end of the process"])
async def test_notices_that_are_just_being_written_are_waited_for(
    db: Database, database: MigratedDatabase, ends: str
) -> None:
    """By whoever wants all of them written; an end of the process loses none."""
    notices, person = audit.Notices(db), new_id()
    notices.start()
    with psycopg.connect(database.admin_url) as operator:
        operator.execute("lock table chatkeep.audit_log in exclusive mode")
        notices.note("session.begun", user_id=person)
        await until(lambda: database.waiting_for_locks() > 0)
        ending = asyncio.create_task(
            notices.write() if ends == "another write" else notices.close()
        )
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ending.done()
    await ending
    found = await audit.listed(db, user_id=person)
    await notices.close()
    assert [one.action for one in found] == ["session.begun"]
