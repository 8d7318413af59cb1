"""The rules that hold for every test, proven on themselves."""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize("host", ["192.0.2.1", "chatkeep.example", "2001:db8::1"])
def test_network_is_out_of_reach(host: str) -> None:
    """Looking up or reaching another machine fails at once."""
    with pytest.raises(OSError, match="do not use the network"):
        socket.create_connection((host, 443), timeout=1)


def test_this_machine_is_in_reach() -> None:
    """Servers that a test starts can be reached by name and by address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), timeout=5).close()
