"""What the one door to PostgreSQL costs, beside the bare driver and beside an ORM.

`bare` is psycopg alone, as its superuser, without row-level security: for a profile a
connection of its pool and one prepared statement; to store a message, the insert and the
touch of the conversation as one pipeline. `ours` does the same for a caller under row-level
security, with role, caller and time limit set. `orm` is SQLAlchemy's as most applications
use it, with the caller set in its transaction. All of them are as durable, and write into
the same tables. A turn of the product (question, answer, run, history) is told beside them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 -- SQLAlchemy reads it
from functools import partial
from operator import truediv
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import ForeignKeyConstraint, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.figures import is_noisy, spread
from benchmarks.postgres import postgresql
from chatkeep.answering import checkpoints, turns
from chatkeep.answering.turns import Turn
from chatkeep.db import Database, as_user
from chatkeep.ids import new_id
from chatkeep.preferences import Preferences, Profile
from chatkeep.runs import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chatkeep.embedded_postgresql.addresses import Addresses

    Work = Callable[[], Awaitable[object]]

_PEOPLE = 10_000
_ME = "user-77"
_TALK = "a conversation of the benchmark"
_WORDS = "What was it that we said about the cabbage, the goat and the wolf, and who rows?"

_PROFILE: LiteralString = """
select version, temperature, top_p, max_tokens, system_prompt, default_model,
       custom_instructions, display_name, theme, locale
from chat.profiles where id = %s
"""
_INSERT: LiteralString = """
insert into chat.messages (user_id, conversation_id, id, role, content)
values (%(user)s, %(talk)s, %(id)s, 'user', %(words)s)
"""
_TOUCH: LiteralString = """
update chat.conversations set updated_at = now(), head_id = %(id)s
where user_id = %(user)s and id = %(talk)s
"""
# As the product writes: whatever belongs to one step is one statement.
_STORE: LiteralString = """
with stored as (
  insert into chat.messages (user_id, conversation_id, id, role, content)
  values (%(user)s, %(talk)s, %(id)s, 'user', %(words)s)
)
update chat.conversations set updated_at = now(), head_id = %(id)s
where user_id = %(user)s and id = %(talk)s
"""


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians over interleaved rounds, in microseconds, and their ratios."""
    with postgresql() as addresses:
        with psycopg.connect(str(addresses.admin_url), autocommit=True) as admin:
            _fill(admin)
        taken = asyncio.run(_race(addresses, 20 if quick else 100))
    return _figures(taken)


def _fill(admin: psycopg.Connection) -> None:
    admin.execute(
        "insert into chat.profiles (id, temperature, theme)"
        " select 'user-' || n, 0.5, 'dark' from generate_series(1, %s) n",
        [_PEOPLE],
    )
    admin.execute("insert into chat.conversations (user_id, id) values (%s, %s)", [_ME, _TALK])
    admin.execute("vacuum (analyze)")


async def _race(addresses: Addresses, rounds: int) -> dict[str, list[float]]:
    """Let everybody work in turn, a round each; return microseconds for one piece of work."""
    async with AsyncExitStack() as stack:
        works = _ours(await _door(stack, str(addresses.app_url)))
        works |= await _bare(stack, str(addresses.admin_url))
        works |= await _orm(stack, str(addresses.app_url))
        taken: dict[str, list[float]] = {name: [] for name in works}
        for number in range(-1, rounds):
            for name, work in works.items():
                took = await _round(work, 20 if name.startswith(("store", "turn")) else 100)
                if number >= 0:  # the first warms up
                    taken[name].append(took)
    return taken


async def _round(work: Work, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        await work()
    return (time.perf_counter() - began) / times * 1e6


# --- ours -------------------------------------------------------------------------------------


async def _door(stack: AsyncExitStack, url: str) -> Database:
    db = Database(url)
    await db.open()
    stack.push_async_callback(db.close)
    return db


def _ours(db: Database) -> dict[str, Work]:
    cached = Preferences(db)
    return {
        "profile ours": partial(db.fetch, as_user(_ME), _PROFILE, [_ME], row=Profile),
        "profile cached": partial(cached.get_profile, _ME),
        "store ours": lambda: db.execute(as_user(_ME), _STORE, _message()),
        "turn": lambda: _turn(db),
    }


def _message() -> dict[str, object]:
    return {"user": _ME, "talk": _TALK, "id": new_id(), "words": _WORDS}


async def _turn(db: Database) -> None:
    """Begin an answer and end it: the two round trips of every turn."""
    turn = Turn(
        conversation_id="a conversation with turns",
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=new_id(),
        model="m",
        content=_WORDS,
        branches=True,
        may_create=True,
    )
    await turns.start(db, _ME, turn)
    ending = Ending(state="done")
    await checkpoints.finish(db, _ME, turn.address, ending, content=_WORDS, parts=None, title=None)


# --- the bare driver --------------------------------------------------------------------------


async def _bare(stack: AsyncExitStack, url: str) -> dict[str, Work]:
    options: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0}
    pool = AsyncConnectionPool(url, min_size=2, max_size=10, open=False, kwargs=options)
    await pool.open(wait=True)
    stack.push_async_callback(pool.close)
    alone = await psycopg.AsyncConnection.connect(url, **options)
    stack.push_async_callback(alone.close)

    async def profile() -> list[Profile]:
        async with pool.connection() as connection:
            return await _read(connection)

    async def store() -> None:
        message = _message()
        async with pool.connection() as connection, connection.pipeline():
            await connection.execute(_INSERT, message)
            await connection.execute(_TOUCH, message)

    return {
        "profile bare": profile,
        "profile bare unpooled": partial(_read, alone),
        "store bare": store,
    }


async def _read(connection: psycopg.AsyncConnection[Any]) -> list[Profile]:
    cursor = connection.cursor(row_factory=class_row(Profile), binary=True)
    await cursor.execute(_PROFILE, [_ME])
    return await cursor.fetchall()


# --- SQLAlchemy -------------------------------------------------------------------------------


class _Base(DeclarativeBase):
    pass


class _Profile(_Base):
    __tablename__ = "profiles"
    __table_args__ = ({"schema": "chat"},)
    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    temperature: Mapped[float | None]
    top_p: Mapped[float | None]
    max_tokens: Mapped[int | None]
    system_prompt: Mapped[str | None]
    default_model: Mapped[str | None]
    custom_instructions: Mapped[str | None]
    display_name: Mapped[str | None]
    theme: Mapped[str | None]
    locale: Mapped[str | None]


class _Conversation(_Base):
    __tablename__ = "conversations"
    __table_args__ = ({"schema": "chat"},)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    head_id: Mapped[str | None]
    updated_at: Mapped[datetime]


class _Message(_Base):
    __tablename__ = "messages"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["chat.conversations.user_id", "chat.conversations.id"]
        ),
        {"schema": "chat"},
    )
    user_id: Mapped[str] = mapped_column(primary_key=True)
    conversation_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    content: Mapped[str]


async def _orm(stack: AsyncExitStack, url: str) -> dict[str, Work]:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    stack.push_async_callback(engine.dispose)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    return {
        "profile orm": partial(_orm_profile, sessions),
        "store orm": partial(_orm_store, sessions),
    }


_ACT_AS = text(
    "select set_config('role', 'chatkeep_app', true), set_config('chatkeep.user_id', :me, true)"
)


async def _orm_profile(sessions: async_sessionmaker[AsyncSession]) -> _Profile:
    async with sessions.begin() as session:
        await session.execute(_ACT_AS, {"me": _ME})
        return (await session.execute(select(_Profile).where(_Profile.id == _ME))).scalar_one()


async def _orm_store(sessions: async_sessionmaker[AsyncSession]) -> None:
    new = new_id()
    async with sessions.begin() as session:
        await session.execute(_ACT_AS, {"me": _ME})
        fields: dict[str, str] = {"role": "user", "content": _WORDS}
        session.add(_Message(user_id=_ME, conversation_id=_TALK, id=new, **fields))
        mine = (_Conversation.user_id == _ME, _Conversation.id == _TALK)
        await session.execute(
            update(_Conversation).where(*mine).values(head_id=new, updated_at=func.now())
        )


# --- figures ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ratio:
    above: str
    below: str


_RATIOS = {
    "profile_ours_of_bare": _Ratio("profile ours", "profile bare"),
    "profile_ours_of_bare_unpooled": _Ratio("profile ours", "profile bare unpooled"),
    "profile_orm_of_ours": _Ratio("profile orm", "profile ours"),
    "store_ours_of_bare": _Ratio("store ours", "store bare"),
    "store_orm_of_ours": _Ratio("store orm", "store ours"),
}


def _figures(taken: Mapping[str, list[float]]) -> dict[str, object]:
    figures: dict[str, object] = {
        f"{name.replace(' ', '_')}_us": round(statistics.median(times), 2)
        for name, times in taken.items()
    }
    for key, ratio in _RATIOS.items():
        pairs = map(truediv, taken[ratio.above], taken[ratio.below])
        figures[key] = round(statistics.median(pairs), 2)
    figures["spread"] = round(max(spread(times) for times in taken.values()), 2)
    figures["noisy"] = is_noisy(*taken.values())
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(quick="--quick" in sys.argv)))
