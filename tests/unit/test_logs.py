"""Logs: one record is one line, whatever somebody put into it."""

from __future__ import annotations

import json
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from chatkeep import logs
from chatkeep.logs import JsonFormatter, ReadableFormatter, configure

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = [
    "a\r\nb",
    'a\n{"level":"error","message":"forged"}',
    "\x1b[2J\x1b[31mred",
    "\u2028\u2029\x85",
    "\x00",
    "\ud800",
    "\u202egnp.exe",
]


def record(message: str, **facts: object) -> logging.LogRecord:
    """Return a log record as one is made in the program."""
    return logging.getLogger("chatkeep.test").makeRecord(
        "chatkeep.test", logging.INFO, __file__, 1, message, (), None, extra=facts
    )


def raised() -> logging.LogRecord:
    """Return a record with a traceback."""
    made = record("it broke")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        made.exc_info = sys.exc_info()
    return made


def parsed(line: str) -> dict[str, Any]:
    """Return the object of a line."""
    assert len(line.splitlines()) == 1
    read: dict[str, Any] = json.loads(line)
    return read


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_line_stays_one_line(text: str) -> None:
    """No text ends the line, in the message or in a fact."""
    line = parsed(JsonFormatter().format(record(f"said {text}", path=text)))
    assert set(line) == {"time", "level", "logger", "message", "path"}
    assert line["logger"] == "chatkeep.test"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_readable_line_stays_one_line(text: str) -> None:
    """On a terminal no text ends the line or speaks to the terminal."""
    line = ReadableFormatter().format(record(f"said {text}", path=text))
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_what_a_record_names_is_a_member_of_its_json() -> None:
    """What a record names beside its message is a member; what has no value is left out."""
    line = parsed(JsonFormatter().format(record("request", status=200, ms=1.5, user_id=None)))
    assert (line["status"], line["ms"]) == (200, 1.5)
    assert "user_id" not in line
    assert line["time"].endswith("+00:00")


def test_fact_of_any_kind_is_written() -> None:
    """Something that JSON has no form for is written as text."""
    assert parsed(JsonFormatter().format(record("x", fact=ValueError("y"))))["fact"] == "y"


@pytest.mark.parametrize("formatter", [JsonFormatter(), ReadableFormatter()])
def test_traceback_is_kept(formatter: logging.Formatter) -> None:
    """An exception is logged with its traceback."""
    line = formatter.format(raised())
    assert "ZeroDivisionError" in line
    assert "it broke" in line


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("readable", "kind"), [(True, ReadableFormatter), (False, JsonFormatter), (None, JsonFormatter)]
)
def test_form_is_chosen_by_who_reads(
    root: logging.Logger, readable: bool | None, kind: type[logging.Formatter]
) -> None:
    """A person gets lines, a machine JSON; a pipe is a machine."""
    configure("WARNING", readable=readable)
    (handler,) = [one for one in root.handlers if type(one) is logging.StreamHandler]
    assert isinstance(handler.formatter, kind)
    assert root.level == logging.WARNING


@pytest.mark.usefixtures("root")
def test_what_uvloop_says_of_connections_that_we_closed_is_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is an error with a traceback for each; other errors of connections are told."""
    configure("INFO", readable=False)
    log = logging.getLogger("asyncio")
    log.addHandler(caplog.handler)
    closed = RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")
    said = "Fatal error on SSL protocol\nprotocol: <SSLProtocol>"
    log.error(said, exc_info=closed)
    log.error(said, exc_info=OSError("bad record"))
    log.error("Task exception was never retrieved", exc_info=closed)
    log.removeHandler(caplog.handler)
    assert [one.getMessage()[:4] for one in caplog.records] == ["Fata", "Task"]


@pytest.fixture
def pool_log(root: logging.Logger, caplog: pytest.LogCaptureFixture) -> Iterator[logging.Logger]:
    """What the pool of connections logs with, heard by *caplog* and put back afterwards."""
    logger = logging.getLogger("psycopg.pool")
    level, filters = logger.level, logger.filters[:]
    configure("WARNING", readable=False)
    root.addHandler(caplog.handler)
    yield logger
    logger.setLevel(level)
    logger.filters[:] = filters


async def test_why_there_is_no_connection_is_told(
    pool_log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """The real pool's reason is in the log, the password and whatever else it says is not."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # listens to nobody, and nobody else can
        address = f"postgresql://ana:a-secret@127.0.0.1:{taken.getsockname()[1]}/chat"
        async with AsyncConnectionPool(address, min_size=2, open=False) as pool:
            with pytest.raises(PoolTimeout):
                await pool.wait(timeout=0.5)
    pool_log.warning("discarding closed connection: %s", address)
    pool_log.warning("error connecting in %r: %s", "pool", psycopg.ProgrammingError(address))
    (told,) = [one.getMessage() for one in caplog.records if one.name == pool_log.name]
    assert told.startswith("no connection to PostgreSQL: ")
    assert "Connection refused" in told
    assert "secret" not in caplog.text


def test_each_reason_is_told_once_a_minute(root: logging.Logger) -> None:
    """An outage that goes on is told again, and so is one that has become another."""
    minutes = [0.0]
    passes = logs._NoConnections(clock=lambda: minutes[0] * 60).filter

    def is_told(reason: str) -> bool:
        args = ("pool-1", psycopg.OperationalError(reason))
        return bool(passes(root.makeRecord("psycopg.pool", 30, __file__, 1, "%r %s", args, None)))

    assert [is_told(one) for one in ("refused", "refused", "too many", "refused")] == [
        *(True, False, True, False)
    ]
    minutes[0] = 1.01
    assert [is_told(one) for one in ("refused", "refused")] == [True, False]
    assert all(is_told(f"host {number} is away") for number in range(1000))
