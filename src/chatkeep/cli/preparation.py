"""Settings made complete: a database that answers, and the secret that belongs to it.

Without DATABASE_URL that is the PostgreSQL in the data folder: started here, or the one
that a running server has started.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import conninfo_to_dict

from chatkeep import logs
from chatkeep.data_folder import DataFolder, InUse, prepare
from chatkeep.embedded_postgresql.cluster import EmbeddedPostgreSQL, attach
from chatkeep.errors import SetupError
from chatkeep.sql.better_auth import allow_reading
from chatkeep.sql.migrations import HEAD, Migrated, migrate, serves_this_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkeep.cli.steps import Steps
    from chatkeep.config import Secret, Settings
    from chatkeep.data_folder import Use
    from chatkeep.embedded_postgresql.addresses import Addresses

_CONNECTIONS_OF_COMMANDS = 40


@contextmanager
def prepared(settings: Settings, steps: Steps, use: Use) -> Iterator[Settings]:
    """Lend *settings* with database and secret, until the end of the block.

    A server gets the data folder for itself; a command shares the one of a server that runs,
    and then learns that server's address.

    Raises:
        SetupError: there is no such database, or somebody else uses the folder.
    """
    logs.configure(settings.log_level)
    _require_readable_addresses(settings)
    if settings.database_url is not None:
        yield dataclasses.replace(settings, secret=secret_of(settings))
        return
    folder = prepare(settings.data_folder)
    with _embedded(folder, settings, steps, use) as addresses:
        yield dataclasses.replace(
            at_its_address(settings),
            secret=secret_of(settings),
            database_url=addresses.app_url,
            database_admin_url=addresses.admin_url,
            database_listen_url=None,
            database_pooler=False,
        )


def warn_of_new_folder(settings: Settings, steps: Steps) -> None:
    """Say that what a command is about to do concerns no server yet, where that is so.

    Run in another folder than the server, it would print what that server refuses, or end
    everybody's sessions where there are none.
    """
    folder = DataFolder(settings.data_folder.expanduser().absolute())
    if settings.database_url is not None or folder.has(folder.path):
        return
    if folder.obstacle() is None:
        steps.say(
            f"There was no data folder {folder.path}: it is made now, and this is about no server"
            " that runs. For one that does, come to its folder, or name it with --data."
        )


def secret_of(settings: Settings) -> Secret:
    """Return the server's secret: the one that was set, else the data folder's."""
    return settings.secret or prepare(settings.data_folder).secret()


def at_its_address(settings: Settings) -> Settings:
    """Return *settings* with the address of the server on its data folder, if one runs."""
    holder = DataFolder(settings.data_folder.expanduser().absolute()).holder()
    if settings.database_url is not None or holder is None or not holder.address:
        return settings
    return dataclasses.replace(settings, public_url=holder.address)


def bring_up_to_date(
    settings: Settings, steps: Steps, *, progress: Callable[[str], None] = lambda _: None
) -> Migrated:
    """Apply what is missing of the migrations to the database of prepared *settings*.

    And of the rights to read Better Auth's tables, if they are there. *progress* is told in
    words what takes long.
    """
    admin_url = administered_at(settings)
    done = Migrated(before=HEAD, after=HEAD)
    if settings.database_admin_url is not None or not serves_this_version(admin_url):
        login = None
        if settings.database_admin_url and settings.database_url:
            login = str(conninfo_to_dict(settings.database_url).get("user") or "") or None
        with steps.step("Preparing the database"):
            done = migrate(admin_url, login=login, progress=progress)
    if "better-auth" in settings.issuer_names and settings.better_auth_database_url is None:
        allow_reading(admin_url)
    return done


def administered_at(settings: Settings) -> str:
    """Return the address at which the database of prepared *settings* is migrated."""
    url = settings.database_admin_url or settings.database_url
    if url is None:
        raise SetupError("Set DATABASE_URL.")
    return url


def _require_readable_addresses(settings: Settings) -> None:
    """What libpq says of an address that it cannot read may quote the password in it."""
    for name in (
        "database_url",
        "database_admin_url",
        "database_listen_url",
        "better_auth_database_url",
    ):
        try:
            conninfo_to_dict(getattr(settings, name) or "")
        except psycopg.ProgrammingError:
            raise SetupError(f"{name.upper()} is not an address of a database.") from None


@contextmanager
def _embedded(
    folder: DataFolder, settings: Settings, steps: Steps, use: Use
) -> Iterator[Addresses]:
    address = settings.base_url if use == "server" else ""
    with ExitStack() as stack:
        try:
            stack.enter_context(folder.locked(use, address))
        except InUse as error:
            if use == "server" or error.holder.use != "server":
                raise
            yield attach(folder)
            return
        yield stack.enter_context(_started(folder, settings, steps))


@contextmanager
def _started(folder: DataFolder, settings: Settings, steps: Steps) -> Iterator[Addresses]:
    server = EmbeddedPostgreSQL(
        folder, max_connections=settings.database_connections + _CONNECTIONS_OF_COMMANDS
    )
    try:
        with steps.step("Starting PostgreSQL"):
            addresses = server.start()
        yield addresses
    finally:
        with steps.step("Stopping PostgreSQL") if server.is_started else nullcontext():
            server.stop()
