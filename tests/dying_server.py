"""Servers that die in a refresh: started by the line, one after the other.

    python -m tests.dying_server

A line `PORT between` forks a server that kills itself, as a power cut would, after a refresh
token was marked as used and before its successor is written; `PORT outside` one that somebody
else kills. Settings come from the environment; the answer is the process id.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn

from chatkeep.config import Settings
from chatkeep.sessions import records as sessions
from chatkeep.web.app import create_app
from chatkeep.web.connections import GuardedProtocol

if TYPE_CHECKING:
    from chatkeep.sessions.records import Rotated


def main() -> None:
    """Fork a server for each line of the input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    for line in sys.stdin:
        port, how = line.split()
        pid = os.fork()
        if pid == 0:
            serve(int(port), dies_between=how == "between")
        print(pid, flush=True)  # noqa: T201 -- whoever starts them reads it


def serve(port: int, *, dies_between: bool) -> NoReturn:
    """Serve at *port* until the end."""
    if dies_between:
        sessions.rotate_session = dying(sessions.rotate_session)  # the fault to be survived
    uvicorn.run(
        create_app(Settings.from_env(os.environ)),
        port=port,
        http=GuardedProtocol,
        log_level="critical",
    )
    os._exit(0)


def dying(rotate: Any) -> Any:  # noqa: ANN401 -- handed on
    """Return *rotate*, but that the process is gone when it has committed."""

    async def rotated(*arguments: object, **more: object) -> Rotated:
        await rotate(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return rotated


if __name__ == "__main__":
    main()
