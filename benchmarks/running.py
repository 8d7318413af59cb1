"""Runs one benchmark as a command of its own, and says what else the machine did meanwhile."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = (
    "tokens",
    "routes",
    "database",
    "turn",
    "stream",
    "streams",
    "revocation",
    "start",
    "logins",
    "growth",
)
_TICKS = os.sysconf("SC_CLK_TCK")
#: Busier than this with other things, the machine does not measure.
BUSY = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a benchmark found. *others*: the part of all cores that other work took, if known."""

    name: str
    figures: Mapping[str, object]
    seconds: float
    others: float | None
    measured_at: str = ""

    @property
    def is_noisy(self) -> bool:
        """Whether its own rounds lie far apart, or the machine was busy."""
        own = any(value is True for key, value in self.figures.items() if key.endswith("noisy"))
        return own or (self.others or 0.0) > BUSY

    def numbers(self) -> dict[str, float]:
        """Return the figures that are numbers."""
        return {
            key: float(value)
            for key, value in self.figures.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }


def run(name: str, *, quick: bool) -> Result:
    """Run the benchmark *name*; its last line is one JSON object.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    began, busy, own = time.monotonic(), _busy_s(), _own_s()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    took = time.monotonic() - began
    others = max(0.0, _busy_s() - busy - (_own_s() - own)) / took / (os.cpu_count() or 1)
    return Result(
        name=name,
        figures=json.loads(done.stdout.splitlines()[-1]),
        seconds=round(took, 1),
        others=round(others, 2),
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
    )


def _busy_s() -> float:
    """Return the seconds that all cores have been at work, for anybody."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    ticks = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / _TICKS


def _own_s() -> float:
    """Return the seconds of the processes that we started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
