"""Indexes of tables that have rows: built while everybody goes on reading and writing.

`create index` keeps writers out for as long as there are rows to look at, so a migration makes
none of a table that was there before it. `create index concurrently` keeps nobody out, and
cannot be part of a transaction: what `BESIDE` lists is built after the migrations, one by one.
What was interrupted is done again, and nothing is built twice by two that migrate at once.

`REPLACED` are dropped in the same way, once what takes their place is whole. Most of them were
indexes of lists that could also be used to look for one row: where PostgreSQL takes that for
as good as the primary key, it reads all that a person has. Now a row that is looked up by its
id does not say what their predicates ask for: a message's parent, or that a time is not before
`-infinity`, as no time is.

No version may need one of these to be right, only to be fast: it serves before they are there.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    Progress = Callable[[str], None]

_STATEMENT: Final = re.compile(
    r"create (?:unique )?index concurrently (?P<name>\w+) on (?P<schema>\w+)\.(?P<table>\w+)[ (]"
)
#: ('chix' as a number.) Not the lock of the migrations, which all servers take when they start.
_ONE_AT_A_TIME: LiteralString = "select pg_try_advisory_xact_lock(1667787128)"
#: A transaction lends the lock, as that of a session would stay behind in a pooler. It waits for
#: nothing: while it did, it would be an old transaction that the building itself waits for.
_KEPT_OPEN: LiteralString = "set local idle_in_transaction_session_timeout = 0"
# Building waits for transactions that began before; who comes later waits for nobody. So it can
# be long, and has an end for those that nobody will ever end.
_LIMITS: Final = "-c lock_timeout=10min -c statement_timeout=0"
_LOOK_AGAIN_S: Final = 1.0
_SAY_AGAIN_S: Final = 10.0

_FOUND: LiteralString = """
select n.nspname || '.' || c.relname, i.indisvalid
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname || '.' || c.relname = any(%s)
"""
_CONSTRAINT: LiteralString = """
select n.nspname, t.relname, c.conname
from pg_constraint c
join pg_class t on t.oid = c.conrelid
join pg_namespace n on n.oid = t.relnamespace
join pg_class i on i.oid = c.conindid
where n.nspname || '.' || i.relname = %s and c.contype = 'u'
"""
# Whoever waits for a whole table has everybody else wait behind it.
_NO_QUEUE: LiteralString = "set local lock_timeout = '300ms'"
_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
_HOW_FAR: LiteralString = """
select p.phase, p.blocks_done, p.blocks_total, p.current_locker_pid, a.application_name,
  a.xact_start
from pg_stat_progress_create_index p
join pg_class c on c.oid = p.index_relid
join pg_namespace n on n.oid = c.relnamespace
left join pg_stat_activity a on a.pid = p.current_locker_pid
where n.nspname || '.' || c.relname = %s
"""
_AT_IT: LiteralString = """
select 1 from pg_stat_activity
where state = 'active' and query = %s and pid <> pg_backend_pid() and datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Index:
    """An index by its statement, `create index concurrently name on schema.table (...)`."""

    create: LiteralString

    def __post_init__(self) -> None:
        """Refuse a statement of another form: what is built has to be found again by name."""
        if _STATEMENT.match(self.create) is None:
            raise ValueError(f"not 'create index concurrently name on schema.table': {self.create}")

    @property
    def name(self) -> str:
        """Schema and name: an index is where its table is."""
        return f"{self._parts['schema']}.{self._parts['name']}"

    @property
    def table(self) -> str:
        """Schema and name of the table."""
        return f"{self._parts['schema']}.{self._parts['table']}"

    @property
    def _parts(self) -> dict[str, str]:
        match = _STATEMENT.match(self.create)
        return {} if match is None else match.groupdict()


#: What is built beside the traffic. An index leaves this list in the revision that drops it.
BESIDE: Final[tuple[Index, ...]] = (
    Index("create index concurrently runs_started on chat.runs (started_at)"),
    Index(
        "create index concurrently messages_answers on chat.messages"
        " (user_id, conversation_id, parent_id) where parent_id is not null"
    ),
    Index(
        "create index concurrently messages_first on chat.messages"
        " (user_id, conversation_id) where parent_id is null"
    ),
    Index(
        "create index concurrently conversations_listed on chat.conversations"
        " (user_id, updated_at desc, id desc)"
        " where deleted_at is null and updated_at >= '-infinity'"
    ),
    Index(
        "create index concurrently conversations_made on chat.conversations"
        " (user_id, created_at, id) where deleted_at is null and created_at >= '-infinity'"
    ),
    # By the conversation first: of no use to find a run by its own id. A page is shown from it.
    Index(
        "create index concurrently runs_of_messages on chat.runs"
        " (conversation_id, user_id, message_id) include (id, state, model, error_code,"
        " finish_reason)"
    ),
    Index(
        "create unique index concurrently runs_of_request on chat.runs"
        " (user_id, request_key) where request_key is not null"
    ),
    Index(
        "create index concurrently chatkit_attachments_sent on chat.chatkit_attachments"
        " (user_id, conversation_id) where conversation_id is not null"
    ),
    Index(
        "create index concurrently chatkit_items_of_messages on chat.chatkit_items"
        " (user_id, conversation_id, message_id) where message_id is not null"
    ),
    Index(
        "create index concurrently chatkit_items_first on chat.chatkit_items"
        " (user_id, conversation_id) where message_id is null"
    ),
)
#: What is dropped once all of these are whole.
REPLACED: Final[tuple[str, ...]] = (
    "chat.messages_siblings",
    "chat.conversations_newest",
    "chat.conversations_by_creation",
    "chat.chatkit_attachments_of_conversation",
    "chat.runs_of_message",
    "chat.runs_request_key",
    "chat.runs_of_answer",
)


def find_missing(url: str) -> list[str]:
    """Return the names of the indexes that are yet to be built at *url*, as any login sees it.

    Raises:
        psycopg.Error: there is no such database, or it does not answer.
    """
    return find_undone(url)[0]


def find_undone(url: str) -> tuple[list[str], list[str]]:
    """Return the names of the indexes that are yet to be built at *url*, and to be dropped.

    Raises:
        psycopg.Error: there is no such database, or it does not answer.
    """
    with closing(_connect(url)) as connection:
        found = _found(connection, [*(one.name for one in BESIDE), *REPLACED])
    missing = [one.name for one in BESIDE if not found.get(one.name)]
    return missing, [name for name in REPLACED if name in found]


def build(admin_url: str, *, progress: Progress) -> list[str]:
    """Build what is missing of `BESIDE` at *admin_url*, and return the names of what was built.

    Then drops what is there of `REPLACED`. Waits for whoever builds already, another process or
    what one has left behind that was killed. *progress* is told in words how far it is, each ten
    seconds and when that changes.

    Raises:
        SetupError: one could not be built or dropped, and why. It can be tried again.
        psycopg.OperationalError: the database does not answer.
    """
    if not any(find_undone(admin_url)):
        return []
    built = []
    with _alone(admin_url, progress), closing(_connect(admin_url, _LIMITS)) as connection:
        for index in BESIDE:
            with _refusals(connection, index):
                if _is_to_build(connection, index, progress):
                    with _watched(admin_url, index, progress):
                        connection.execute(index.create)
                    built.append(index.name)
        _drop_replaced(connection, progress)
    return built


def _connect(url: str, options: str = "") -> psycopg.Connection:
    """Connect with *options*, or without where a pooler refuses them."""
    told = f"{conninfo_to_dict(url).get('options') or ''} {options}".strip()
    connect = partial(
        psycopg.connect,
        url,
        autocommit=True,
        connect_timeout=5,
        prepare_threshold=None,
        application_name="chatkeep migrate",
        client_encoding="UTF8",
    )
    try:
        return connect(options=told)
    except psycopg.OperationalError:
        return connect()


def _drop_replaced(connection: psycopg.Connection, progress: Progress) -> None:
    for name in _found(connection, REPLACED):
        progress(f"Dropping {name}, which others have replaced")
        try:
            if (of := connection.execute(_CONSTRAINT, [name]).fetchone()) is None:
                _drop(connection, name)
            else:
                _drop_constraint(connection, *of)
        except psycopg.Error as error:
            raise SetupError(_not_done(f"{name} was not dropped", _why(error))) from error


def _drop_constraint(connection: psycopg.Connection, schema: str, table: str, name: str) -> None:
    """Drop a unique constraint, and its index with it: at once, or when somebody lets go."""
    statement = sql.SQL("alter table {} drop constraint {}")
    for pause_s in (*_PAUSES_S, None):
        try:
            with connection.transaction():
                connection.execute(_NO_QUEUE)
                connection.execute(
                    statement.format(sql.Identifier(schema, table), sql.Identifier(name))
                )
        except pg.LockNotAvailable:
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return


def _found(connection: psycopg.Connection, names: Collection[str]) -> dict[str, bool]:
    """Return which of these indexes are there, and whether each is whole."""
    rows = connection.execute(_FOUND, [list(names)]).fetchall()
    return dict(rows)


@contextmanager
def _alone(admin_url: str, progress: Progress) -> Iterator[None]:
    """Keep every other process from building, over all nodes, until the end of the block."""
    with closing(_connect(admin_url)) as connection:
        while True:
            # Of any other kind it would have a snapshot, which the building waits for.
            connection.execute("begin isolation level read committed")
            connection.execute(_KEPT_OPEN)
            if connection.execute(_ONE_AT_A_TIME).fetchone() == (True,):
                break
            connection.execute("rollback")
            progress("Another process is building indexes; waiting for it")
            time.sleep(_LOOK_AGAIN_S)
        yield


def _is_to_build(connection: psycopg.Connection, index: Index, progress: Progress) -> bool:
    """Whether *index* is not there; what an interrupted process left of it is taken away."""
    whole = _settled(connection, index, progress)
    if whole is False:
        progress(f"{index.name} was interrupted when it was built; beginning anew")
        _drop(connection, index.name)
    return not whole


def _settled(connection: psycopg.Connection, index: Index, progress: Progress) -> bool | None:
    """Return whether *index* is whole, None when it is not there, once nobody builds it.

    PostgreSQL goes on building after the process that asked for it was killed; it has this lock
    on the table meanwhile, and lets go of it a moment before the index counts as whole. Readers
    and writers do not wait for the lock, nor behind it.
    """
    lock = sql.SQL("lock table {} in share update exclusive mode")
    while True:
        try:
            with connection.transaction():
                connection.execute("set local lock_timeout = '1s'")
                connection.execute(lock.format(sql.Identifier(*index.table.split("."))))
                if connection.execute(_AT_IT, [index.create]).fetchone() is None:
                    return _found(connection, [index.name]).get(index.name)
                said = f"{index.name} is just being finished"
        except pg.LockNotAvailable:
            said = _how_far(connection, index) or f"{index.table} is being vacuumed or altered"
        progress(f"Waiting: {said}")
        time.sleep(_LOOK_AGAIN_S)


def _drop(connection: psycopg.Connection, name: str) -> None:
    statement = sql.SQL("drop index concurrently if exists {}")
    connection.execute(statement.format(sql.Identifier(*name.split("."))))


@contextmanager
def _watched(admin_url: str, index: Index, progress: Progress) -> Iterator[None]:
    """Tell *progress* how far *index* is until the end of the block."""
    progress(f"Building {index.name}")
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(admin_url, index, progress, ended))
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(admin_url: str, index: Index, progress: Progress, ended: threading.Event) -> None:
    said, said_at = "", 0.0
    try:
        with closing(_connect(admin_url)) as connection:
            while not ended.wait(_LOOK_AGAIN_S):
                now, at = _how_far(connection, index), time.monotonic()
                if now and (now.split(":")[0] != said or at - said_at >= _SAY_AGAIN_S):
                    progress(now)
                    said, said_at = now.split(":")[0], at
    except psycopg.Error:
        progress("How far it is cannot be seen now")  # and it is built all the same


def _how_far(connection: psycopg.Connection, index: Index) -> str:
    """Return in words how far *index* is, '' when nobody builds it."""
    row = connection.execute(_HOW_FAR, [index.name]).fetchone()
    if row is None:
        return ""
    phase, done, total, locker, program, since = row
    words = f"{index.name}, {phase}"
    if locker:
        began = f", in a transaction since {since:%H:%M:%S %Z}" if since else ""
        return f"{words}: for process {locker} ({program or 'no name'}){began}"
    return f"{words}: {done * 100 // total} %" if total else words


@contextmanager
def _refusals(connection: psycopg.Connection, index: Index) -> Iterator[None]:
    """Say why *index* was not built. What there is of it is dropped when it is built again."""
    try:
        yield
    except pg.UniqueViolation as error:
        _drop(connection, index.name)  # what there is of it refuses writers already
        said = "rows that are there are not unique"
        raise SetupError(_not_done(f"{index.name} was not built", said)) from error
    except psycopg.Error as error:
        raise SetupError(_not_done(f"{index.name} was not built", _why(error))) from error


def _why(error: psycopg.Error) -> str:
    if isinstance(error, pg.LockNotAvailable):
        return "a transaction that uses its table did not end in time"
    return error.diag.message_primary or str(error).partition("\n")[0]


def _not_done(what: str, why: str) -> str:
    return (
        f"The index {what}: {why}. All else is done, and servers work, only slower: call"
        " `chatkeep migrate` again."
    )
