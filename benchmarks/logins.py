"""Log-ins with a password: how many one core checks, in what memory, and who waits meanwhile.

60 people sign in at once, again and again, each a new session; the server's process and its
PostgreSQL have one core. `per_core` goes by the processor time of both, and does not see
what else the machine is doing. The floor is argon2id itself with our parameters, in this process:
as the server checks it, and beside it as argon2-cffi would, which shows what libsodium spares.
How late the event loop is meanwhile is seen from outside: how long a route that does nothing
takes longer than on the idle server. Memory is the most that was resident, less what the idle
server had before.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop
from argon2 import PasswordHasher

from benchmarks.figures import is_noisy, percentile, spread
from benchmarks.load import KeptAlive, request_bytes
from benchmarks.processes import cpu_below_s, cpu_s, forget_peak, memory_kib, peak_memory_kib
from benchmarks.stack import LOAD_CORE, PASSWORD, chatkeep_process, pin, sign_up
from chatkeep.passwords import read_hash
from chatkeep.passwords.argon2_hashes import OUR_COSTS, hash_password

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_ONCE = 60
_PROBE_EVERY_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One round of log-ins."""

    per_s: float
    own_ms: float
    below_ms: float
    floor_ms: float
    cffi_ms: float


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians over rounds."""
    rounds, seconds = (3, 1.0) if quick else (5, 4.0)
    with chatkeep_process() as (base, pid):
        port = int(base.rpartition(":")[2])
        emails = [f"bench{number}@example.com" for number in range(_AT_ONCE)]
        for email in emails:
            sign_up(base, email)
        found, waits = [], []
        idle = uvloop.run(_probed(base, port, seconds))
        forget_peak(pid)
        before = memory_kib(pid)
        for _ in range(rounds):
            found.append(uvloop.run(_round(base, port, pid, emails, seconds)))
            waits += uvloop.run(_waits(base, port, emails, seconds))
        grown = peak_memory_kib(pid) - before
    usual = statistics.median(idle)
    rates = [one.per_s for one in found]
    return {
        "log_ins_per_s": round(statistics.median(rates), 1),
        "log_ins_per_core_s": round(
            statistics.median(1000 / (one.own_ms + one.below_ms) for one in found), 1
        ),
        "server_cpu_ms": round(statistics.median(one.own_ms for one in found), 2),
        "postgresql_cpu_ms": round(statistics.median(one.below_ms for one in found), 2),
        "argon2_alone_ms": round(statistics.median(one.floor_ms for one in found), 2),
        "argon2_cffi_alone_ms": round(statistics.median(one.cffi_ms for one in found), 2),
        "peak_memory_mib": round(grown / 1024, 1),
        "at_once": _AT_ONCE,
        "loop_late_idle_p99_ms": round(percentile(idle, 99) - usual, 2),
        "loop_late_p50_ms": round(percentile(waits, 50) - usual, 2),
        "loop_late_p99_ms": round(percentile(waits, 99) - usual, 2),
        "spread": round(spread(rates), 2),
        "noisy": is_noisy(rates),
    }


async def _round(base: str, port: int, pid: int, emails: list[str], seconds: float) -> _Round:
    stored = hash_password(PASSWORD, OUR_COSTS)
    ours, verifier = read_hash(stored), PasswordHasher()
    assert ours is not None
    floor = _cpu_ms(lambda: ours.matches(PASSWORD))
    cffi = _cpu_ms(lambda: verifier.verify(stored, PASSWORD))
    own, below = cpu_s(pid), cpu_below_s(pid)
    done, took = await _sign_in_again_and_again(base, port, emails, seconds)
    own, below = cpu_s(pid) - own, cpu_below_s(pid) - below
    return _Round(
        per_s=done / took,
        own_ms=own / done * 1000,
        below_ms=below / done * 1000,
        floor_ms=floor,
        cffi_ms=cffi,
    )


async def _waits(base: str, port: int, emails: list[str], seconds: float) -> list[float]:
    """Return what another route took meanwhile, in a turn of its own: asking costs, too."""
    signing_in = asyncio.ensure_future(_sign_in_again_and_again(base, port, emails, seconds))
    waits = await _probed(base, port, seconds)
    await signing_in
    return waits


async def _sign_in_again_and_again(
    base: str, port: int, emails: list[str], seconds: float
) -> tuple[int, float]:
    """Return how many signed in, and in how many seconds."""
    connections = [await KeptAlive.open(port) for _ in range(_AT_ONCE)]
    began = time.perf_counter()

    async def keep_signing_in(number: int) -> int:
        body = {"email": emails[number % len(emails)], "password": PASSWORD}
        url = f"{base}/auth/v1/token?grant_type=password"
        request, done = request_bytes(url, {}, json.dumps(body).encode()), 0
        while time.perf_counter() < began + seconds:
            await connections[number].ask(request)
            done += 1
        return done

    done = sum(await asyncio.gather(*(keep_signing_in(number) for number in range(_AT_ONCE))))
    took = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return done, took


async def _probed(base: str, port: int, seconds: float) -> list[float]:
    """Ask a route that does nothing again and again; return how many ms each took."""
    connection, request = await KeptAlive.open(port), request_bytes(f"{base}/healthz", {})
    took, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        took.append(await connection.ask(request) * 1000)
        await asyncio.sleep(_PROBE_EVERY_S)
    connection.close()
    return took


def _cpu_ms(check: Callable[[], bool], times: int = 5) -> float:
    """Return the processor time of one *check*, in ms, with nothing around it."""
    began = time.process_time()
    for _ in range(times):
        assert check()
    return (time.process_time() - began) / times * 1000


if __name__ == "__main__":
    pin(LOAD_CORE)
    print(json.dumps(measure(quick="--quick" in sys.argv)))
