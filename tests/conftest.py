"""What holds for every test: no network beyond this machine, and our own tools first."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path

from hypothesis import settings

# `node` and `npm` of the virtual environment come before older ones of the machine.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# The same examples each time, so that a failure in continuous integration can be repeated,
# and no deadline, because a busy machine is not a bug.
settings.register_profile("chatkeep", derandomize=True, deadline=None, database=None)
settings.load_profile("chatkeep")


class NetworkBlocked(OSError):
    """A test tried to reach another machine."""


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in {None, "", "localhost"}:
        return True
    try:
        address = ip_address(str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_the_network(event: str, arguments: tuple[object, ...]) -> None:
    """Raise where Python is about to look up or reach a host that is not this one."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_local(host):
        message = f"the tests do not use the network, and this one asked for {host!r}"
        raise NetworkBlocked(message)


sys.addaudithook(_refuse_the_network)
