"""`chatkeep serve`: everything that a server needs, then the server."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

import click

import chatkeep
from chatkeep.cli.misspellings import find_misspellings
from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.steps import Steps
from chatkeep.cli.words import database_in_words, examples, mail_in_words, model_in_words
from chatkeep.config import read_environment
from chatkeep.garbage import importing
from chatkeep.stop_signals import STOP_SIGNALS

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chatkeep.config import Settings


class _Runner(Protocol):
    """What serves until a signal: one process or several."""

    def __call__(
        self,
        settings: Settings,
        sockets: Sequence[socket.socket],
        *,
        started: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None: ...


@click.command(
    "serve",
    epilog=examples(
        "chatkeep serve",
        "chatkeep serve --port 9000 --data /var/lib/chatkeep",
        "OPENROUTER_API_KEY=sk-or-... chatkeep serve",
        "DATABASE_URL=postgresql://... chatkeep serve --host 0.0.0.0 --workers 4",
    ),
)
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1, or HOST]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="0 takes any free one.  [default: 8000, or PORT]"
)
@data_option
@click.option(
    "--workers", type=click.IntRange(1, 64), help="How many processes.  [default: 1, or WORKERS]"
)
def command(host: str | None, port: int | None, data: Path | None, workers: int | None) -> None:
    """Run the server: API and web chat.

    With no DATABASE_URL it keeps everything in the data folder, on a PostgreSQL of its own.
    Ctrl-C (or SIGTERM) lets running answers end; a second one does not wait.
    """
    began = time.perf_counter()
    early = _EarlySignals()
    early.take()
    settings = read_settings(host=host, port=port, data_folder=data, workers=workers)
    for sentence in find_misspellings(read_environment()):
        click.echo(f"chatkeep: {sentence}", err=True)
    steps = Steps(sys.stdout)
    with suppress(KeyboardInterrupt):
        _serve(settings, steps, early, began)
    if early.came:
        steps.say("Stopped before it was ready.")


class _EarlySignals:
    """Stop signals until the server runs: what was started is stopped again.

    The first one raises KeyboardInterrupt, wherever the program is; however impatient one is,
    the others raise nothing in what stops it. Python throws away what is raised in the callback
    of a weak reference, of which each import has one, or in a `__del__`. So *came* is to be
    looked at once the server can be told.
    """

    def __init__(self) -> None:
        self.came = False

    def take(self) -> None:
        """Take them from now on, until somebody else does."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._interrupt)

    def _interrupt(self, _number: int, _frame: object) -> None:
        if not self.came:
            self.came = True
            raise KeyboardInterrupt


def _serve(settings: Settings, steps: Steps, early: _EarlySignals, began: float) -> None:
    with importing():
        from chatkeep.cli.preparation import bring_up_to_date, prepared  # noqa: PLC0415 -- slow
        from chatkeep.mail.templates import load_templates  # noqa: PLC0415 -- as above
        from chatkeep.sockets import listen  # noqa: PLC0415 -- as above

    sockets = listen(settings.host, settings.port)
    settings = dataclasses.replace(settings, port=sockets[0].getsockname()[1])
    load_templates(settings.mail_templates)  # a broken one is said before anything is started
    with prepared(settings, steps, "server") as complete:
        bring_up_to_date(complete, steps)
        _see_to_indexes(complete, alone=settings.database_url is None)
        asyncio.run(_check(complete, alone=settings.database_url is None))
        with ExitStack() as starting:
            starting.enter_context(steps.step("Starting the server"))

            def started() -> None:
                starting.close()
                if early.came:
                    signal.raise_signal(signal.SIGTERM)
                    return
                _greet(settings, steps, took_s=time.perf_counter() - began)

            part = partial(_part, settings, steps)
            _runner(settings)(complete, sockets, started=started, stopping=part)


def _see_to_indexes(settings: Settings, *, alone: bool) -> None:
    """Build what is missing on a database of our own; say so where others wait for a start."""
    import psycopg  # noqa: PLC0415 -- as above

    from chatkeep.cli.preparation import administered_at  # noqa: PLC0415 -- as above
    from chatkeep.sql.indexes import find_missing  # noqa: PLC0415 -- as above
    from chatkeep.sql.migrations import build_indexes  # noqa: PLC0415 -- as above

    if alone:
        build_indexes(administered_at(settings))
        return
    with suppress(psycopg.Error):  # that it has gone away since is said by what comes next
        if missing := find_missing(str(settings.database_url)):
            said = (
                f"Slower than it should be: run `chatkeep migrate` to build {', '.join(missing)}."
            )
            click.echo(f"chatkeep: {said}", err=True)


async def _check(settings: Settings, *, alone: bool) -> None:
    """Serve nobody from a database that does not keep people apart.

    On a database that only this server uses (*alone*) no answer is being made before it
    starts: what is marked as running was cut short by a crash.
    """
    from chatkeep import runs  # noqa: PLC0415 -- as above
    from chatkeep.db import Database  # noqa: PLC0415 -- as above
    from chatkeep.setup_checks.isolation import require_isolation  # noqa: PLC0415 -- as above

    url = str(settings.database_url)
    await require_isolation(url)
    if not alone:
        return
    db = Database(url, pool_size=1)
    await db.open()
    try:
        await runs.interrupt_all(db)
    finally:
        await db.close()


def _runner(settings: Settings) -> _Runner:
    if settings.workers > 1:
        from chatkeep.workers import serve_with_workers  # noqa: PLC0415 -- slow to import

        return serve_with_workers
    with importing():
        from chatkeep.server import serve  # noqa: PLC0415 -- slow to import

    return serve


def _greet(settings: Settings, steps: Steps, *, took_s: float) -> None:
    """Say where everything is. *settings* are as they were set: without our own database."""
    steps.say(f"\nChatkeep {chatkeep.__version__} is ready, after {took_s:.1f} s.\n")
    lines = {
        "Open": settings.base_url,
        "Data": _data_place(settings),
        "Model": model_in_words(settings),
        "Mail": mail_in_words(settings),
        **_metrics_place(settings),
        "Stop": "Ctrl-C" if sys.stdout.isatty() else f"kill {os.getpid()}",
    }
    for name, value in lines.items():
        steps.say(f"  {name:7} {value}")
    steps.say("")


def _metrics_place(settings: Settings) -> dict[str, str]:
    first = settings.metrics_port
    if first is None:
        return {}
    more = f", and the {settings.workers - 1} ports after it" if settings.workers > 1 else ""
    return {"Metrics": f"http://{settings.metrics_host}:{first}/metrics{more}"}


def _part(settings: Settings, steps: Steps) -> None:
    steps.say(
        f"\nStopping: running answers have {settings.drain_s} s to end; once more to stop at once."
    )


def _data_place(settings: Settings) -> str:
    if settings.database_url is None:
        return str(settings.data_folder.expanduser().absolute())
    return database_in_words(settings.database_url)
