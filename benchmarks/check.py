"""Compares ratios with the committed results, and fails when one is a quarter worse.

Never times: a ratio of work done in turn in one run holds on any machine. What is worse is
measured once more before it counts. In the short form (`--quick`, which CI runs) some
benchmarks are left out, and what remains worse is told without failing: a busy machine is
not a regression. What counts there are the tests that count queries, round trips and calls
(`tests/db/test_round_trips.py`, `tests/http/test_round_trips.py`, `tests/unit/test_calls.py`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.report import read
from benchmarks.running import NAMES, run
from benchmarks.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.running import Result

#: A ratio may be worse by this part.
TOLERATED = 0.25
#: Quick, and not bent much by what else the machine does.
_SHORT = ("tokens", "database")


@dataclass(frozen=True, slots=True)
class Breach:
    """A ratio that is worse than it was."""

    figure: str
    before: float
    now: float


def main(arguments: Sequence[str]) -> int:
    """Measure and compare; return 1 for a regression. Arguments: names, and `--quick`."""
    quick = "--quick" in arguments
    steady = [name for name in NAMES if any(one.steady for one in TARGETS.get(name, []))]
    named = [name for name in arguments if not name.startswith("--")]
    if unknown := set(named) - set(steady):
        sys.exit(f"Nothing to compare for {', '.join(sorted(unknown))}: {', '.join(steady)}.")
    before = {one.name: one.numbers() for one in read()}
    wanted = named or list(_SHORT if quick else steady)
    worse = [name for name in wanted if _is_worse(name, before.get(name, {}), quick=quick)]
    if worse and quick:
        print(f"Worse than the committed results: {', '.join(worse)}; told, not failed.")
        return 0
    return 1 if worse else 0


def _is_worse(name: str, before: Mapping[str, float], *, quick: bool) -> bool:
    """Measure; once more when something is worse, and then only what is so both times."""
    found: list[Breach] = []
    for attempt in (1, 2):
        result = run(name, quick=quick)
        again = {one.figure for one in found}
        found = [one for one in breaches(result, before) if attempt == 1 or one.figure in again]
        noise = "noisy, " if result.is_noisy else ""
        print(f"{name}: {noise}other work took {result.others or 0:.0%}", flush=True)
        for one in found:
            print(f"  {one.figure}: {one.before:g} before, {one.now:g} now", flush=True)
        if not found:
            return False
    return True


def breaches(result: Result, before: Mapping[str, float]) -> list[Breach]:
    """Return the ratios of *result* that are worse than *before* by more than is tolerated."""
    return list(_breaches(result, before))


def _breaches(result: Result, before: Mapping[str, float]) -> Iterator[Breach]:
    numbers = result.numbers()
    for target in TARGETS.get(result.name, []):
        was, now = before.get(target.figure), numbers.get(target.figure)
        if not target.steady or was is None or now is None:
            continue
        if target.worsening(was, now) > TOLERATED:
            yield Breach(target.figure, was, now)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
