"""Requests a second of signed-in JSON routes, beside the open route of the same server."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import urllib.request
from typing import TYPE_CHECKING

from benchmarks.load import load, request_bytes
from benchmarks.stack import LOAD_CORE, chatkeep, pin, sign_up

if TYPE_CHECKING:
    from benchmarks.load import Measured

_CLIENTS = 16
_PATHS = {"open": "/healthz", "user": "/auth/v1/user", "list": "/api/v1/chat"}


def measure(*, quick: bool) -> dict[str, float]:
    """Return medians over interleaved rounds: requests a second, p50 and p99 in ms."""
    rounds, seconds = (3, 2.0) if quick else (7, 5.0)
    found: dict[str, list[Measured]] = {name: [] for name in _PATHS}
    with chatkeep() as base:
        token = sign_up(base)
        headers = {"authorization": f"Bearer {token}"}
        for _ in range(5):
            _start_conversation(base, token)
        for _ in range(rounds):
            for name, path in _PATHS.items():
                request = request_bytes(base + path, headers)
                one = asyncio.run(load(base, request, clients=_CLIENTS, seconds=seconds))
                found[name].append(one)
    return _figures(found)


def _start_conversation(base: str, token: str) -> None:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(f"{base}/api/v1/chat/start", b"{}", headers)  # noqa: S310 -- loopback
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        pass


def _figures(found: dict[str, list[Measured]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, rounds in found.items():
        figures[f"{name}_per_s"] = round(statistics.median(one.per_second for one in rounds))
        figures[f"{name}_p50_ms"] = round(statistics.median(one.p50_ms for one in rounds), 2)
        figures[f"{name}_p99_ms"] = round(statistics.median(one.p99_ms for one in rounds), 2)
    for name in ("user", "list"):
        figures[f"{name}_of_open"] = round(figures[f"{name}_per_s"] / figures["open_per_s"], 3)
    return figures


if __name__ == "__main__":
    pin(LOAD_CORE)
    print(json.dumps(measure(quick="--quick" in sys.argv)))
