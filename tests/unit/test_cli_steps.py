"""Steps are shown to people as they happen and to logs as lines."""

from __future__ import annotations

import errno
import io
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatkeep.cli.steps import Steps

FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def _each_look_at_the_clock_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second and a quarter pass between two looks, however busy the machine is."""
    clock = count(100.0, 1.25)
    steps = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr("chatkeep.cli.steps.time", steps)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_step_is_whole_lines_in_a_log() -> None:
    """What is logged meanwhile has a line of its own: the title is before it, the time behind."""
    stream = io.StringIO()
    with Steps(stream).step("Starting PostgreSQL"):
        stream.write('{"level": "warning"}\n')
    assert stream.getvalue().splitlines() == [
        "Starting PostgreSQL …",
        '{"level": "warning"}',
        "Starting PostgreSQL: 1.2 s",
    ]


def test_step_that_fails_says_so() -> None:
    """Why is said by what comes next."""
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Steps(stream).step("Starting PostgreSQL"):
        raise RuntimeError
    assert stream.getvalue() == "Starting PostgreSQL …\nStarting PostgreSQL: failed\n"


def test_step_spins_on_a_terminal() -> None:
    """A person sees that something happens, and at the end that it has."""
    stream = Terminal()
    with Steps(stream, quiet=True).step("Starting PostgreSQL"):
        pass
    assert stream.getvalue().endswith("✓ Starting PostgreSQL 1.2 s\n")


def test_quiet_steps_leave_logs_alone() -> None:
    """Output for programs has nothing between."""
    stream = io.StringIO()
    with Steps(stream, quiet=True).step("Starting PostgreSQL"):
        pass
    assert stream.getvalue() == ""


def test_stream_that_knows_few_letters_gets_those() -> None:
    """An old locale costs the ellipsis and not the start."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with Steps(stream).step("Starting"):
        pass
    assert raw.getvalue() == b"Starting ?\nStarting: 1.2 s\n"


def test_step_happens_though_nobody_reads() -> None:
    """A reader that went away does not keep a database from being stopped."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    happened = False
    with Steps(Closed()).step("Stopping PostgreSQL"):
        happened = True
    assert happened


def test_step_happens_though_the_terminal_is_closed() -> None:
    """Nor does a terminal whose window was closed."""

    class Closed(Terminal):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, text)

    happened = False
    with Steps(Closed()).step("Stopping PostgreSQL"):
        happened = True
    assert happened


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
def test_step_happens_though_the_disk_is_full() -> None:
    """Nor does what could not be written fail the process when it ends."""
    happened = False
    with FULL.open("w", encoding="utf-8") as stream:
        with Steps(stream).step("Stopping PostgreSQL"):
            happened = True
        Steps(stream).say("Stopped.")
    assert happened
