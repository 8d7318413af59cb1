"""The words that are kept of messages: which, of whom, and when."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from chatkeep import sql as sql_package
from chatkeep.conversations import search
from chatkeep.db import Database, as_user
from chatkeep.sql import migrations
from chatkeep.sql.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_servers import MigratedDatabase

#: What of a message is looked through, and what is kept of it, as the first revisions had it.
_KEPT: LiteralString = r"""
with said as (
  select regexp_replace(replace(left(%(text)s, 50000), '<!', '  '), '(\S{200})', '\1 ', 'g') as text
)
select to_tsvector('simple', text)
  || case when %(language)s = 'simple' then ''::tsvector
       else to_tsvector(%(language)s::regconfig, text) end
  || array_to_tsvector(array[%(owner)s])
from said
"""
#: What tags of languages stand for.
_LANGUAGES = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "nb": "norwegian",
    "ne": "nepali",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
    "de-AT": "german",
    "EN-us": "english",
    "": "simple",
    "zh": "simple",
    "en_US": "simple",
    "xx-de": "simple",
    "-": "simple",
}


@contextmanager
def talking(database: MigratedDatabase, person: str) -> Iterator[psycopg.Connection]:
    """Give *person* a conversation, and a connection as an administrator's; nothing stays."""
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "insert into chat.conversations (user_id, id) values (%s, 'talk')", [person]
        )
        yield connection
        connection.rollback()


def ask(connection: psycopg.Connection, person: str, text: str, *, key: str = "asked") -> None:
    """Say *text* as *person*."""
    connection.execute(
        "insert into chat.messages (user_id, conversation_id, id, role, content)"
        " values (%s, 'talk', %s, 'user', %s)",
        [person, key, text],
    )


def begin_answer(connection: psycopg.Connection, person: str, text: str) -> None:
    """Let an answer to *person* have said *text*, and go on."""
    connection.execute(
        "insert into chat.messages (user_id, conversation_id, id, role, content, run_id)"
        " values (%s, 'talk', 'answered', 'assistant', %s, 'run')",
        [person, text],
    )
    connection.execute(
        "insert into chat.runs"
        " (user_id, id, conversation_id, message_id, state, model, lease_until)"
        " values (%s, 'run', 'talk', 'answered', 'queued', 'm', now())",
        [person],
    )


def turn_to(connection: psycopg.Connection, state: str, text: str | None = None) -> None:
    """Bring the answer into *state*; with *text*, that is what it says then."""
    if text is not None:
        connection.execute("update chat.messages set content = %s where id = 'answered'", [text])
    connection.execute("update chat.runs set state = %s where id = 'run'", [state])


def kept(connection: psycopg.Connection, person: str) -> dict[str, str]:
    """Return the words that are kept of each message of *person*."""
    rows = connection.execute(
        "select message_id, words::text from chat.message_words where user_id = %s", [person]
    )
    return dict(rows.fetchall())


def test_each_language_is_told_by_its_tag(database: MigratedDatabase) -> None:
    """English where nothing was chosen, as it stands where PostgreSQL knows none."""
    found = database.operate(
        "select locale, chat.search_language(locale)::text from unnest(%s::text[]) locale",
        [None, *_LANGUAGES],
    )
    assert dict(found) == {None: "english"} | _LANGUAGES


@pytest.mark.parametrize("locale", [None, "de-AT", "zh"], ids=str)
@pytest.mark.parametrize(
    "text",
    [
        "Running through the Häuser, running",
        "said <!-- quietly --> and <!-- unsaid",
        *("a" * 199, "a" * 200, "a" * 201, "ß" * 99, "ß" * 100, "ß" * 200, "ß" * 401),
        "Katzen <!-- und --> Hunde " * 100,
        "Katzen " * 8000 + "Ende",
        "字" * 20_000,
        "-<!" * 17_000,
    ],
    ids=lambda text: f"{text[:2]!a} {len(text)}",
)
def test_question_and_answer_are_kept_alike(
    database: MigratedDatabase, text: str, locale: str | None
) -> None:
    """Whatever of it is cheap: the words are those of its first pages, in two forms, and whose."""
    with talking(database, "ana") as connection:
        connection.execute("insert into chat.profiles (id, locale) values ('ana', %s)", [locale])
        ask(connection, "ana", text)
        begin_answer(connection, "ana", text)
        turn_to(connection, "done")
        language = _LANGUAGES[locale or "en"]
        owner = hashlib.sha256(b"ana").hexdigest()
        wanted = connection.execute(_KEPT, {"text": text, "language": language, "owner": owner})
        (words,) = wanted.fetchone() or ("",)
        assert kept(connection, "ana") == {"asked": words, "answered": words}


def test_an_answer_is_kept_whenever_it_ends(database: MigratedDatabase) -> None:
    """Not while it is made, nor when it stays ended; when it ends once more, what it says then."""
    with talking(database, "ana") as connection:
        begin_answer(connection, "ana", "red")
        turn_to(connection, "running", "green")
        assert kept(connection, "ana") == {}
        turn_to(connection, "interrupted")
        assert "'green'" in kept(connection, "ana")["answered"]
        turn_to(connection, "interrupted", "yellow")
        assert "'green'" in kept(connection, "ana")["answered"]
        turn_to(connection, "running", "blue")
        turn_to(connection, "done")
        assert "'blue'" in kept(connection, "ana")["answered"]
        assert "'green'" not in kept(connection, "ana")["answered"]


def test_nothing_is_kept_of_nothing(database: MigratedDatabase) -> None:
    """An empty question or answer has no words, and no row that says whose it is."""
    with talking(database, "ana") as connection:
        ask(connection, "ana", "")
        begin_answer(connection, "ana", "")
        turn_to(connection, "failed")
        assert kept(connection, "ana") == {}


def test_more_words_than_a_vector_holds_are_not_found_and_nothing_is_lost(
    database: MigratedDatabase,
) -> None:
    """What was said with them stays, a question or an answer; so does all else of the statement."""
    too_many = " ".join(f"{n:x}{n:o}" for n in range(200_000))
    with talking(database, "ana") as connection:
        # As many as are looked through are never too many.
        connection.execute(
            "create or replace function chat.searched_text(content text) returns text"
            " language sql immutable parallel safe return content"
        )
        ask(connection, "ana", too_many)
        begin_answer(connection, "ana", "few words")
        turn_to(connection, "done", too_many)
        ask(connection, "ana", "few words", key="asked again")
        assert list(kept(connection, "ana")) == ["asked again"]
        stays = connection.execute(
            "select m.id, m.content = %s, r.state from chat.messages m"
            " left join chat.runs r on r.message_id = m.id where m.user_id = 'ana' order by 1",
            [too_many],
        )
        assert stays.fetchall() == [
            ("answered", True, "done"),
            ("asked", True, None),
            ("asked again", False, None),
        ]


async def test_a_forged_owner_in_a_text_opens_nothing(db: Database) -> None:
    """Neither of a message that names another as its owner, nor of a search that does."""
    of_target = hashlib.sha256(b"target").hexdigest()
    for person, text in (("forger", f"persimmon {of_target}"), ("target", "persimmon")):
        await db.execute(
            as_user(person),
            "with talk as ("
            "  insert into chat.conversations (user_id, id) values (%s, 'talk') returning *"
            ") insert into chat.messages (user_id, conversation_id, id, role, content)"
            " select user_id, id, 'said', 'user', %s from talk",
            [person, text],
        )
    for person in ("forger", "target"):
        async with db.acting_as(as_user(person)) as connection:
            assert await finds(connection, f"persimmon | '{of_target}'") == 1  # their own


async def finds(connection: psycopg.AsyncConnection, query: str) -> int:
    """Return how many messages the caller finds by *query*."""
    cursor = await connection.execute(
        "select from chat.search(%s::tsquery, 'infinity', '', 100)", [query]
    )
    return len(await cursor.fetchall())


def defined(url: str) -> list[tuple[str, ...]]:
    """Return all functions and triggers of ours as they were made, and who may call them."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select oid::regprocedure::text, pg_get_functiondef(oid), proacl::text,"
            " proowner::regrole::text from pg_proc"
            " where pronamespace in ('chat'::regnamespace, 'chatkeep'::regnamespace)"
            " union all select tgname, pg_get_triggerdef(oid), '', '' from pg_trigger"
            " where not tgisinternal order by 1, 2"
        ).fetchall()


def test_the_cheaper_way_to_keep_words_can_be_taken_back(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before is there again, and neither way leaves a right behind."""
    with monkeypatch.context() as older:
        older.setattr(migrations, "HEAD", "0031")
        migrate(empty_database)
    before = defined(empty_database)
    rights = schema_rights(empty_database)
    monkeypatch.setattr(migrations, "HEAD", "0032")
    migrate(empty_database)
    assert defined(empty_database) != before
    assert schema_rights(empty_database) == rights
    take_back(empty_database, "0031")
    assert defined(empty_database) == before
    assert schema_rights(empty_database) == rights


def schema_rights(url: str) -> list[tuple[str, ...]]:
    """Return who may do what in our schemas, and who is a member of what."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select nspname, nspacl::text from pg_namespace where nspname in ('chat', 'chatkeep')"
            " union all select roleid::regrole::text, member::regrole::text from pg_auth_members"
            " order by 1, 2"
        ).fetchall()


def take_back(url: str, revision: str) -> None:
    """Take the tables at *url* back to *revision*, as an operator of a version before would."""
    from alembic import command  # noqa: PLC0415 -- slow, and only here
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, pool  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(str(sql_package.__file__)).parent))
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=pool.NullPool
    )
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


async def test_search_is_planned_for_who_searches(database: MigratedDatabase) -> None:
    """Not once for anybody: for whom has said much, that takes three times as long."""
    db = Database(database.url, pool_size=1)
    await db.open()
    try:
        for _ in range(3):
            assert await search.search(db, "ana", "boats", locale=None, limit=20) == []
        async with db._pool.connection() as connection:
            cursor = await connection.execute(
                "select custom_plans, generic_plans from pg_prepared_statements"
                " where statement like '%chat.search(%'"
            )
            assert await cursor.fetchall() == [(3, 0)]
    finally:
        await db.close()


def test_newest_are_found_first_however_they_are_looked_through(
    database: MigratedDatabase,
) -> None:
    """Joined with their conversations in the order of those, they come in that of time."""
    database.operate(
        "insert into chat.conversations (user_id, id)"
        " select 'dora', 'c' || n from generate_series(1, 40) n"
    )
    database.operate(
        "insert into chat.messages (user_id, conversation_id, id, role, content, created_at)"
        " select 'dora', 'c' || 1 + n * 7 % 40, 'm' || n, 'user', 'plum',"
        " now() - n * interval '1 second' from generate_series(1, 40) n"
    )
    with psycopg.connect(database.url) as connection:
        connection.execute("select set_config('chatkeep.user_id', 'dora', false)")
        connection.execute("set enable_nestloop = off")
        connection.execute("set enable_hashjoin = off")
        connection.execute("set role chatkeep_app")
        found = connection.execute(
            "select message_id from chat.search('plum', 'infinity', '', 5)"
        ).fetchall()
    assert found == [(f"m{n}",) for n in range(1, 6)]
