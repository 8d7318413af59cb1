"""One whole JSON turn, not streamed: what it takes longer than asking the upstream directly.

Chatkeep signs in, reads the profile, stores the question and the answer durably under
row-level security; the others relay and keep nothing. `added` is asked one at a time;
`per_s` by 16 clients, at Chatkeep as many people, where the processor time of the server's
process (and beside it of its PostgreSQL) says what one core could do.
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

from benchmarks.contenders import contenders
from benchmarks.figures import is_noisy, spread
from benchmarks.load import KeptAlive
from benchmarks.stack import LOAD_CORE, pin
from benchmarks.upstream import question

if TYPE_CHECKING:
    from benchmarks.contenders import Contender

_CLIENTS = 16
_WORDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One contender's turn under load."""

    per_s: float
    own_ms: float
    below_ms: float


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians over interleaved rounds."""
    turns, rounds, seconds = (60, 3, 1.0) if quick else (400, 7, 3.0)
    with contenders(people=_CLIENTS) as everybody:
        figures = uvloop.run(_added(everybody, turns))
        found: dict[str, list[_Round]] = {one.name: [] for one in everybody}
        for number in range(rounds + 1):
            for one in everybody:
                took = uvloop.run(_loaded(one, seconds))
                if number:  # the first warms up
                    found[one.name].append(took)
    return figures | _figures(found)


async def _added(everybody: list[Contender], turns: int) -> dict[str, object]:
    found: dict[str, list[float]] = {one.name: [] for one in everybody}
    connections = {one.name: await KeptAlive.open(one.port) for one in everybody}
    for number in range(turns + 20):
        for one in everybody:
            took = await connections[one.name].ask(_request(one))
            if number >= 20:  # the first ones warm up connections and plans
                found[one.name].append(took * 1000)
    for connection in connections.values():
        connection.close()
    direct = statistics.median(found["upstream"])
    figures: dict[str, object] = {"upstream_p50_ms": round(direct, 3)}
    for name in [name for name in found if name != "upstream"]:
        figures[f"{name}_added_p50_ms"] = round(statistics.median(found[name]) - direct, 3)
    return figures


async def _loaded(one: Contender, seconds: float) -> _Round:
    connections = [await KeptAlive.open(one.port) for _ in range(_CLIENTS)]
    own, below, began = one.cpu_s(), one.cpu_below_s(), time.perf_counter()

    async def keep_asking(connection: KeptAlive, asker: Contender) -> int:
        asked = 0
        while time.perf_counter() < began + seconds:
            await connection.ask(_request(asker))
            asked += 1
        return asked

    asking = [
        keep_asking(connection, one.as_asked_by(number))
        for number, connection in enumerate(connections)
    ]
    asked = sum(await asyncio.gather(*asking))
    took = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return _Round(
        per_s=asked / took,
        own_ms=(one.cpu_s() - own) / asked * 1000,
        below_ms=(one.cpu_below_s() - below) / asked * 1000,
    )


def _request(one: Contender) -> bytes:
    return one.request(question(chunks=_WORDS), stream=False)


def _figures(found: dict[str, list[_Round]]) -> dict[str, object]:
    figures: dict[str, object] = {}
    for name, rounds in found.items():
        figures[f"{name}_per_s"] = round(statistics.median(one.per_s for one in rounds))
        own = statistics.median(one.own_ms for one in rounds)
        figures[f"{name}_cpu_ms"] = round(own, 3)
    ours = found["chatkeep"]
    below = statistics.median(one.below_ms for one in ours)
    figures["postgresql_cpu_ms"] = round(below, 3)
    for name in [name for name in found if name not in {"chatkeep", "upstream"}]:
        pairs = zip(ours, found[name], strict=True)
        ratio = statistics.median(our.per_s / their.per_s for our, their in pairs)
        figures[f"per_s_times_{name}"] = round(ratio, 2)
    series = [[one.per_s for one in rounds] for rounds in found.values()]
    figures["spread"] = round(max(spread(values) for values in series), 2)
    figures["noisy"] = is_noisy(*series)
    return figures


if __name__ == "__main__":
    pin(LOAD_CORE)
    print(json.dumps(measure(quick="--quick" in sys.argv)))
