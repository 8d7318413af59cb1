"""Ports for servers that tests start: none that the system hands to a connection meanwhile."""

from __future__ import annotations

import random
import socket
import sys
from pathlib import Path
from typing import Final

_LOWEST: Final = 12_000
_RANGE_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()


def free_port() -> int:
    """Return a port at which nobody listens, and that no run of tests beside us was given.

    A server that is stopped and started again finds it free: it is below those that the
    system takes for outgoing connections.
    """
    candidates = random.SystemRandom()
    highest = _highest()
    while True:
        port = candidates.randrange(_LOWEST, highest)
        if port not in _given and _is_free(port) and _is_ours(port):
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


def _is_ours(port: int) -> bool:
    """Whether no other process of tests on this machine has it; from then on we do, to our end.

    Several run side by side, and some time passes until a server listens at the port it is given.
    """
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0port {port} of Chatkeep's tests")
    except OSError:
        claim.close()
        return False
    claim.detach()  # the name is free again when this process is gone
    return True
