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
    from tests.postgres_servers import MigratedDatabase

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


@pytest.mark.parametrize("name", EVERY_LEGACY)
def test_adopted_tables_are_like_new_ones(
    name: str, empty_database: str, database: MigratedDatabase
) -> None:
    """Keys, types, policies and rights are those of a new database; their columns stay."""
    legacy(empty_database, name)
    columns = {one[:3] for one in shape(empty_database) if one[0] == "column"}
    migrate(empty_database)
    new, adopted = shape(database.admin_url), shape(empty_database)
    assert new - adopted == set()
    their_own = {one[:3] for one in adopted - new}
    assert {one for one in their_own if one[0] not in {"column", "index"}} == set()
    for kind, table, column in columns - {one[:3] for one in adopted}:
        assert (kind, table, f"former_{column}") in their_own


@pytest.mark.parametrize("name", EVERY_LEGACY)
def test_second_run_changes_nothing(name: str, empty_database: str) -> None:
    """`migrate` finds an adopted database finished."""
    legacy(empty_database, name)
    assert migrate(empty_database).before is None
    once = everything(empty_database)
    assert migrate(empty_database).before == HEAD
    assert everything(empty_database) == once


@pytest.mark.parametrize("name", EVERY_LEGACY)
def test_no_row_is_lost(name: str, empty_database: str) -> None:
    """As many messages as before, in as many conversations or more, each chained to the end."""
    legacy(empty_database, name)
    before = read(
        empty_database,
        "select (select count(*) from chat.conversations) as talks, count(*) as words,"
        " array_agg(coalesce(content::text, '') order by content::text) as said from chat.messages",
    )[0]
    migrate(empty_database)
    after = read(
        empty_database,
        "select (select count(*) from chat.conversations) as talks, count(*) as words,"
        " count(distinct (user_id, conversation_id)) as answered from chat.messages",
    )[0]
    assert after["words"] == before["words"] == len(before["said"])
    assert after["talks"] >= before["talks"]
    headed = "select count(*) as n from chat.conversations where head_id is not null"
    assert read(empty_database, headed) == [{"n": after["answered"]}]


def test_supabase_rows_keep_every_value(empty_database: str) -> None:
    """Ids become text, the trigger does not touch the times, messages follow their owner."""
    legacy(empty_database, "supabase")
    migrate(empty_database)
    found = conversations(empty_database)
    assert set(found) == {(ANA, "Of cabbages"), (BO, "Of kings"), (ANA, "Empty")}
    cabbages = found[ANA, "Of cabbages"]
    assert cabbages["id"] == "c0c0c0c0-0000-4000-8000-000000000001"
    assert (cabbages["created_at"], cabbages["updated_at"]) == (at(12), at(13))
    assert cabbages["head_id"] == "e0e0e0e0-0000-4000-8000-000000000003"
    assert found[ANA, "Empty"]["head_id"] is None
    said = messages(empty_database)
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


def test_triggers_of_others_stay_as_they_were(empty_database: str) -> None:
    """What ran before runs again, and what was off stays off."""
    legacy(empty_database, "supabase")
    migrate(empty_database)
    theirs = (
        "select tgname, tgenabled::text from pg_trigger"
        " where tgrelid = 'chat.conversations'::regclass and not tgisinternal"
        " and tgname not like 'webhooks%'"  # ours, made later
        " order by 1"
    )
    assert read(empty_database, theirs) == [
        {"tgname": "touch", "tgenabled": "O"},
        {"tgname": "was_off", "tgenabled": "D"},
    ]


def test_plain_indexes_of_others_stay(empty_database: str) -> None:
    """An index that only makes something fast is kept when nothing of it was re-typed."""
    legacy(empty_database, "supabase")
    migrate(empty_database)
    names = {row["relname"] for row in read(empty_database, "select relname from pg_class")}
    assert "by_tokens" in names
    assert "messages_conversation_id_created_at_idx" not in names


def test_rows_without_owner_key_or_zone(empty_database: str) -> None:
    """Doubles and strays get an id or a conversation of their own; nobody sees any of it."""
    legacy(empty_database, "bare")
    migrate(empty_database)
    found = conversations(empty_database)
    assert {owner for owner, _ in found} == {""}
    assert found["", "One"]["id"] == "first"
    again = found["", "One again"]
    assert (again["id"] != "first", again["adopted"]) == (True, {"id": "first"})
    assert (again["created_at"], again["updated_at"]) == (at(14), at(14))
    said = messages(empty_database)
    chain = ["Hello", "Hello yourself", "The same id"]
    assert [said[text]["conversation_id"] for text in chain] == ["first"] * 3
    assert [said[text]["created_at"] for text in chain] == [at(12), at(12, 0, 1), at(12, 0, 2)]
    assert said["Hello yourself"]["id"] == "m2"
    assert said["The same id"]["adopted"] == {"id": "m2"}
    assert said["The same id"]["parent_id"] == "m2"
    assert said[""]["role"] == "assistant"
    assert said[""]["created_at"] == found["", "One"]["created_at"]


def test_missing_conversations_are_made(empty_database: str) -> None:
    """A message whose conversation is gone gets one of the same id; times come from it."""
    legacy(empty_database, "bare")
    migrate(empty_database)
    rows = {row["id"]: row for row in read(empty_database, "select * from chat.conversations")}
    said = messages(empty_database)
    assert rows["gone"]["created_at"] == said["My conversation was deleted"]["created_at"]
    assert rows["gone"]["updated_at"] == said["So was mine"]["created_at"]
    assert rows["gone"]["head_id"] == "lost too"
    assert said["So was mine"]["parent_id"] == "lost"
    assert rows[said["I never had one"]["conversation_id"]]["head_id"] == "adrift"
    assert (rows["late"]["created_at"], rows["late"]["updated_at"]) == (at(9, day=5), at(10, day=5))


def test_numbers_and_foreign_roles(empty_database: str) -> None:
    """Numbers order by size, roles are mapped and the old word kept, columns may be left out."""
    legacy(empty_database, "serial")
    migrate(empty_database)
    said = messages(empty_database)
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
    found = conversations(empty_database)
    assert found["ana", "Mine"]["tenant"] == 1
    assert set(found) == {("ana", "Mine"), ("bo", "His"), ("", "Whose?"), ("", "Whose too?")}


def test_rows_that_disagree_about_their_owner(empty_database: str) -> None:
    """Everybody sees what names them, nobody what names another, and doubt is nobody's."""
    legacy(empty_database, "authored")
    migrate(empty_database)
    found, said = conversations(empty_database), messages_by_id(empty_database)
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


def test_a_tree_that_was_there_is_kept(empty_database: str) -> None:
    """Valid parents stay, impossible ones become roots with the old value beside them."""
    legacy(empty_database, "authored")
    migrate(empty_database)
    said = messages_by_id(empty_database)
    assert [said[f"p{n}"]["parent_id"] for n in (1, 2, 3, 4, 6)] == [None, "p1", "p1", None, None]
    assert said["p4"]["adopted"] == {"parent_id": "x9"}
    assert said["p6"]["adopted"] == {"parent_id": "p6"}
    head = conversations(empty_database)["ana", "Private"]["head_id"]
    assert head == "p6"


def test_columns_that_mean_something_else_step_aside(empty_database: str) -> None:
    """They keep their values under another name, and ours are empty."""
    legacy(empty_database, "clashing")
    migrate(empty_database)
    (talk,) = read(empty_database, "select * from chat.conversations")
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
    (said,) = read(empty_database, "select * from chat.messages")
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


async def test_owners_see_theirs_and_can_go_on(empty_database: str) -> None:
    """The server's own login reads and writes what is the caller's, and no more."""
    legacy(empty_database, "serial")
    migrate(empty_database, login=LOGIN)
    url = empty_database.replace("postgres@", f"{LOGIN}@")
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


async def test_unknown_owner_until_assigned(empty_database: str) -> None:
    """Conversations without owner are shown to nobody; assigning gives one with its messages."""
    legacy(empty_database, "serial")
    migrate(empty_database, login=LOGIN)
    url = empty_database.replace("postgres@", f"{LOGIN}@")
    assert "Anybody?" not in await seen_by(url, "ana") | await seen_by(url, "bo")
    assert assign_conversations(empty_database, "cy", ["3", "1"]) == 1
    assert await seen_by(url, "cy") == {"Anybody?"}
    assert assign_conversations(empty_database, "ana", None) == 1
    assert conversations(empty_database)["ana", "Whose too?"]["id"] == "4"


def test_assigning_an_id_the_person_has_gives_nothing(empty_database: str) -> None:
    """Two conversations of one person never share an id, and forced security stays."""
    legacy(empty_database, "serial")
    migrate(empty_database)
    run(empty_database, "insert into chat.conversations (user_id, id) values ('ana', '3')")
    before = everything(empty_database)
    with pytest.raises(Conflict):
        assign_conversations(empty_database, "ana", None)
    assert everything(empty_database) == before


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
