"""A PgBouncer in transaction mode before a test's PostgreSQL, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.patience import PATIENCE_S
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_servers import MigratedDatabase

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
#: Fewer than the clients have, so that they must share.
SERVER_CONNECTIONS = 2

_SETTINGS = """
[databases]
* = host={server}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 5432
pool_mode = transaction
default_pool_size = {connections}
auth_type = trust
auth_file = {folder}/users
logfile = {folder}/log
"""


@contextmanager
def pooled(database: MigratedDatabase) -> Iterator[MigratedDatabase]:
    """Lend *database* as it is reached through a pooler."""
    assert PROGRAM is not None
    folder = Path(tempfile.mkdtemp(prefix="chatkeep-pgbouncer-"))
    folder.chmod(0o777)
    values = {"server": database.server.folder, "folder": folder}
    settings = _SETTINGS.format(**values, connections=SERVER_CONNECTIONS)
    (folder / "settings.ini").write_text(settings)
    (folder / "users").write_text(f'"{LOGIN}" ""\n"postgres" ""\n')
    process = subprocess.Popen(
        [PROGRAM, "-q", folder / "settings.ini"], user=database.server.os_user, cwd="/"
    )
    try:
        through = database.reached_by(folder)
        _wait_for(through.admin_url)
        yield through
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
