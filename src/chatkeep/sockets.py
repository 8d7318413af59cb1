"""The sockets that a server listens on: the first thing it takes, before it starts anything."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from chatkeep.errors import SetupError

BACKLOG: Final = 2048
#: A client whose network fell silent is noticed after 20 s also while there is nothing to be
#: sent; each connection has this from its listening socket. Not every platform has all three.
_ARE_YOU_THERE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets on every address of *host*: from now on the port is ours.

    Raises:
        SetupError: the port is taken, forbidden, or *host* is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise SetupError(f"HOST {host} is not an address of this machine.") from error
    opened: list[socket.socket] = []
    absent: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        # Port 0 asks for any: the further addresses take the one that the first got.
        chosen = opened[0].getsockname()[1] if opened else port
        try:
            opened.append(_listening(family, (address[0], chosen, *address[2:])))
        except OSError as error:
            if error.errno in _NO_SUCH_ADDRESS:
                absent = error  # localhost has an IPv6 address on machines that have no IPv6
                continue
            for one in opened:
                one.close()
            raise SetupError(_why_not(error, host, port)) from error
    if not opened and absent is not None:
        raise SetupError(_why_not(absent, host, port)) from absent
    return opened


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ARE_YOU_THERE.items():
            if (option := getattr(socket, name, None)) is not None:
                opened.setsockopt(socket.IPPROTO_TCP, option, value)
        if family == socket.AF_INET6 and address[0] != "::":
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} on {host} is taken by another program: choose another with --port."
        case errno.EACCES:
            return f"Port {port} needs rights that this account has not: choose one above 1023."
        case errno.EADDRNOTAVAIL:
            return f"HOST {host} is not an address of this machine."
        case _:
            return f"Cannot listen on {host} port {port}: {error.strerror}."
