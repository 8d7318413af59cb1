"""How soon a log-out on one server is known on two others, and what knowing costs a request."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp
from psycopg.conninfo import conninfo_to_dict

from benchmarks.figures import is_noisy
from benchmarks.stack import BIN, LOAD_CORE, free_port, pin, running, sign_up
from chatkeep.data_folder import prepare
from chatkeep.db import Database
from chatkeep.embedded_postgresql.cluster import EmbeddedPostgreSQL
from chatkeep.principal import Principal
from chatkeep.revocations import Revocations
from chatkeep.sql.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERVERS = 3
#: Every eighth log-out is one part: how far apart the parts lie is the noise.
_PARTS = 8
_REVOKED = 100_000


def measure(*, quick: bool) -> dict[str, object]:
    """Return ms from asking one server to log out until each other one refuses the token."""
    rounds = 50 if quick else 500
    with three_servers() as servers:
        tokens = [sign_up(servers[0], f"{uuid4()}@example.com") for _ in range(rounds)]
        pin(LOAD_CORE)
        taken = asyncio.run(_log_out(servers, tokens))
    waits, parts = sorted(taken), [taken[part::_PARTS] for part in range(_PARTS)]
    return {
        "others_refuse_after_p50_ms": round(statistics.median(waits), 2),
        "others_refuse_after_p99_ms": round(waits[int(len(waits) * 0.99) - 1], 2),
        "others_refuse_after_worst_ms": round(waits[-1], 2),
        "log_outs": rounds,
        "check_per_request_us": round(check_cost_us(), 3),
        "noisy": is_noisy([statistics.median(part) for part in parts]),
    }


@contextmanager
def three_servers() -> Iterator[list[str]]:
    """Run three servers on one database of their own; yield their addresses."""
    home = tempfile.mkdtemp(prefix="chatkeep-bench-")
    folder = prepare(Path(home) / "data")
    postgres = EmbeddedPostgreSQL(folder, max_connections=60)
    try:
        addresses = postgres.start()
        login = str(conninfo_to_dict(addresses.app_url)["user"])
        migrate(addresses.admin_url, login=login)
        settings = {
            "DATABASE_URL": addresses.app_url,
            "CHATKEEP_SECRET": str(folder.secret()),
            "RATE_LIMITS": "off",
            "LOG_LEVEL": "WARNING",
        }
        with ExitStack() as stack:
            yield [_server(stack, settings) for _ in range(_SERVERS)]
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


def _server(stack: ExitStack, settings: dict[str, str]) -> str:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [str(BIN / "chatkeep"), "serve", "--port", str(port)]
    # Tokens name their issuer's address: all three are one server to the outside.
    env = {**settings, "PUBLIC_URL": "http://127.0.0.1:8000"}
    stack.enter_context(running(command, ready=f"{base}/readyz", env=env))
    return base


async def _log_out(servers: list[str], tokens: list[str]) -> list[float]:
    waits: list[float] = []
    async with aiohttp.ClientSession() as http:
        for token in tokens:
            headers = {"authorization": f"Bearer {token}"}
            for server in servers:
                async with http.get(f"{server}/auth/me", headers=headers) as answer:
                    answer.raise_for_status()
            began = time.perf_counter()
            async with http.post(f"{servers[0]}/auth/v1/logout", headers=headers) as answer:
                answer.raise_for_status()
            refused = (_until_refused(http, one, headers, began) for one in servers[1:])
            waits += await asyncio.gather(*refused)
    return waits


async def _until_refused(
    http: aiohttp.ClientSession, server: str, headers: dict[str, str], began: float
) -> float:
    while True:
        async with http.get(f"{server}/auth/me", headers=headers) as answer:
            if answer.status == 401:
                return (time.perf_counter() - began) * 1000


def check_cost_us(rounds: int = 200_000) -> float:
    """Return what one look costs while *_REVOKED* sessions and a person have ended."""
    node, now = Revocations(Database("")), datetime.now(UTC)
    node.ended(uuid4() for _ in range(_REVOKED))
    entry = (now, now + timedelta(days=1))
    node._not_before["user", "", "somebody"] = entry  # noqa: SLF001 -- as from the table
    alive = Principal(
        user_id="ana",
        issuer="embedded",
        subject="ana",
        session_id=str(uuid4()),
        token_id=str(uuid4()),
        issued_at=now,
    )
    began = time.perf_counter()
    for _ in range(rounds):
        node.knows(alive)
    return (time.perf_counter() - began) / rounds * 1e6


if __name__ == "__main__":
    print(json.dumps(measure(quick="--quick" in sys.argv)))
