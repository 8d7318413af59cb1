"""Policies and predicates: either alone keeps people apart, and without both a test fails.

The policies are the authority; `user_id = …` in a statement lets an index be used and is the
second layer. Bo calls every function that a person's request leads to, with ids of Ana's.
"""

# ruff: noqa: S608 -- names of tables are put into statements, all from a list of the tests

from __future__ import annotations

import ast
import re
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

import psycopg
import pytest

import chatkeep
from chatkeep import conversations, files, runs
from chatkeep.answering import checkpoints, history, titling, turns, waiting
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.refusals import AlreadyStarted
from chatkeep.answering.turns import Turn
from chatkeep.budgets import ledger, overview
from chatkeep.budgets.amounts import Limits, Price
from chatkeep.budgets.ledger import Asking, Charged, Sums
from chatkeep.chatkit import erasing, records
from chatkeep.chatkit.records import NewItem
from chatkeep.conversations import erasing as conversations_erasing
from chatkeep.conversations import forking, imports, search, sharing
from chatkeep.conversations.attached import Attached
from chatkeep.conversations.imports import Arrival, Line
from chatkeep.db import Caller, ConstraintViolated, Database, Params, Query, as_user
from chatkeep.errors import ChatkeepError
from chatkeep.idempotency import IdempotencyKeys, Kept
from chatkeep.llm.model import ModelSettings
from chatkeep.openai_api import conversation_items, responses
from chatkeep.openai_api.conversation_items import NewMessage
from chatkeep.personal_data import erasure, exports
from chatkeep.personal_keys import records as keys
from chatkeep.policies import Choices
from chatkeep.preferences import Preferences
from chatkeep.principal import Principal
from chatkeep.runs import Address, Ending
from chatkeep.sessions import own as own_sessions
from chatkeep.sql.migrations import ROLES
from chatkeep.webhooks import records as webhooks
from tests.db.twins import ON_ONE_VERSION, OWNED
from tests.postgres_servers import MigratedDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

# Wherever a statement looks for an id, Ana has one of her own, and one that Bo has too.
SEED: LiteralString = """
insert into chat.budget_totals values ('2026-01-01', 50, 100);
insert into chat.charges (user_id, id, day, model, prompt_tokens, output_tokens, prompt_cost, cost,
  total_cost, tokens_ceiling, cost_ceiling, expires_at) values
  ('ana', 'run of ana', '2026-01-01', 'model of ana', 7, 7, 7, 7, 7, 100, 100, now()),
  ('bo', 'running of bo', '2026-01-01', 'model of bo', 1, 1, 1, 1, 1, 100, 100, now());
insert into chat.budgets values ('ana', now(), 77, 0, 77, 0, 100, 0, 100, 0);
insert into chat.usage values
  ('ana', now(), 'model of ana', 7, 7, 7, 7), ('bo', now(), 'model of bo', 1, 1, 1, 1);
insert into chat.conversations (user_id, id, title, head_id, deleted_at) values
  ('ana', 'the-talk-of-ana-alone', 'secret of ana', 'word of ana', null),
  ('ana', 'the-deleted-talk-of-ana', 'secret of ana', 'word of ana', now()),
  ('ana', '40799f2e-b345-7b61-66a0-edc3f49df921', 'secret of ana', null, now()),
  ('ana', 'the-old-talk-of-ana', 'secret of ana', 'word of ana', now() - interval '2 days'),
  ('ana', 'same', 'secret of ana', 'same', null),
  ('bo', 'same', 'secret of bo', 'same', null),
  ('ana', 'hers', 'secret of ana', 'same', null),
  ('bo', 'hers', 'secret of bo', 'same', null),
  ('ana', 'his', null, 'same', null),
  ('bo', 'his', null, 'same', null),
  ('bo', 'paid', null, 'same', null),
  ('ana', 'walk', 'secret of ana', 'same', null),
  ('bo', 'walk', 'secret of bo', 'elsewhere', null),
  ('ana', 'goes on for her', 'secret of ana', 'answer', null),
  ('bo', 'goes on for her', 'secret of bo', 'question', null),
  ('ana', 'goes on for him', 'secret of ana', 'question', null),
  ('bo', 'goes on for him', 'secret of bo', 'answer', null),
  ('ana', 'forked', 'secret of ana', 'answer', null),
  ('bo', 'forked', 'secret of bo', 'answer', null);
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content, run_id)
values
  ('ana', 'the-talk-of-ana-alone', 'word of ana', null, 'user', 'secret of ana', null),
  ('ana', 'same', 'parent', null, 'user', 'secret of ana', null),
  ('ana', 'same', 'same', 'parent', 'assistant', 'secret of ana', 'same run'),
  ('ana', 'same', 'child of ana', 'same', 'user', 'secret of ana', null),
  ('ana', 'same', 'sibling of ana', 'parent', 'user', 'secret of ana', null),
  ('ana', 'same', 'root of ana', null, 'user', 'secret of ana', null),
  ('bo', 'same', 'parent', null, 'user', 'secret of bo', null),
  ('bo', 'same', 'same', 'parent', 'assistant', 'secret of bo', 'same run'),
  ('ana', 'hers', 'same', null, 'assistant', 'secret of ana', 'running of ana'),
  ('bo', 'hers', 'same', null, 'assistant', 'secret of bo', null),
  ('ana', 'his', 'same', null, 'assistant', 'secret of ana', 'running of bo'),
  ('bo', 'his', 'same', null, 'assistant', 'secret of bo', 'running of bo'),
  ('bo', 'paid', 'same', null, 'assistant', 'secret of bo', 'charged of bo'),
  ('ana', 'walk', 'same', null, 'assistant', 'secret of ana', 'walked'),
  ('ana', 'walk', 'elsewhere', 'same', 'user', 'secret of ana', null),
  ('bo', 'walk', 'same', null, 'assistant', 'secret of bo', 'walked'),
  ('bo', 'walk', 'elsewhere', null, 'user', 'sought secret of bo', null),
  ('ana', 'goes on for her', 'question', null, 'user', 'secret of ana', null),
  ('ana', 'goes on for her', 'answer', 'question', 'assistant', 'secret of ana', null),
  ('ana', 'goes on for her', 'answer of ana', 'question', 'assistant', 'secret of ana', null),
  ('bo', 'goes on for her', 'question', null, 'user', 'secret of bo', null),
  ('bo', 'goes on for her', 'answer', 'question', 'assistant', 'secret of bo', null),
  ('ana', 'goes on for him', 'question', null, 'user', 'secret of ana', null),
  ('ana', 'goes on for him', 'answer', 'question', 'assistant', 'secret of ana', null),
  ('bo', 'goes on for him', 'question', null, 'user', 'secret of bo', null),
  ('bo', 'goes on for him', 'answer', 'question', 'assistant', 'secret of bo', null),
  ('ana', 'forked', 'question', null, 'user', 'secret of ana', null),
  ('ana', 'forked', 'answer', 'question', 'assistant', 'secret of ana', null),
  ('ana', 'forked', 'other answer of ana', 'question', 'assistant', 'secret of ana', null),
  ('bo', 'forked', 'question', null, 'user', 'secret of bo', null),
  ('bo', 'forked', 'answer', 'question', 'assistant', 'secret of bo', null),
  ('bo', 'forked', 'other answer', 'question', 'assistant', 'secret of bo', null);
insert into chat.runs (user_id, id, conversation_id, message_id, request_key, state, model,
  lease_until) values
  ('ana', 'only run of ana', 'the-talk-of-ana-alone', 'word of ana', null, 'done',
    'model of ana', now()),
  ('ana', 'run of ana', 'same', 'same', 'key of ana', 'failed', 'model of ana', now()),
  ('ana', 'same run', 'same', 'same', 'other key of ana', 'failed', 'model of ana', now()),
  ('bo', 'same run', 'same', 'same', 'key of bo', 'done', 'model of bo', now()),
  ('ana', 'running of ana', 'hers', 'same', null, 'running', 'model of ana', now()),
  ('bo', 'running of bo', 'his', 'same', null, 'running', 'model of bo', now()),
  ('bo', 'charged of bo', 'paid', 'same', null, 'running', 'model of bo', now()),
  ('ana', 'walked', 'walk', 'same', 'third key of ana', 'done', 'model of ana', now()),
  ('bo', 'walked', 'walk', 'same', 'another key of bo', 'done', 'model of bo', now());
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until) values
  ('ana', 'until then of ana', 'same', 'same', 'done', 'model of ana', now()),
  ('ana', 'another walk of ana', 'walk', 'same', 'done', 'model of ana', now()),
  ('ana', 'gone on of ana', 'goes on for her', 'answer', 'done', 'model of ana', now());
insert into chat.responses (user_id, id, kind, request, input, alone) values
  ('ana', 'run of ana', 'response', '{"kept": "secret of ana"}', '{}', true),
  ('ana', 'gone on of ana', 'response', '{"kept": "secret of ana"}', '{}', true),
  ('ana', 'same run', 'response', '{"kept": "secret of ana"}', '{}', false),
  ('bo', 'same run', 'response', '{"kept": "secret of bo"}', '{}', false),
  ('ana', 'walked', 'response', '{"kept": "secret of ana"}', '{}', true),
  ('bo', 'walked', 'response', '{"kept": "secret of bo"}', '{}', true);
insert into chat.conversation_metadata (user_id, conversation_id, metadata) values
  ('ana', 'the-talk-of-ana-alone', '{"kept": "secret of ana"}'),
  ('ana', 'same', '{"kept": "secret of ana"}'),
  ('bo', 'same', '{"kept": "secret of bo"}');
insert into chat.chatkit_threads (user_id, conversation_id, thread, busy_with) values
  ('ana', 'the-talk-of-ana-alone', '{"kept": "secret of ana"}', null),
  ('ana', 'same', '{"kept": "secret of ana"}', 'same token'),
  ('bo', 'same', '{"kept": "secret of bo"}', 'same token');
insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item, hidden) values
  ('ana', 'the-talk-of-ana-alone', 'widget of ana', 'word of ana',
    '{"kept": "secret of ana"}', false),
  ('ana', 'same', 'widget of ana', 'same', '{"kept": "secret of ana"}', false),
  ('ana', 'same', 'first of ana', null, '{"kept": "secret of ana"}', false),
  ('ana', 'same', 'parent', 'same', '{"kept": "secret of ana"}', false),
  ('ana', 'same', 'same', 'same', '{"kept": "secret of ana"}', true),
  ('bo', 'same', 'same', 'same', '{"kept": "secret of bo"}', true);
insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size, content)
values
  ('ana', 'file of ana', '{"name": "file of ana"}', 'text/plain', 1, 'a'),
  ('ana', 'same file', '{"name": "secret of ana"}', 'text/plain', 1, null),
  ('bo', 'same file', '{"name": "secret of bo"}', 'text/plain', 1, null);
insert into chat.chatkit_attachments (user_id, id, conversation_id, attachment, media_type, size,
  object_key, digest)
values
  ('ana', 'sent file of ana', 'same', '{"name": "file of ana"}', 'text/plain', 1, 'object of ana',
    'a'),
  ('ana', 'sent file', 'his', '{"name": "file of ana"}', 'text/plain', 1, 'file of ana', 'a'),
  ('bo', 'sent file', 'his', '{"name": "file of bo"}', 'text/plain', 1, 'object of bo', 'b');
insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size) values
  ('ana', 'large', '{"name": "file of ana"}', 'text/plain', 90000);
update chat.messages set parts = '[{"type": "file", "url": "/api/files/large"}]'
  where user_id = 'bo' and conversation_id = 'paid';
insert into chat.file_uses (user_id, file_id, conversation_id) values
  ('ana', 'sent file', 'hers');
insert into chat.chatkit_attachments (user_id, id, conversation_id, attachment, media_type, size,
  object_key, digest)
values
  ('ana', 'left file', 'walk', '{"name": "file of ana"}', 'text/plain', 1, 'left of ana', 'a'),
  ('bo', 'left file', 'walk', '{"name": "file of bo"}', 'text/plain', 1, null, 'b');
insert into chat.file_uses (user_id, file_id, conversation_id) values
  ('ana', 'left file', 'hers'), ('ana', 'left file', 'walk');
update chat.messages set parts = '[{"type": "file", "url": "/api/files/left file"}]'
  where user_id = 'ana' and conversation_id = 'walk' and id = 'elsewhere';
insert into chat.idempotency_keys (user_id, key, fingerprint, holder) values
  ('ana', 'key of ana', 'request of ana', 'holder of ana'),
  ('ana', 'same key', 'request of ana', 'same holder'),
  ('bo', 'same key', 'request of bo', 'same holder');
insert into chat.shares (user_id, id, conversation_id, head_id, token_hash, expires_at) values
  ('ana', 'share of ana', 'same', 'same', 'link of ana', now() + interval '1 day'),
  ('bo', 'share of bo', 'same', 'same', 'link of bo', now() + interval '1 day');
insert into chat.profiles (id, system_prompt) values
  ('ana', 'secret of ana'), ('bo', 'secret of bo');
insert into chatkeep.personal_keys
  (user_id, id, issuer, subject, name, shown, key_hash, scopes, role, roles, expires_at)
  select person, id::uuid, 'embedded', person, 'key of ' || person, 'ck_', person::bytea,
    '{chat}', 'authenticated', '{}', now() + interval '1 day'
  from (values ('ana', 'a0000000-0000-4000-8000-000000000003'),
    ('bo', 'b0000000-0000-4000-8000-000000000003')) k (person, id);
insert into public.user_sessions (user_id, id, issuer, reference, device, expires_at) values
  ('ana', 'a0000000-0000-4000-8000-000000000001', 'embedded', null, 'device of ana',
    now() + interval '1 day'),
  ('bo', 'b0000000-0000-4000-8000-000000000001', 'embedded', null, 'device of bo',
    now() + interval '1 day'),
  ('ana', 'a0000000-0000-4000-8000-000000000002', 'other', 'name of ana', 'other device of ana',
    now() + interval '1 day');
insert into chat.conversations (user_id, id, title, head_id) values
  ('ana', 'waits for her', 'secret of ana', 'answer'),
  ('ana', 'cut off for her', 'secret of ana', 'answer');
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content, run_id) values
  ('ana', 'waits for her', 'question', null, 'user', 'secret of ana', null),
  ('ana', 'waits for her', 'answer', 'question', 'assistant', '', 'waiting of ana'),
  ('ana', 'cut off for her', 'question', null, 'user', 'secret of ana', null),
  ('ana', 'cut off for her', 'answer', 'question', 'assistant', 'half of ana', 'cut off of ana'),
  ('ana', 'his', 'other', null, 'assistant', '', 'behind his');
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until, asked)
values
  ('ana', 'waiting of ana', 'waits for her', 'answer', 'queued', 'model of ana', now(),
    '{"secret": "of ana", "who": {"issuer": "embedded"}}'),
  ('ana', 'behind his', 'his', 'other', 'queued', 'model of ana', now(),
    '{"who": {"issuer": "embedded"}}'),
  ('ana', 'cut off of ana', 'cut off for her', 'answer', 'stopped', 'model of ana', now(), null);
"""

#: Row by row, which takes a tenth of what making new files for some sixty indexes does.
CLEAR = "; ".join(
    (
        "set local session_replication_role = replica",
        *(f"delete from {table.name}" for table in OWNED),
        "delete from chat.message_words",
        "delete from chat.budget_totals",
        "set local session_replication_role = origin",
        """select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
        from pg_sequences where schemaname in ('chat', 'public')""",
    )
)
EVERY_ROW = "select row from ({}) r order by number, row".format(
    " union all ".join(
        f"select {number} as number, t::text as row from {table.name} t"
        for number, table in enumerate(OWNED)
    )
)

ALONE, SAME = "the-talk-of-ana-alone", "same"
AT = datetime(2026, 1, 1, tzinfo=UTC)
SESSION_OF_ANA = UUID("a0000000-0000-4000-8000-000000000001")
KEY_OF_ANA = UUID("a0000000-0000-4000-8000-000000000003")
SUMS = Sums(prompt_tokens=5, output_tokens=5, prompt_cost=Decimal(5), cost=Decimal(9))
AS_IT_IS = Choices(settings=ModelSettings(model="m"), system_prompt=None)
BO = Principal(user_id="bo", issuer="embedded", subject="bo", session_id="none of these")


def run_of(person: str) -> Address:
    """Return where the answer is that is being made for *person*."""
    conversation = "hers" if person == "ana" else "his"
    return Address(
        id=f"running of {person}",
        conversation_id=conversation,
        message_id="same",
        user_message_id="none",
    )


def turn(conversation_id: str, **changes: Any) -> Turn:  # noqa: ANN401 -- fields of a turn
    """Return a question of Bo's."""
    fields: dict[str, Any] = {
        "conversation_id": conversation_id,
        "run_id": "new",
        "message_id": "new answer",
        "user_message_id": "new question",
        "model": "m",
        "content": "Hello",
        "title": "Hello",
    }
    return Turn(**{**fields, **changes})


def going_on(conversation_id: str) -> Turn:
    """Return a turn that goes on with an answer."""
    return turn(
        conversation_id,
        content=None,
        message_id="answer",
        user_message_id="question",
        resumed=[{"type": "text", "text": "by bo"}],
    )


async def import_again(db: Database) -> bool:
    """Import as Bo what would have the id of one that Ana has deleted."""
    line = Line(number=0, parent=None, role="user", text="by bo", at=AT)
    return await imports.store(
        db,
        "bo",
        Arrival(source="chatgpt", id="deleted of ana", title=None, at=AT, lines=[line], head=0),
    )


async def beside_message(db: Database) -> object:
    """Return what is beside a message of Bo's, without the times, which differ."""
    found = (await exports.beside_messages(db, "bo", SAME, ["same"]))["same"]
    return found["items"], [one["request"] for one in found["requests"]]


async def finish(db: Database, whose: str) -> bool:
    """End an answer as Bo."""
    ending = Ending(state="done")
    return await checkpoints.finish(
        db, "bo", run_of(whose), ending, content="by bo", parts=None, title="by bo"
    )


async def checkpoint(db: Database, whose: str) -> bool:
    """Keep a part of an answer as Bo."""
    one = Checkpoint(user_id="bo", run=run_of(whose), content="by bo", parts=None)
    return (await checkpoints.keep(db, [one]))[0]


async def belongings(db: Database) -> object:
    """Return what Bo has, without the times, which differ from run to run."""
    found = await exports.belongings(db, "bo")
    devices = [one["device"] for one in found.sessions]
    keys_of_his = [one["name"] for one in found.keys]
    return devices, len(found.shares), keys_of_his, len(found.usage), found.conversations


def item(name: str) -> NewItem:
    """Return what Bo writes into a thread."""
    return NewItem(id=name, item={"kept": "by bo"}, role="user", content="by bo")


def written(message_id: str) -> list[NewMessage]:
    """Return what Bo adds to a conversation."""
    return [NewMessage(id=message_id, role="user", content="by bo")]


async def answer_tools(db: Database, conversation_id: str) -> None:
    """Write into an answer, as Bo, what its tools said."""
    answered = ("same", [{"type": "text", "text": "by bo"}])
    await conversation_items.add(db, "bo", conversation_id, [], answered=answered)


async def erase_item(
    db: Database, conversation_id: str, message_id: str, *file_ids: str
) -> list[str]:
    """Erase what a message said as Bo, ChatKit's copy, and files that it had."""
    return await conversation_items.erase(
        *(db, "bo", conversation_id, message_id),
        content="",
        parts=None,
        part_id="same",
        attached=Attached(file_ids=file_ids, titles=None),
    )


async def note(db: Database, run_id: str) -> object:
    """Make a run a response as Bo."""
    query = responses.noting("bo", run_id, "response", request={}, brought=[], alone=False)
    return await db.fetch_all(as_user("bo"), query)


async def threads(db: Database, after: str | None, *, newest_first: bool) -> object:
    """List threads as Bo."""
    return await records.list_threads(db, "bo", limit=99, after=after, newest_first=newest_first)


async def charge(db: Database, conversation_id: str, question_id: str, run_id: str) -> object:
    """Charge Bo for a run that answers a question."""
    asked = Asking(id=run_id, model="model of bo", size=3, max_tokens=9, kept=True)
    query = ledger.charging(
        "bo", ["user"], asked, limits=Limits(), price=Price(), counts_total=True
    )
    branch = {"user": "bo", "conversation": conversation_id, "newest": question_id}
    return await db.fetch_all(as_user("bo"), history.reading(branch), query)


async def charge_total(db: Database, charge_id: str) -> object:
    """Put a charge into the total as Bo."""
    return await db.fetch_all(as_user("bo"), ledger.charging_total("bo", charge_id, Decimal(100)))


async def charge_more(db: Database, charge_id: str) -> object:
    """Raise a charge as Bo."""
    amounts = dict.fromkeys((one.name for one in fields(Charged)[3:]), Decimal(1000))
    charged = Charged(id=charge_id, prompt_tokens=1, output_tokens=1, **amounts)
    queries = ledger.charging_more("bo", charged, SUMS, total=Decimal(1000))
    return await db.fetch_all(as_user("bo"), *queries)


async def settle(db: Database, charge_id: str) -> object:
    """Set a charge right as Bo."""
    queries = ledger.settling("bo", charge_id, "model of bo", SUMS)
    return await db.fetch_all(as_user("bo"), *queries)


def door(db: Database) -> IdempotencyKeys:
    """Return the door to idempotency keys."""
    return IdempotencyKeys(db, b"s" * 32, wait_s=0, new_name=lambda: "new", nonce=bytes)


async def taken(db: Database, key: str) -> str:
    """Bring a key as Bo; return what that gives him, without the names, which are new."""
    return type(await door(db).take("bo", key, b"by bo")).__name__


async def marked(db: Database, key: str) -> bool:
    """Note a key as Bo; return whether it was seen before."""
    return (await door(db).mark("bo", key, b"by bo")).seen


async def answered(db: Database, key: str) -> None:
    """Answer the request of a key as Bo."""
    kept = Kept(status=200, body=b"by bo", media_type="text/plain")
    await door(db).keep("bo", key, "same holder", kept)


FILE_OF_BO = files.FileRow(
    id="file of bo", attachment={"name": "of bo"}, media_type="text/plain", size=9, digest=None
)
#: What Bo does: with what is Ana's alone, with what both have, and with his own.
TRIES: dict[str, Callable[[Database], Awaitable[object]]] = {
    "page of hers": lambda db: conversations.get_page(db, "bo", ALONE, limit=9),
    "page of the same id": lambda db: conversations.get_page(db, "bo", SAME, limit=9),
    "page with siblings": lambda db: conversations.get_page(db, "bo", "forked", limit=9),
    "page with an answer being made": lambda db: conversations.get_page(db, "bo", "hers", limit=9),
    "list": lambda db: conversations.list_conversations(db, "bo", limit=9),
    "list by id": lambda db: conversations.list_by_id(db, "bo", limit=9),
    "search": lambda db: conversations.search_titles(db, "bo", "secret", limit=9),
    "export of hers": lambda db: conversations.get_whole(db, "bo", ALONE),
    "export of the same id": lambda db: conversations.get_whole(db, "bo", SAME),
    "messages of hers": lambda db: conversations.list_messages(db, "bo", ALONE, ["word of ana"]),
    "what fits of hers": lambda db: conversations.list_fitting(db, "bo", ALONE, ["word of ana"]),
    "what fits of the same id": lambda db: conversations.list_fitting(
        db, "bo", SAME, ["same", "child of ana", "root of ana"]
    ),
    "messages of the same id": lambda db: conversations.list_messages(
        db, "bo", SAME, ["same", "child of ana", "root of ana"]
    ),
    "place in hers": lambda db: conversations.find_place(db, "bo", ALONE, "word of ana"),
    "place in the same id": lambda db: conversations.find_place(db, "bo", SAME, "child of ana"),
    "rename": lambda db: conversations.rename(db, "bo", ALONE, "by bo"),
    "branch of hers": lambda db: conversations.show_branch(db, "bo", ALONE, "word of ana"),
    "branch of the same id": lambda db: conversations.show_branch(db, "bo", SAME, "same"),
    "branch to a message of hers": lambda db: conversations.show_branch(
        db, "bo", SAME, "child of ana"
    ),
    "delete": lambda db: conversations.delete(db, "bo", ALONE),
    "erase": lambda db: erasure.erase_words(db, "bo"),
    "search in messages": lambda db: search.search(db, "bo", "ana", locale=None, limit=9),
    "search for what both have": lambda db: search.search(db, "bo", "sought", locale=None, limit=9),
    "fork of hers": lambda db: forking.fork(db, "bo", ALONE, message_id=None),
    "fork of the same id": lambda db: forking.fork(db, "bo", SAME, message_id="child of ana"),
    "fork again": lambda db: forking.find_fork(db, "bo", ALONE),
    "share of hers": lambda db: sharing.share(
        db, "bo", ALONE, head_id=None, lasts=timedelta(days=1)
    ),
    "name of hers": lambda db: sharing.get_name(db, "bo", ALONE),
    "name of the same id": lambda db: sharing.get_name(db, "bo", SAME),
    "shares": lambda db: sharing.list_shares(db, "bo"),
    "keys": lambda db: keys.list_own(db, "bo"),
    "end a key": lambda db: keys.revoke(db, "bo", KEY_OF_ANA),
    "end of a share": lambda db: sharing.revoke(db, "bo", "share of ana"),
    "an import of the same id": import_again,
    "belongings": belongings,
    "what is beside hers": lambda db: exports.beside_conversation(db, "bo", ALONE),
    "what is beside the same": lambda db: exports.beside_conversation(db, "bo", SAME),
    "what is beside the same message": beside_message,
    "erase everything": lambda db: erasure.erase(db, "bo", by=None, actor="bo"),
    "response of hers": lambda db: responses.get(db, "bo", "run of ana", "response"),
    "response of the same run": lambda db: responses.get(db, "bo", "same run", "response"),
    "forget a response of hers": lambda db: responses.forget(
        db, "bo", "gone on of ana", "response"
    ),
    "forget the response of the same run": lambda db: responses.forget(
        db, "bo", "same run", "response"
    ),
    "forget what is alone": lambda db: responses.forget(db, "bo", "walked", "response"),
    "note a run of hers": lambda db: note(db, "run of ana"),
    "note a run of his": lambda db: note(db, "running of bo"),
    "description of hers": lambda db: conversation_items.describe(db, "bo", ALONE),
    "notes for hers": lambda db: conversation_items.keep_metadata(db, "bo", ALONE, {"by": "bo"}),
    "notes for the same id": lambda db: conversation_items.keep_metadata(
        db, "bo", SAME, {"by": "bo"}
    ),
    "messages into hers": lambda db: conversation_items.add(db, "bo", ALONE, written("new")),
    "messages where hers is answered": lambda db: conversation_items.add(
        db, "bo", "hers", written("new")
    ),
    "outputs for hers": lambda db: answer_tools(db, ALONE),
    "outputs where hers is answered": lambda db: answer_tools(db, "hers"),
    "branch through hers": lambda db: conversations.branch_ids(
        db, "bo", ALONE, from_id=None, limit=9
    ),
    "branch in the same id": lambda db: conversations.branch_ids(
        db, "bo", SAME, from_id=None, limit=9
    ),
    "homes of hers": lambda db: conversations.find_homes(db, "bo", ["word of ana", "same"]),
    "erase words of hers": lambda db: erase_item(db, ALONE, "word of ana"),
    "erase words of the same id": lambda db: erase_item(db, SAME, "parent"),
    "erase where hers is answered": lambda db: erase_item(db, "hers", "same"),
    "erase files of the same id": lambda db: erase_item(
        db, "walk", "elsewhere", "left file", "same file"
    ),
    "restore": lambda db: conversations.restore(db, "bo", "the-deleted-talk-of-ana"),
    "taking hers": lambda db: turns.start(db, "bo", turn(ALONE, may_create=True)),
    "question in hers": lambda db: turns.start(db, "bo", turn(ALONE)),
    "question in the same id": lambda db: turns.start(db, "bo", turn(SAME)),
    "question below hers": lambda db: turns.start(
        db, "bo", turn(SAME, branches=True, parent_id="child of ana")
    ),
    "new answer to hers": lambda db: turns.start(
        db, "bo", turn(SAME, content=None, user_message_id="child of ana")
    ),
    "new answer to the same id": lambda db: turns.start(
        db, "bo", turn(SAME, content=None, user_message_id="same")
    ),
    "going on with what she is shown": lambda db: turns.start(
        db, "bo", going_on("goes on for her")
    ),
    "going on with what he is shown": lambda db: turns.start(db, "bo", going_on("goes on for him")),
    "answer of hers": lambda db: conversations.find_answer(
        db, "bo", "goes on for her", "answer of ana"
    ),
    "checkpoint of hers": lambda db: checkpoint(db, "ana"),
    "checkpoint of his": lambda db: checkpoint(db, "bo"),
    "finish of hers": lambda db: finish(db, "ana"),
    "finish of his": lambda db: finish(db, "bo"),
    "failure of hers": lambda db: checkpoints.fail(db, "bo", run_of("ana"), "by bo"),
    "failure of his": lambda db: checkpoints.fail(db, "bo", run_of("bo"), "by bo"),
    "run": lambda db: runs.get_run(db, "bo", "run of ana"),
    "words for a webhook": lambda db: webhooks.find_words(db, "bo", ALONE, "word of ana"),
    "words of the same id for a webhook": lambda db: webhooks.find_words(
        db, "bo", SAME, "child of ana"
    ),
    "active run": lambda db: runs.find_active(db, "bo", "hers"),
    "run by request": lambda db: runs.find_by_request(db, "bo", "key of ana"),
    "forget hers": lambda db: runs.forget_request(db, "bo", "run of ana"),
    "forget the same id": lambda db: runs.forget_request(db, "bo", "same run"),
    "forget what is not shown": lambda db: runs.forget_request(db, "bo", "walked"),
    "stop": lambda db: runs.request_stop(db, "bo", "running of ana"),
    "question that waits in hers": lambda db: waiting.enqueue(db, BO, turn(ALONE), AS_IT_IS),
    "question that waits in the same id": lambda db: waiting.enqueue(db, BO, turn(SAME), AS_IT_IS),
    "next of hers": lambda db: waiting.find_next(db, "bo", "waits for her"),
    "queue of hers": lambda db: waiting.list_waiting(db, "bo", "waits for her"),
    "begin what waits of hers": lambda db: turns.claim(
        db, "bo", turn("waits for her", run_id="waiting of ana", user_message_id="question"), ()
    ),
    "give up what waits of hers": lambda db: waiting.give_up(db, "bo", "waiting of ana", "by bo"),
    "cancel all of hers": lambda db: waiting.cancel(db, "bo", "waits for her", None),
    "cancel one of the same id": lambda db: waiting.cancel(db, "bo", "his", "behind his"),
    "continue hers": lambda db: turns.start(
        db,
        "bo",
        turn(
            "cut off for her",
            content=None,
            message_id="answer",
            user_message_id="question",
            continues="cut off of ana",
        ),
    ),
    "news of hers": lambda db: checkpoints.get_news(db, "bo", "run of ana", has=0, said=-1),
    "automatic title of hers": lambda db: titling.find_automatic(db, "bo", ALONE),
    "title for hers": lambda db: titling.give_title(
        db, "bo", "cut off for her", "by bo", seen="secret of ana"
    ),
    "profile": lambda db: Preferences(db).get_profile("bo"),
    "sessions": lambda db: own_sessions.list_sessions(db, "bo"),
    "end a session": lambda db: own_sessions.end_own(db, "bo", SESSION_OF_ANA, reason="by bo"),
    "end by name": lambda db: own_sessions.end_named(db, "bo", "name of ana", reason="by bo"),
    "end all": lambda db: own_sessions.end_everything(db, "bo", reason="by bo"),
    "what was used": lambda db: overview.overview(
        db, BO, Limits(tokens_per_day=Decimal(9)), days=3
    ),
    "end all but one": lambda db: own_sessions.end_all_but(db, BO, reason="by bo"),
    "charge for a question of hers": lambda db: charge(db, ALONE, "word of ana", "charged of bo"),
    "a file beside hers": lambda db: files.announce(db, "bo", FILE_OF_BO, total=50_000),
    "charge for a file of hers": lambda db: charge(db, "paid", "same", "charged of bo"),
    "charge for the same question": lambda db: charge(db, SAME, "same", "charged of bo"),
    "charge for a run of hers": lambda db: charge(db, SAME, "same", "running of ana"),
    "total of hers": lambda db: charge_total(db, "run of ana"),
    "more of hers": lambda db: charge_more(db, "run of ana"),
    "more of his": lambda db: charge_more(db, "running of bo"),
    "settle hers": lambda db: settle(db, "run of ana"),
    "settle his": lambda db: settle(db, "running of bo"),
    "thread": lambda db: records.find_thread(db, "bo", ALONE),
    "newest threads": lambda db: threads(db, None, newest_first=True),
    "oldest threads": lambda db: threads(db, None, newest_first=False),
    "threads before hers": lambda db: threads(db, ALONE, newest_first=True),
    "threads after hers": lambda db: threads(db, ALONE, newest_first=False),
    "items of hers": lambda db: records.list_items(db, "bo", ALONE, ["", "word of ana"]),
    "items of the same id": lambda db: records.list_items(db, "bo", SAME, ["same"]),
    "items before all of the same id": lambda db: records.list_items(db, "bo", SAME, [""]),
    "item of hers": lambda db: records.find_item(db, "bo", ALONE, "widget of ana"),
    "item in the same thread": lambda db: records.find_item(db, "bo", SAME, "widget of ana"),
    "new item in hers": lambda db: records.add_item(db, "bo", ALONE, item("new")),
    "new item in the same id": lambda db: records.add_item(db, "bo", SAME, item("new")),
    "other words for hers": lambda db: records.save_item(
        db, "bo", SAME, item("parent"), message_id="parent"
    ),
    "held thread of the same id": lambda db: records.save_thread(
        db, "bo", SAME, title="new", thread={}, known=True, retitled=True
    ),
    "hide the same item": lambda db: records.hide_item(db, "bo", SAME, "same", message_id=SAME),
    "show the same item": lambda db: records.show_items(db, "bo", SAME, ["same"]),
    "erase the same item": lambda db: erasing.erase_item(
        db, "bo", SAME, "parent", message_id="parent", attached=Attached(titles=None)
    ),
    "show less of the same id": lambda db: records.show_up_to(db, "bo", SAME, "parent"),
    "show up to hers": lambda db: records.show_up_to(db, "bo", SAME, "child of ana"),
    "give back the same thread": lambda db: records.give_back(db, "bo", SAME, "same token"),
    "file of hers": lambda db: files.find(db, "bo", "file of ana"),
    "bytes of hers": lambda db: files.read(db, "bo", "file of ana"),
    "sizes of hers": lambda db: files.sizes(db, "bo", ["sent file of ana"]),
    "bytes for the same file": lambda db: files.fill(
        db, "bo", "same file", digest=b"b", content=b"b", object_key=None
    ),
    "files": lambda db: files.list_files(db, "bo", limit=9),
    "objects": lambda db: files.objects_of(db, "bo"),
    "use of the same file": lambda db: db.fetch_all(
        as_user("bo"), *files.using("bo", SAME, ["same file"])
    ),
    "use of a file sent before": lambda db: db.fetch_all(
        as_user("bo"), *files.using("bo", SAME, ["sent file"])
    ),
    "erase her file": lambda db: files.erase(db, "bo", "file of ana"),
    "her key": lambda db: taken(db, "key of ana"),
    "mark of her key": lambda db: marked(db, "key of ana"),
    "renewal of the same key": lambda db: door(db).renew("bo", "same key", "same holder"),
    "release of the same key": lambda db: door(db).release("bo", "same key", "same holder"),
    "the same key left": lambda db: door(db).leave("bo", "same key", "same holder"),
    "answer to the same key": lambda db: answered(db, "same key"),
}

_OWNER = re.compile(r"(?:\w+\.)?user_id = (%\(user\)s|%s)|(?<=chat\.profiles where )id = (%s)")


class WithoutPredicates(Database):
    """A door that takes the *taken* owner predicates (by number) out of *statement*.

    It keeps in *seen* what was sent, and as which role.
    """

    statement: str | None = None
    taken: frozenset[int] = frozenset()
    seen: list[tuple[str, str]]

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_size=1)
        self.seen = []

    async def execute(self, caller: Caller, text: LiteralString, params: Params) -> int:
        """Run the statement without them."""
        return await super().execute(caller, self._altered(caller, text), params)

    async def fetch_all(self, caller: Caller, *queries: Query[Any]) -> list[list[Any]]:
        """Run the statements without them."""
        altered = [self._query(caller, one) for one in queries]
        return await super().fetch_all(caller, *altered)

    async def fetch_each(self, *asked: tuple[Caller, Query[Any]]) -> list[list[Any]]:
        """Run the statements of several callers without them."""
        return await super().fetch_each(
            *((caller, self._query(caller, one)) for caller, one in asked)
        )

    def _query(self, caller: Caller, query: Query[Any]) -> Query[Any]:
        return Query(self._altered(caller, query.text), query.params, query.row)

    def _altered(self, caller: Caller, text: str) -> LiteralString:
        self.seen.append((text, caller.role))
        if text != self.statement:
            return text
        numbers = iter(range(len(_OWNER.findall(text))))
        return _OWNER.sub(lambda found: self._kept(found, next(numbers)), text)

    def _kept(self, found: re.Match[str], number: int) -> str:
        if number not in self.taken:
            return found[0]
        return f"({found[1] or found[2]}::text is not null)"


_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ \d:.+]+|datetime\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Scene:
    """A database with Ana's and Bo's rows, and the altered door to it."""

    db: WithoutPredicates
    admin: psycopg.Connection
    expected: dict[str, str]

    async def outcome(self, attempt: str) -> str:
        """Let Bo try; return what he was told and every row afterwards, but for the times."""
        self.seed()
        result: object = None
        try:
            result = await TRIES[attempt](self.db)
        except (ChatkeepError, ConstraintViolated) as error:
            result = type(error)
        except AlreadyStarted as error:
            result = error.run_id
        return "\n".join([_MOMENT.sub("-", repr(result)), *self.rows()])

    def seed(self) -> None:
        """Give both the rows that they begin with, and no others."""
        self.admin.execute(f"{CLEAR}; {SEED}".encode())

    def rows(self) -> list[str]:
        """Return every row, but for the times."""
        return [_MOMENT.sub("-", row) for (row,) in self.admin.execute(EVERY_ROW)]

    async def differs(self, attempt: str) -> bool:
        """Return whether it does not end as it should."""
        return await self.outcome(attempt) != self.expected[attempt]

    async def statements(self, *roles: str) -> dict[str, list[str]]:
        """Return the statements with owner predicates, and which attempts send them."""
        found: dict[str, list[str]] = {}
        for attempt in TRIES:
            self.db.seen.clear()
            await self.outcome(attempt)
            for text, role in self.db.seen:
                if role in roles and _OWNER.search(text):
                    found.setdefault(text, []).append(attempt)
        return found


@pytest.fixture(scope="module")
async def expected(database: MigratedDatabase) -> dict[str, str]:
    """How every attempt ends when nothing was taken away."""
    async with scene_in(database) as begun:
        return {attempt: await begun.outcome(attempt) for attempt in TRIES}


@pytest.fixture
async def scene(database: MigratedDatabase, expected: dict[str, str]) -> AsyncIterator[Scene]:
    """Both, under the policies."""
    async with scene_in(database) as begun:
        yield replace(begun, expected=expected)


@asynccontextmanager
async def scene_in(database: MigratedDatabase) -> AsyncIterator[Scene]:
    """Lend a copy, and a door to it."""
    with clone_of(database) as clone:
        db = WithoutPredicates(clone.url)
        await db.open()
        with psycopg.connect(clone.admin_url, autocommit=True) as admin:
            yield Scene(db, admin, {})
        await db.close()


@contextmanager
def clone_of(database: MigratedDatabase) -> Iterator[MigratedDatabase]:
    """Lend a copy that may be altered."""
    name = database.server.new_database(template=database.name)
    yield MigratedDatabase(server=database.server, name=name)
    database.server.drop_database(name)


@pytest.fixture
def unprotected(scene: Scene) -> Scene:
    """Both, without row-level security."""
    for table in OWNED:
        scene.admin.execute(f"alter table {table.name} disable row level security")
    return scene


@pytest.fixture
def rows_of_ana(scene: Scene) -> list[str]:
    """What must stay as it is, whatever Bo does."""
    scene.seed()
    return [row for row in scene.rows() if row.startswith("(ana,")]


async def test_with_both_nothing_is_reached(scene: Scene, rows_of_ana: list[str]) -> None:
    """Nothing that Bo is told speaks of Ana, and nothing of hers changes."""
    assert len(rows_of_ana) >= 15
    for attempt, outcome in scene.expected.items():
        told, *rows = outcome.split("\n")
        assert " of ana" not in told, attempt
        assert set(rows_of_ana) <= set(rows), attempt


#: Its statements are sent by other modules, each of them for the person who is charged.
LEDGER = Path(str(ledger.__file__))
#: Their functions return statements that others send, for the person they are given.
RETURNED = {
    Path(str(one.__file__))
    for one in (
        *(
            checkpoints,
            conversation_items,
            conversations.changes,
            conversations_erasing,
            conversations.pages,
            files.sent,
            history,
            overview,
        ),
        *(files.records, responses, turns),
    )
}


def written_for_people() -> set[str]:
    """Return the statements in the source that are sent on behalf of a person."""
    found = set()
    for file in Path(str(chatkeep.__file__)).parent.rglob("*.py"):
        tree = ast.parse(file.read_text())
        named = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(args=[ast.Call(func=ast.Name(id="as_user")), *rest]):
                    inside = [one for argument in rest for one in ast.walk(argument)]
                    inside += [
                        named[one.id]
                        for one in inside
                        if isinstance(one, ast.Name) and one.id in named
                    ]
                    found |= {
                        one.value
                        for one in inside
                        if isinstance(one, ast.Constant) and isinstance(one.value, str)
                    }
                case ast.Call(
                    func=ast.Name(id="Query"), args=[ast.Constant(value=str(text)), *_]
                ) if file in RETURNED:
                    found.add(text)
                case ast.Call(func=ast.Name(id="Query"), args=[ast.Name(id=name), *_]) if (
                    file in RETURNED and name in named
                ):
                    found.add(ast.literal_eval(named[name]))
                case ast.AnnAssign(value=ast.Constant(value=str(text))) if file == LEDGER:
                    found.add(text)
                case _:
                    pass
    return {text for text in found if _OWNER.search(text)}


@ON_ONE_VERSION
async def test_every_owner_predicate_is_tried(scene: Scene) -> None:
    """Each statement for people that has one is sent here; a new one needs a try."""
    tried = set(await scene.statements("chatkeep_app"))
    assert len(tried) >= 20
    assert written_for_people() == tried


async def test_predicates_alone_keep_people_apart(unprotected: Scene) -> None:
    """Without row-level security everything ends the same."""
    assert [one for one in TRIES if await unprotected.differs(one)] == []


@ON_ONE_VERSION
async def test_policies_alone_keep_people_apart(scene: Scene) -> None:
    """Without the owner predicates of any statement for people everything ends the same.

    Signing in has no such second layer: it acts for whoever it finds out about.
    """
    different = []
    for text, attempts in (await scene.statements("chatkeep_app")).items():
        scene.db.statement = text
        scene.db.taken = frozenset(range(99))
        different += [one for one in attempts if await scene.differs(one)]
    assert different == []


#: Whose rows these count only says where siblings are looked for, by the next predicates.
ONLY_COUNTED = [("with recursive ending as materialized ( select coalesce(%(fr", 3)]
#: What these lock is let go a moment later, and the next statements look for whose it is.
ONLY_HELD = [
    ("select id from chat.conversations where user_id = %(user)s a", one) for one in (0, 1)
]


@ON_ONE_VERSION
async def test_without_both_somebody_is_reached(unprotected: Scene) -> None:
    """Each owner predicate is missed where no policy stands behind it."""
    not_missed = []
    for text, attempts in (await unprotected.statements(*ROLES)).items():
        unprotected.db.statement = text
        for number in range(len(_OWNER.findall(text))):
            unprotected.db.taken = frozenset([number])
            if not [one for one in attempts if await unprotected.differs(one)]:
                not_missed.append((" ".join(text.split())[:60], number))
    assert sorted(not_missed) == ONLY_HELD + ONLY_COUNTED
