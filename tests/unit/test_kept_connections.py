"""Connections that are kept: taken again only while their server is there."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from chatkeep.fetching import guarded_connector
from chatkeep.kept_connections import KeptConnections
from tests.mail_servers import make_certificate
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Server:
    """Answers in a thread, so that it goes on while the test's event loop is held up."""

    def __init__(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        """Serve nobody yet; over TLS with a *context*."""
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/"
        self._context = context
        self.connections = 0
        self._listening = listening
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hang_up(self) -> None:
        """End every connection: the kernel has it at once, as both ends are its own."""
        self._open, ended = [], self._open
        for one in ended:
            with suppress(OSError):  # the client was first
                one.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        threads = []
        while True:
            try:
                taken, _ = self._listening.accept()
            except OSError:
                break
            self.connections += 1
            threads.append(threading.Thread(target=self._answer, args=[taken], daemon=True))
            threads[-1].start()
        for one in threads:
            one.join(PATIENCE_S)

    def _answer(self, taken: socket.socket) -> None:
        if self._context is not None:
            taken = self._context.wrap_socket(taken, server_side=True)
        self._open.append(taken)
        with taken:
            while taken.recv(65_536):
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve until the block ends, over TLS with a *context*."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(listening, context)
        yield server
        server.stop()


async def ask(session: aiohttp.ClientSession, url: str) -> bytes:
    """Ask for what is not asked for twice."""
    async with session.post(url, data=b"a question") as answer:
        return await answer.read()


async def test_connection_is_kept() -> None:
    """The next request takes it again."""
    with serving() as server:
        async with aiohttp.ClientSession(connector=KeptConnections()) as session:
            assert [await ask(session, server.url) for _ in range(3)] == [b"hi"] * 3
        assert server.connections == 1


@pytest.mark.parametrize("for_tools", [False, True])
async def test_what_the_server_has_ended_is_not_taken_again(for_tools: bool) -> None:
    """Even where the event loop has had no time to hear of the end."""
    connector = guarded_connector(public_only=False) if for_tools else KeptConnections()
    with serving() as server:
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(3):
                assert await ask(session, server.url) == b"hi"
                server.hang_up()  # this thread is the loop's: it hears nothing meanwhile
        assert server.connections == 3


async def test_encrypted_connections_are_kept_and_left_likewise(tmp_path: Path) -> None:
    """What TLS says for itself, such as tickets, is no end."""
    certificate = make_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate.certificate))
    with serving(certificate.context()) as server:
        connector = KeptConnections(ssl=trusting)
        async with aiohttp.ClientSession(connector=connector) as session:
            for connections in (1, 2):
                for _ in range(3):
                    assert await ask(session, server.url) == b"hi"
                assert server.connections == connections
                server.hang_up()


async def test_new_connection_is_taken_whatever_comes_on_it() -> None:
    """A server that hangs up on everybody is asked once, and not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepted = []

        def refuse() -> None:
            while True:
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                accepted.append(taken)
                taken.close()

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        async with aiohttp.ClientSession(connector=KeptConnections()) as session:
            with pytest.raises(aiohttp.ClientError):
                await ask(session, url)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)
        assert len(accepted) == 1
