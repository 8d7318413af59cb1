"""What a PostgreSQL says about itself in its folder, and ending one that was left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from chatkeep.errors import SetupError

_POLL_S = 0.02
_PATIENCE_S = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """The lines of `postmaster.pid` that matter; *socket_folder* and *ready* come late."""

    pid: int
    socket_folder: Path | None
    ready: bool


def read_postmaster(data: Path) -> Postmaster | None:
    """Return what the file in *data* says: not that it is still true. None: no file."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    if not lines or not lines[0].strip().isdigit():
        return None
    lines += [""] * (8 - len(lines))
    return Postmaster(
        pid=int(lines[0]),
        socket_folder=Path(lines[4]) if lines[4].strip() else None,
        ready=lines[7].strip() == "ready",
    )


def stop_left_behind(data: Path) -> None:
    """End the PostgreSQL that a killed server left running on *data*, if there is one.

    Raises:
        SetupError: it does not end.
    """
    found = read_postmaster(data)
    if found is None:
        return
    for how, patience_s in _PATIENCE_S:
        deadline = time.monotonic() + patience_s
        if not is_running(found.pid, data):
            return
        os.kill(found.pid, how)
        while is_running(found.pid, data) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    if is_running(found.pid, data):
        raise SetupError(f"An earlier PostgreSQL on {data} (process {found.pid}) does not end.")


def is_running(pid: int, data: Path) -> bool:
    """Whether process *pid* is a PostgreSQL that works in *data*, not another with its number."""
    if Path("/proc/self").exists():
        process = Path("/proc") / str(pid)
        try:
            named = (process / "comm").read_text(encoding="utf-8").strip() == "postgres"
            return named and (process / "cwd").samefile(data)
        except OSError:
            return False  # gone, or not ours to look at, and PostgreSQL's files are ours alone
    shown = subprocess.run(
        ["/bin/ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return "postgres" in shown.stdout and str(data) in shown.stdout


def last_failure(output: str) -> str:
    """The last thing that PostgreSQL complained about, without its decoration."""
    lines = [line for line in output.splitlines() if line.strip()]
    complaints = [_complaint(line) for line in lines if _complaint(line)]
    return ["it gave no reason", *lines[-1:], *complaints[-1:]][-1].rstrip(".")


def _complaint(line: str) -> str:
    for mark in ("FATAL:", "PANIC:", "error:", "postgres:"):
        _, found, said = line.partition(mark)
        if found:
            return said.strip()
    return ""
