"""What holds for every test: no network beyond this machine, and our own tools first.

And the databases: `database` is a clone of a migrated one, new for each module; `db` is the
pool on it that a test talks through. Both are on the embedded PostgreSQL.
"""

from __future__ import annotations

import gc
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from chatkeep.db import Database
from tests.patience import PATIENCE_S
from tests.postgres_servers import MigratedDatabase, Server, Version, new_server, throw_away
from tests.round_trips import RoundTripCounter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

# `node` and `npm` of the virtual environment come before older ones of the machine.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# The same examples each time, so that a failure in continuous integration can be repeated,
# and no deadline, because a busy machine is not a bug.
settings.register_profile("chatkeep", derandomize=True, deadline=None, database=None)
settings.load_profile("chatkeep")


class NetworkBlocked(OSError):
    """A test tried to reach another machine."""


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in {None, "", "localhost"}:
        return True
    try:
        address = ip_address(str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_the_network(event: str, arguments: tuple[object, ...]) -> None:
    """Raise where Python is about to look up or reach a host that is not this one."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_local(host):
        message = f"the tests do not use the network, and this one asked for {host!r}"
        raise NetworkBlocked(message)


sys.addaudithook(_refuse_the_network)


@pytest.fixture(scope="session", autouse=True)
def what_stayed_is_looked_through_at_the_end() -> Iterator[None]:
    """By pytest's own last collection, as all that the next fixture has set aside."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def what_was_left_open_is_told_here() -> Iterator[None]:
    """Whatever a module forgot to close fails that module, not one that comes much later.

    What was there before it is set aside: thousands of tests, and all that they import, would be
    gone through again for each module, which takes longer than many of them.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report what failed, with no collection meanwhile.

    Python before 3.11.8 cannot parse while it parses (its issue 106905). A report parses source,
    and so does the telling of what a collection finds unclosed: together they end the run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[Version], Server]]:
    """Start a PostgreSQL of the wanted version when the first test asks for it."""
    started: dict[Version, Server] = {}

    def get(version: Version) -> Server:
        if version not in started:
            started[version] = new_server(version)
        return started[version]

    yield get
    for server in started.values():
        throw_away(server)


@pytest.fixture(scope="session")
def postgres(servers: Callable[[Version], Server]) -> Server:
    """The embedded PostgreSQL; `tests/db` asks for all that must work."""
    return servers("18")


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[MigratedDatabase]:
    """A migrated database that only this module uses."""
    name = postgres.new_database(template=postgres.migrated_template())
    yield MigratedDatabase(server=postgres, name=name)
    postgres.drop_database(name)


@pytest.fixture
async def db(database: MigratedDatabase) -> AsyncIterator[Database]:
    """The one door to SQL, open on this module's database."""
    opened = Database(database.url, pool_size=4, borrow_timeout_s=PATIENCE_S)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def counter(database: MigratedDatabase) -> Iterator[RoundTripCounter]:
    """A way to the module's database on which round trips are counted."""
    counting = RoundTripCounter(database.url)
    counting.start()
    yield counting
    counting.stop()
