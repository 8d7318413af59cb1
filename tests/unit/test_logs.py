"""Logs: one record is one line, whatever somebody put into it."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

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


def test_facts_are_members() -> None:
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
