"""Ana and Bo have a row in every table; these checks fail when one of them reaches the other's.

They are plain functions, so that they can be run again on a database from which one policy
was taken away: at least one of them must then fail. Each leaves the rows as it found them.
"""

# ruff: noqa: S608 -- names of tables and columns are put into statements, all from this file

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from chatkeep.db import ADMIN, AUTH, WORKER, Caller, ConstraintViolated, Database, as_user
from chatkeep.errors import NotFound
from chatkeep.sql.migrations import HEAD

if TYPE_CHECKING:
    from collections.abc import Sequence

#: For what spoils our own SQL to see that a test notices: all versions would notice alike.
ON_ONE_VERSION = pytest.mark.parametrize("version", ["18"], indirect=True, ids=["pg18"])
ANA, BO = "ana-of-the-twins", "bo-of-the-twins"
ANAS_TALK, BOS_TALK = "the-conversation-of-ana", "the-conversation-of-bo"
NOBODY = Caller("chatkeep_app")


@dataclass(frozen=True, slots=True)
class Twins:
    """The door under test, and an administrator's connection to look behind it."""

    db: Database
    admin: psycopg.Connection


Check = Callable[[Twins], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedTable:
    """How a person's rows of a table are read and written.

    *insert* takes the owner and is otherwise a row that may be made; None where the role
    of people's requests has no right to.
    """

    name: LiteralString
    owner: LiteralString
    insert: LiteralString | None
    change: LiteralString
    may_change: bool
    may_delete: bool
    through_data_api: bool


#: Every table that holds rows of people; a test compares it with the database.
OWNED = (
    OwnedTable(
        name="chat.conversations",
        owner="user_id",
        insert="insert into chat.conversations (user_id, id) values (%s, 'made by the test')",
        change="title = 'changed'",
        may_change=True,
        may_delete=True,
        through_data_api=True,
    ),
    OwnedTable(
        name="chat.messages",
        owner="user_id",
        insert=(
            "insert into chat.messages (user_id, conversation_id, id, role)"
            " select user_id, id, 'made by the test', 'user' from (values"
            " ('ana-of-the-twins', 'the-conversation-of-ana'),"
            " ('bo-of-the-twins', 'the-conversation-of-bo')) c (user_id, id) where user_id = %s"
        ),
        change="content = 'changed'",
        may_change=True,
        may_delete=False,
        through_data_api=True,
    ),
    OwnedTable(
        name="chat.runs",
        owner="user_id",
        insert=(
            "insert into chat.runs (user_id, id, conversation_id, message_id, state, model,"
            " lease_until) select user_id, 'made by the test', id, 'answer', 'done', 'm', now()"
            " from (values ('ana-of-the-twins', 'the-conversation-of-ana'),"
            " ('bo-of-the-twins', 'the-conversation-of-bo')) c (user_id, id) where user_id = %s"
        ),
        change="model = 'changed'",
        may_change=True,
        may_delete=False,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.profiles",
        owner="id",
        insert="insert into chat.profiles (id) values (%s)",
        change="display_name = 'changed'",
        may_change=True,
        may_delete=True,
        through_data_api=True,
    ),
    OwnedTable(
        name="chat.chatkit_threads",
        owner="user_id",
        insert=(
            "insert into chat.chatkit_threads (user_id, conversation_id)"
            " select user_id, 'deleted' from (values ('ana-of-the-twins'),"
            " ('bo-of-the-twins')) c (user_id) where user_id = %s"
        ),
        change="busy_with = 'changed'",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.chatkit_items",
        owner="user_id",
        insert=(
            "insert into chat.chatkit_items (user_id, conversation_id, id, item)"
            " select user_id, 'deleted', 'made by the test', '{}' from (values"
            " ('ana-of-the-twins'), ('bo-of-the-twins')) c (user_id) where user_id = %s"
        ),
        change="item = '{}'",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.chatkit_attachments",
        owner="user_id",
        insert=(
            "insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size)"
            " values (%s, 'made by the test', '{}', 'text/plain', 1)"
        ),
        change="media_type = 'changed'",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.idempotency_keys",
        owner="user_id",
        insert=(
            "insert into chat.idempotency_keys (user_id, key, fingerprint)"
            " values (%s, 'made by the test', '')"
        ),
        change="holder = 'changed'",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.file_uses",
        owner="user_id",
        insert=(
            "insert into chat.file_uses (user_id, file_id, conversation_id)"
            " select user_id, 'forgotten', id from (values"
            " ('ana-of-the-twins', 'the-conversation-of-ana'),"
            " ('bo-of-the-twins', 'the-conversation-of-bo')) c (user_id, id) where user_id = %s"
        ),
        change="file_id = 'forgotten'",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.shares",
        owner="user_id",
        insert=(
            "insert into chat.shares (user_id, id, conversation_id, head_id, token_hash,"
            " expires_at) select user_id, 'made by the test', id, 'answer', 'hash', now()"
            " from (values ('ana-of-the-twins', 'the-conversation-of-ana'),"
            " ('bo-of-the-twins', 'the-conversation-of-bo')) c (user_id, id) where user_id = %s"
        ),
        change="expires_at = now()",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.responses",
        owner="user_id",
        insert=(
            "insert into chat.responses (user_id, id, kind, request, input, alone)"
            " select user_id, 'other run', 'response', '{}', '{}', true from (values"
            " ('ana-of-the-twins'), ('bo-of-the-twins')) c (user_id) where user_id = %s"
        ),
        change="alone = false",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.conversation_metadata",
        owner="user_id",
        insert=(
            "insert into chat.conversation_metadata (user_id, conversation_id, metadata)"
            " select user_id, 'deleted', '{}' from (values ('ana-of-the-twins'),"
            " ('bo-of-the-twins')) c (user_id) where user_id = %s"
        ),
        change="metadata = '{}'",
        may_change=True,
        may_delete=True,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.charges",
        owner="user_id",
        insert=(
            "insert into chat.charges (user_id, id, day, model, prompt_tokens, output_tokens,"
            " prompt_cost, cost, tokens_ceiling, cost_ceiling, expires_at)"
            " values (%s, 'made by the test', now(), 'm', 1, 1, 0, 0, 2, 0, now())"
        ),
        change="model = 'changed'",
        may_change=True,
        may_delete=False,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.budgets",
        owner="user_id",
        insert=(
            "insert into chat.budgets select %s, now(), 1, 0, 1, 0, 1, 0, 1, 0"
            " on conflict (user_id) do update set day_tokens = 1"
        ),
        change="day_cost = 0",
        may_change=True,
        may_delete=False,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.usage",
        owner="user_id",
        insert="insert into chat.usage values (%s, now(), 'made by the test', 1, 1, 1, 0)",
        change="answers = 2",
        may_change=True,
        may_delete=False,
        through_data_api=False,
    ),
    OwnedTable(
        name="chat.budget_limits",
        owner="name",
        insert=None,
        change="tokens_per_day = 1000",
        may_change=False,
        may_delete=False,
        through_data_api=False,
    ),
    OwnedTable(
        name="chatkeep.personal_keys",
        owner="user_id",
        insert=None,
        change="name = 'changed'",
        may_change=False,
        may_delete=False,
        through_data_api=False,
    ),
    OwnedTable(
        name="public.user_sessions",
        owner="user_id",
        insert=None,
        change="device = 'changed'",
        may_change=False,
        may_delete=False,
        through_data_api=False,
    ),
)

#: What people prove themselves with, beside a password.
PROOFS: tuple[LiteralString, ...] = (
    "factors",
    "factor_challenges",
    "recovery_codes",
    "webauthn_credentials",
    "passkey_challenges",
    "one_time_tokens",
    "authorization_codes",
)

#: Row by row and without triggers, which takes a tenth of what new files for every index do.
_CLEAR: LiteralString = "; ".join(
    (
        "set local session_replication_role = replica",
        *(f"delete from {table.name}" for table in OWNED),
        *(f"delete from chatkeep.{name}" for name in PROOFS),
        "delete from chat.message_words",
        "delete from chat.budget_totals",
        "delete from chatkeep.identities",
        "delete from chatkeep.users",
        "delete from chatkeep.signing_keys",
        "delete from chatkeep.issuers",
        "delete from chatkeep.audit_log",
        "delete from chatkeep.audit_links",
        "delete from chatkeep.claim_counts",
        "delete from chatkeep.sign_in_flows",
        "delete from chatkeep.shown_id_tokens",
        "set local session_replication_role = origin;",
    )
)
_SEED: LiteralString = """
insert into chat.conversations (user_id, id, title) values
  ('ana-of-the-twins', 'the-conversation-of-ana', 'secret of ana'),
  ('bo-of-the-twins', 'the-conversation-of-bo', 'secret of bo');
insert into chat.conversations (user_id, id, title, deleted_at) values
  ('ana-of-the-twins', 'deleted', 'secret of ana', now() - interval '1 day'),
  ('bo-of-the-twins', 'deleted', 'secret of bo', now() - interval '1 day');
insert into chat.messages (user_id, conversation_id, id, role, content)
  select user_id, id, 'answer', 'assistant', title from chat.conversations
  where title like 'secret of %';
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until)
  select user_id, 'run', conversation_id, id, 'running', 'm', now() - interval '1 hour'
  from chat.messages where conversation_id like 'the-conversation-of-%';
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until)
  select user_id, 'other run', conversation_id, message_id, 'done', model, lease_until
  from chat.runs;
insert into chat.responses (user_id, id, kind, request, input, alone)
  select user_id, id, 'response', jsonb_build_object('secret', conversation_id), '{}', true
  from chat.runs where id = 'run';
insert into chat.conversation_metadata (user_id, conversation_id, metadata)
  select user_id, id, jsonb_build_object('secret', title) from chat.conversations
  where title like 'secret of %' and deleted_at is null;
insert into chat.chatkit_threads (user_id, conversation_id, busy_with)
  select user_id, id, title from chat.conversations where title like 'secret of %'
    and deleted_at is null;
insert into chat.chatkit_items (user_id, conversation_id, id, item)
  select user_id, id, 'widget', jsonb_build_object('secret', title) from chat.conversations
  where title like 'secret of %' and deleted_at is null;
insert into chat.charges (user_id, id, day, model, prompt_tokens, output_tokens, prompt_cost,
  cost, tokens_ceiling, cost_ceiling, expires_at)
  select user_id, 'run', now(), 'secret', 1, 1, 0, 0, 2, 0, now()
  from (values ('ana-of-the-twins'), ('bo-of-the-twins')) p (user_id);
insert into chat.budgets select user_id, now(), 1, 0, 1, 0, 1, 0, 1, 0 from chat.charges;
insert into chat.usage select user_id, day, model, 1, 1, 1, 0 from chat.charges;
insert into chat.budget_totals values ('2026-01-01', 0, 0);
insert into chat.budget_limits (kind, name) select 'user', user_id from chat.charges;
insert into chat.chatkit_attachments
  (user_id, id, attachment, media_type, size, content, created_at)
  select user_id, name, '{}', 'text/plain', 6, 'secret', now() - age
  from (values ('ana-of-the-twins'), ('bo-of-the-twins')) p (user_id)
  cross join (values ('new', interval '0'), ('forgotten', interval '2 days'),
    ('in a fork', interval '2 days')) f (name, age);
insert into chat.file_uses (user_id, file_id, conversation_id)
  select user_id, 'in a fork', id from chat.conversations where id like 'the-conversation-of-%';
insert into chat.idempotency_keys (user_id, key, fingerprint, created_at)
  select user_id, name, 'secret', now() - age
  from (values ('ana-of-the-twins'), ('bo-of-the-twins')) p (user_id)
  cross join (values ('new', interval '0'), ('old', interval '2 days')) f (name, age);
insert into chat.shares (user_id, id, conversation_id, head_id, token_hash, expires_at)
  select user_id, 'share', conversation_id, id, user_id::bytea, now() from chat.messages
  where conversation_id like 'the-conversation-of-%';
insert into chat.profiles (id, system_prompt) values
  ('ana-of-the-twins', 'secret of ana'), ('bo-of-the-twins', 'secret of bo');
insert into public.user_sessions (user_id, id, device, expires_at) values
  ('ana-of-the-twins', gen_random_uuid(), 'secret of ana', now() + interval '1 day'),
  ('bo-of-the-twins', gen_random_uuid(), 'secret of bo', now() + interval '1 day');
insert into chatkeep.personal_keys
  (user_id, id, issuer, subject, name, shown, key_hash, scopes, role, roles, expires_at)
  select user_id, gen_random_uuid(), 'embedded', user_id, 'secret of ' || user_id, 'ck_',
    user_id::bytea, '{chat}', 'authenticated', '{}', now() + interval '1 day'
  from (values ('ana-of-the-twins'), ('bo-of-the-twins')) p (user_id);
insert into chatkeep.users (id, email) values
  ('a0000000-0000-4000-8000-000000000001', 'ana@example.com');
insert into chatkeep.identities (user_id, id, provider, provider_id) values
  ('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000002', 'email', 'ana');
insert into chatkeep.factors (user_id, id, factor_type) values
  ('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000003', 'totp');
insert into chatkeep.factor_challenges (user_id, id, expires_at) values
  ('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000004', now());
insert into chatkeep.recovery_codes (user_id, factor_id, hash) values
  ('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000003', '');
insert into chatkeep.webauthn_credentials (user_id, id, credential_id, public_key) values
  ('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000005', '', '');
insert into chatkeep.passkey_challenges (id, challenge, expires_at) values
  ('a0000000-0000-4000-8000-000000000006', '', now());
insert into chatkeep.one_time_tokens (user_id, kind, email, link_hash, code_hash, expires_at)
  values ('a0000000-0000-4000-8000-000000000001', 'recovery', 'ana@example.com', '', '', now());
insert into chatkeep.authorization_codes
  (user_id, code_hash, proof, code_challenge, code_challenge_method, expires_at)
  values ('a0000000-0000-4000-8000-000000000001', '', 'otp', '', 's256', now());
insert into chatkeep.signing_keys (kid, algorithm, public_jwk, private_key, status)
  values ('key of the twins', 'ES256', '{}', '', 'standby');
insert into chatkeep.issuers (name, id_prefix) values ('of the twins', 'twins:');
insert into chatkeep.claim_counts (hour, version, claim) values ('2026-01-01T00:00Z', 1, 'role');
"""


def seed(admin: psycopg.Connection) -> None:
    """Give Ana and Bo their rows, and nobody any other."""
    admin.execute(_CLEAR + _SEED)


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


async def _texts(
    db: Database, caller: Caller, query: LiteralString, values: Sequence[object] = ()
) -> list[str]:
    return [row.text for row in await db.fetch(caller, query, values, row=_Text)]


def _all_rows(table: OwnedTable) -> LiteralString:
    return f"select t::text as text from {table.name} t order by 1"


def _rows_of(twins: Twins, table: OwnedTable, person: str) -> list[str]:
    query = f"select t::text from {table.name} t where {table.owner} = %s order by 1"
    return [str(row[0]) for row in twins.admin.execute(query, [person])]


async def _refused(
    db: Database, caller: Caller, statement: LiteralString, values: Sequence[object] = ()
) -> None:
    """The database does not do *statement*, whether or not there is such a row."""
    try:
        touched = await db.execute(caller, statement, values)
    except NotFound:
        return
    assert touched == 0, f"{caller} could: {statement}"


async def _rolled_back(
    db: Database, caller: Caller, statement: LiteralString, values: Sequence[object] = ()
) -> int:
    """Do *statement* and take it back; return how many rows it touched."""
    async with db.acting_as(caller) as connection:
        cursor = await connection.execute(statement, values)
        await connection.execute("rollback and chain")
        return cursor.rowcount


async def everybody_sees_all_of_their_own(twins: Twins) -> None:
    """Through the door a person sees each of their rows, in every table."""
    for table in OWNED:
        for person in (ANA, BO):
            seen = await _texts(twins.db, as_user(person), _all_rows(table))
            assert set(seen) >= set(_rows_of(twins, table, person)) != set(), table.name


async def nobody_sees_rows_of_others(twins: Twins) -> None:
    """Through the door a person sees no row but their own, in any table."""
    for table in OWNED:
        for person in (ANA, BO):
            seen = await _texts(twins.db, as_user(person), _all_rows(table))
            assert set(seen) <= set(_rows_of(twins, table, person)), table.name


async def without_caller_there_is_nothing(twins: Twins) -> None:
    """An unset or empty caller sees no row of any table, and can write none."""
    for table in OWNED:
        assert await _texts(twins.db, NOBODY, _all_rows(table)) == [], table.name
        await _refused(twins.db, NOBODY, f"update {table.name} set {table.change}")
        if table.insert is not None:
            await _refused(twins.db, NOBODY, table.insert, [ANA])


async def everybody_writes_their_own(twins: Twins) -> None:
    """A person can make, change and delete where their role has the right to."""
    for table in OWNED:
        ana = as_user(ANA)
        if table.may_change:
            change: LiteralString = f"update {table.name} set {table.change}"
            assert await _rolled_back(twins.db, ana, change) > 0, table.name
        if table.may_delete:
            erase: LiteralString = f"delete from {table.name}"
            theirs = len(_rows_of(twins, table, ANA))
            assert await _rolled_back(twins.db, ana, erase) == theirs > 0, table.name
        if table.insert is not None:
            person = "somebody new" if table.name == "chat.profiles" else ANA
            caller = as_user(person)
            assert await _rolled_back(twins.db, caller, table.insert, [person]) == 1, table.name


async def rows_of_others_cannot_be_written(twins: Twins) -> None:
    """Inserting for, changing, erasing and giving a row to another person does nothing."""
    for table in OWNED:
        before = _rows_of(twins, table, ANA), _rows_of(twins, table, BO)
        bo = as_user(BO)
        if table.insert is not None:
            await _refused(twins.db, bo, table.insert, [ANA])
        mine: LiteralString = f"where {table.owner} = '{ANA}'"
        await _refused(twins.db, bo, f"update {table.name} set {table.change} {mine}")
        await _refused(twins.db, bo, f"delete from {table.name} {mine}")
        give: LiteralString = f"update {table.name} set {table.owner} = '{ANA}'"
        await _refused(twins.db, bo, f"{give} where {table.owner} = '{BO}'")
        # A statement that reads no column is not held by the policy for reading.
        await _refused(twins.db, bo, f"update {table.name} set {table.owner} = 'a third person'")
        after = _rows_of(twins, table, ANA), _rows_of(twins, table, BO)
        assert after == before, table.name


async def nothing_hangs_under_the_conversation_of_another(twins: Twins) -> None:
    """Keys that lead with the owner refuse what row-level security cannot see."""
    below: dict[str, LiteralString] = {
        "messages_conversation": """
            insert into chat.messages (user_id, conversation_id, id, role)
            values (%s, 'the-conversation-of-ana', 'smuggled', 'user')
            """,
        "messages_parent": """
            insert into chat.messages (user_id, conversation_id, id, parent_id, role)
            values (%s, 'the-conversation-of-bo', 'smuggled', 'not there', 'user')
            """,
        "runs_message": """
            insert into chat.runs (user_id, id, conversation_id, message_id, state, model,
              lease_until)
            values (%s, 'smuggled', 'the-conversation-of-ana', 'answer', 'done', 'm', now())
            """,
        "chatkit_items_conversation": """
            insert into chat.chatkit_items (user_id, conversation_id, id, item)
            values (%s, 'the-conversation-of-ana', 'smuggled', '{}')
            """,
        "chatkit_items_message": """
            insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item)
            values (%s, 'the-conversation-of-bo', 'smuggled', 'not there', '{}')
            """,
        "chatkit_threads_conversation": """
            insert into chat.chatkit_threads (user_id, conversation_id)
            values (%s, 'the-conversation-of-ana')
            """,
        "chatkit_attachments_conversation": """
            insert into chat.chatkit_attachments
              (user_id, id, conversation_id, attachment, media_type, size)
            values (%s, 'smuggled', 'the-conversation-of-ana', '{}', 'text/plain', 1)
            """,
        "file_uses_file": """
            insert into chat.file_uses (user_id, file_id, conversation_id)
            values (%s, 'none', 'the-conversation-of-bo')
            """,
        "file_uses_conversation": """
            insert into chat.file_uses (user_id, file_id, conversation_id)
            values (%s, 'new', 'the-conversation-of-ana')
            """,
        "responses_run": """
            insert into chat.responses (user_id, id, kind, request, input, alone)
            values (%s, 'none', 'response', '{}', '{}', true)
            """,
        "conversation_metadata_conversation": """
            insert into chat.conversation_metadata (user_id, conversation_id, metadata)
            values (%s, 'the-conversation-of-ana', '{}')
            """,
        "shares_message": """
            insert into chat.shares (user_id, id, conversation_id, head_id, token_hash, expires_at)
            values (%s, 'smuggled', 'the-conversation-of-ana', 'answer', 'smuggled', now())
            """,
        "conversations_unguessable_id": """
            insert into chat.conversations (user_id, id) values (%s, 'the-conversation-of-ana')
            """,
    }
    for constraint, statement in below.items():
        assert await _violated_by(twins.db, statement) == constraint


async def _violated_by(db: Database, statement: LiteralString) -> str | None:
    try:
        await db.execute(as_user(BO), statement, [BO])
    except ConstraintViolated as violated:
        return violated.name
    return None


async def claims_of_the_data_api_work_alike(twins: Twins) -> None:
    """As `authenticated`, with the claims that Supabase's data API sets, the same holds."""
    for table in OWNED:
        rows = _through_data_api(twins, ANA, _all_rows(table))
        expected = _rows_of(twins, table, ANA) if table.through_data_api else None
        assert rows == expected, table.name
        assert _through_data_api(twins, "", _all_rows(table)) in ([], None), table.name
    change: LiteralString = "update chat.profiles set theme = 'dark' returning id"
    assert _through_data_api(twins, ANA, change) == [ANA]
    make: LiteralString = "insert into chat.profiles (id) values ('{}') returning id"
    assert _through_data_api(twins, "new", make.replace("{}", "new")) == ["new"]
    assert _through_data_api(twins, "new", make.replace("{}", "other")) is None
    for table in OWNED:
        if table.name != "chat.profiles":
            forbidden: LiteralString = f"update {table.name} set {table.change} returning 1"
            assert _through_data_api(twins, ANA, forbidden) is None, table.name


def _through_data_api(twins: Twins, subject: str, query: LiteralString) -> list[str] | None:
    """Return the first column, None when it was refused; nothing is kept."""
    claims = f'{{"sub": "{subject}", "role": "authenticated"}}'
    with twins.admin.transaction(force_rollback=True):
        twins.admin.execute(
            "select set_config('role', 'authenticated', true),"
            " set_config('request.jwt.claims', %s, true)",
            [claims],
        )
        try:
            return [str(row[0]) for row in twins.admin.execute(query)]
        except psycopg.errors.InsufficientPrivilege:
            return None


async def the_worker_sees_states_and_no_words(twins: Twins) -> None:
    """It ends abandoned runs and erases deleted conversations, and can do nothing else."""
    db = twins.db
    ended: LiteralString = "update chat.runs set state = 'interrupted' where state = 'running'"
    assert await _rolled_back(db, WORKER, ended) >= 2
    await _refused(db, WORKER, "update chat.runs set state = 'done'")
    assert await _rolled_back(db, WORKER, "delete from chat.conversations") >= 2
    await _refused(db, WORKER, "delete from chat.conversations where deleted_at is null")
    await _refused(db, WORKER, "update chat.conversations set deleted_at = null")
    assert await _rolled_back(db, WORKER, "delete from chat.chatkit_attachments") == 2
    objects: LiteralString = (
        "select coalesce(object_key, '-') as text from chat.chatkit_attachments"
    )
    assert len(await _texts(db, WORKER, objects)) == 6
    uses: LiteralString = "select file_id as text from chat.file_uses"
    assert await _texts(db, WORKER, uses) == ["in a fork", "in a fork"]
    assert await _rolled_back(db, WORKER, "delete from chat.idempotency_keys") == 2
    await _refused(
        db,
        WORKER,
        "delete from chat.chatkit_attachments where created_at > now() - interval '1 hour'",
    )
    forbidden: Sequence[LiteralString] = (
        "select attachment::text as text from chat.chatkit_attachments",
        "select answer::text as text from chat.idempotency_keys",
        "select item::text as text from chat.chatkit_items",
        "select content as text from chat.messages",
        "select title as text from chat.conversations",
        "select model as text from chat.runs",
        "select id as text from chat.profiles",
        "select user_id as text from public.user_sessions",
        "select email as text from chatkeep.users",
        "insert into chat.conversations (user_id, id) values ('ana-of-the-twins', 'w')",
        "delete from chat.runs",
        "update chat.runs set model = 'other'",
    )
    for statement in forbidden:
        await _refused(db, WORKER, statement)


async def signing_in_sees_no_chats(twins: Twins) -> None:
    """It reads and writes accounts, keys and sessions of everybody, and nothing they said."""
    db = twins.db
    for name in ("users", "identities", "signing_keys", "issuers", *PROOFS):
        query: LiteralString = f"select t::text as text from chatkeep.{name} t"
        assert await _texts(db, AUTH, query), name
        change: LiteralString = f"update chatkeep.{name} set {_A_COLUMN[name]} = {_A_COLUMN[name]}"
        assert await _rolled_back(db, AUTH, change) > 0, name
    assert len(await _texts(db, AUTH, "select device as text from public.user_sessions")) >= 2
    ended: LiteralString = "update public.user_sessions set is_active = false"
    assert await _rolled_back(db, AUTH, ended) >= 2
    assert len(await _texts(db, AUTH, "select name as text from chatkeep.personal_keys")) >= 2
    taken: LiteralString = "update chatkeep.personal_keys set name = 'changed'"
    assert await _rolled_back(db, AUTH, taken) >= 2
    opened: LiteralString = "select head_id as text from chat.shares"
    assert await _texts(db, AUTH, opened) == ["answer", "answer"]
    await _refused(db, AUTH, "select id from chat.shares")
    for table in OWNED:
        if table.name not in {"public.user_sessions", "chatkeep.personal_keys"}:
            if table.name != "chat.shares":
                await _refused(db, AUTH, f"select 1 from {table.name}")
            await _refused(db, AUTH, f"update {table.name} set {table.change}")
            await _refused(db, AUTH, f"delete from {table.name}")


_A_COLUMN: dict[str, LiteralString] = {
    "users": "email",
    "identities": "provider",
    "signing_keys": "status",
    "issuers": "id_prefix",
    "factors": "status",
    "factor_challenges": "address",
    "recovery_codes": "used_at",
    "webauthn_credentials": "sign_count",
    "passkey_challenges": "expires_at",
    "one_time_tokens": "tries",
    "authorization_codes": "proof",
}


async def the_search_finds_what_one_said_oneself(twins: Twins) -> None:
    """Ana finds her secret and not Bo's; nobody sees the words, or searches for nobody."""
    query: LiteralString = (
        "select conversation_id as text from chat.search('secret'::tsquery, 'infinity', '', 100)"
    )
    assert await _texts(twins.db, as_user(ANA), query) == [ANAS_TALK]
    assert await _texts(twins.db, as_user(BO), query) == [BOS_TALK]
    of_bo: LiteralString = query.replace("'secret'", "'bo'")
    assert await _texts(twins.db, as_user(ANA), of_bo) == []
    assert await _texts(twins.db, NOBODY, query) == []
    for caller in (AUTH, ADMIN, WORKER):
        await _refused(twins.db, caller, query)
    for caller in (as_user(ANA), AUTH, ADMIN, WORKER):
        await _refused(twins.db, caller, "select from chat.message_words")
        await _refused(twins.db, caller, "delete from chat.message_words")
    assert await _kept_in_german(twins)
    assert await _read_again_by_whose_it_is(twins)


async def _read_again_by_whose_it_is(twins: Twins) -> bool:
    """Whether what Ana's message says now is found when she has it read again, and not before."""
    again: LiteralString = "select chat.read_words_again(%s, %s)::text as text"
    find: LiteralString = (
        "select message_id as text from chat.search(%s::tsquery, 'infinity', '', 100)"
    )
    (message,) = await _texts(twins.db, as_user(ANA), find, ["secret"])
    which = [ANAS_TALK, message]
    for caller in (AUTH, ADMIN, WORKER):
        await _refused(twins.db, caller, again, which)
    change: LiteralString = "update chat.messages set content = %s where content = %s"
    (said,) = twins.admin.execute(
        "select content from chat.messages where conversation_id = %s and id = %s", which
    ).fetchone() or ("",)
    twins.admin.execute(change, ["zebra", said])
    try:
        found = []
        for caller in (as_user(BO), NOBODY, as_user(ANA)):
            await _texts(twins.db, caller, again, which)
            found.append(await _texts(twins.db, as_user(ANA), find, ["zebra"]))
        before = await _texts(twins.db, as_user(ANA), find, ["secret"])
    finally:
        twins.admin.execute(change, [said, "zebra"])
        await _texts(twins.db, as_user(ANA), again, which)
    return (found, before) == ([[], [], [message]], [])


async def _kept_in_german(twins: Twins) -> bool:
    """Whether what Ana says next, and is answered, is kept as German declines it; none stays."""
    async with twins.db.acting_as(as_user(ANA)) as connection:
        await connection.execute("update chat.profiles set locale = 'de'")
        await connection.execute(
            "insert into chat.messages (user_id, conversation_id, id, role, content)"
            " values (%s, %s, 'german', 'user', 'Viele Katzen')",
            [ANA, ANAS_TALK],
        )
        await connection.execute(
            "update chat.messages m set content = 'Auch Katzen' from chat.runs r"
            " where r.id = 'run' and (m.user_id, m.conversation_id, m.id)"
            " = (r.user_id, r.conversation_id, r.message_id)"
        )
        await connection.execute("update chat.runs set state = 'done' where id = 'run'")
        cursor = await connection.execute(
            "select m.content from chat.search('katz'::tsquery, 'infinity', '', 100) f"
            " join chat.messages m on m.user_id = %s and m.conversation_id = f.conversation_id"
            " and m.id = f.message_id",
            [ANA],
        )
        found = await cursor.fetchall()
        await connection.execute("rollback and chain")
        return sorted(found) == [("Auch Katzen",), ("Viele Katzen",)]


async def budgets_are_settled_by_background_work_and_set_by_the_administrator(
    twins: Twins,
) -> None:
    """Everybody's total is counted by everybody; who may use more, the administrator says."""
    db = twins.db
    tables: Sequence[LiteralString] = ("charges", "budgets", "usage", "budget_totals")
    for name in tables:
        change: LiteralString = f"update chat.{name} set day = day"
        assert await _rolled_back(db, WORKER, change) >= 1, name
        await _refused(db, ADMIN, change)
    used: LiteralString = "insert into chat.usage values ('somebody', now(), 'm', 1, 1, 1, 0)"
    assert await _rolled_back(db, WORKER, used) == 1
    count: LiteralString = "insert into chat.budget_totals values (now(), 0, 0)"
    assert await _rolled_back(db, as_user(ANA), count) == 1
    assert len(await _texts(db, ADMIN, "select user_id as text from chat.usage")) >= 2
    allow: LiteralString = "update chat.budget_limits set tokens_per_day = 1"
    assert await _rolled_back(db, ADMIN, allow) >= 2
    more: LiteralString = "insert into chat.budget_limits (kind, name) values ('role', 'staff')"
    assert await _rolled_back(db, ADMIN, more) == 1
    with twins.admin.transaction(force_rollback=True):
        twins.admin.execute(more)
        twins.admin.execute(
            "select set_config('role', 'chatkeep_app', true),"
            " set_config('chatkeep.user_id', %s, true)",
            [ANA],
        )
        seen = twins.admin.execute("select name from chat.budget_limits order by 1").fetchall()
    assert [name for (name,) in seen] == [ANA, "staff"]


async def people_and_the_administrator_see_no_secrets(twins: Twins) -> None:
    """The roles of requests and of administration read no keys, accounts or chats."""
    for name in ("users", "identities", "signing_keys", "issuers", *PROOFS):
        for caller in (as_user(ANA), WORKER, ADMIN):
            await _refused(twins.db, caller, f"select 1 from chatkeep.{name}")
            await _refused(twins.db, caller, f"delete from chatkeep.{name}")
    for table in OWNED:
        if table.name not in _SEEN_BY_ADMINISTRATORS:
            await _refused(twins.db, ADMIN, f"select 1 from {table.name}")


_SEEN_BY_ADMINISTRATORS = {
    *("public.user_sessions", "chat.usage", "chat.budget_limits"),
    "chat.runs",  # some columns, see the next check
}


async def answers_are_counted_by_the_administrator(twins: Twins) -> None:
    """Of the last two days, and never where they are or which: that leads to what was said."""
    db = twins.db
    counted: LiteralString = "select user_id as text from chat.runs where state = 'done'"
    assert {ANA, BO} <= set(await _texts(db, ADMIN, counted))
    old: LiteralString = "update chat.runs set started_at = now() - interval '3 days'"
    with twins.admin.transaction(force_rollback=True):
        twins.admin.execute(old)
        twins.admin.execute("set local role chatkeep_admin")
        assert twins.admin.execute(counted).fetchall() == []
    columns: Sequence[LiteralString] = ("id", "conversation_id", "message_id", "asked", "paused")
    for name in columns:
        await _refused(db, ADMIN, f"select {name} from chat.runs")
    await _refused(db, ADMIN, "update chat.runs set state = 'done'")
    await _refused(db, ADMIN, "delete from chat.runs")


async def what_has_ended_is_known_to_sign_in_alone(twins: Twins) -> None:
    """Sign-in numbers, reads and forgets what has ended; nobody else sees any of it."""
    db = twins.db
    end: LiteralString = "select chatkeep.revoke('session', 'embedded', 'x', null, now())"
    forget: LiteralString = "delete from chatkeep.revocations"
    await db.execute(AUTH, end, ())
    assert await _texts(db, AUTH, "select subject as text from chatkeep.revocations")
    assert await _texts(db, AUTH, "select newest::text as text from chatkeep.revocation_numbers")
    again: LiteralString = "update chatkeep.revocations set until = now()"
    assert await _rolled_back(db, AUTH, again) >= 1
    assert await _rolled_back(db, AUTH, forget) >= 1
    for caller in (as_user(ANA), WORKER, ADMIN):
        await _refused(db, caller, end)
        await _refused(db, caller, forget)
        await _refused(db, caller, "select from chatkeep.revocations")
        await _refused(db, caller, "select from chatkeep.revocation_numbers")


async def the_audit_log_only_grows(twins: Twins) -> None:
    """Sign-in adds to it, the administrator reads it, and nobody changes or drops an entry."""
    db = twins.db
    add: LiteralString = (
        "insert into chatkeep.audit_log (action, outcome) values ('test.done', 'succeeded')"
        " returning number::text as text"
    )
    assert await _texts(db, AUTH, add)
    assert await _texts(db, ADMIN, "select action as text from chatkeep.audit_log")
    await _refused(db, AUTH, "select action from chatkeep.audit_log")
    backdated: LiteralString = (
        "insert into chatkeep.audit_log (at, action, outcome)"
        " values (now() - interval '1 year', 'test.done', 'succeeded')"
    )
    for caller in (AUTH, ADMIN, WORKER, as_user(ANA)):
        await _refused(db, caller, "update chatkeep.audit_log set action = 'other'")
        await _refused(db, caller, "delete from chatkeep.audit_log")
        await _refused(db, caller, "truncate chatkeep.audit_log")
        await _refused(db, caller, backdated)
    for caller in (ADMIN, WORKER, as_user(ANA)):
        await _refused(db, caller, add)
    for caller in (WORKER, as_user(ANA)):
        await _refused(db, caller, "select number from chatkeep.audit_log")


async def the_chain_of_the_audit_log_is_the_administrators(twins: Twins) -> None:
    """It adds links and moves the head, lets go what is old, and nobody else sees either."""
    db = twins.db
    twins.admin.execute(
        "insert into chatkeep.audit_log (at, action, outcome)"
        " values (now() - interval '31 days', 'test.old', 'succeeded')"
    )
    twins.admin.execute("delete from chatkeep.audit_links")
    twins.admin.execute("update chatkeep.audit_head set start_position = 0")
    link: LiteralString = (
        "insert into chatkeep.audit_links (position, number, mac) values (1, 1, '')"
    )
    head: LiteralString = "update chatkeep.audit_head set start_position = %s"
    old: LiteralString = "delete from chatkeep.audit_log where action = 'test.old'"
    assert await _rolled_back(db, ADMIN, old) >= 1
    assert await db.execute(ADMIN, link, ()) == 1
    assert await _texts(db, ADMIN, "select number::text as text from chatkeep.audit_links")
    assert await _texts(db, ADMIN, "select position::text as text from chatkeep.audit_head")
    await _refused(db, ADMIN, "delete from chatkeep.audit_links")
    await _refused(db, ADMIN, "update chatkeep.audit_links set mac = 'x'")
    await _refused(db, ADMIN, "insert into chatkeep.audit_head (singleton) values (false)")
    await _refused(db, ADMIN, "delete from chatkeep.audit_head")
    assert await db.execute(ADMIN, head, (1,)) == 1
    assert await _rolled_back(db, ADMIN, "delete from chatkeep.audit_links") == 1
    assert await db.execute(ADMIN, head, (0,)) == 1
    for caller in (AUTH, WORKER, as_user(ANA)):
        for table in ("audit_links", "audit_head"):
            await _refused(db, caller, f"select from chatkeep.{table}")
            await _refused(db, caller, f"delete from chatkeep.{table}")
        await _refused(db, caller, link)
        await _refused(db, caller, head, (1,))
        await _refused(db, caller, old)
    twins.admin.execute("truncate chatkeep.audit_log, chatkeep.audit_links")


async def sign_ins_under_way_are_sign_ins_alone(twins: Twins) -> None:
    """Sign-in keeps which browsers are at a provider, and which ID tokens it was shown."""
    made: dict[LiteralString, LiteralString] = {
        "chatkeep.sign_in_flows": "insert into chatkeep.sign_in_flows (state_hash, provider,"
        " redirect_to, expires_at) values ('x', 'acme', 'https://chat.example', now())",
        "chatkeep.shown_id_tokens": "insert into chatkeep.shown_id_tokens values ('x', now())",
    }
    for table, make in made.items():
        await twins.db.execute(AUTH, make, ())
        read: LiteralString = f"select expires_at::text as text from {table}"
        later: LiteralString = f"update {table} set expires_at = now()"
        forget: LiteralString = f"delete from {table}"
        assert await _texts(twins.db, AUTH, read)
        assert await _rolled_back(twins.db, AUTH, later) == 1
        for caller in (as_user(ANA), WORKER, ADMIN):
            for statement in (make, read, later, forget):
                await _refused(twins.db, caller, statement)
        assert await twins.db.execute(AUTH, forget, ()) == 1


async def counts_of_claims_are_kept_by_one_and_read_by_another(twins: Twins) -> None:
    """The worker keeps them, the administrator reads them, and nobody else sees them."""
    db = twins.db
    count: LiteralString = "select claim as text from chatkeep.claim_counts"
    more: LiteralString = "update chatkeep.claim_counts set tokens = tokens + 1"
    add: LiteralString = (
        "insert into chatkeep.claim_counts (hour, version, claim) values (now(), 1, 'role')"
    )
    assert await _texts(db, WORKER, count) == await _texts(db, ADMIN, count) == ["role"]
    assert await _rolled_back(db, WORKER, more) == await _rolled_back(db, WORKER, add) == 1
    assert await _rolled_back(db, WORKER, "delete from chatkeep.claim_counts") == 1
    for caller in (as_user(ANA), AUTH, ADMIN):
        await _refused(db, caller, more)
        await _refused(db, caller, add)
    for caller in (as_user(ANA), AUTH):
        await _refused(db, caller, count)


async def jobs_are_added_by_sign_in_and_done_by_background_work(twins: Twins) -> None:
    """Sign-in adds jobs and reads none; background work does, notes and drops them."""
    db = twins.db
    add: LiteralString = (
        "insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args)"
        " values ('tests', 'nothing', '{}')"
    )
    await db.execute(AUTH, add, ())
    for name in ("jobs", "events"):
        table = f"chatkeep_queue.procrastinate_{name}"
        assert await _texts(db, WORKER, f"select t::text as text from {table} t"), name
        await _refused(db, AUTH, f"select id from {table}")
        await _refused(db, AUTH, f"delete from {table}")
    change: LiteralString = "update chatkeep_queue.procrastinate_jobs set priority = 1"
    assert await _rolled_back(db, WORKER, change) >= 1
    note: LiteralString = "update chatkeep_queue.procrastinate_events set at = now()"
    assert await _rolled_back(db, WORKER, note) >= 1
    for own in (
        "insert into chatkeep_queue.procrastinate_workers default values",
        "insert into chatkeep_queue.procrastinate_periodic_defers (task_name) values ('nothing')",
        "insert into chatkeep.mail_hours values (now(), 1)",
    ):
        assert await _rolled_back(db, WORKER, own) == 1
        for caller in (as_user(ANA), AUTH, ADMIN):
            await _refused(db, caller, own)
    for name in ("jobs", "events", "workers", "periodic_defers"):
        for caller in (as_user(ANA), ADMIN):
            await _refused(db, caller, f"select 1 from chatkeep_queue.procrastinate_{name}")
    await db.execute(WORKER, "delete from chatkeep_queue.procrastinate_jobs", ())


async def answers_are_kept_where_all_of_their_keys_say(twins: Twins) -> None:
    """Background work hands them over and may not look; its function reaches what is being made.

    Both have an answer by these very keys, and Ana has one more that differs in each of them.
    """
    keep: LiteralString = "select n::text as text from chat.keep_answers(%s::text::json, 15)"
    own = {"user_id": ANA, "conversation_id": "deleted", "message_id": "answer", "run_id": "made"}
    said = json.dumps([{**own, "n": 7, "content": "said", "tells": True}])
    for caller in (as_user(ANA), AUTH, ADMIN):
        await _refused(twins.db, caller, keep, [said])
    assert _kept(twins.admin, keep, own) == ["7", "deleted/answer of ana-of-the-twins", "made"]
    elsewhere = {"conversation_id": ANAS_TALK, "message_id": "other", "run_id": "done"}
    for key, value in elsewhere.items():
        assert _kept(twins.admin, keep, {**own, key: value}) == [], key
    assert _kept(twins.admin, keep, {**own, "run_id": "given up"}) == ["7", "given up"]
    with twins.admin.transaction(force_rollback=True):
        twins.admin.execute(_BEING_MADE)
        twins.admin.execute("set local role chatkeep_keeper")
        twins.admin.execute("update chat.runs set said = 1")
        twins.admin.execute("update chat.messages set content = 'x'")
        twins.admin.execute("set local role none")
        for never in (
            "chat.runs where state = 'done' and said = 1",
            "chat.messages where role = 'user' and content = 'x'",
        ):
            assert twins.admin.execute(f"select from {never}").rowcount == 0, never


def _kept(admin: psycopg.Connection, keep: LiteralString, keys: dict[str, str]) -> list[object]:
    """Return what the function answers, the messages it wrote and the runs whose lease it renewed.

    Nothing stays.
    """
    given = json.dumps([{**keys, "n": 7, "content": "said", "tells": True}])
    with admin.transaction(force_rollback=True):
        admin.execute(_BEING_MADE)
        admin.execute("set local role chatkeep_worker")
        answered = admin.execute(keep, [given]).fetchall()
        admin.execute("set local role none")
        written = admin.execute(
            "select conversation_id || '/' || id || ' of ' || user_id from chat.messages"
            " where content = 'said' order by 1"
        ).fetchall()
        renewed = admin.execute("select id from chat.runs where lease_until > now() order by 1")
        return [row[0] for row in (*answered, *written, *renewed.fetchall())]


_BEING_MADE: LiteralString = """
insert into chat.messages (user_id, conversation_id, id, role)
  select user_id, id, 'other', 'assistant' from chat.conversations;
insert into chat.messages (user_id, conversation_id, id, role)
  select user_id, id, 'asked', 'user' from chat.conversations;
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until)
  select c.user_id, r.id, 'deleted', 'answer', r.state, 'm', now() - interval '1 hour'
  from chat.conversations c,
    (values ('made', 'running'), ('given up', 'interrupted'), ('done', 'done')) r (id, state)
  where c.id = 'deleted';
update chat.messages set run_id = 'made';
"""


async def webhooks_are_queued_by_a_role_that_is_nobodys(twins: Twins) -> None:
    """Background work says who listens, and keeps what died; the queue is filled for them."""
    db, admin = twins.db, twins.admin
    listen: LiteralString = (
        "insert into chatkeep.webhooks values ('tests', array['conversation.created'])"
    )
    dead: LiteralString = (
        "insert into chatkeep.dead_webhooks (id, name, event, content, attempts, reason)"
        " values ('1', 'tests', 'test', '{}', 1, '500')"
    )
    jobs: LiteralString = (
        "select args::text as text from chatkeep_queue.procrastinate_jobs"
        " where queue_name = 'webhook:tests'"
    )
    for caller in (as_user(ANA), AUTH, ADMIN):
        await _refused(db, caller, listen)
        await _refused(db, caller, dead)
        await _refused(db, caller, "select name from chatkeep.webhooks")
        await _refused(db, caller, "select content from chatkeep.dead_webhooks")
    assert await _rolled_back(db, WORKER, dead) == 1
    assert await db.execute(WORKER, listen, ()) == 1
    try:
        made: LiteralString = "insert into chat.conversations (user_id, id) values (%s, 'told of')"
        await db.execute(as_user(ANA), made, [ANA])
        assert len(await _texts(db, WORKER, jobs)) == 1
        notes = await _texts(
            db, WORKER, "select type::text as text from chatkeep_queue.procrastinate_events"
        )
        assert "deferred" in notes
        admin.execute("set role chatkeep_webhooks")
        for other in ("send_mail", "anything"):
            assert not _may_queue(admin, other), other
    finally:
        admin.execute("reset role")
        admin.execute("delete from chat.conversations where id = 'told of'")
        admin.execute("delete from chatkeep_queue.procrastinate_jobs")
        admin.execute("delete from chatkeep.webhooks")


def _may_queue(admin: psycopg.Connection[tuple[object, ...]], task: str) -> bool:
    try:
        admin.execute(
            "insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name)"
            " values ('webhook:tests', %s)",
            [task],
        )
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


async def the_login_alone_is_nobody(twins: Twins) -> None:
    """A connection that did not become one of our roles can read no table."""
    async with await psycopg.AsyncConnection.connect(twins.db.url, autocommit=True) as connection:
        for table in (*(one.name for one in OWNED), "chatkeep.users", "chatkeep.signing_keys"):
            try:
                await connection.execute(f"select from {table}")
            except psycopg.errors.InsufficientPrivilege:
                continue
            raise AssertionError(table)


async def the_server_knows_the_revision(twins: Twins) -> None:
    """The role of requests can read how far the database is migrated, and not change it."""
    known = "select version_num as text from chatkeep.alembic_version"
    assert await _texts(twins.db, NOBODY, known) == [HEAD]
    await _refused(twins.db, NOBODY, "update chatkeep.alembic_version set version_num = '9'")


async def row_security_is_forced_everywhere(twins: Twins) -> None:
    """Every table of ours has row-level security, for its owner too."""
    found = await _texts(
        twins.db,
        NOBODY,
        "select c.oid::regclass::text as text from pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)"
        " and (n.nspname in ('chat', 'chatkeep', 'chatkeep_queue') or c.relname = 'user_sessions')",
    )
    assert found == []


#: What must hold, each shown by a behaviour (the last by the catalogue).
CHECKS: tuple[Check, ...] = (
    everybody_sees_all_of_their_own,
    nobody_sees_rows_of_others,
    without_caller_there_is_nothing,
    everybody_writes_their_own,
    rows_of_others_cannot_be_written,
    nothing_hangs_under_the_conversation_of_another,
    claims_of_the_data_api_work_alike,
    the_search_finds_what_one_said_oneself,
    the_worker_sees_states_and_no_words,
    signing_in_sees_no_chats,
    people_and_the_administrator_see_no_secrets,
    what_has_ended_is_known_to_sign_in_alone,
    the_audit_log_only_grows,
    the_chain_of_the_audit_log_is_the_administrators,
    answers_are_counted_by_the_administrator,
    counts_of_claims_are_kept_by_one_and_read_by_another,
    jobs_are_added_by_sign_in_and_done_by_background_work,
    answers_are_kept_where_all_of_their_keys_say,
    webhooks_are_queued_by_a_role_that_is_nobodys,
    budgets_are_settled_by_background_work_and_set_by_the_administrator,
    sign_ins_under_way_are_sign_ins_alone,
    the_login_alone_is_nobody,
    the_server_knows_the_revision,
    row_security_is_forced_everywhere,
)


async def first_failing(twins: Twins, checks: Sequence[Check] = CHECKS) -> str | None:
    """Return the name of the first check that does not hold, None when all do."""
    for check in checks:
        try:
            await check(twins)
        except (AssertionError, NotFound, ConstraintViolated, psycopg.Error):
            return check.__name__
    return None
