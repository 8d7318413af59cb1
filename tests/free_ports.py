"""Ports for servers that tests start: none that the system hands to a connection meanwhile."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

_LOWEST: Final = 12_000
_RANGE_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()


def free_port() -> int:
    """Return a port at which nobody listens, and that this process was not given before.

    A server that is stopped and started again finds it free: it is below those that the
    system takes for outgoing connections.
    """
    candidates = random.SystemRandom()
    highest = _highest()
    while True:
        port = candidates.randrange(_LOWEST, highest)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _highest() -> int:
    if _RANGE_OF_CONNECTIONS.exists():
        return max(_LOWEST + 1000, int(_RANGE_OF_CONNECTIONS.read_text().split()[0]))
    return 32_768


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
