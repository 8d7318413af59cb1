"""Chat tables of another application become ours, in place, and nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from psycopg.rows import dict_row

from chatkeep.db import Database, as_user
from chatkeep.errors import Conflict, SetupError
from chatkeep.sql.assignment import assign_conversations
from chatkeep.sql.migrations import HEAD, migrate
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkeep.sql.migrations import Migrated
    from tests.postgres_servers import MigratedDatabase, Server

Rows = list[dict[str, Any]]

LEGACY = Path(__file__).parent / "legacy"
EVERY_LEGACY = sorted(file.stem for file in LEGACY.glob("*.sql"))
ANA = "a1a1a1a1-0000-4000-8000-000000000001"
BO = "b0b0b0b0-0000-4000-8000-000000000002"


def legacy(url: str, name: str) -> None:
    """Make the tables and rows of the application *name*."""
    # A zone that is not UTC, so that a time without zone is seen to be taken as UTC.
    with psycopg.connect(url, autocommit=True, options="-c timezone=Asia/Tokyo") as connection:
        connection.execute((LEGACY / f"{name}.sql").read_text())


def run(url: str, script: LiteralString) -> None:
    """Run *script*, of any number of statements, as administrator."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(script)


def read(url: str, query: LiteralString) -> Rows:
    """Return the rows of *query* as administrator, whom no policy holds."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


def conversations(url: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every conversation by (owner, title)."""
    rows = read(url, "select * from chat.conversations order by created_at")
    return {(row["user_id"], row["title"]): row for row in rows}


def messages(url: str) -> dict[str, dict[str, Any]]:
    """Return every message by its content."""
    rows = read(url, "select * from chat.messages order by created_at")
    found = {row["content"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def at(hour: int, minute: int = 0, second: int = 0, *, day: int = 1) -> datetime:
    """Return a moment of March 2024, UTC."""
    return datetime(2024, 3, day, hour, minute, second, tzinfo=UTC)


def shape(url: str) -> set[tuple[str, str, str, str]]:
    """Return what makes the two tables ours: columns, keys, indexes, policies and rights."""
    rows = read(
        url,
        """
        select 'column' as kind, attrelid::regclass::text as tbl, attname::text as name, concat_ws(
          ' ', format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull,
          attidentity, attgenerated, pg_get_expr(d.adbin, d.adrelid)) as what
        from pg_attribute a left join pg_attrdef d on (adrelid, adnum) = (attrelid, attnum)
        where attrelid in ('chat.conversations'::regclass, 'chat.messages'::regclass)
          and attnum > 0 and not attisdropped
        union all
        select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where contype <> 'n'
          and conrelid in ('chat.conversations'::regclass, 'chat.messages'::regclass)
        union all
        select 'index', tablename, indexname, indexdef from pg_indexes where schemaname = 'chat'
          and tablename in ('conversations', 'messages')
        union all
        select 'policy', tablename, policyname, concat_ws(' ', permissive, roles, cmd, qual,
          with_check) from pg_policies where schemaname = 'chat'
        union all
        select 'table', oid::regclass::text, relreplident::text, concat_ws(' ', relrowsecurity,
          relforcerowsecurity, relowner::regrole, (select array_agg(x::text order by x::text)
          from unnest(relacl) x)) from pg_class
        where oid in ('chat.conversations'::regclass, 'chat.messages'::regclass)
        """,
    )
    return {(row["kind"], row["tbl"], row["name"], row["what"]) for row in rows}


def everything(url: str) -> tuple[object, ...]:
    """Return each row of both tables, what is in the catalogue about them, and the roles."""
    return (
        read(url, "select c.*, ctid from chat.conversations c order by ctid"),
        read(url, "select m.*, ctid from chat.messages m order by ctid"),
        shape(url),
        read(url, "select nspname, nspacl::text from pg_namespace order by 1"),
        read(url, "select relname from pg_class where relnamespace = 'chat'::regnamespace"),
    )


@dataclass(frozen=True, slots=True)
class Adopted:
    """A database whose tables became ours, and what was in it before. Nobody changes it."""

    server: Server
    name: str
    columns: set[tuple[str, str, str]]
    before: dict[str, Any]
    told: Migrated

    @property
    def url(self) -> str:
        """The administrator's address of it."""
        return self.server.url(self.name)


@pytest.fixture(scope="module")
def adopted(postgres: Server) -> Iterator[Callable[[str], Adopted]]:
    """What became of the tables of an application: once for all that only look."""
    postgres.migrated_template()
    known: dict[str, Adopted] = {}

    def adopt(name: str) -> Adopted:
        if name not in known:
            made = postgres.new_database()
            url = postgres.url(made)
            legacy(url, name)
            columns = {one[:3] for one in shape(url) if one[0] == "column"}
            (before,) = read(
                url,
                "select (select count(*) from chat.conversations) as talks, count(*) as words"
                " from chat.messages",
            )
            known[name] = Adopted(postgres, made, columns, before, migrate(url))
        return known[name]

    yield adopt
    for one in known.values():
        postgres.drop_database(one.name)


@pytest.fixture
def copied(postgres: Server, adopted: Callable[[str], Adopted]) -> Iterator[Callable[[str], str]]:
    """The administrator's address of a copy of such a database, to be changed."""
    copies: list[str] = []

    def copy(name: str) -> str:
        copies.append(postgres.new_database(template=adopted(name).name))
        return postgres.url(copies[-1])

    yield copy
    for one in copies:
        postgres.drop_database(one)


@pytest.mark.parametrize("name", EVERY_LEGACY)
def test_adopted_tables_are_like_new_ones(
    name: str, adopted: Callable[[str], Adopted], database: MigratedDatabase
) -> None:
    """Keys, types, policies and rights are those of a new database; their columns stay."""
    theirs = adopted(name)
    new, ours = shape(database.admin_url), shape(theirs.url)
    assert new - ours == set()
    their_own = {one[:3] for one in ours - new}
    assert {one for one in their_own if one[0] not in {"column", "index"}} == set()
    for kind, table, column in theirs.columns - {one[:3] for one in ours}:
        assert (kind, table, f"former_{column}") in their_own


@pytest.mark.parametrize("name", EVERY_LEGACY)
def test_second_run_changes_nothing(
    name: str, adopted: Callable[[str], Adopted], copied: Callable[[str], str]
) -> None:
    """`migrate` finds an adopted database finished."""
    assert adopted(name).told.before is None
    url = copied(name)
    once = everything(url)
    assert migrate(url).before == HEAD
    assert everything(url) == once


@pytest.mark.parametrize("name", EVERY_LEGACY)
def test_no_row_is_lost(name: str, adopted: Callable[[str], Adopted]) -> None:
    """As many messages as before, in as many conversations or more, each chained to the end."""
    url, before = adopted(name).url, adopted(name).before
    after = read(
        url,
        "select (select count(*) from chat.conversations) as talks, count(*) as words,"
        " count(distinct (user_id, conversation_id)) as answered from chat.messages",
    )[0]
    assert after["words"] == before["words"]
    assert after["talks"] >= before["talks"]
    headed = "select count(*) as n from chat.conversations where head_id is not null"
    assert read(url, headed) == [{"n": after["answered"]}]


def test_supabase_rows_keep_every_value(adopted: Callable[[str], Adopted]) -> None:
    """Ids become text, the trigger does not touch the times, messages follow their owner."""
    url = adopted("supabase").url
    found = conversations(url)
    assert set(found) == {(ANA, "Of cabbages"), (BO, "Of kings"), (ANA, "Empty")}
    cabbages = found[ANA, "Of cabbages"]
    assert cabbages["id"] == "c0c0c0c0-0000-4000-8000-000000000001"
    assert (cabbages["created_at"], cabbages["updated_at"]) == (at(12), at(13))
    assert cabbages["head_id"] == "e0e0e0e0-0000-4000-8000-000000000003"
    assert found[ANA, "Empty"]["head_id"] is None
    said = messages(url)
    # Of two at the same moment the smaller id came first.
    first, second, third = said["Is the sea hot?"], said["Boiling."], said["And why?"]
    assert [first["parent_id"], second["parent_id"], third["parent_id"]] == [
        None,
        first["id"],
        second["id"],
    ]
    assert (second["role"], second["tokens"], second["created_at"]) == ("assistant", 2, at(12))
    assert {row["user_id"] for row in (first, second, third)} == {ANA}
    assert said["Have pigs wings?"]["user_id"] == BO
    assert {row["adopted"] for row in said.values()} == {None}


def test_triggers_of_others_stay_as_they_were(adopted: Callable[[str], Adopted]) -> None:
    """What ran before runs again, and what was off stays off."""
    url = adopted("supabase").url
    theirs = (
        "select tgname, tgenabled::text from pg_trigger"
        " where tgrelid = 'chat.conversations'::regclass and not tgisinternal"
        " and tgname not like 'webhooks%'"  # ours, made later
        " order by 1"
    )
    assert read(url, theirs) == [
        {"tgname": "touch", "tgenabled": "O"},
        {"tgname": "was_off", "tgenabled": "D"},
    ]


def test_plain_indexes_of_others_stay(adopted: Callable[[str], Adopted]) -> None:
    """An index that only makes something fast is kept when nothing of it was re-typed."""
    url = adopted("supabase").url
    names = {row["relname"] for row in read(url, "select relname from pg_class")}
    assert "by_tokens" in names
    assert "messages_conversation_id_created_at_idx" not in names


def test_rows_without_owner_key_or_zone(adopted: Callable[[str], Adopted]) -> None:
    """Doubles and strays get an id or a conversation of their own; nobody sees any of it."""
    url = adopted("bare").url
    found = conversations(url)
    assert {owner for owner, _ in found} == {""}
    assert found["", "One"]["id"] == "first"
    again = found["", "One again"]
    assert (again["id"] != "first", again["adopted"]) == (True, {"id": "first"})
    assert (again["created_at"], again["updated_at"]) == (at(14), at(14))
    said = messages(url)
    chain = ["Hello", "Hello yourself", "The same id"]
    assert [said[text]["conversation_id"] for text in chain] == ["first"] * 3
    assert [said[text]["created_at"] for text in chain] == [at(12), at(12, 0, 1), at(12, 0, 2)]
    assert said["Hello yourself"]["id"] == "m2"
    assert said["The same id"]["adopted"] == {"id": "m2"}
    assert said["The same id"]["parent_id"] == "m2"
    assert said[""]["role"] == "assistant"
    assert said[""]["created_at"] == found["", "One"]["created_at"]


def test_missing_conversations_are_made(adopted: Callable[[str], Adopted]) -> None:
    """A message whose conversation is gone gets one of the same id; times come from it."""
    url = adopted("bare").url
    rows = {row["id"]: row for row in read(url, "select * from chat.conversations")}
    said = messages(url)
    assert rows["gone"]["created_at"] == said["My conversation was deleted"]["created_at"]
    assert rows["gone"]["updated_at"] == said["So was mine"]["created_at"]
    assert rows["gone"]["head_id"] == "lost too"
    assert said["So was mine"]["parent_id"] == "lost"
    assert rows[said["I never had one"]["conversation_id"]]["head_id"] == "adrift"
    assert (rows["late"]["created_at"], rows["late"]["updated_at"]) == (at(9, day=5), at(10, day=5))


def test_numbers_and_foreign_roles(adopted: Callable[[str], Adopted]) -> None:
    """Numbers order by size, roles are mapped and the old word kept, columns may be left out."""
    url = adopted("serial").url
    said = messages(url)
    chain = ["Be kind.", "What is 6 times 7?", '{"product": 42}', "It is 42.", "The end."]
    assert [said[text]["id"] for text in chain] == ["8", "9", "10", "11", "12"]
    assert [said[text]["parent_id"] for text in chain] == [None, "8", "9", "10", "11"]
    assert [said[text]["role"] for text in chain] == [
        "system",
        "user",
        "assistant",
        "assistant",
        "assistant",
    ]
    assert [said[text]["adopted"] for text in chain] == [
        None,
        {"role": "human"},
        {"role": "tool"},
        {"role": "ai"},
        {"role": "Narrator"},
    ]
    found = conversations(url)
    assert found["ana", "Mine"]["tenant"] == 1
    assert set(found) == {("ana", "Mine"), ("bo", "His"), ("", "Whose?"), ("", "Whose too?")}


def test_rows_that_disagree_about_their_owner(adopted: Callable[[str], Adopted]) -> None:
    """Everybody sees what names them, nobody what names another, and doubt is nobody's."""
    url = adopted("authored").url
    found, said = conversations(url), messages_by_id(url)
    shared = found["ana", "Ana's"]
    assert shared["id"] == "shared-between-two-people"
    assert found["bo", "Bo's"]["adopted"] == {"id": "shared-between-two-people"}
    assert said["s2"]["conversation_id"] == found["bo", "Bo's"]["id"]
    assert said["s2"]["adopted"] == {"conversation_id": "shared-between-two-people"}
    assert (said["s1"]["user_id"], said["s1"]["conversation_id"]) == ("ana", shared["id"])
    assert said["s3"]["user_id"] == ""
    assert said["h1"]["conversation_id"] == said["h2"]["conversation_id"] == "short"
    assert (said["h1"]["user_id"], said["h2"]["user_id"]) == ("ana", "bo")
    assert said["p5"]["user_id"] == "bo"
    assert said["p5"]["conversation_id"] != "the-conversation-of-ana"
    assert found["ana", "Guess"]["id"] == said["g2"]["conversation_id"]
    assert said["g2"]["user_id"] == "ana"
    assert [said[one]["user_id"] for one in ("n1", "n2", "n3")] == ["ana", "bo", ""]


def messages_by_id(url: str) -> dict[str, dict[str, Any]]:
    """Return every message by its id."""
    return {row["id"]: row for row in read(url, "select * from chat.messages")}


def test_a_tree_that_was_there_is_kept(adopted: Callable[[str], Adopted]) -> None:
    """Valid parents stay, impossible ones become roots with the old value beside them."""
    url = adopted("authored").url
    said = messages_by_id(url)
    assert [said[f"p{n}"]["parent_id"] for n in (1, 2, 3, 4, 6)] == [None, "p1", "p1", None, None]
    assert said["p4"]["adopted"] == {"parent_id": "x9"}
    assert said["p6"]["adopted"] == {"parent_id": "p6"}
    head = conversations(url)["ana", "Private"]["head_id"]
    assert head == "p6"


def test_columns_that_mean_something_else_step_aside(adopted: Callable[[str], Adopted]) -> None:
    """They keep their values under another name, and ours are empty."""
    url = adopted("clashing").url
    (talk,) = read(url, "select * from chat.conversations")
    assert (talk["id"], talk["user_id"], talk["head_id"]) == (
        "short",
        "7",
        "e0e0e0e0-0000-4000-8000-000000000001",
    )
    assert (talk["former_head_id"], talk["former_deleted_at"], talk["deleted_at"]) == (
        3,
        False,
        None,
    )
    assert (talk["created_at"], talk["updated_at"]) == (at(0), at(12))
    (said,) = read(url, "select * from chat.messages")
    assert (said["role"], said["content"]) == ("user", '["two", "parts"]')
    assert (said["parts"], said["run_id"], said["former_parts"], said["former_run_id"]) == (
        None,
        None,
        [1],
        5,
    )


def test_messages_alone_are_adopted(empty_database: str) -> None:
    """Without a table of conversations each message still gets one."""
    legacy(empty_database, "bare")
    run(empty_database, "drop table chat.conversations")
    migrate(empty_database)
    ids = {row["id"] for row in read(empty_database, "select id from chat.conversations")}
    assert {"first", "late", "gone"} < ids
    assert len(ids) == 4


def test_conversations_alone_are_adopted(empty_database: str) -> None:
    """Without a table of messages the conversations are kept, empty."""
    legacy(empty_database, "supabase")
    run(empty_database, "drop table chat.messages")
    migrate(empty_database)
    assert len(conversations(empty_database)) == 3


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person reads of a message."""

    content: str


async def seen_by(url: str, user_id: str) -> set[str]:
    """Return what *user_id* can read of the database at *url*."""
    db = Database(url, pool_size=1)
    await db.open()
    try:
        everything_there = "select content from chat.messages"
        found = await db.fetch(as_user(user_id), everything_there, [], row=Seen)
        return {row.content for row in found}
    finally:
        await db.close()


async def test_owners_see_theirs_and_can_go_on(copied: Callable[[str], str]) -> None:
    """The server's own login reads and writes what is the caller's, and no more."""
    admin_url = copied("serial")
    migrate(admin_url, login=LOGIN)
    url = admin_url.replace("postgres@", f"{LOGIN}@")
    assert await seen_by(url, "bo") == {"Psst."}
    assert len(await seen_by(url, "ana")) == 5
    db = Database(url, pool_size=1)
    await db.open()
    bo = as_user("bo")
    await db.execute(bo, "insert into chat.conversations (user_id, id) values ('bo', 'new')", [])
    await db.execute(
        bo,
        "insert into chat.messages (user_id, conversation_id, id, role, content)"
        " values ('bo', 'new', '1', 'user', 'Hello'), ('bo', '2', 'n', 'assistant', 'Yes?')",
        [],
    )
    await db.close()
    assert await seen_by(url, "bo") == {"Psst.", "Hello", "Yes?"}


async def test_unknown_owner_until_assigned(copied: Callable[[str], str]) -> None:
    """Conversations without owner are shown to nobody; assigning gives one with its messages."""
    admin_url = copied("serial")
    migrate(admin_url, login=LOGIN)
    url = admin_url.replace("postgres@", f"{LOGIN}@")
    assert "Anybody?" not in await seen_by(url, "ana") | await seen_by(url, "bo")
    assert assign_conversations(admin_url, "cy", ["3", "1"]) == 1
    assert await seen_by(url, "cy") == {"Anybody?"}
    assert assign_conversations(admin_url, "ana", None) == 1
    assert conversations(admin_url)["ana", "Whose too?"]["id"] == "4"


def test_assigning_an_id_the_person_has_gives_nothing(copied: Callable[[str], str]) -> None:
    """Two conversations of one person never share an id, and forced security stays."""
    url = copied("serial")
    run(url, "insert into chat.conversations (user_id, id) values ('ana', '3')")
    before = everything(url)
    with pytest.raises(Conflict):
        assign_conversations(url, "ana", None)
    assert everything(url) == before


REFUSED: dict[str, tuple[LiteralString, str]] = {
    "a foreign key of another table": (
        """
        create table chat.ratings (
          stars integer, message_id uuid constraint ratings_message references chat.messages)
        """,
        "foreign key ratings_message of chat.ratings",
    ),
    "a view": (
        "create view public.transcript as select content from chat.messages",
        "of transcript reads chat.messages",
    ),
    "a column of another kind": (
        "alter table chat.messages drop created_at, add created_at bigint",
        "chat.messages.created_at is of type bigint",
    ),
    "no content": ("alter table chat.messages drop content", "chat.messages has no column content"),
    "not a table": (
        """
        drop table chat.messages;
        create materialized view chat.messages as select 1 as user_id, 2 as id
        """,
        "chat.messages is a view",
    ),
    "a table of ours that is somebody's": (
        "create table chat.runs (id integer)",
        'relation "runs" already exists',
    ),
    "a policy elsewhere": (
        """
        create table chat.notes (id uuid);
        create policy mine on chat.notes using (id in (select id from chat.conversations))
        """,
        "policy mine on table chat.notes depends on column",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_adopted_is_named_and_left_alone(why: str, empty_database: str) -> None:
    """One clear sentence, and the database is as it was."""
    script, sentence = REFUSED[why]
    legacy(empty_database, "supabase")
    run(empty_database, script)
    before = everything(empty_database)
    with pytest.raises(SetupError) as raised:
        migrate(empty_database)
    assert sentence in raised.value.problems[0]
    assert everything(empty_database) == before
