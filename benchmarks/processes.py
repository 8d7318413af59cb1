"""What processes use: processor time and memory, as Linux counts them."""

from __future__ import annotations

import os
import time
from pathlib import Path

_CPUCLOCK_SCHED = 2
_TICKS = os.sysconf("SC_CLK_TCK")


def machine_busy_s() -> float:
    """Return the seconds that all cores have been at work, for anybody; 0 where nobody says."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    ticks = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / _TICKS


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time that *pid* has used, in user mode and the kernel."""
    # The clock of another process, as clock_getcpuclockid(3) would name it.
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def cpu_below_s(pid: int) -> float:
    """Return what the processes have used that *pid* has started, and those they have."""
    return sum(cpu_s(one) for one in _below(pid))


def memory_kib(pid: int) -> int:
    """Return how much memory of *pid* is resident."""
    return _status(pid, "VmRSS")


def peak_memory_kib(pid: int) -> int:
    """Return the most that was ever resident, or since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Begin anew to watch for the most memory that *pid* has."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"Linux does not say {name} of {pid}")


def _below(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_below(int(child))]
    return found
