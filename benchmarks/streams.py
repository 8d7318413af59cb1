"""Many streams at once: what each keeps in memory, and whether anything is late.

`open`: 2,000 slow streams (a chunk every two seconds), opened 50 at a time: KiB of the
server's memory for each, what the first token waited for, and how another route answers
meanwhile, against the same server idle. `reading`: 500 streams at reading speed (50 chunks a
second each): what part of a core the server uses and how late a chunk is with the reader,
from the moment the upstream sent it.

The bare relay does the same beside it, and is the floor. `load_cpu` is what upstream and
readers take of their own core: where that is all of it, they are the limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import uvloop

from benchmarks import contenders
from benchmarks.figures import percentile
from benchmarks.load import load, request_bytes
from benchmarks.processes import memory_kib
from benchmarks.readers import Heard, open_streams
from benchmarks.stack import LOAD_CORE, pin, raise_file_limit
from benchmarks.upstream import question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.contenders import Contender
    from benchmarks.readers import Reader

_OPEN = 2000
_PEOPLE = 25  # nobody may have more than 100 streams
_AT_ONCE = 50
_SLOW_MS = 2000
_READING = 500
_READING_MS = 20
_SETTLES_S = 1.0
_OPENED_WITHIN_S = 60


def measure(*, quick: bool) -> dict[str, object]:
    """Return the figures of Chatkeep and of the bare relay, one after the other."""
    figures: dict[str, object] = {}
    for who in ("chatkeep", "relay"):
        with _standing(who) as (people, _):
            found = uvloop.run(_open(people, 2.0 if quick else 15.0))
            figures |= _named(who, "open", found)
    for who in ("chatkeep", "relay"):
        with _standing(who) as (people, source):
            found = uvloop.run(_reading(people, source, 4.0 if quick else 20.0))
            figures |= _named(who, "reading", found)
    return figures


@contextmanager
def _standing(who: str) -> Iterator[tuple[Sequence[Contender], Contender]]:
    """Run a server and an upstream of its own; yield who asks it, and the upstream.

    New ones each time: what a server has once taken it does not give back, and Chatkeep goes
    on with answers whose readers have hung up, until their upstream is gone.
    """
    with ExitStack() as stack:
        source = stack.enter_context(contenders.upstream())
        if who == "chatkeep":
            people = stack.enter_context(contenders.chatkeep(source.port, _PEOPLE))
        else:
            people = [stack.enter_context(contenders.relay(source.port))]
        try:
            yield people, source
        finally:
            os.kill(source.pid, signal.SIGTERM)


def _named(who: str, what: str, figures: dict[str, float]) -> dict[str, object]:
    return {f"{who}_{what}_{name}": value for name, value in figures.items()}


async def _open(people: Sequence[Contender], seconds: float) -> dict[str, float]:
    one = people[0]
    idle = await _other_route(one, seconds)
    before = memory_kib(one.pid)
    asked = question(chunks=1000, pause_ms=_SLOW_MS)
    heard = Heard()
    readers = await _opened(people, asked, _OPEN, heard)
    await asyncio.sleep(_SETTLES_S)
    meanwhile = await _other_route(one, seconds)
    used = memory_kib(one.pid) - before
    figures = {
        "streams": float(len(heard.first_ms)),
        "kib_each": round(used / _OPEN, 1),
        "first_token_p50_ms": round(percentile(heard.first_ms, 50), 1),
        "first_token_p99_ms": round(percentile(heard.first_ms, 99), 1),
        "other_route_idle_p99_ms": round(idle, 2),
        "other_route_p99_ms": round(meanwhile, 2),
        "other_route_times_idle": round(meanwhile / idle, 2),
    }
    await _hung_up(readers)
    return figures


async def _reading(
    people: Sequence[Contender], source: Contender, seconds: float
) -> dict[str, float]:
    one = people[0]
    chunks = int((seconds + _OPENED_WITHIN_S) * 1000 / _READING_MS)
    asked = question(chunks=chunks, pause_ms=_READING_MS)
    opening = Heard()
    readers = await _opened(people, asked, _READING, opening)
    await asyncio.sleep(_SETTLES_S)
    heard = Heard()
    for reader in readers:
        reader.heard = heard
    began, own, below = time.perf_counter(), one.cpu_s(), one.cpu_below_s()
    load_began = time.process_time() + source.cpu_s()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    figures = {
        "cpu": round((one.cpu_s() - own) / took, 3),
        "below_cpu": round((one.cpu_below_s() - below) / took, 3),
        "load_cpu": round((time.process_time() + source.cpu_s() - load_began) / took, 3),
        "chunks_per_s": round(heard.chunks / took),
        "of_wanted": round(heard.chunks / took / (_READING * 1000 / _READING_MS), 3),
        "first_token_p50_ms": round(percentile(opening.first_ms, 50), 1),
        "first_token_p99_ms": round(percentile(opening.first_ms, 99), 1),
        "late_p50_ms": round(percentile(heard.late_ms, 50), 2),
        "late_p99_ms": round(percentile(heard.late_ms, 99), 2),
    }
    await _hung_up(readers)
    return figures


async def _opened(
    people: Sequence[Contender], asked: str, count: int, heard: Heard
) -> list[Reader]:
    requests = [people[number % len(people)].request(asked) for number in range(count)]
    return await open_streams(people[0].port, requests, heard, at_once=_AT_ONCE)


async def _hung_up(readers: Sequence[Reader]) -> None:
    for reader in readers:
        reader.hang_up()
    await asyncio.gather(*(reader.ended for reader in readers))


async def _other_route(one: Contender, seconds: float) -> float:
    """Return the p99, in ms, of one client who asks a small route again and again."""
    base = f"http://127.0.0.1:{one.port}"
    asked = request_bytes(f"{base}/healthz", {})
    return (await load(base, asked, clients=1, seconds=seconds)).p99_ms


if __name__ == "__main__":
    pin(LOAD_CORE)
    raise_file_limit()
    print(json.dumps(measure(quick="--quick" in sys.argv)))
