"""With a hundred thousand messages, every hot statement goes straight to its rows.

Each is planned as it is sent, for the caller it is sent for, with the row-level policies in
it: no table is read through, and nothing but a handful of rows is sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest

from chatkeep import accounts, conversations, own_sessions, runs, sessions, turns
from chatkeep.db import AUTH, WORKER, Database, Query
from chatkeep.devices import Device
from chatkeep.ids import new_id
from chatkeep.personal_keys import records as keys
from chatkeep.preferences import Preferences
from chatkeep.refresh_tokens import RefreshToken
from chatkeep.runs import Address, Ending
from chatkeep.turns import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from uuid import UUID

    from chatkeep.db import Caller, Params
    from tests.postgres_servers import MigratedDatabase

#: More than this many rows are not put into order while somebody waits.
SORTED_AT_MOST = 300

SEED: LiteralString = """
insert into chat.conversations (user_id, id, title, head_id, created_at, updated_at)
  select 'user-' || u, 'conversation-' || u || '-' || c, 'Talk ' || c, 'message-99',
    now() - c * interval '1 hour', now() - c * interval '1 hour'
  from generate_series(1, 100) u, generate_series(1, 10) c;
insert into chat.messages (user_id, conversation_id, id, parent_id, role, content, created_at)
  select 'user-' || u, 'conversation-' || u || '-' || c, 'message-' || m,
    case when m > 0 then 'message-' || (m - 1) end,
    case when m % 2 = 0 then 'user' else 'assistant' end, repeat('word ', 20),
    now() - (100 - m) * interval '1 minute'
  from generate_series(1, 100) u, generate_series(1, 10) c, generate_series(0, 99) m;
insert into chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until)
  select 'user-' || u, 'run-' || u || '-' || c || '-' || m, 'conversation-' || u || '-' || c,
    'message-' || m, 'done', 'model', now()
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
analyze;
"""


class Planned(Database):
    """A door that keeps the plan of each statement it sends."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_size=2)
        self.plans: list[tuple[str, dict[str, Any]]] = []

    async def execute(self, caller: Caller, text: LiteralString, params: Params) -> int:
        """Plan the statement, then run it."""
        await self._plan(caller, text, params)
        return await super().execute(caller, text, params)

    async def fetch_all(self, caller: Caller, *queries: Query[Any]) -> list[list[Any]]:
        """Plan the statements, then run them."""
        for query in queries:
            await self._plan(caller, query.text, query.params)
        return await super().fetch_all(caller, *queries)

    async def _plan(self, caller: Caller, text: LiteralString, params: Params) -> None:
        explained: LiteralString = "explain (format json) " + text
        async with self.acting_as(caller) as connection:
            cursor = await connection.execute(explained, params)
            row = await cursor.fetchone()
        assert row is not None
        self.plans.append((" ".join(text.split()), row[0][0]["Plan"]))


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


def a_turn(**changes: Any) -> Turn:  # noqa: ANN401 -- fields of a turn
    """Return a question at the end of the talk."""
    fields: dict[str, Any] = {
        "conversation_id": TALK,
        "run_id": new_id(),
        "message_id": new_id(),
        "user_message_id": new_id(),
        "model": "m",
        "content": "Hello",
    }
    return Turn(**{**fields, **changes})


async def turned(db: Database) -> None:
    """Begin an answer, keep a part of it, and end it."""
    turn = a_turn(request_key=new_id())
    await turns.start(db, ME, turn)
    address = Address(
        id=turn.run_id,
        conversation_id=TALK,
        message_id=turn.message_id,
        user_message_id=turn.user_message_id,
    )
    await runs.checkpoint(db, ME, address, content="Hel", parts=None)
    await runs.get_run(db, ME, turn.run_id)
    await runs.find_active(db, ME, TALK)
    await runs.request_stop(db, ME, turn.run_id)
    ending = Ending(state="done")
    await runs.finish(db, ME, address, ending, content="Hello.", parts=None, title=None)


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
    "activity": lambda db, known: sessions.note_activity(db, known.session),
    "end of a session": lambda db, known: own_sessions.end_own(
        db, str(known.leaving), known.session, reason="test"
    ),
    "end of all": lambda db, known: own_sessions.end_everything(
        db, str(known.leaving), reason="test"
    ),
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
        if node["Node Type"] == "Sort" and node["Plan Rows"] > SORTED_AT_MOST:
            found.append(f"sorts {node['Plan Rows']} rows by {node['Sort Key']}")
    return found


@pytest.mark.parametrize("name", HOT)
async def test_goes_straight_to_its_rows(planned: Planned, known: Known, name: str) -> None:
    """Every statement that is sent for it, in each of its parts."""
    await HOT[name](planned, known)
    assert planned.plans
    slow = {text[:80]: found for text, plan in planned.plans if (found := complaints(plan))}
    assert slow == {}


async def test_slow_plans_are_seen(planned: Planned) -> None:
    """Reading through a table, and ordering all of it, are both complained of."""
    await planned.execute(AUTH, "select id from chatkeep.users order by role", ())
    await planned.execute(WORKER, "select from chat.runs where state = 'done'", ())
    assert [bool(complaints(plan)) for _, plan in planned.plans] == [True, True]
