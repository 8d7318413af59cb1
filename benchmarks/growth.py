"""What reading costs when there is much to read: databases of 10^4, 10^6 and 10^7 messages.

A page of a random conversation's history, of a random person's list, a page far down a long
conversation, and words searched by somebody who has said a tenth of everything. Statements
go through the product's own functions, as the callers they are for, in turn on all of them.
The databases are filled with COPY (`benchmarks/crowd.py`) and removed afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from functools import partial
from operator import truediv
from typing import TYPE_CHECKING
from unittest.mock import patch

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks import crowd
from benchmarks.crowd import BUSY, LENGTH, LONG, Crowd
from benchmarks.figures import is_noisy, percentile, spread
from benchmarks.postgres import postgresql
from benchmarks.stack import SERVER_CORE
from chatkeep import conversations
from chatkeep.config import Secret
from chatkeep.conversations import search
from chatkeep.db import Database
from chatkeep.embedded_postgresql import cluster as embedded
from chatkeep.sql.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from chatkeep.embedded_postgresql.addresses import Addresses

    Work = Callable[[], Awaitable[object]]

_SIZES = (10_000, 1_000_000, 10_000_000)
_QUICK = (10_000, 100_000)
_BYTES_EACH = 3000  # a message with its run, words and indexes, and the log of writing them
_LOG_WHILE_FILLING = "8GB"
_PAGE = 50
_IN_A_ROUND = 10
_DEEP = 50_000


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians in milliseconds for each size, and their ratios."""
    sizes = _QUICK if quick else _SIZES
    _check_room(sum(sizes))
    figures: dict[str, object] = {}
    # Each checkpoint has every page written again, and reading does not go by this setting.
    long_log = patch.dict(embedded._SETTINGS, max_wal_size=_LOG_WHILE_FILLING)  # noqa: SLF001 -- ours to measure
    with long_log, postgresql(pinned=False) as addresses:
        urls = {size: _filled(addresses, size, sizes[-1], figures) for size in sizes}
        taken = asyncio.run(_read(urls, 20 if quick else 150))
    return figures | _figures(taken, sizes)


def _filled(addresses: Addresses, size: int, largest: int, figures: dict[str, object]) -> str:
    """Make a database with so many messages; return its address."""
    began = time.monotonic()
    admin_url = make_conninfo(str(addresses.admin_url), dbname=_name(size))
    with psycopg.connect(str(addresses.admin_url), autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(_name(size))))
    migrate(Secret(admin_url), login=str(conninfo_to_dict(str(addresses.app_url))["user"]))
    with (
        psycopg.connect(admin_url, autocommit=True) as admin,
        psycopg.connect(admin_url, autocommit=True) as another,
    ):
        filling = Crowd(admin, another)
        if size == largest:
            filling.add_long(_DEEP + 10_000)
        filling.grow(size)
        figures[f"{_name(size)}_gib"] = _size(admin)
    figures[f"{_name(size)}_load_s"] = round(time.monotonic() - began, 1)
    print(
        f"{size} messages after {figures[f'{_name(size)}_load_s']} s", file=sys.stderr, flush=True
    )
    return make_conninfo(str(addresses.app_url), dbname=_name(size))


async def _read(urls: dict[int, str], rounds: int) -> dict[str, list[list[float]]]:
    """Do everything in turn, one round after the other; return milliseconds."""
    works: dict[str, Work] = {}
    opened = {size: Database(url, pool_size=1) for size, url in urls.items()}
    try:
        for size, db in opened.items():
            await db.open()
            await _pin_server(db)
            chosen, talks = random.Random(size), size // LENGTH
            works[f"history {_name(size)}"] = partial(_history, db, chosen, talks)
            works[f"list {_name(size)}"] = partial(_list, db, chosen, talks)
            if size == max(urls):
                works |= _far_down(db, talks, chosen) | _searches(db)
        taken: dict[str, list[list[float]]] = {name: [] for name in works}
        for number in range(-1, rounds):
            for name, work in works.items():
                times = [await _timed(work) for _ in range(_IN_A_ROUND)]
                if number >= 0:  # the first warms up
                    taken[name].append(times)
    finally:
        for db in opened.values():
            await db.close()
    return taken


async def _timed(work: Work) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


def _history(db: Database, chosen: random.Random, talks: int) -> Awaitable[object]:
    talk = chosen.randrange(talks)
    return conversations.get_page(db, crowd.owner(talk), crowd.name(talk), limit=_PAGE)


def _list(db: Database, chosen: random.Random, talks: int) -> Awaitable[object]:
    whose = crowd.owner(chosen.randrange(talks))
    return conversations.list_conversations(db, whose, limit=_PAGE)


def _far_down(db: Database, talks: int, chosen: random.Random) -> dict[str, Work]:
    """Pages at the head of a long conversation and list, and far down both."""

    async def history(depth: int) -> None:
        at = _DEEP + 10_000 - 1 - depth - chosen.randrange(_PAGE)
        end = f"{at:08x}-0000-7000-9000-00000000109a"
        _, page = await conversations.get_page(db, BUSY, LONG, limit=_PAGE, from_id=end)
        assert len(page) == _PAGE

    async def listed(talk: int) -> None:
        before = (crowd.moment(talk).isoformat(), crowd.name(talk))
        page = await conversations.list_conversations(db, BUSY, limit=_PAGE, before=before)
        assert len(page) == _PAGE

    async def single() -> None:
        talk = chosen.randrange(talks // 10) * 10
        wanted = [crowd.message(talk, chosen.randrange(LENGTH))]
        found = await conversations.list_messages(db, BUSY, crowd.name(talk), wanted)
        assert len(found) == 1

    deep = talks - talks * 3 // 4
    return {
        "long history": partial(history, 0),
        "deep history": partial(history, _DEEP),
        "long list": partial(listed, talks - 20),
        "deep list": partial(listed, deep - deep % 10),
        "single row": single,
    }


def _searches(db: Database) -> dict[str, Work]:
    async def ask(words: str) -> None:
        found = await search.search(db, BUSY, words, locale=None, limit=20)
        assert bool(found) == (words != "nonesuch")

    words = {"rare": "quagga", "none": "nonesuch", "hundredth": "hundredth", "common": "half"}
    return {f"search {name}": partial(ask, word) for name, word in words.items()}


def _figures(taken: dict[str, list[list[float]]], sizes: Sequence[int]) -> dict[str, object]:
    figures: dict[str, object] = {}
    medians = {name: [statistics.median(one) for one in rounds] for name, rounds in taken.items()}
    for name, rounds in taken.items():
        times = [one for times in rounds for one in times]
        figures[f"{_key(name)}_ms"] = round(statistics.median(times), 3)
        figures[f"{_key(name)}_p99_ms"] = round(percentile(times, 99), 2)
    small, large = _name(sizes[0]), _name(sizes[-1])
    for above, below, key in (
        (f"history {large}", f"history {small}", "history_largest_of_smallest"),
        (f"list {large}", f"list {small}", "list_largest_of_smallest"),
        ("deep history", "long history", "deep_history_of_first"),
        ("deep list", "long list", "deep_list_of_first"),
        ("search rare", "single row", "search_rare_of_single_row"),
        ("search common", "single row", "search_common_of_single_row"),
    ):
        figures[key] = round(statistics.median(map(truediv, medians[above], medians[below])), 2)
    figures["spread"] = round(max(spread(one) for one in medians.values()), 2)
    figures["noisy"] = is_noisy(*medians.values())
    return figures


def _key(name: str) -> str:
    return name.replace(" ", "_")


async def _pin_server(db: Database) -> None:
    """Put the process that serves us on the server's core; filling may use both."""
    async with db._pool.connection() as connection:  # noqa: SLF001 -- ours to measure
        os.sched_setaffinity(connection.info.backend_pid, {SERVER_CORE})


def _check_room(messages: int) -> None:
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, messages * _BYTES_EACH
    if free < needed:
        raise SystemExit(
            f"growth needs {needed >> 30} GiB of temporary space; {free >> 30} are free"
        )


def _size(admin: psycopg.Connection) -> float:
    row = admin.execute("select pg_database_size(current_database())").fetchone()
    assert row is not None
    return float(round(row[0] / 2**30, 2))


def _name(size: int) -> str:
    return f"1e{len(str(size)) - 1}"


if __name__ == "__main__":
    print(json.dumps(measure(quick="--quick" in sys.argv)))
