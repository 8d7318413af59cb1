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
from typing import TYPE_CHECKING

from benchmarks.processes import machine_busy_s

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
    began, busy, own = time.monotonic(), machine_busy_s(), _own_s()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    took = time.monotonic() - began
    others = max(0.0, machine_busy_s() - busy - (_own_s() - own)) / took / (os.cpu_count() or 1)
    return Result(
        name=name,
        figures=json.loads(done.stdout.splitlines()[-1]),
        seconds=round(took, 1),
        others=round(others, 2),
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
    )


def _own_s() -> float:
    """Return the seconds of the processes that we started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
