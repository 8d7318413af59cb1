"""Logs: one JSON object a line, or a readable line on a terminal. Never a secret.

Only what a record names in `extra` is added, control characters are escaped (JSON does;
the readable form shows `repr`), so that nothing a client sends can forge a second record.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from chatkeep.outages import Reasons

if TYPE_CHECKING:
    from collections.abc import Callable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, *, readable: bool | None = None) -> None:
    """Send every log record of this process to standard error.

    *readable* None: a person reads when standard error is a terminal.
    """
    handler = logging.StreamHandler(sys.stderr)
    if readable if readable is not None else sys.stderr.isatty():
        handler.setFormatter(ReadableFormatter())
    else:
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # It warns of every pipeline that an error ended; we answer and log the error itself.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    pool = logging.getLogger("psycopg.pool")
    pool.setLevel(logging.WARNING)
    pool.filters[:] = [_NoConnections()]
    logging.getLogger("asyncio").addFilter(_is_news)
    # It tells at length how it goes about a migration.
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _NoConnections(logging.Filter):
    """Of all that the pool says only why it gets no connection, each reason once a minute.

    A server that lets nobody in, a password that is another now, a name that leads nowhere: the
    answers that fail then say no more than that the database is away.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._reasons = Reasons(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.args[1] if isinstance(record.args, tuple) and len(record.args) > 1 else None
        # Not the other kinds of its errors: those may say what is in the address.
        if not isinstance(error, psycopg.OperationalError):
            return False
        reason = " ".join(str(error).split())
        if not self._reasons.is_news(reason):
            return False
        record.msg, record.args = "no connection to PostgreSQL: %s", (reason,)
        return True


def _is_news(record: logging.LogRecord) -> bool:
    """Whether *record* is more than what uvloop says of an encrypted connection that we closed.

    Where something still arrives on one, of Redis or a provider of models, it logs an error with
    a traceback: that its own transport is closed.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (
        isinstance(error, RuntimeError)
        and str(error).endswith("the handler is closed")
        and record.getMessage().startswith("Fatal error on SSL protocol")
    )


class JsonFormatter(logging.Formatter):
    """A JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "time": moment,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        # In ASCII: U+2028 and its like are line ends to some readers of logs.
        return json.dumps(fields, default=str)


class ReadableFormatter(logging.Formatter):
    """A line for people: time, message, then what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line, and its traceback if it has one."""
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        known = " ".join(f"{name}={_plain(value)}" for name, value in _extra(record).items())
        line = f"{moment} {record.levelname.lower():7} {_plain(record.getMessage())} {known}"
        if record.exc_info:
            return f"{line.rstrip()}\n{self.formatException(record.exc_info)}"
        return line.rstrip()


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    found = vars(record).items()
    return {name: value for name, value in found if name not in _STANDARD and value is not None}


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else repr(text)
