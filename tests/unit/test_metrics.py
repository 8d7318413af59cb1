"""Metrics: the text that Prometheus reads, and labels that nobody outside can multiply."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import chatkeep
from chatkeep import metrics
from chatkeep.config import Settings
from chatkeep.errors import DatabaseUnavailable, SetupError
from chatkeep.metrics import OTHER, Counter, Gauge, Histogram, Instrument, rendered
from chatkeep.web import measures
from tests.unit.test_in_time import hanging

if TYPE_CHECKING:
    from chatkeep.web.services import Services

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
LONG_SECRET = "0123456789abcdef0123456789abcdef"
_numbers = count(1)
# Prometheus' exposition format 0.0.4.
LINE = re.compile(
    r'[a-z_]+(\{[a-z]+="([^"\\\n]|\\["\\n])*"(,[a-z]+="([^"\\\n]|\\["\\n])*")*\})?'
    r" (-?\d+(\.\d+)?(e-?\d+)?|\+Inf)"
)


@pytest.fixture(autouse=True)
def _own_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is gone with it; what modules declare when they are imported stays."""
    every_instrument()
    monkeypatch.setattr(metrics, "_declared", dict(metrics._declared))


def new_name() -> str:
    """Return a name that no instrument has."""
    return f"tried_{'x' * next(_numbers)}"


def series_of(instrument: Instrument) -> dict[str, str]:
    """Return each series with its number, as text."""
    return dict(line.rsplit(" ", 1) for line in instrument.lines())


def every_instrument() -> list[Instrument]:
    """List what all modules of the package declare."""
    for module in pkgutil.walk_packages(chatkeep.__path__, "chatkeep."):
        if not module.name.startswith(("chatkeep.sql.", "chatkeep.__main__")):
            importlib.import_module(module.name)
    return metrics.declared()


def test_counter_adds_up_by_its_labels() -> None:
    """Each combination of labels is a series of its own."""
    asked = Counter(new_name(), "How often.", "route", "status")
    asked.add("/a", "200")
    asked.add("/a", "200", by=2)
    asked.add("/b", "500")
    assert series_of(asked) == {
        f'{asked.name}{{route="/a",status="200"}}': "3",
        f'{asked.name}{{route="/b",status="500"}}': "1",
    }


def test_number_without_labels_is_there_from_the_start() -> None:
    """A counter at nought is a fact; none at all would make a rule wait for the first."""
    assert series_of(Counter(name := new_name(), "How often.")) == {name: "0"}


def test_histogram_counts_each_bucket_with_all_below_it() -> None:
    """As Prometheus wants it: the last bucket and the count are the same."""
    took = Histogram(name := new_name(), "How long.", bounds=(0.1, 1))
    for seconds in (0.05, 0.1, 0.5, 7):
        took.observe(seconds)
    assert series_of(took) == {
        f'{name}_bucket{{le="0.1"}}': "2",
        f'{name}_bucket{{le="1"}}': "3",
        f'{name}_bucket{{le="+Inf"}}': "4",
        f"{name}_sum": "7.65",
        f"{name}_count": "4",
    }


@pytest.mark.parametrize("kind", [Counter, Gauge, Histogram])
def test_labels_beyond_the_most_are_one_series(kind: type[Counter | Gauge | Histogram]) -> None:
    """However many models a caller invents, the memory of who collects stays bounded."""
    seen = kind(new_name(), "How often.", "model", most=3)
    for number in range(1000):
        if isinstance(seen, Histogram):
            seen.observe(1, f"model-{number}")
        else:
            seen.add(f"model-{number}")
    models = {re.search(r'model="([^"]*)"', series) for series in series_of(seen)}
    assert {one.group(1) for one in models if one} == {"model-0", "model-1", "model-2", OTHER}
    counted = seen.count(OTHER) if isinstance(seen, Histogram) else seen.value(OTHER)
    assert counted == 997


def test_gauge_forgets_what_may_not_be_true_any_more() -> None:
    """Nothing is shown rather than something old."""
    stands = Gauge(new_name(), "How many.", "state")
    stands.set(3, "todo")
    stands.forget()
    assert series_of(stands) == {}


def test_label_cannot_forge_a_line() -> None:
    """Quotes, backslashes and line ends in a label stay inside of it."""
    Counter(name := new_name(), "How often.", "code").add('a"} 1\nchatkeep_x 7\\')
    (line,) = [line for line in rendered().splitlines() if line.startswith(f"{name}{{")]
    assert line == name + r'{code="a\"} 1\nchatkeep_x 7\\"} 1'


def test_every_line_is_of_the_format() -> None:
    """Comments and series, and nothing else."""
    every_instrument()
    for line in rendered().splitlines():
        assert re.match(r"# (HELP|TYPE) [a-z_]+ \S", line) or LINE.fullmatch(line), line


def test_name_is_declared_once() -> None:
    """Two modules cannot count different things under one name."""
    Counter(name := new_name(), "How often.")
    with pytest.raises(ValueError, match="twice"):
        Gauge(name, "How many.")


def test_every_metric_is_explained_with_its_labels() -> None:
    """The reference has one line for each metric, with kind and labels, and none beside them."""
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (\w+) \| ([^|]*)\|",
        REFERENCE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    explained = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert explained == {one.name: (one.kind, one.labels) for one in every_instrument()}


def test_no_metric_is_about_a_person() -> None:
    """No label says who, or from where."""
    labels = {label for one in every_instrument() for label in one.labels}
    assert not labels & {"user", "user_id", "email", "address", "client", "session", "path", "kid"}


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"METRICS_TOKEN": LONG_SECRET}, "METRICS_TOKEN needs METRICS_PORT."),
        ({"METRICS_PORT": "8000"}, "METRICS_PORT must not be PORT"),
        ({"METRICS_PORT": "7999", "WORKERS": "2"}, "METRICS_PORT must not be PORT"),
        ({"METRICS_PORT": "65535", "WORKERS": "2"}, "METRICS_PORT leaves no room"),
        (
            {
                "ENVIRONMENT": "production",
                "PUBLIC_URL": "https://chat.example",
                "METRICS_PORT": "9464",
                "METRICS_HOST": "0.0.0.0",
            },
            "METRICS_TOKEN must be set in production",
        ),
    ],
)
def test_contradiction_is_refused(environ: dict[str, str], told: str) -> None:
    """What could not work, or would be open to everybody, is said at start."""
    with pytest.raises(SetupError) as refused:
        Settings.from_env(environ)
    assert [problem for problem in refused.value.problems if problem.startswith(told)]


async def test_database_that_hangs_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving it up takes long: whoever collects hears that it is away, and not nothing."""
    let_go = asyncio.Event()
    monkeypatch.setattr(measures, "_DATABASE_WITHIN_S", 0.01)
    monkeypatch.setattr(measures, "_read_services", lambda _: None)
    monkeypatch.setattr(measures, "_read_database", lambda _: hanging(let_go))
    collecting = asyncio.create_task(measures.collect(cast("Services", None)))
    told, _ = await asyncio.wait([collecting], timeout=10)
    let_go.set()
    assert told
    assert "\nchatkeep_database_up 0\n" in await collecting


@pytest.mark.parametrize(("error", "told"), [(None, 1), (DatabaseUnavailable(), 0)])
async def test_database_is_up_when_it_says_what_it_knows(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, told: int
) -> None:
    """One that is away is told as such; any other error is one."""

    async def read(_: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(measures, "_read_services", lambda _: None)
    monkeypatch.setattr(measures, "_read_database", read)
    assert f"\nchatkeep_database_up {told}\n" in await measures.collect(cast("Services", None))
    error = RuntimeError("a mistake")
    with pytest.raises(RuntimeError):
        await measures.collect(cast("Services", None))
