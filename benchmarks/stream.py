"""Streams relayed: chunks a second of one core, and what the first token waits for longer.

Chatkeep signs the caller in, stores the question, keeps checkpoints and the answer, and
speaks the AI SDK's protocol; the others relay and keep nothing. What counts is the processor
time of the server's process, so that a busy machine does not bend the figures; PostgreSQL's,
on the same core, is told beside it.

Two ways a provider can send: `apart`, each chunk on its own as fast as the readers' core can
send them, and `burst`, 16 at a time. `first` is asked one at a time, on an idle server.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from benchmarks.contenders import contenders
from benchmarks.figures import is_noisy, spread
from benchmarks.readers import read_all
from benchmarks.stack import LOAD_CORE, pin
from benchmarks.upstream import question

if TYPE_CHECKING:
    from benchmarks.contenders import Contender

_READERS = 16
_BURSTS = {"apart": 1, "burst": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One contender's turn; microseconds of processor time for each chunk."""

    own_us: float
    below_us: float


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians over interleaved rounds."""
    rounds, chunks, firsts = (3, 300, 40) if quick else (9, 1000, 300)
    with contenders() as everybody:
        figures = uvloop.run(_first_tokens(everybody, firsts))
        relays = [one for one in everybody if one.name != "upstream"]
        for name, burst in _BURSTS.items():
            figures |= _relayed(relays, name, burst, rounds, chunks)
    return figures


def _relayed(
    everybody: list[Contender], name: str, burst: int, rounds: int, chunks: int
) -> dict[str, object]:
    found: dict[str, list[_Round]] = {one.name: [] for one in everybody}
    for number in range(rounds + 1):
        for one in everybody:
            # LiteLLM takes half a millisecond a chunk: a tenth is enough to measure it.
            length = chunks // 10 if one.name == "litellm" else chunks
            took = uvloop.run(_round(one, length, burst))
            if number:  # the first warms up
                found[one.name].append(took)
    return _figures(name, found)


async def _round(one: Contender, chunks: int, burst: int) -> _Round:
    asked = question(chunks=chunks, burst=burst)
    before, below = one.cpu_s(), one.cpu_below_s()
    heard = await read_all(one.port, [one.request(asked) for _ in range(_READERS)])
    if heard.chunks != chunks * _READERS:
        raise RuntimeError(f"{one.name} lost chunks: {heard.chunks} of {chunks * _READERS}")
    return _Round(
        own_us=(one.cpu_s() - before) / heard.chunks * 1e6,
        below_us=(one.cpu_below_s() - below) / heard.chunks * 1e6,
    )


def _figures(name: str, found: dict[str, list[_Round]]) -> dict[str, object]:
    figures: dict[str, object] = {}
    for who, rounds in found.items():
        own = statistics.median(one.own_us for one in rounds)
        figures[f"{name}_{who}_us_a_chunk"] = round(own, 2)
        figures[f"{name}_{who}_chunks_per_s"] = round(1e6 / own)
    ours = found["chatkeep"]
    below = statistics.median(one.below_us for one in ours)
    figures[f"{name}_postgresql_us_a_chunk"] = round(below, 2)
    for who in found.keys() - {"chatkeep"}:
        pairs = zip(found[who], ours, strict=True)
        ratio = statistics.median(their.own_us / our.own_us for their, our in pairs)
        figures[f"{name}_times_{who}"] = round(ratio, 2)
    series = [[one.own_us for one in rounds] for rounds in found.values()]
    figures[f"{name}_spread"] = round(max(spread(values) for values in series), 2)
    figures[f"{name}_noisy"] = is_noisy(*series)
    return figures


async def _first_tokens(everybody: list[Contender], turns: int) -> dict[str, object]:
    """Ask the upstream directly, then each contender, again and again; first token in ms."""
    found: dict[str, list[float]] = {one.name: [] for one in everybody}
    asked = question(chunks=60, burst=4)
    for number in range(turns + 10):
        for one in everybody:
            if one.name == "litellm" and number % 4:
                continue
            heard = await read_all(one.port, [one.request(asked)])
            if number >= 10:  # the first ones warm up connections and plans
                found[one.name] += heard.first_ms
    direct = statistics.median(found["upstream"])
    figures: dict[str, object] = {"first_upstream_p50_ms": round(direct, 3)}
    for name in found.keys() - {"upstream"}:
        added = statistics.median(found[name]) - direct
        figures[f"first_{name}_added_p50_ms"] = round(added, 3)
    return figures


if __name__ == "__main__":
    pin(LOAD_CORE)
    print(json.dumps(measure(quick="--quick" in sys.argv)))
