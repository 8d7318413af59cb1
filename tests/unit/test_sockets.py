"""The sockets of a server: the port is ours, or it is said whose fault that is."""

from __future__ import annotations

import errno
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from chatkeep import server
from chatkeep.errors import SetupError
from chatkeep.sockets import listen

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_name_with_two_addresses_is_listened_on_at_both() -> None:
    """`localhost` answers whichever address a browser tries first, at one port."""
    sockets = listen("localhost", 0)
    try:
        addresses = {one.getsockname()[0] for one in sockets}
        assert addresses <= {"127.0.0.1", "::1"}
        assert len({one.getsockname()[1] for one in sockets}) == 1
        for one in sockets:
            socket.create_connection(one.getsockname()[:2], timeout=5).close()
    finally:
        for one in sockets:
            one.close()


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name leads to two addresses of this machine."""
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in ("127.0.0.1", "127.0.0.2")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.usefixtures("two_addresses")
def test_any_port_is_the_same_at_every_address() -> None:
    """The further addresses take the one that the first was given."""
    first, second = listen("both", 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]


@pytest.mark.usefixtures("two_addresses")
def test_port_that_is_taken_at_one_address_is_let_go_at_the_others() -> None:
    """Who hears that it is taken has nothing open."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match="taken by another program"):
            listen("both", port)
        socket.create_server(("127.0.0.1", port)).close()


def test_port_is_ours_from_then_on() -> None:
    """A second server cannot take the same port, though nobody serves on it yet."""
    (first,) = listen("127.0.0.1", 0)
    with first, pytest.raises(SetupError, match="taken by another program"):
        listen("127.0.0.1", first.getsockname()[1])


def test_port_is_free_right_after_a_server(taken: int) -> None:
    """Connections that linger after a server keep nobody from starting the next one."""
    (first,) = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    accepted, _ = first.accept()
    accepted.close()  # the side that closes first is the one whose end lingers
    client.close()
    first.close()
    (second,) = listen("127.0.0.1", port)
    second.close()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EADDRINUSE, "taken by another program"),
        (errno.EACCES, "choose one above 1023"),
        (errno.EADDRNOTAVAIL, "not an address of this machine"),
        (errno.ENOBUFS, "No buffer space available"),
    ],
)
def test_reason_is_said_and_nothing_left_open(
    monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    """Each way a port can be refused is one sentence with what to do."""

    def refuse(*_: object) -> None:
        raise OSError(number, "No buffer space available")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SetupError, match=says):
        listen("127.0.0.1", 80)


def test_no_address_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that nobody knows is named."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SetupError, match=r"HOST chat\.example is not"):
        listen("chat.example", 0)


@pytest.mark.parametrize(
    ("files", "most", "told"), [(256, 56, 1), (64, 50, 1), (10_200, 10_000, 0), (20_000, 10_000, 0)]
)
def test_no_more_connections_than_files_and_a_word_about_it(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files: int,
    most: int,
    told: int,
) -> None:
    """An operator learns at the start, and not when people are turned away."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert server._protocol().max_connections == most
    assert [one.args for one in caplog.records] == [(most, files)] * told
