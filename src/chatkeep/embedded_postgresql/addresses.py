"""Where the embedded PostgreSQL is reached, and by which passwords.

libpq takes what an address does not say from the environment (`PGPORT`, `PGSERVICE` and so on),
which is meant for another PostgreSQL. So these addresses say everything.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from psycopg import pq

from chatkeep.config import Secret
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from chatkeep.embedded_postgresql.account import Account

LOGIN: Final = "chatkeep_login"
SUPERUSER: Final = "postgres"
DATABASE: Final = "chatkeep"
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH: Final = 103  # macOS; Linux takes 107

#: Where libpq's own default will not do, or is one that no text stands for.
_NOT_THE_DEFAULT: Final = {
    "client_encoding": "UTF8",
    "sslmode": "disable",
    "sslcertmode": "disable",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "require_auth": "scram-sha-256",
    "connect_timeout": "0",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}
#: What the address says elsewhere. That a service is named no address can take back.
_SAID_ELSEWHERE: Final = frozenset({"user", "password", "dbname", "host", "service"})
#: What libpq tells each server of the environment, whatever an address says. Where it is no
#: value that the server knows, no connection is made.
_TOLD_TO_ALL: Final = ("PGDATESTYLE", "PGTZ", "PGGEQO")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where it is reached: as its superuser, and as the role that a server logs in as."""

    admin_url: Secret
    app_url: Secret


def socket_folder(data: Path, account: Account | None) -> Path:
    """Return where its socket is: beside *data*, or with temporary files when that is too long.

    Raises:
        SetupError: that folder is somebody else's.
    """
    if len(os.fsencode(data / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
        return data
    uid = os.geteuid() if account is None else account.uid
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"chatkeep-{uid}-{name}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    about = folder.lstat()
    if about.st_uid != uid or not stat.S_ISDIR(about.st_mode) or about.st_mode & 0o077:
        raise SetupError(f"{folder} belongs to somebody else: choose a shorter --data folder.")
    return folder


def password_of(secret: Secret, role: str) -> str:
    """Return the password of *role*, which comes from the data folder's *secret*."""
    return hmac.digest(secret.encode(), f"chatkeep postgresql {role}".encode(), "sha256").hex()


def addresses_at(sockets: Path, secret: Secret) -> Addresses:
    """Return the addresses of the one whose socket is in the folder *sockets*."""
    said = urlencode({"host": str(sockets), **_all_else()}, quote_via=quote)

    def address(role: str) -> Secret:
        return Secret(f"postgresql://{role}:{password_of(secret, role)}@/{DATABASE}?{said}")

    return Addresses(admin_url=address(SUPERUSER), app_url=address(LOGIN))


def _all_else() -> dict[str, str]:
    """Say what libpq would look for in the environment as it is by itself."""
    known = {
        one.keyword.decode(): (one.compiled or b"").decode()
        for one in pq.Conninfo.get_defaults()
        if one.envvar
    }
    return {
        name: _NOT_THE_DEFAULT.get(name, compiled)
        for name, compiled in known.items()
        if name not in _SAID_ELSEWHERE
    }


def forget_other_servers() -> None:
    """Take out of the environment what no address can say otherwise, and keeps libpq from ours.

    A service that is defined stays, for the code of others: it says nothing that our addresses
    do not say.
    """
    for name in _TOLD_TO_ALL:
        os.environ.pop(name, None)
    if "PGSERVICE" in os.environ and not _service_is_defined():
        del os.environ["PGSERVICE"]


def _service_is_defined() -> bool:
    """Whether libpq gets further than to the service: to a port that is none, and no server."""
    tried = pq.PGconn.connect_start(b"port=none")
    return any(one.keyword == b"port" and one.val for one in tried.info)
