"""The serving process: the application on its sockets, until a signal ends it.

The first SIGINT or SIGTERM drains (no new work, streams end, answers are stored), a second
one does not wait. Nothing here knows where the database comes from.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from chatkeep.errors import SetupError
from chatkeep.garbage import leave_alone_what_stays
from chatkeep.sockets import BACKLOG
from chatkeep.stop_signals import STOP_SIGNALS, is_news
from chatkeep.web.app import create_app
from chatkeep.web.connections import GuardedProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from chatkeep.config import Settings

_log = logging.getLogger(__name__)

_KEEP_ALIVE_S: Final = 65  # longer than the proxies in front of us, which keep 60
_SPARE_FILES: Final = 200  # for the database, the upstream and ourselves
_AFTER_DRAIN_S: Final = 5


def serve(
    settings: Settings,
    sockets: Sequence[socket.socket],
    *,
    started: Callable[[], None],
    stopping: Callable[[], None],
    stop_signals: Sequence[signal.Signals] = STOP_SIGNALS,
    hurry_signals: Sequence[signal.Signals] = (),
) -> None:
    """Serve on *sockets* until one of *stop_signals*; one of *hurry_signals* cuts off.

    Where there are none of those, a second stop signal does.

    Calls *started* once requests are answered and *stopping* at the first signal.

    Raises:
        ChatkeepError: the application cannot start, and why.
    """
    _raise_file_limit()
    application = _Application(create_app(settings))
    config = _configuration(application, settings)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        server = _Server(config, application, started, stopping)
        server.stop_signals = stop_signals
        server.hurry_signals = hurry_signals
        runner.run(server.serve(list(sockets)))


def _configuration(application: _Application, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=_protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # clients that hang up or send nonsense are no news
        access_log=False,
        proxy_headers=False,  # the application knows which proxies to believe
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s + _AFTER_DRAIN_S,
    )


def _protocol() -> type[GuardedProtocol]:
    """As many connections as there are files to hold them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(GuardedProtocol.max_connections, max(files - _SPARE_FILES, 50))
    if most < GuardedProtocol.max_connections:
        _log.warning(
            "no more than %d connections at once: only %d files may be open (ulimit -n)",
            most,
            files,
        )
    return type("_Protocol", (GuardedProtocol,), {"max_connections": most})


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = GuardedProtocol.max_connections + _SPARE_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


class _Server(uvicorn.Server):
    """uvicorn's, with our signals and without its log of a failed start."""

    def __init__(
        self,
        config: uvicorn.Config,
        application: _Application,
        started: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.stop_signals: Sequence[signal.Signals] = STOP_SIGNALS
        self.hurry_signals: Sequence[signal.Signals] = ()
        self._application = application
        self._tell_started = started
        self._tell_stopping = stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals through the loop: what they call may then use it."""
        loop = asyncio.get_running_loop()
        for number in self.stop_signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        for number in self.hurry_signals:
            loop.add_signal_handler(number, self._cut_off)
        try:
            yield
        finally:
            for number in (*self.stop_signals, *self.hurry_signals):
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)  # what is left is to stop, either way

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application; its reason not to is raised, not logged."""
        log = logging.getLogger("uvicorn.error")
        log.disabled = True
        try:
            await super().startup(sockets)
        except SystemExit:
            raise self._application.failure or SetupError("The server did not start.") from None
        finally:
            log.disabled = False
        leave_alone_what_stays()
        self._tell_started()

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ANN401, ARG002 -- as uvicorn's
        """Drain at the first signal, give up waiting at the second.

        Where there is a signal to hurry, the second one says nothing new: a service manager tells
        every process of a service to stop, and so does the parent of this one.
        """
        if not self.should_exit:
            self.should_exit = True
            self._application.begin_shutdown()
            self._tell_stopping()
        elif is_news(sig, stopping=True) and not self.hurry_signals:
            self._cut_off()

    def _cut_off(self) -> None:
        self.should_exit = self.force_exit = True
        # What is cut off now complains of it at length.
        logging.getLogger("uvicorn.error").disabled = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _Application:
    """The application, and what went wrong when it started."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 -- only web/ knows the framework
        self._app = app
        self.begin_shutdown: Callable[[], None] = app.state.begin_shutdown
        self.failure: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            self.failure = error
            raise
