"""Another machine for a test: a network namespace of its own, and a cable that can be cut.

What is cut says nothing: no FIN, no RST, no ICMP, as when a phone enters a tunnel or a
firewall forgets a connection. Both ends go on sending to a hardware address that nobody has.
Needs root and Linux; the namespace ends with the process that holds it, and the cable with it.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Says that it is inside, then waits until its input ends: with the test, however that ends.
_HOLD: Final = "ip link set lo up && echo here && exec cat"
_NOBODY: Final = "02:00:00:00:00:01"
_numbers = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The other end of the cable. *here* and *there* are the addresses of its two ends."""

    holder: int
    cable: str
    here: str
    there: str

    def inside(self, *command: str, uid: int | None = None) -> list[str]:
        """Return *command* as it runs there, by the account *uid*."""
        account = [] if uid is None else ["-S", str(uid)]
        return ["nsenter", "-t", str(self.holder), "-n", *account, "--", *command]

    def cut(self) -> None:
        """From now on nothing arrives, either way, and nobody is told."""
        self._addressed(_NOBODY, _NOBODY)

    def heal(self) -> None:
        """From now on everything arrives again."""
        show = ["ip", "-json", "link", "show", "dev", self.cable]
        here, there = (json.loads(_run(*one)) for one in (show, self.inside(*show)))
        self._addressed(here[0]["address"], there[0]["address"])

    def _addressed(self, here: str, there: str) -> None:
        """Each end sends to the other's hardware address as it is given, whoever has that."""
        for inside, to, address in ((False, self.there, there), (True, self.here, here)):
            known = ["ip", "neigh", "replace", to, "lladdr", address, "dev", self.cable]
            known += ["nud", "permanent"]
            _run(*(self.inside(*known) if inside else known))


@contextmanager
def machine() -> Iterator[Machine]:
    """Lend another machine, and take its cable away afterwards."""
    number = next(_numbers)
    # 198.18.0.0/15 is set aside for trials of networks (RFC 2544, appendix C.2.2).
    network = f"198.18.{os.getpid() % 250}.{4 * number % 252}"
    here, there = (f"{network.rpartition('.')[0]}.{4 * number % 252 + n}" for n in (1, 2))
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"here\n"
        made = Machine(holder=holder.pid, cable=f"ck{os.getpid()}n{number}", here=here, there=there)
        peer = ["peer", "name", made.cable, "netns", str(holder.pid)]
        _ip("link", "add", made.cable, "type", "veth", *peer)
        try:
            _ip("addr", "add", f"{here}/30", "dev", made.cable)
            _ip("link", "set", made.cable, "up")
            _run(*made.inside("ip", "addr", "add", f"{there}/30", "dev", made.cable))
            _run(*made.inside("ip", "link", "set", made.cable, "up"))
            yield made
        finally:
            _ip("link", "del", made.cable)
            holder.stdin.close()


@cache
def why_not() -> str | None:
    """Return why there can be no other machine here, None when there can."""
    if os.geteuid() != 0:
        return "making a network namespace needs root"
    try:
        with machine() as made:
            made.cut()
    except (OSError, subprocess.CalledProcessError, AssertionError) as error:
        return f"this machine makes no network namespaces: {error}"
    return None


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=10).stdout
