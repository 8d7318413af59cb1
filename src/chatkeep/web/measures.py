"""Metrics that are read when somebody asks for them, because they are states and no counts.

What comes from the database is the same on every process, and is missing while it is away.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import chatkeep
from chatkeep.administration.backlog import read_backlog
from chatkeep.claims import read_drain
from chatkeep.errors import ChatkeepError
from chatkeep.metrics import Counter, Gauge, Histogram, rendered
from chatkeep.web.in_time import in_time

if TYPE_CHECKING:
    from chatkeep.web.services import Services

_DATABASE_WITHIN_S: Final = 3.0
_LOOK_EVERY_S: Final = 0.5
_BEGAN: Final = time.time()
_DESCRIPTORS: Final = Path("/proc/self/fd")
_PAGES: Final = Path("/proc/self/statm")

_BUILD = Gauge("chatkeep_build_info", "1; which version runs.", "version")
_CPU = Counter("process_cpu_seconds_total", "Seconds of processor time that were used.")
_MEMORY = Gauge("process_resident_memory_bytes", "Bytes of memory in use.")
_FILES = Gauge("process_open_fds", "Open files and connections.")
_MOST_FILES = Gauge("process_max_fds", "How many files and connections there may be.")
_STARTED = Gauge("process_start_time_seconds", "When the process began, in seconds since 1970.")
_LAG = Histogram(
    "chatkeep_event_loop_lag_seconds",
    "How much later than it should a task of the event loop was run.",
    bounds=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
_POOL = Gauge("chatkeep_database_connections", "Connections to the database: idle, busy.", "state")
_POOL_MOST = Gauge("chatkeep_database_connections_most", "How many there may be.")
_POOL_WAITING = Gauge("chatkeep_database_waiting", "Requests that wait for a connection now.")
_REVOCATIONS_AGE = Gauge(
    "chatkeep_revocations_age_seconds",
    "How long ago this process last saw all that was revoked; after 5 it asks at each request.",
)
_DATABASE = Gauge("chatkeep_database_up", "Whether the database answered just now: 1 or 0.")
_ANSWERS = Gauge("chatkeep_runs", "Answers in the whole installation: running, queued.", "state")
_JOBS = Gauge("chatkeep_jobs", "Jobs in the whole installation, mail for one.", "queue", "state")
_OLDEST_JOB = Gauge("chatkeep_jobs_oldest_seconds", "For how long a job is due, at most.")
_OLD_TOKENS = Gauge(
    "chatkeep_claim_version_tokens",
    "Session tokens of a version that had to be upgraded, in thirty days.",
    "version",
    "state",
)
_OLD_READS = Gauge(
    "chatkeep_claim_version_reads",
    "How many of those cost a look-up.",
    "version",
    "state",
)
_FALLBACK_ENDS = Gauge(
    "chatkeep_claims_fallback_ends_seconds",
    "When the old versions of claims can be deleted, in seconds since 1970.",
)
_UPSTREAM = Gauge("chatkeep_upstream_up", "Whether a provider of models is asked: 1 or 0.", "name")


async def collect(services: Services) -> str:
    """Return every number as text."""
    _read_process()
    _read_services(services)
    for one in (_ANSWERS, _JOBS, _OLDEST_JOB, _OLD_TOKENS, _OLD_READS, _FALLBACK_ENDS):
        one.forget()
    try:
        await in_time(_read_database(services), _DATABASE_WITHIN_S)
        _DATABASE.set(1)
    except (ChatkeepError, TimeoutError):
        _DATABASE.set(0)
    return rendered()


async def watch_loop() -> None:
    """Measure how late the event loop is, until cancelled."""
    now = asyncio.get_running_loop().time
    while True:
        due = now() + _LOOK_EVERY_S
        await asyncio.sleep(_LOOK_EVERY_S)
        _LAG.observe(max(0.0, now() - due))


def _read_process() -> None:
    _BUILD.set(1, chatkeep.__version__)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _CPU.add(by=used.ru_utime + used.ru_stime - _CPU.value())
    _STARTED.set(_BEGAN)
    _MOST_FILES.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with suppress(OSError):  # other systems have no such folder
        _FILES.set(len(list(_DESCRIPTORS.iterdir())))
        _MEMORY.set(int(_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def _read_services(services: Services) -> None:
    pool = services.db.state()
    _POOL.set(pool.idle, "idle")
    _POOL.set(pool.size - pool.idle, "busy")
    _POOL_MOST.set(pool.most)
    _POOL_WAITING.set(pool.waiting)
    _REVOCATIONS_AGE.set(services.embedded.revocations.age_s)
    for name, state in (services.offered_models.states() or {}).items():
        _UPSTREAM.set(float(state != "down"), name)


async def _read_database(services: Services) -> None:
    backlog = await read_backlog(services.db)
    for state, number in backlog.answers.items():
        _ANSWERS.set(number, state)
    for (queue, state), number in backlog.jobs.items():
        _JOBS.set(number, queue, state)
    _OLDEST_JOB.set(backlog.oldest_job_s)
    drain = await read_drain(services.db, services.session_tokens.versions)
    for one in drain.versions:
        _OLD_TOKENS.set(one.tokens, str(one.version), one.state)
        _OLD_READS.set(one.reads, str(one.version), one.state)
    if drain.fallback_ends_at is not None:
        _FALLBACK_ENDS.set(drain.fallback_ends_at.timestamp())
