"""What is wrong with an installation, found by trying; each finding says what to do.

Everything is looked at and nothing changed, but for what a first start makes anyway. No
finding shows a secret.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors as pg

from chatkeep.claims.loading import declared_versions
from chatkeep.config.contradictions import stays_inside
from chatkeep.db import Database, connection_settings
from chatkeep.errors import ChatkeepError, SetupError
from chatkeep.extensions import Extensions, check_hooks, responder_of, tools_of
from chatkeep.files.buckets import bucket_of
from chatkeep.setup_checks import isolation
from chatkeep.setup_checks.connections import examine_connections
from chatkeep.setup_checks.findings import Finding
from chatkeep.setup_checks.notifications import examine_notifications
from chatkeep.setup_checks.reaching import status_at
from chatkeep.signing_keys import load_signing_keys
from chatkeep.sql.indexes import find_undone
from chatkeep.sql.migrations import HEAD, OLDEST_POSTGRESQL, shape_of
from chatkeep.token_hook import check_python_hook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.config import Settings
    from chatkeep.data_folder import DataFolder

_LARGEST_SKEW_S: Final = 2.0


def examine_settings(settings: Settings) -> Finding:
    """Say which environment was read; that the settings agree has been checked by reading."""
    file = "" if settings.environment_is_explicit else ", because ENVIRONMENT says nothing else"
    return Finding(name="Settings", note=f"{settings.environment}{file}")


def examine_folder(folder: DataFolder) -> Finding:
    """Look at who may look into the data folder."""
    try:
        if not folder.has(folder.path):
            if (obstacle := folder.obstacle()) is not None:
                return Finding(name="Data folder", problems=(obstacle,))
            note = f"{folder.path} will be made at the first start"
            return Finding(name="Data folder", note=note)
        problems = tuple(folder.problems())
    except ChatkeepError as error:
        problems = (error.detail,)
    return Finding(name="Data folder", note=str(folder.path), problems=problems)


def examine_extensions(settings: Settings) -> Finding:
    """Import what the settings name of an application's own code, as a start does."""
    named = {
        "TOOLS": settings.tools,
        "RESPONDER": settings.responder,
        "BEFORE": settings.before,
        "AFTER": settings.after,
        "RETRIEVER": settings.retriever,
        "CLAIMS": settings.claims,
        "ACCESS_TOKEN_HOOK": settings.access_token_hook,
    }
    problems: list[str] = []
    for load in (_load_tools, _load_responder, check_hooks, declared_versions, check_python_hook):
        try:
            load(settings)
        except SetupError as error:
            problems.extend(error.problems)
    used = ", ".join(f"{name}={path}" for name, path in named.items() if path is not None)
    note = used or f"none: {', '.join(named)} are not set"
    return Finding(name="Extensions", note=note, problems=tuple(problems))


def _load_tools(settings: Settings) -> None:
    tools_of(Extensions(), settings)


def _load_responder(settings: Settings) -> None:
    responder_of(Extensions(), settings)


async def examine_database(settings: Settings) -> AsyncIterator[Finding]:
    """Look at the database of *settings*, and stop where going on makes no sense."""
    try:
        async with await _connected(str(settings.database_url)) as connection:
            yield _version(connection)
            if settings.production:
                yield examine_encryption(
                    connection.info.host, encrypted=bool(connection.pgconn.ssl_in_use)
                )
            yield await _clock(connection)
            if settings.database_pooler:
                yield await _transactions(connection)
            if (connections := await examine_connections(settings, connection)) is not None:
                yield connections
        migrations = await _migrations(str(settings.database_url))
        yield migrations
        if migrations == _NEVER_MIGRATED:
            return  # the roles and tables that could isolate anybody are yet to be made
        missing, replaced = find_undone(str(settings.database_url))
        if undone := [*missing, *(f"{name} (to be dropped)" for name in replaced)]:
            problem = f"Not done yet: {', '.join(undone)}. Run `chatkeep migrate`."
            yield Finding(name="Indexes", problems=(problem,))
        problems = await isolation.find_problems(str(settings.database_url))
        yield Finding(name="Isolation", note="every table, every role", problems=tuple(problems))
        if not problems:
            yield await _keys(settings)
        if (notifications := await examine_notifications(settings)) is not None:
            yield notifications
    except psycopg.Error as error:
        said = str(error).partition("\n")[0]
        yield Finding(name="PostgreSQL", problems=(f"{said}. Check the DATABASE_... settings.",))


async def _connected(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, **connection_settings(behind_pooler=True))


def _version(connection: psycopg.AsyncConnection) -> Finding:
    version = connection.info.server_version
    if version < OLDEST_POSTGRESQL:
        problem = f"Version {version // 10_000} is too old: use {OLDEST_POSTGRESQL // 10_000}."
        return Finding(name="PostgreSQL", problems=(problem,))
    shown = f"{version // 10_000}.{version % 10_000}"
    return Finding(name="PostgreSQL", note=f"version {shown}, database {connection.info.dbname}")


def examine_encryption(host: str, *, encrypted: bool) -> Finding:
    """Say whether somebody between us and the database at *host* can read along."""
    if encrypted:
        return Finding(name="Encryption", note="the connection to the database is encrypted")
    if stays_inside(f"postgresql://[{host}]" if ":" in host else f"postgresql://{host}"):
        return Finding(name="Encryption", note=f"none, in a private network ({host or 'socket'})")
    problem = (
        f"What {host} is told can be read on the way: put sslmode=verify-full and sslrootcert,"
        " or at least sslmode=require, into DATABASE_URL."
    )
    return Finding(name="Encryption", problems=(problem,))


async def _clock(connection: psycopg.AsyncConnection) -> Finding:
    """Leases and expiry are the database's time, tokens are ours."""
    began = time.time()
    cursor = await connection.execute("select extract(epoch from clock_timestamp())::float8")
    ended = time.time()
    row = await cursor.fetchone()
    theirs = float(row[0]) if row is not None else ended
    skew_s = max(began - theirs, theirs - ended, 0.0)
    if skew_s > _LARGEST_SKEW_S:
        problem = f"Its clock is {skew_s:.0f} s away from this machine's: set both by NTP."
        return Finding(name="Clock", problems=(problem,))
    return Finding(name="Clock", note="agrees with the database")


async def _transactions(connection: psycopg.AsyncConnection) -> Finding:
    """Behind a pooler nobody else says of which kind they are: what is said to it is not kept."""
    cursor = await connection.execute("select current_setting('default_transaction_isolation')")
    row = await cursor.fetchone()
    if (kind := row[0] if row else None) == "read committed":
        return Finding(name="Transactions", note=kind)
    problem = (
        f"They are of the kind {kind!r} by default, in which limits do not hold: alter role ..."
        " set default_transaction_isolation = 'read committed', for the login of DATABASE_URL."
    )
    return Finding(name="Transactions", problems=(problem,))


_NEVER_MIGRATED: Final = Finding(
    name="Migrations", problems=("This database is not prepared yet: run `chatkeep migrate`.",)
)


async def _migrations(url: str) -> Finding:
    try:
        async with await _connected(url) as connection, connection.transaction():
            await connection.execute("set local role chatkeep_app")
            cursor = await connection.execute(
                "select version_num, to_jsonb(v) ->> 'oldest_reader'"
                " from chatkeep.alembic_version v"
            )
            shape = shape_of(await cursor.fetchone())
    except (pg.UndefinedTable, pg.InvalidParameterValue):
        return _NEVER_MIGRATED  # no table, or no role to look at it as
    except pg.InsufficientPrivilege:
        shape = None  # not for this login
    revision = "nothing" if shape is None else shape.revision
    if shape is not None and shape.serves_us:
        newer = f", newer than {HEAD}, on which this version may serve" if shape.is_newer else ""
        return Finding(name="Migrations", note=f"at revision {revision}{newer}")
    if shape is not None and shape.is_newer:
        problem = f"At revision {revision}, which needs a newer Chatkeep than this: install that."
        return Finding(name="Migrations", problems=(problem,))
    problem = f"At revision {revision}, not {HEAD}: run `chatkeep migrate`."
    return Finding(name="Migrations", problems=(problem,))


async def _keys(settings: Settings) -> Finding:
    db = Database(str(settings.database_url), pool_size=1, behind_pooler=settings.database_pooler)
    try:
        await db.open()
        await load_signing_keys(db, str(settings.secret).encode())
    except ChatkeepError as error:
        return Finding(name="Signing keys", problems=(error.detail,))
    finally:
        await db.close()
    return Finding(name="Signing keys", note="open with this secret")


async def examine_files(settings: Settings) -> Finding:
    """Write, read and erase an object of the bucket, as a server does."""
    bucket = bucket_of(settings)
    if bucket is None:
        return Finding(name="Files", note="in the database: FILES_S3_BUCKET is not set")
    problem = await bucket.problem()
    if problem is None:
        note = f"bucket {settings.files_s3_bucket} takes, gives and erases objects"
        return Finding(name="Files", note=note)
    return Finding(name="Files", problems=(f"{problem} Check the FILES_S3_... settings.",))


async def examine_redis(settings: Settings) -> Finding:
    """Ask Redis to do what a server asks of it."""
    if settings.redis_url is None:
        return Finding(name="Redis", note="not used: REDIS_URL is not set")
    from chatkeep.redis_link import redis_problem  # noqa: PLC0415 -- slow, and for few

    problem = await redis_problem(settings.redis_url)
    if problem is None:
        return Finding(name="Redis", note="answers, and runs our scripts")
    return Finding(name="Redis", problems=(f"{problem} Check REDIS_URL.",))


def examine_proxy(settings: Settings) -> Finding | None:
    """Say whom the server believes; production serves nobody without a proxy that ends TLS."""
    if settings.trusted_proxies:
        named = ", ".join(str(one) for one in settings.trusted_proxies)
        return Finding(name="Proxy", note=f"{named} may say who called, and how")
    if not settings.production:
        return None
    problem = "Name your proxy in TRUSTED_PROXIES: without one all requests count as unencrypted."
    return Finding(name="Proxy", problems=(problem,))


async def examine_address(settings: Settings) -> Finding:
    """See where PUBLIC_URL leads. Nobody there is no fault: the server may be stopped."""
    if settings.public_url is None:
        return Finding(name="Address", note=f"{settings.base_url}, because PUBLIC_URL is not set")
    status = await status_at(f"{settings.public_url}/healthz")
    if status is None:
        return Finding(name="Address", note=f"{settings.public_url}; nobody answers there now")
    if status != HTTPStatus.OK:
        problem = f"{settings.public_url} leads elsewhere (status {status}): check PUBLIC_URL."
        return Finding(name="Address", problems=(problem,))
    return Finding(name="Address", note=f"{settings.public_url} leads to a server that is healthy")
