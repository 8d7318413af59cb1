"""With a hundred thousand messages, every hot statement goes straight to its rows.

Each is planned as it is sent, for the caller it is sent for, with the row-level policies in
it, both for its values and, as PostgreSQL does with a prepared statement after five uses, for
any: no table is read through, nothing but a handful of rows is sorted, and no more are read
to be thrown away, in long conversations either.

The plan for any value finds rows by their whole keys (`whole_keys`), also that which is made
while there is nothing yet: PostgreSQL keeps it until somebody has gathered statistics.

What a person's requests send is not listed by hand: it is whatever `test_owner_predicates`
finds in the source, which fails for a statement that nothing there sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, LiteralString, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import class_row

from chatkeep import accounts, conversations, runs
from chatkeep.administration.overview import read_overview
from chatkeep.administration.usage import read_usage
from chatkeep.answering import checkpoints, titling, turns, waiting
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.refusals import AlreadyStarted
from chatkeep.db import AUTH, WORKER, ConstraintViolated, Database, Query
from chatkeep.devices import Device
from chatkeep.errors import ChatkeepError
from chatkeep.ids import new_id
from chatkeep.personal_keys import records as keys
from chatkeep.pipelines import _compiled
from chatkeep.preferences import Preferences
from chatkeep.runs import Address, Ending
from chatkeep.sessions import own as own_sessions
from chatkeep.sessions import records as sessions
from chatkeep.sessions.refresh_tokens import RefreshToken
from tests.db.test_owner_predicates import SEED as ANA_AND_BO
from tests.db.test_owner_predicates import TRIES
from tests.db.whole_keys import detours, found_by, indexes_of
from tests.postgres_servers import MigratedDatabase
from tests.turns import a_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from uuid import UUID

    from chatkeep.db import Caller, Params
    from chatkeep.pipelines import PipelinedConnection
    from tests.db.whole_keys import Indexes
    from tests.postgres_servers import Server

#: More rows than this are not put into order, nor read in vain, while somebody waits.
SORTED_AT_MOST = 300
IN_VAIN_AT_MOST = 300

SEED: LiteralString = """
set session_replication_role = replica;
insert into chat.conversations (user_id, id, title, head_id, created_at, updated_at)
  select 'user-' || u, 'conversation-' || u || '-' || c, 'Talk ' || c, 'message-99',
    now() - c * interval '1 hour', now() - c * interval '1 hour'
  from generate_series(1, 100) u, generate_series(1, 10) c;
insert into chat.conversations (user_id, id, title) select 'user-50', 'talk-' || c, 'Talk ' || c
  from generate_series(1, 5000) c;
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content, created_at)
  select 'user-' || u, 'conversation-' || u || '-' || c, 'message-' || m,
    case when m > 0 then 'message-' || (m - 1) end,
    case when m % 2 = 0 then 'user' else 'assistant' end, repeat('word ', 20),
    now() - (100 - m) * interval '1 minute'
  from generate_series(1, 100) u, generate_series(1, 10) c, generate_series(0, 99) m;
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content)
  select c.user_id, c.id, 'one of many ' || m, case when m > 0 then 'one of many ' || (m - 1) end,
    'user', 'word'
  from chat.conversations c, generate_series(0, 2999) m
  where c.user_id = 'bo' or c.id = 'conversation-50-5';
insert into chat.runs
  (user_id, id, conversation_id, message_id, state, model, lease_until, started_at)
  select 'user-' || u, 'run-' || u || '-' || c || '-' || m, 'conversation-' || u || '-' || c,
    'message-' || m, 'done', 'model', now(), now() - (u * 10 + c - 11) * interval '12 hours'
  from generate_series(1, 100) u, generate_series(1, 10) c, generate_series(1, 99, 2) m;
insert into chat.profiles (id) select 'user-' || u from generate_series(1, 20000) u;
insert into chatkeep.users (id, email, password_hash)
  select gen_random_uuid(), 'person-' || u || '@example.com', 'x'
  from generate_series(1, 20000) u;
insert into chatkeep.identities (user_id, id, provider, provider_id)
  select id, gen_random_uuid(), 'email', id::text from chatkeep.users;
insert into chatkeep.factors (user_id, id, factor_type, status)
  select id, gen_random_uuid(), 'totp', 'unverified' from chatkeep.users;
insert into public.user_sessions (user_id, id, expires_at, reference)
  select u.id::text, gen_random_uuid(), now() + interval '1 day', 'reference-' || u.email
  from chatkeep.users u;
insert into chatkeep.personal_keys
  (user_id, id, issuer, subject, name, shown, key_hash, scopes, role, roles, expires_at)
  select u.id::text, gen_random_uuid(), 'embedded', u.id::text, 'Laptop', 'ck_',
    sha256(u.id::text::bytea), '{chat}', 'authenticated', '{}', now() + interval '1 day'
  from chatkeep.users u;
insert into chat.usage
  (user_id, day, model, answers, prompt_tokens, completion_tokens, cost)
  select 'user-' || u, current_date - d, 'model', 1, 10, 10, 0.1
  from generate_series(1, 500) u, generate_series(0, 29) d;
insert into chat.budget_limits (kind, name, tokens_per_day)
  select 'user', 'user-' || u, 1000000 from generate_series(1, 5000) u;
insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size)
  select 'user-' || u, 'file-' || f, '{}', 'text/plain', 1
  from generate_series(1, 500) u, generate_series(1, 20) f;
alter index chat.message_words_found set (fastupdate = on);  -- one by one takes ten times as long
set gin_pending_list_limit = '1GB';
set maintenance_work_mem = '128MB';
insert into chat.message_words (user_id, conversation_id, message_id, said_at, words)
  select user_id, conversation_id, id, created_at, words
  from chat.messages join (
    select id as user_id, array_to_tsvector(array['word', chat.search_owner(id)]) as words
    from chat.profiles
  ) as known using (user_id) where id like 'message-%' or id like 'one of many %';
select gin_clean_pending_list('chat.message_words_found');
alter index chat.message_words_found set (fastupdate = off);
set session_replication_role = origin;
analyze;
"""


class Planned(Database):
    """A door that keeps the plans of each statement it sends, and undoes all if told so."""

    def __init__(self, url: str, *, undoes: bool = False) -> None:
        super().__init__(url, pool_size=1)
        self.plans: list[tuple[str, dict[str, Any]]] = []
        self._undoes = undoes

    async def execute(self, caller: Caller, text: LiteralString, params: Params) -> int:
        """Plan the statement, then run it."""
        await self._plan(caller, (text, params))
        if not self._undoes:
            return await super().execute(caller, text, params)
        async with self._undone(caller) as connection:
            return (await connection.execute(text, params)).rowcount

    async def fetch_all(self, caller: Caller, *queries: Query[Any]) -> list[list[Any]]:
        """Plan the statements, then run them."""
        await self._plan(caller, *((query.text, query.params) for query in queries))
        if not self._undoes:
            return await super().fetch_all(caller, *queries)
        async with self._undone(caller) as connection:
            return [await answered(connection, query) for query in queries]

    async def fetch_each(self, *asked: tuple[Caller, Query[Any]]) -> list[list[Any]]:
        """Plan and run the statement of each caller."""
        return [(await self.fetch_all(caller, query))[0] for caller, query in asked]

    @property
    def for_any(self) -> list[tuple[str, dict[str, Any]]]:
        """The plans that are for every value."""
        return self.plans[1::2]

    def detours(self, indexes: Indexes) -> dict[str, list[str]]:
        """Return what is looked for in these plans that has a key, by statement."""
        found = {text[:80]: detours(text, plan, indexes) for text, plan in self.for_any}
        return {text: said for text, said in found.items() if said}

    @asynccontextmanager
    async def _undone(self, caller: Caller) -> AsyncIterator[PipelinedConnection]:
        async with (
            self.acting_as(caller) as connection,
            connection.transaction(force_rollback=True),
        ):
            yield cast("PipelinedConnection", connection)

    async def _plan(self, caller: Caller, *statements: tuple[LiteralString, Params]) -> None:
        """Plan each after those before it happened, and take all of it back."""
        async with self._undone(caller) as connection:
            if self._undoes:
                # Of a table that is small here, too, an index must be there to be used.
                await connection.execute("set local enable_seqscan = off")
            for text, params in statements:
                explained: LiteralString = "explain (verbose, format json) " + text
                cursor = await connection.execute(explained, params)
                self._keep(text, await cursor.fetchone())
                self._keep(text, await planned_for_any(connection, text, params))

    def _keep(self, text: str, row: tuple[Any, ...] | None) -> None:
        assert row is not None
        self.plans.append((" ".join(text.split()), row[0][0]["Plan"]))


async def answered(connection: PipelinedConnection, query: Query[Any]) -> list[Any]:
    """Run a statement in the connection's transaction; one that gives no rows gives none."""
    cursor = connection.cursor(row_factory=class_row(query.row), binary=True)
    await cursor.execute(query.text, query.params)
    return await cursor.fetchall() if cursor.description else []


async def planned_for_any(
    connection: PipelinedConnection, text: LiteralString, params: Params
) -> tuple[Any, ...] | None:
    """Run the statement with the plan for any value; return that, and what was read."""
    bound, names = connection._bound(text, params), _compiled(text)[1]
    values = [params[name] for name in names] if isinstance(params, Mapping) else params
    connection.pgconn.prepare(b"planned", bound.query, bound.types)
    await connection.execute("set local plan_cache_mode = force_generic_plan")
    given = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, values)))
    execute = sql.SQL("execute planned {}").format(given if values else sql.SQL(""))
    explain = sql.SQL("explain (verbose, timing off, format json, analyze {}) {}").format
    try:
        async with connection.transaction():
            cursor = await connection.execute(explain(sql.SQL("on"), execute))
    except psycopg.Error:
        # It is refused, as it should be: what it would have done is known all the same.
        explain = sql.SQL("explain (verbose, format json, analyze {}) {}").format
        cursor = await connection.execute(explain(sql.SQL("off"), execute))
    row = await cursor.fetchone()
    await connection.execute("deallocate planned")
    await connection.execute("set local plan_cache_mode = auto")
    return row


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody in the middle of the crowd, and somebody who is leaving it."""

    user: UUID
    session: UUID
    leaving: UUID


@pytest.fixture(scope="module")
def known(database: MigratedDatabase) -> Known:
    """Fill the database; return somebody of it."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(ANA_AND_BO)
        connection.execute(SEED)
        row = connection.execute(
            "select u.id, s.id, (select id from chatkeep.users where email like 'person-778@%')"
            " from chatkeep.users u join public.user_sessions s"
            " on s.user_id = u.id::text where u.email = 'person-777@example.com'"
        ).fetchone()
    assert row is not None
    return Known(*row)


@pytest.fixture
async def planned(database: MigratedDatabase, known: Known) -> AsyncIterator[Planned]:
    """A door to it."""
    db = Planned(database.url)
    await db.open()
    yield db
    await db.close()


ME, TALK = "user-50", "conversation-50-5"
RUN = Address(id="new run", conversation_id=TALK, message_id="message-99", user_message_id="q")


async def turned(db: Database) -> None:
    """Begin an answer, keep a part of it, and end it."""
    turn = a_turn(conversation_id=TALK, may_create=False, request_key=new_id())
    await turns.start(db, ME, turn)
    address = turn.address
    said = Checkpoint(user_id=ME, run=address, content="Hel", parts=None)
    await checkpoints.keep(db, [said])
    await runs.get_run(db, ME, turn.run_id)
    await runs.find_active(db, ME, TALK)
    await runs.request_stop(db, ME, turn.run_id)
    ending = Ending(state="done")
    await checkpoints.finish(db, ME, address, ending, content="Hello.", parts=None, title=None)


async def refreshed(db: Database, known: Known) -> None:
    """Exchange a refresh token."""
    shown = RefreshToken(session_id=known.session, counter=0)
    device = Device(name="Firefox", address="192.0.2.7")
    await sessions.rotate_session(db, shown, device, sessions.Bounds())


HOT: dict[str, Callable[[Database, Known], Awaitable[object]]] = {
    "list": lambda db, _: conversations.list_conversations(db, ME, limit=50),
    "list by id": lambda db, _: conversations.list_by_id(db, ME, limit=50),
    "newest page": lambda db, _: conversations.get_page(db, ME, TALK, limit=50),
    "older page": lambda db, _: conversations.get_page(
        db, ME, TALK, limit=50, from_id="message-50"
    ),
    "place": lambda db, _: conversations.find_place(db, ME, TALK, "message-50"),
    "answer": lambda db, _: conversations.find_answer(db, ME, TALK, None),
    "rename": lambda db, _: conversations.rename(db, ME, TALK, "Other"),
    "branch": lambda db, _: conversations.show_branch(db, ME, TALK, "message-90"),
    "turn": lambda db, _: turned(db),
    "run by request": lambda db, _: runs.find_by_request(db, ME, "none"),
    "newest run": lambda db, _: runs.find_newest(db, ME, TALK),
    "sweep": lambda db, _: runs.sweep(db),
    "what waits": lambda db, _: waiting.find_next(db, ME, TALK),
    "queue": lambda db, _: waiting.list_waiting(db, ME, TALK),
    "cancel": lambda db, _: waiting.cancel(db, ME, TALK, None),
    "whom nobody answers": lambda db, _: waiting.find_held(db),
    "news": lambda db, _: checkpoints.get_news(db, ME, "run-50-5-1", has=0, said=-1),
    "automatic title": lambda db, _: titling.find_automatic(db, ME, TALK),
    "given title": lambda db, _: titling.give_title(db, ME, TALK, "Other", seen="Talk 5"),
    "profile": lambda db, _: Preferences(db).get_profile(ME),
    "sign-in": lambda db, _: accounts.find_credential(db, "person-777@example.com"),
    "person": lambda db, known: accounts.get_user(db, known.user),
    "session": lambda db, known: db.fetch_all(AUTH, sessions.by_id(known.session)),
    "sessions": lambda db, known: own_sessions.list_sessions(db, str(known.user)),
    "refresh": refreshed,
    "API key": lambda db, known: keys.find(db, str(known.user)),
    "API keys": lambda db, known: keys.list_own(db, str(known.user)),
    "use of an API key": lambda db, known: keys.note_uses(
        db, [(str(known.user), known.session)], every=timedelta(minutes=1)
    ),
    "old API keys": lambda db, _: keys.forget_old(db),
    "keys end with everything": lambda db, known: db.fetch_all(
        AUTH, keys.erasing(str(known.leaving))
    ),
    "overview of an hour": lambda db, _: read_overview(db, "hour"),
    "overview of a day": lambda db, _: read_overview(db, "day"),
    "usage of somebody": lambda db, _: read_usage(db, ME, days=30),
    "activity": lambda db, known: sessions.note_activity(db, known.session),
    "end of a session": lambda db, known: own_sessions.end_own(
        db, str(known.leaving), known.session, reason="test"
    ),
    "end of all": lambda db, known: own_sessions.end_everything(
        db, str(known.leaving), reason="test"
    ),
}


#: What reads much because much is asked for.
LARGE_BY_NATURE = {
    "old API keys": "a chore, and nobody knows beforehand how many have ended",
    "branch": "walks down the branch to its newest message",
    "branch of the same id": "walks down the branch to its newest message",
    "export of the same id": "lists every message of the conversation",
    "branch in the same id": "lists every message of the branch",
}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every step of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def complaints(plan: dict[str, Any]) -> list[str]:
    """Name the steps that take longer the more there is."""
    found = []
    for node in nodes(plan):
        if node["Node Type"] == "Seq Scan":
            found.append(f"reads through {node['Relation Name']}")
        if node["Node Type"] == "Sort" and rows_of(node) > SORTED_AT_MOST:
            found.append(f"sorts {rows_of(node)} rows by {node['Sort Key']}")
        removed = [value for key, value in node.items() if key.startswith("Rows Removed by ")]
        vain = sum(removed) * node.get("Actual Loops", 1)
        if vain > IN_VAIN_AT_MOST:
            found.append(f"reads {vain} rows in vain, by {node.get('Index Name')}")
    return found


def rows_of(node: dict[str, Any]) -> float:
    """Return how many rows a step gave, or was expected to."""
    return float(node.get("Actual Rows", node["Plan Rows"]))


@pytest.mark.parametrize("name", HOT)
async def test_goes_straight_to_its_rows(planned: Planned, known: Known, name: str) -> None:
    """Every statement that is sent for it, in each of its parts."""
    await HOT[name](planned, known)
    assert planned.plans
    slow = {text[:80]: found for text, plan in planned.plans if (found := complaints(plan))}
    assert not slow or name in LARGE_BY_NATURE, slow


@pytest.mark.parametrize("name", TRIES)
async def test_what_people_send_goes_straight_to_its_rows(
    database: MigratedDatabase, known: Known, name: str
) -> None:
    """Every statement on behalf of a person; `test_owner_predicates` knows them all."""
    assert known
    db = Planned(database.url, undoes=True)
    await db.open()
    try:
        await TRIES[name](db)
    except (ChatkeepError, ConstraintViolated, AlreadyStarted):
        pass  # Bo is refused; what he sent was planned
    finally:
        await db.close()
    assert db.plans
    slow = {text[:80]: found for text, plan in db.plans if (found := complaints(plan))}
    assert not slow or name in LARGE_BY_NATURE, slow


@pytest.fixture(scope="module")
def young(postgres: Server) -> Iterator[MigratedDatabase]:
    """A database that was made this minute, in which two people have said a few words."""
    name = postgres.new_database(template=postgres.migrated_template())
    made = MigratedDatabase(server=postgres, name=name)
    with psycopg.connect(made.admin_url, autocommit=True) as connection:
        connection.execute(ANA_AND_BO)
    yield made
    postgres.drop_database(name)


@pytest.fixture(params=["nothing is known yet", "most people have little"])
def either(
    request: pytest.FixtureRequest, database: MigratedDatabase, young: MigratedDatabase
) -> MigratedDatabase:
    """The one, and one where few have much of what most have little of."""
    if request.param == "nothing is known yet":
        return young
    request.getfixturevalue("known")
    return database


@pytest.fixture(scope="module")
def indexes_at() -> Callable[[str], Indexes]:
    """Return the indexes of the database at an address: they stay as they are."""

    @cache
    def found(admin_url: str) -> Indexes:
        with psycopg.connect(admin_url) as connection:
            return indexes_of(connection)

    return found


@pytest.fixture
def indexes(either: MigratedDatabase, indexes_at: Callable[[str], Indexes]) -> Indexes:
    """Its indexes."""
    return indexes_at(either.admin_url)


@pytest.mark.parametrize("name", HOT)
async def test_finds_rows_by_their_whole_keys(
    either: MigratedDatabase, indexes: Indexes, name: str
) -> None:
    """However many more rows their person or conversation has."""
    db = Planned(either.url)
    await db.open()
    try:
        await HOT[name](db, Known(uuid4(), uuid4(), uuid4()))
    except (ChatkeepError, IndexError):
        pass  # there is no such talk; that was planned
    finally:
        await db.close()
    assert db.plans
    assert db.detours(indexes) == {}


@pytest.mark.parametrize("name", TRIES)
async def test_what_people_send_finds_rows_by_their_whole_keys(
    either: MigratedDatabase, indexes: Indexes, name: str
) -> None:
    """As well as what is hot."""
    db = Planned(either.url, undoes=True)
    await db.open()
    try:
        await TRIES[name](db)
    except (ChatkeepError, ConstraintViolated, AlreadyStarted):
        pass  # Bo is refused; what he sent was planned
    finally:
        await db.close()
    assert db.plans
    assert db.detours(indexes) == {}


def test_foreign_keys_go_by_whole_keys(either: MigratedDatabase) -> None:
    """PostgreSQL's own statements, which look for what a row refers to, and who refers to it."""
    with psycopg.connect(either.admin_url) as connection:
        links = connection.execute(FOREIGN_KEYS).fetchall()
        assert ("chat.messages", ["user_id", "conversation_id", "id"]) in [
            (one[2], one[3]) for one in links
        ]
        connection.execute("set plan_cache_mode = force_generic_plan; set enable_seqscan = off")
        for table, columns, referred, named in links:
            assert planned_by(connection, referred, named) == frozenset(named), (table, referred)
            assert planned_by(connection, table, columns) == frozenset(columns), (table, referred)


FOREIGN_KEYS: LiteralString = """
select c.conrelid::regclass::text,
  array(select attname::text from unnest(c.conkey) k join pg_attribute
    on attrelid = c.conrelid and attnum = k),
  c.confrelid::regclass::text,
  array(select attname::text from unnest(c.confkey) k join pg_attribute
    on attrelid = c.confrelid and attnum = k)
from pg_constraint c where c.contype = 'f'
  and c.confrelid in ('chat.conversations'::regclass, 'chat.messages'::regclass)
"""


def planned_by(connection: psycopg.Connection, table: str, columns: list[str]) -> frozenset[str]:
    """Return which columns an index is given to find the rows of *table* with values for all."""
    wanted = sql.SQL(" and ").join(
        sql.SQL("x.{} = ${}").format(sql.Identifier(column), sql.Literal(place))
        for place, column in enumerate(columns, 1)
    )
    finding = sql.SQL("prepare one as select from only {} x where {}")
    connection.execute(finding.format(sql.Identifier(*table.split(".")), wanted))
    values = sql.SQL(", ").join([sql.Literal("")] * len(columns))
    explained = sql.SQL("explain (verbose, format json) execute one ({})").format(values)
    row = connection.execute(explained).fetchone()
    connection.execute("deallocate one")
    assert row is not None
    return found_by(row[0][0]["Plan"])


async def test_slow_plans_are_seen(planned: Planned) -> None:
    """Reading through a table, and ordering all of it, are both complained of."""
    await planned.execute(AUTH, "select id from chatkeep.users order by role", ())
    await planned.execute(WORKER, "select from chat.runs where state = 'done'", ())
    assert [bool(complaints(plan)) for _, plan in planned.plans] == [True] * 4
