"""Pages of a conversation: right in every shape of it, and read with few looks into an index."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from chatkeep import conversations
from chatkeep.conversations import pages
from chatkeep.db import as_user
from chatkeep.ids import new_id
from tests.db.test_plans import Planned, complaints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase

PERSON = "ana-who-reads"
LIMIT = 10

#: A message by its number and its parent's, and of every second one a run that answered.
SAID: LiteralString = """
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content, run_id,
  created_at) values (%(user)s, %(talk)s, %(id)s, %(parent)s, %(role)s, %(content)s, %(run)s,
  '2026-01-01'::timestamptz + %(number)s * interval '1 second')
"""
ANSWERED: LiteralString = """
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, error_code,
  finish_reason, lease_until)
values (%(user)s, %(run)s, %(talk)s, %(id)s, 'failed', %(model)s, 'broken', 'length', now())
"""
_SCANS: LiteralString = """
select pg_stat_get_xact_numscans('chat.messages_pkey'::regclass) as messages,
  pg_stat_get_xact_numscans('chat.messages_answers'::regclass) as siblings,
  pg_stat_get_xact_tuples_returned('chat.messages_answers'::regclass) as entries,
  pg_stat_get_xact_numscans('chat.runs_of_messages'::regclass) as runs,
  pg_stat_get_xact_tuples_fetched('chat.runs_of_messages'::regclass) as rows_of_runs
"""


class Talk:
    """A conversation that is written message by message, and what a page of it should be."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.id = new_id()
        self.parents: dict[str, str | None] = {}
        self._connection = connection
        connection.execute(
            "insert into chat.conversations (user_id, id) values (%s, %s)", [PERSON, self.id]
        )

    def say(self, name: str, parent: str | None, content: str = "said") -> str:
        """Write a message under *parent*, newer than all before; return its *name*."""
        number = len(self.parents)
        self.parents[name] = parent
        said = {
            "user": PERSON,
            "talk": self.id,
            "id": name,
            "parent": parent,
            "number": number,
            "role": "assistant" if number % 2 else "user",
            "content": content,
            "run": f"run of {name}, {self.id}" if number % 2 else None,
            "model": f"model of {name}",
        }
        cursor = psycopg.ClientCursor(self._connection)
        cursor.execute(SAID, said)
        if number % 2:
            cursor.execute(ANSWERED, said)
            # It was answered before, by a run that is not shown.
            cursor.execute(ANSWERED, {**said, "run": f"before {said['run']}", "model": "before"})
        return name

    def say_all(self, names: list[str]) -> None:
        """Write one below the other."""
        for name, parent in zip(names, [None, *names], strict=False):
            self.say(name, parent)

    def expected(self, name: str | None) -> Iterator[tuple[object, ...]]:
        """Yield what is told of this message and those above it."""
        numbers = list(self.parents)
        while name is not None:
            parent = self.parents[name]
            siblings = [one for one, above in self.parents.items() if above == parent]
            is_answer = numbers.index(name) % 2 == 1
            ended = ("failed", f"model of {name}", "broken", "length")
            answered = ended if is_answer else ("done", None, None, None)
            yield (name, parent, siblings, *answered)
            name = parent

    async def check(self, db: Database, last: str) -> None:
        """Read the branch that ends with *last* page by page, and compare."""
        from_id: str | None = last
        read: list[tuple[object, ...]] = []
        while from_id is not None:
            _, page = await conversations.get_page(
                db, PERSON, self.id, limit=LIMIT, from_id=from_id
            )
            assert 1 <= len(page) <= LIMIT
            read += [
                (
                    *(one.id, one.parent_id, one.siblings),
                    *(one.status, one.model, one.error_code, one.finish_reason),
                )
                for one in reversed(page)
            ]
            from_id = page[0].parent_id
        assert read == list(self.expected(last))

    async def scans(self, db: Database, from_id: str) -> dict[str, int]:
        """Return how often each index was looked into for a page, and what was read there."""
        query = pages._branch({"user": PERSON, "conversation": self.id, "from": from_id}, LIMIT)
        async with db.acting_as(as_user(PERSON)) as connection:
            # A table of a few rows would be read through, and a short conversation sorted.
            await connection.execute("set local enable_seqscan = off")
            await connection.execute("set local enable_sort = off")
            # Before version 18 what is off costs ten thousand million: worth it to compile the
            # statement first, for seconds, which a slow machine does not end in time.
            await connection.execute("set local jit = off")
            counted = []
            for text, params in ((_SCANS, ()), (query.text, query.params), (_SCANS, ())):
                cursor = await connection.execute(text, params)
                counted.append(await cursor.fetchone())
                names = [column.name for column in cursor.description or ()]
        before, _, after = counted
        assert before is not None
        assert after is not None
        return dict(zip(names, (b - a for a, b in zip(before, after, strict=True)), strict=True))


@pytest.fixture
def talk(database: MigratedDatabase) -> Iterator[Talk]:
    """An empty one."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        yield Talk(connection)


def vacuumed(database: MigratedDatabase) -> None:
    """Do what autovacuum does after a while."""
    for table in ("chat.messages", "chat.runs"):
        # The cluster of tests does not wait for the log, and what is not there yet stays unseen.
        database.operate("checkpoint")
        database.operate(f"vacuum (analyze) {table}")


def names(count: int) -> list[str]:
    """Return ids that sort as they are made."""
    return [f"message {number:05}" for number in range(count)]


async def test_page_of_one_branch(db: Database, database: MigratedDatabase, talk: Talk) -> None:
    """A look for each message and its run, one for all their siblings, and no row of a run."""
    said = names(35)
    talk.say_all(said)
    vacuumed(database)
    await talk.check(db, said[-1])
    assert await talk.scans(db, said[-1]) == {
        "messages": LIMIT,
        "siblings": 1,
        "entries": LIMIT,
        "runs": LIMIT // 2,
        "rows_of_runs": 0,
    }


async def test_ids_of_a_turn_sort_as_they_like(db: Database, talk: Talk) -> None:
    """Those of a question and its answer are of one millisecond; no more looks are needed."""
    said = [one for number in range(20) for one in (f"{number:05} b", f"{number:05} a")]
    talk.say_all(said)
    await talk.check(db, said[-1])
    for last in said[-4:]:
        assert (await talk.scans(db, last))["siblings"] == 1


async def test_only_siblings_are_looked_for_one_by_one(db: Database, talk: Talk) -> None:
    """Three places of the page were gone on from again, one of them twice: its ends, too."""
    said = names(35)
    talk.say_all(said)
    for number in (24, 28, 28, 33):
        again = talk.say(f"again {number} {len(talk.parents)}", said[number])
        talk.say(f"below {again}", again)
    await talk.check(db, said[-1])
    await talk.check(db, list(talk.parents)[-1])
    assert (await talk.scans(db, said[-1]))["siblings"] == 1 + 3


async def test_first_messages_are_siblings_too(db: Database, talk: Talk) -> None:
    """As are those of a parent that has more than a page holds."""
    said = names(6)
    talk.say_all(said)
    talk.say("another beginning", None)
    for number in range(3 * LIMIT):
        talk.say(f"other {number:02}", said[2])
    await talk.check(db, said[-1])
    await talk.check(db, "another beginning")
    await talk.check(db, "other 07")


async def test_ids_may_be_in_any_order(db: Database, talk: Talk) -> None:
    """What lies between those of a page is all of the conversation: no more is read of it."""
    said = names(300)
    random.Random(1).shuffle(said)
    talk.say_all(said)
    await talk.check(db, said[-1])
    scans = await talk.scans(db, said[-1])
    assert scans["siblings"] == 1 + LIMIT
    assert scans["entries"] == 2 * LIMIT + LIMIT


async def test_conversations_of_any_shape(db: Database, talk: Talk) -> None:
    """However often somebody went on from somewhere in the middle."""
    chosen = random.Random(2)
    said = talk.say("first", None)
    for number in range(150):
        parent = said if chosen.random() < 0.7 else chosen.choice(list(talk.parents))
        said = talk.say(f"{chosen.randrange(10**6)} {number}", parent)
    for last in list(talk.parents)[::10]:
        await talk.check(db, last)


async def test_long_messages_end_a_page(db: Database, talk: Talk) -> None:
    """With all that is told of those it has."""
    said = names(12)
    for name, parent in zip(said, [None, *said], strict=False):
        talk.say(name, parent, "x" * 400_000)
    talk.say("another", said[9])
    await talk.check(db, said[-1])
    _, page = await conversations.get_page(db, PERSON, talk.id, limit=LIMIT, from_id=said[-1])
    assert len(page) == 3


async def test_messages_by_their_ids_are_read_alone(database: MigratedDatabase, talk: Talk) -> None:
    """Each of them once, and none of those around them, for whoever it is planned."""
    said = names(400)
    talk.say_all(said)
    db = Planned(database.url, undoes=True)
    await db.open()
    try:
        asked = [said[301], said[7], said[7], "nobody's"]
        found = await conversations.list_messages(db, PERSON, talk.id, asked)
    finally:
        await db.close()
    assert [(one.id, one.model) for one in found] == [
        (name, f"model of {name}") for name in (said[7], said[301])
    ]
    assert [complaints(plan) for _, plan in db.plans] == [[], []]


async def test_messages_that_fit_a_page_are_read_alone(
    database: MigratedDatabase, talk: Talk
) -> None:
    """In the order that is asked for, up to the one that fills it; an id of nobody is no length."""
    said = names(400)
    for name, parent in zip(said, [None, *said], strict=False):
        talk.say(name, parent, "x" * (400_000 if name in {said[301], said[7], said[9]} else 1))
    db = Planned(database.url, undoes=True)
    await db.open()
    try:
        asked = ["nobody's", said[301], said[7], said[8], said[9], said[10]]
        found = await conversations.list_fitting(db, PERSON, talk.id, asked)
        few = await conversations.list_fitting(db, PERSON, talk.id, asked, most=1)
        none = await conversations.list_fitting(db, PERSON, talk.id, ["nobody's"], most=1)
    finally:
        await db.close()
    assert ([one.id for one in found[0]], found[1]) == (asked[1:5], 5)
    assert ([one.id for one in few[0]], few[1]) == ([said[301]], 2)
    assert none == ([], 1)
    assert found[0][0].model == f"model of {said[301]}"
    assert [complaints(plan) for _, plan in db.plans] == [[]] * len(db.plans)
