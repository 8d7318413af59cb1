"""Steps are shown to people as they happen and to logs as lines."""

from __future__ import annotations

import io
from itertools import count
from types import SimpleNamespace

import pytest

from chatkeep.cli.steps import Steps


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


def test_step_is_a_line_in_a_log() -> None:
    """The title is there before the work, and how long it took behind it."""
    stream = io.StringIO()
    with Steps(stream).step("Starting PostgreSQL"):
        assert stream.getvalue() == "Starting PostgreSQL … "
    assert stream.getvalue() == "Starting PostgreSQL … 1.2 s\n"


def test_step_that_fails_ends_its_line() -> None:
    """What is said next begins a line of its own."""
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Steps(stream).step("Starting PostgreSQL"):
        raise RuntimeError
    assert stream.getvalue() == "Starting PostgreSQL … failed\n"


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
    assert raw.getvalue() == b"Starting ? 1.2 s\n"


def test_step_happens_though_nobody_reads() -> None:
    """A reader that went away does not keep a database from being stopped."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    happened = False
    with Steps(Closed()).step("Stopping PostgreSQL"):
        happened = True
    assert happened
