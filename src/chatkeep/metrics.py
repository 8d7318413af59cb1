"""Numbers that a monitoring system reads: counters, gauges and histograms of one process.

An instrument is declared at the top of the module that feeds it, as a logger is, and costs a
dictionary look-up each time. Its labels have few values: routes, statuses, codes; never a
person, a conversation, a key or what a caller typed. What should have few and does not ends in
one series called `other`, so that nobody can fill the memory of whoever collects them.

The text is Prometheus' format 0.0.4. Nothing here knows what is counted, or who asks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"
_MOST_SERIES: Final = 200
#: Seconds, from what is in memory to what people wait for.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_declared: dict[str, Instrument] = {}


class Instrument(ABC):
    """What every kind has: a name, a sentence, and the names of its labels."""

    kind: Literal["counter", "gauge", "histogram"]

    def __init__(self, name: str, says: str, *labels: str) -> None:
        """Declare it. A name is declared once in a process."""
        if name in _declared:
            raise ValueError(f"{name} is declared twice")
        self.name, self.says, self.labels = name, says, labels
        _declared[name] = self

    @abstractmethod
    def lines(self) -> Iterator[str]:
        """Yield its series, a line each."""

    def _bounded(self, values: tuple[str, ...], series: int, most: int) -> tuple[str, ...]:
        return values if series < most else (OTHER,) * len(values)


class _Numbers(Instrument):
    """One number a series."""

    def __init__(self, name: str, says: str, *labels: str, most: int = _MOST_SERIES) -> None:
        """Declare it with at most *most* series."""
        super().__init__(name, says, *labels)
        self._most = most
        self._series: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *values: str, by: float = 1) -> None:
        """Add *by* to the series with these values of the labels, in their order."""
        if values not in self._series:
            values = self._bounded(values, len(self._series), self._most)
        self._series[values] = self._series.get(values, 0) + by

    def value(self, *values: str) -> float:
        """Return what the series stands at, 0 if there is none."""
        return self._series.get(values, 0)

    def totals(self, label: str) -> dict[str, float]:
        """Return the sum of all series that have the same value of *label*, by that value."""
        place = self.labels.index(label)
        found: dict[str, float] = {}
        for values, number in self._series.items():
            found[values[place]] = found.get(values[place], 0) + number
        return found

    def lines(self) -> Iterator[str]:
        """Yield its series, a line each."""
        for values, number in sorted(self._series.items()):
            yield f"{self.name}{_labels(self.labels, values)} {_number(number)}"


class Counter(_Numbers):
    """What only grows, until the process ends."""

    kind = "counter"


class Gauge(_Numbers):
    """What stands at some value now."""

    kind = "gauge"

    def set(self, number: float, *values: str) -> None:
        """Say at what the series stands."""
        if values not in self._series:
            values = self._bounded(values, len(self._series), self._most)
        self._series[values] = number

    def forget(self) -> None:
        """Show no series until something is said anew: what it stood at may not be true."""
        self._series.clear()


class Histogram(Instrument):
    """How often something took how long."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        says: str,
        *labels: str,
        bounds: Sequence[float] = SECONDS,
        most: int = _MOST_SERIES,
    ) -> None:
        """Declare it; *bounds* are the upper ends of its buckets, ascending."""
        super().__init__(name, says, *labels)
        self._bounds = tuple(bounds)
        self._most = most
        self._series: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, number: float, *values: str) -> None:
        """Count *number* in its bucket."""
        counts = self._series.get(values)
        if counts is None:
            values = self._bounded(values, len(self._series), self._most)
            counts = self._series.setdefault(values, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, number)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + number

    def count(self, *values: str) -> int:
        """Return how many numbers the series has seen."""
        return sum(self._series.get(values, ()))

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper ends of its buckets; what is larger is in one more."""
        return self._bounds

    def counts(self, *values: str) -> list[int]:
        """Return how many numbers are in each bucket of the series, and above them all."""
        return list(self._series.get(values) or [0] * (len(self._bounds) + 1))

    def lines(self) -> Iterator[str]:
        """Yield its series: each bucket with all below it, then the sum and the count."""
        for values, counts in sorted(self._series.items()):
            below = 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                below += count
                labels = _labels((*self.labels, "le"), (*values, _number(bound)))
                yield f"{self.name}_bucket{labels} {below}"
            labels = _labels(self.labels, values)
            yield f"{self.name}_sum{labels} {_number(self._sums[values])}"
            yield f"{self.name}_count{labels} {below}"


def declared() -> list[Instrument]:
    """List every instrument that was declared, by name."""
    return [one for _, one in sorted(_declared.items())]


def find(name: str) -> Instrument:
    """Return the instrument of that name.

    Raises:
        KeyError: nothing is declared by it.
    """
    return _declared[name]


def rendered() -> str:
    """Return every series as text."""
    return "".join(
        f"# HELP {one.name} {one.says}\n# TYPE {one.name} {one.kind}\n"
        + "".join(f"{line}\n" for line in one.lines())
        for one in declared()
    )


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = zip(names, values, strict=True)
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(number: float) -> str:
    if number == float("inf"):
        return "+Inf"
    return str(int(number)) if float(number).is_integer() else repr(float(number))
