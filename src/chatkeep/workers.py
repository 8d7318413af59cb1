"""Several serving processes on the same sockets, looked after by this one.

Each is a fresh interpreter that runs `server.serve`. One that dies is replaced, slowly when
it keeps dying. When this process ends, however it ends, they end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import multiprocessing
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final, Self

from chatkeep import logs
from chatkeep.errors import ChatkeepError, SetupError
from chatkeep.garbage import importing
from chatkeep.stop_signals import STOP_SIGNALS, is_news

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.context import SpawnProcess

    from chatkeep.config import Settings

_log = logging.getLogger(__name__)

# Not SIGTERM again: two that come at the same time are one.
_HURRY: Final = signal.SIGUSR1
_SPAWN: Final = multiprocessing.get_context("spawn")
_START_TIMEOUT_S: Final = 60.0
_AFTER_DRAIN_S: Final = 15.0
_SHORTEST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(slots=True)
class _Worker:
    """One process, and the pipe through which it says that it serves, or why not."""

    process: SpawnProcess
    said: Connection
    started: float = field(default_factory=time.monotonic)


def serve_with_workers(
    settings: Settings,
    sockets: Sequence[socket.socket],
    *,
    started: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Serve with `settings.workers` processes until a signal.

    Calls *started* when all of them answer requests and *stopping* at the first signal.

    Raises:
        ChatkeepError: one of them cannot start, and why.
    """
    with _Signals() as signals:
        supervisor = _Supervisor(settings, list(sockets), signals)
        try:
            if supervisor.start():
                started()
                supervisor.look_after()
                stopping()
        finally:
            supervisor.stop()


class _Signals:
    """Stop signals as something to wait for, among other things."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)  # noqa: FBT003 -- the socket's own signature
        self._told = False

    def __enter__(self) -> Self:
        for number in STOP_SIGNALS:
            signal.signal(number, _note)
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # what is left is to stop, either way
        signal.set_wakeup_fd(-1)
        self._reading.close()
        self._writing.close()

    def wait_with(self, others: list[Any], timeout_s: float | None) -> tuple[bool, list[Any]]:
        """Return whether a signal has come that says more, and which of *others* are ready."""
        ready = wait([self._reading, *others], timeout_s)
        if self._reading not in ready:
            return False, ready
        numbers = self._reading.recv(64)
        says_more = any(is_news(one, stopping=self._told) for one in numbers)
        self._told = True
        return says_more, []


def _note(_number: int, _frame: object) -> None:
    """A handler must be set for Python to write to the wake-up socket; it has no more to do."""


class _Supervisor:
    def __init__(self, settings: Settings, sockets: list[socket.socket], signals: _Signals) -> None:
        self._settings = settings
        self._sockets = sockets
        self._signals = signals
        self._workers: list[_Worker] = []

    def start(self) -> bool:
        """Start all and wait until they serve; False when a signal came before."""
        self._workers = [self._spawn(place) for place in range(self._settings.workers)]
        waiting = list(self._workers)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while waiting:
            left_s = deadline - time.monotonic()
            if left_s < 0:
                raise SetupError("The worker processes did not start in time.")
            told, ready = self._signals.wait_with([one.said for one in waiting], left_s)
            if told:
                return False
            for worker in [one for one in waiting if one.said in ready]:
                _require_started(worker)
                waiting.remove(worker)
        return True

    def look_after(self) -> None:
        """Replace the ones that die, until a signal comes."""
        pause_s = _SHORTEST_PAUSE_S
        while True:
            told, dead = self._signals.wait_with(
                [one.process.sentinel for one in self._workers], None
            )
            if told:
                return
            for place, worker in enumerate(self._workers):
                if worker.process.sentinel not in dead:
                    continue
                lived_s = time.monotonic() - worker.started
                pause_s = _SHORTEST_PAUSE_S if lived_s > _LONGEST_PAUSE_S else pause_s * 2
                pause_s = min(pause_s, _LONGEST_PAUSE_S)
                _log.error(
                    "a worker process ended (%s); replacing it",
                    _last_words(worker) or worker.process.exitcode,
                )
                if self._signals.wait_with([], pause_s)[0]:
                    return
                self._workers[place] = self._spawn(place)

    def stop(self) -> None:
        """Let all drain; a second signal hurries them, and time ends them."""
        for one in self._sockets:
            one.close()
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_s + _AFTER_DRAIN_S
        while running := [one for one in self._workers if one.process.is_alive()]:
            left_s = deadline - time.monotonic()
            if left_s < 0:
                break
            sentinels = [one.process.sentinel for one in running]
            if self._signals.wait_with(sentinels, left_s)[0]:
                self._signal_all(_HURRY)
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process.is_alive() and worker.process.pid is not None:
                os.kill(worker.process.pid, number)

    def _spawn(self, place: int) -> _Worker:
        settings = _at(place, self._settings)
        receiving, sending = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(
            target=_work, args=(settings, self._sockets, sending), name="chatkeep-worker"
        )
        with _held_back():
            process.start()
        sending.close()
        return _Worker(process, receiving)


def _at(place: int, settings: Settings) -> Settings:
    """Return *settings* with a port for the metrics that no other process has."""
    if settings.metrics_port is None:
        return settings
    return dataclasses.replace(settings, metrics_port=settings.metrics_port + place)


@contextmanager
def _held_back() -> Iterator[None]:
    """Keep Ctrl-C from a process that is being started and cannot handle it yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require_started(worker: _Worker) -> None:
    try:
        problems = worker.said.recv()
    except EOFError:
        worker.process.join()
        raise SetupError(
            f"A worker process ended while it started (exit code {worker.process.exitcode})."
        ) from None
    if problems:
        raise SetupError(*problems)


def _last_words(worker: _Worker) -> str:
    """Why it could not start, if that is how it ended."""
    with suppress(EOFError, OSError):
        while worker.said.poll():
            if problems := worker.said.recv():
                return "; ".join(problems)
    return ""


def _work(settings: Settings, sockets: list[socket.socket], said: Connection) -> None:
    """The whole life of a worker process."""
    with importing():
        from chatkeep.server import serve  # noqa: PLC0415 -- slow, and the parent needs it not

    # A terminal tells all of us of Ctrl-C and of its end; the parent decides what it means.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    logs.configure(settings.log_level)
    try:
        serve(
            settings,
            sockets,
            started=lambda: _serving(said),
            stopping=lambda: None,
            stop_signals=(signal.SIGTERM,),
            hurry_signals=(_HURRY,),
        )
    except ChatkeepError as error:
        with suppress(OSError):
            said.send(getattr(error, "problems", (error.detail,)))
        raise SystemExit(1) from None


def _serving(said: Connection) -> None:
    """Tell the parent, and stop as if told when it is gone."""
    with suppress(OSError):
        said.send(())
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop = asyncio.get_running_loop()
        loop.add_reader(parent.sentinel, _orphaned, loop, parent.sentinel)


def _orphaned(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    os.kill(os.getpid(), signal.SIGTERM)
