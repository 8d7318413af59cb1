"""What a PostgreSQL says about itself in its folder, and ending one that was left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chatkeep.errors import SetupError

_FILE = "postmaster.pid"
_SOCKET = ".s.PGSQL.5432"
_PID = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_POLL_S = 0.02
_PATIENCE_S = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """The lines of `postmaster.pid` that matter; *socket_folder* and *ready* come late."""

    pid: int
    socket_folder: Path | None
    ready: bool


def read_postmaster(data: Path) -> Postmaster | None:
    """Return what the file in *data* says: not that it is still true. None: none, or a torn one."""
    try:
        lines = (data / _FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    if not lines or not _PID.fullmatch(lines[0].strip()):
        return None
    lines += [""] * (8 - len(lines))
    return Postmaster(
        pid=int(lines[0]),
        socket_folder=Path(lines[4]) if lines[4].strip() else None,
        ready=lines[7].strip() == "ready",
    )


def stop_left_behind(data: Path) -> None:
    """End the PostgreSQL that a killed server left running on *data*, if there is one.

    Its file may be torn, because the disk was full or the power went: so its processes are looked
    for. Once there are none, such a file is taken away, which PostgreSQL would not start beside.

    Raises:
        SetupError: it does not end, or answers and is no process that can be seen from here.
    """
    for how, patience_s in _PATIENCE_S:
        deadline = time.monotonic() + patience_s
        found = _working_in(data)
        if not found:
            break
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(_first_of(found, data), how)
        while _working_in(data) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    if found := _working_in(data):
        raise SetupError(f"An earlier PostgreSQL on {data} (process {found[0]}) does not end.")
    if read_postmaster(data) is None and (data / _FILE).exists():
        _require_silence(data)
        (data / _FILE).unlink()


def _working_in(data: Path) -> list[int]:
    """Return the numbers of all processes of PostgreSQL that work in *data*."""
    if Path("/proc/self").exists():
        every = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdecimal()]
        return sorted(pid for pid in every if is_running(pid, data))
    shown = subprocess.run(["/bin/ps", "-axo", "pid="], check=True, capture_output=True, text=True)
    return sorted(pid for pid in map(int, shown.stdout.split()) if is_running(pid, data))


def _first_of(found: list[int], data: Path) -> int:
    """Return which of several processes is the one that started the others."""
    said = read_postmaster(data)
    if said is not None and said.pid in found:
        return said.pid
    return next((pid for pid in found if _parent_of(pid) not in found), found[0])


def _parent_of(pid: int) -> int:
    """Return the number of the process that started *pid*; 0 when it is gone."""
    if Path("/proc/self").exists():
        try:
            about = (Path("/proc") / str(pid) / "stat").read_text(encoding="utf-8")
        except OSError:
            return 0
        return int(about.rpartition(")")[2].split()[1])
    shown = subprocess.run(
        ["/bin/ps", "-o", "ppid=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return int(shown.stdout.strip() or 0)


def _require_silence(data: Path) -> None:
    """Refuse where something listens in *data*: in another container, which nobody sees here."""
    with socket.socket(socket.AF_UNIX) as tried:
        try:
            tried.connect(os.path.relpath(data / _SOCKET))
        except OSError:
            return
    raise SetupError(f"A PostgreSQL answers in {data} and cannot be seen from here: end it first.")


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
