"""Many streams at once: what each keeps in memory, and whether anything is late.

`open`: 2,000 slow streams (a chunk every two seconds), opened 50 at a time: KiB of the
server's memory for each, what the first token waited for, and how another route answers
meanwhile, against the same server idle. Each that begins is followed by another at once, so
50 questions always share the core: a first token waits for what 50 of them cost.

`reading`: 500 streams at reading speed (50 chunks a second each), of people who come one
every 10 ms, twice as fast as 500 do who read answers of ten seconds: what part of a core the
server uses, what the first token waited for, how late a chunk is with the reader, from the
moment the upstream sent it, and how often what was said so far is stored.

The bare relay does the same beside it, and is the floor. `load_cpu` is what upstream and
readers take of their own core: where that is all of it, they are the limit. `others` is the
part of the machine that anybody else used meanwhile; too much of it, or a server that takes
more in one second than in the next, and the run calls itself `noisy`. `--quick` opens fewer.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from benchmarks import contenders
from benchmarks.figures import is_noisy, percentile
from benchmarks.load import load, request_bytes
from benchmarks.processes import machine_busy_s, memory_kib
from benchmarks.readers import Heard, open_streams
from benchmarks.running import BUSY
from benchmarks.stack import LOAD_CORE, free_port, pin, raise_file_limit
from benchmarks.upstream import question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.contenders import Contender
    from benchmarks.readers import Reader

_PEOPLE = 25  # nobody may have more than 100 streams
_AT_ONCE = 50
_SLOW_MS = 2000
_READING_MS = 20
_COMES_EVERY_S = 0.01
_SETTLES_S = 1.0
_OPENED_WITHIN_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """How many streams of each kind, and for how many seconds they are watched."""

    open: int = 2000
    open_s: float = 15.0
    reading: int = 500
    reading_s: float = 20.0


_QUICK = _Size(open=1000, open_s=1.5, reading=250, reading_s=4.0)


def measure(*, quick: bool) -> dict[str, object]:
    """Return the figures of Chatkeep and of the bare relay, one after the other."""
    figures: dict[str, object] = {}
    size, noise = _QUICK if quick else _Size(), _Noise()
    for what, stage in (("open", _open), ("reading", _reading)):
        for who in ("chatkeep", "relay"):
            with _standing(who) as (people, source), noise.of(people[0], source) as others:
                found = uvloop.run(stage(people, source, size, noise))
                found["others"] = others()
                figures |= {f"{who}_{what}_{name}": value for name, value in found.items()}
    return {**figures, "noisy": noise.is_too_much}


class _Noise:
    """What else went on while this was measured."""

    def __init__(self) -> None:
        self._others: list[float] = []
        self._seconds: list[list[float]] = []

    @contextmanager
    def of(self, one: Contender, source: Contender) -> Iterator[Callable[[], float]]:
        """Watch a stage; what is lent says which part of all cores others have used in it."""

        def ours() -> float:
            return one.cpu_s() + one.cpu_below_s() + source.cpu_s() + time.process_time()

        began, busy, used = time.perf_counter(), machine_busy_s(), ours()

        def others() -> float:
            took = (time.perf_counter() - began) * (os.cpu_count() or 1)
            share = max(0.0, machine_busy_s() - busy - (ours() - used)) / took
            self._others.append(share)
            return round(share, 2)

        yield others

    async def watch(self, one: Contender, seconds: float) -> None:
        """Let *seconds* pass, and note what the server uses in each."""
        shares, ends_at = [], time.perf_counter() + seconds
        while (left := ends_at - time.perf_counter()) > 0:
            began, used = time.perf_counter(), one.cpu_s()
            await asyncio.sleep(min(1.0, left))
            shares.append((one.cpu_s() - used) / (time.perf_counter() - began))
        self._seconds.append(shares)

    @property
    def is_too_much(self) -> bool:
        """Whether the figures are to be doubted."""
        return max(self._others) > BUSY or is_noisy(*self._seconds)


class _Kept:
    """How often Chatkeep stores what its answers have said so far; the others store nothing."""

    def __init__(self, one: Contender) -> None:
        self._one = one
        self._began = self._seen()

    def since(self) -> dict[str, float]:
        """Return the mean of the milliseconds from one checkpoint to the next."""
        if self._one.metrics_port is None:
            return {}
        seconds, times = (now - then for now, then in zip(self._seen(), self._began, strict=True))
        return {"kept_every_ms": round(seconds / times * 1000, 1)}

    def _seen(self) -> tuple[float, float]:
        if self._one.metrics_port is None:
            return 0.0, 0.0
        return self._one.observed("chatkeep_checkpoint_seconds")


@contextmanager
def _standing(who: str) -> Iterator[tuple[Sequence[Contender], Contender]]:
    """Run a server and an upstream of its own; yield who asks it, and the upstream.

    New ones each time: what a server has once taken it does not give back, and Chatkeep goes
    on with answers whose readers have hung up, until their upstream is gone.
    """
    with ExitStack() as stack:
        source = stack.enter_context(contenders.upstream())
        if who == "chatkeep":
            ours = contenders.chatkeep(source.port, _PEOPLE, metrics_port=free_port())
            people = stack.enter_context(ours)
        else:
            people = [stack.enter_context(contenders.relay(source.port))]
        try:
            yield people, source
        finally:
            os.kill(source.pid, signal.SIGTERM)


async def _open(
    people: Sequence[Contender], _: Contender, size: _Size, __: _Noise
) -> dict[str, float]:
    one, count = people[0], size.open
    idle = await _other_route(one, size.open_s)
    before = memory_kib(one.pid)
    asked = question(chunks=1000, pause_ms=_SLOW_MS)
    heard = Heard()
    requests = _requests(people, asked, count)
    readers = await open_streams(one.port, requests, heard, at_once=_AT_ONCE)
    await asyncio.sleep(_SETTLES_S)
    meanwhile = await _other_route(one, size.open_s)
    used = memory_kib(one.pid) - before
    figures = {
        "streams": float(len(heard.first_ms)),
        "kib_each": round(used / count, 1),
        "first_token_p50_ms": round(percentile(heard.first_ms, 50), 1),
        "first_token_p99_ms": round(percentile(heard.first_ms, 99), 1),
        "other_route_idle_p99_ms": round(idle, 2),
        "other_route_p99_ms": round(meanwhile, 2),
        "other_route_times_idle": round(meanwhile / idle, 2),
    }
    await _hung_up(readers)
    return figures


async def _reading(
    people: Sequence[Contender], source: Contender, size: _Size, noise: _Noise
) -> dict[str, float]:
    one, count, seconds = people[0], size.reading, size.reading_s
    chunks = int((seconds + _OPENED_WITHIN_S) * 1000 / _READING_MS)
    asked = question(chunks=chunks, pause_ms=_READING_MS)
    opening = Heard()
    requests = _requests(people, asked, count)
    readers = await open_streams(one.port, requests, opening, at_once=count, every_s=_COMES_EVERY_S)
    await asyncio.sleep(_SETTLES_S)
    heard = Heard()
    for reader in readers:
        reader.heard = heard
    kept = _Kept(one)
    began, own, below = time.perf_counter(), one.cpu_s(), one.cpu_below_s()
    load_began = time.process_time() + source.cpu_s()
    await noise.watch(one, seconds)
    took = time.perf_counter() - began
    figures = {
        "cpu": round((one.cpu_s() - own) / took, 3),
        "below_cpu": round((one.cpu_below_s() - below) / took, 3),
        "load_cpu": round((time.process_time() + source.cpu_s() - load_began) / took, 3),
        "chunks_per_s": round(heard.chunks / took),
        "of_wanted": round(heard.chunks / took / (count * 1000 / _READING_MS), 3),
        "first_token_p50_ms": round(percentile(opening.first_ms, 50), 1),
        "first_token_p99_ms": round(percentile(opening.first_ms, 99), 1),
        "late_p50_ms": round(percentile(heard.late_ms, 50), 2),
        "late_p99_ms": round(percentile(heard.late_ms, 99), 2),
        **kept.since(),
    }
    await _hung_up(readers)
    return figures


def _requests(people: Sequence[Contender], asked: str, count: int) -> list[bytes]:
    return [people[number % len(people)].request(asked) for number in range(count)]


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
    gc.disable()  # with thousands of readers its pauses would be taken for the server's
    pin(LOAD_CORE)
    raise_file_limit()
    print(json.dumps(measure(quick="--quick" in sys.argv)))
