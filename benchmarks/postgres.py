"""A PostgreSQL of its own for what measures statements: the embedded one, as it is served with."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict

from benchmarks.stack import LOAD_CORE, SERVER_CORE, pin
from chatkeep.data_folder import prepare
from chatkeep.embedded_postgresql.cluster import EmbeddedPostgreSQL
from chatkeep.sql.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatkeep.embedded_postgresql.addresses import Addresses


@contextmanager
def postgresql(*, max_connections: int = 60, pinned: bool = True) -> Iterator[Addresses]:
    """Run one in a temporary folder, migrated, on the server's core; put us on the other.

    It is as durable as the one that `chatkeep serve` runs. The folder is removed afterwards.
    Not *pinned*, it may use every core.
    """
    home = tempfile.mkdtemp(prefix="chatkeep-bench-")
    folder = prepare(Path(home) / "data")
    if pinned:
        pin(SERVER_CORE)  # it stays where its parent was when it started
    postgres = EmbeddedPostgreSQL(folder, max_connections=max_connections)
    try:
        addresses = postgres.start()
        pin(LOAD_CORE)
        migrate(addresses.admin_url, login=str(conninfo_to_dict(addresses.app_url)["user"]))
        yield addresses
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)
