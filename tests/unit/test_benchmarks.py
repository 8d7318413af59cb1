"""What is made of measurements: which ratios count as worse, and pictures that can be read."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import check, report
from benchmarks.plots import PLOTS, chart, plotted
from benchmarks.running import NAMES, Result
from benchmarks.targets import RECKONED, TARGETS, Target

CAPACITY = Path(__file__).parents[2] / "docs/explanation/capacity.md"


def a_result(**figures: object) -> Result:
    """Return what the benchmark of the database might find."""
    return Result(name="database", figures=figures, seconds=1.0, others=0.0)


def test_every_benchmark_is_there() -> None:
    """`make bench` runs what there is, and every target belongs to one of them."""
    assert all(importlib.util.find_spec(f"benchmarks.{name}") for name in NAMES)
    assert set(TARGETS) <= set(NAMES)


@pytest.mark.parametrize(
    ("sense", "before", "now", "worse"),
    [
        ("<=", 1.0, 1.2, False),
        ("<=", 1.0, 1.3, True),
        ("<=", 1.0, 0.2, False),
        (">=", 20, 17, False),
        (">=", 20, 15, True),
        (">=", 20, 90, False),
        ("<=", 0, 3, False),
    ],
)
def test_a_quarter_worse_is_a_breach(sense: str, before: float, now: float, worse: bool) -> None:
    """In the direction that is worse, and from a quarter on."""
    target = Target("some_ratio", "<=" if sense == "<=" else ">=", 1.0)
    assert (target.worsening(before, now) > check.TOLERATED) is worse


def test_only_ratios_are_compared() -> None:
    """A slower machine is not a regression: times are left alone, and so is what is new."""
    before = {"profile_ours_of_bare": 1.0, "profile_ours_us": 50.0}
    assert check.breaches(a_result(profile_ours_of_bare=1.1, profile_ours_us=500.0), before) == []
    (found,) = check.breaches(a_result(profile_ours_of_bare=1.5), before)
    assert (found.figure, found.before, found.now) == ("profile_ours_of_bare", 1.0, 1.5)
    assert check.breaches(a_result(profile_ours_of_bare=9.0), {}) == []


@pytest.mark.parametrize(
    ("measured", "arguments", "status", "runs"),
    [
        ([1.0], ["database"], 0, 1),
        ([2.0, 1.0], ["database"], 0, 2),
        ([2.0, 2.0], ["database"], 1, 2),
        ([2.0, 2.0], ["database", "--quick"], 0, 2),
    ],
    ids=["as before", "worse once", "worse twice", "worse twice, short form"],
)
def test_what_is_worse_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    measured: list[float],
    arguments: list[str],
    status: int,
    runs: int,
) -> None:
    """Once is noise; twice fails the command, and in the short form is told."""
    for name, place in (("RAW", "results.json"), ("RESULTS", "RESULTS.md"), ("PLOTS", "plots")):
        monkeypatch.setattr(report, name, tmp_path / place)
    report.write([a_result(profile_ours_of_bare=1.0)])
    assert "| database | profile ours of bare | 1 | <= 1.4 | met |" in report.RESULTS.read_text()
    left = list(measured)
    monkeypatch.setattr(
        check, "run", lambda _name, *, quick: a_result(profile_ours_of_bare=left.pop(0), q=quick)
    )
    assert check.main(arguments) == status
    assert len(measured) - len(left) == runs


def test_nothing_to_compare_is_said() -> None:
    """A name without ratios is refused with those that have some."""
    with pytest.raises(SystemExit, match="database"):
        check.main(["revocation"])


def test_busy_machine_is_noise() -> None:
    """What other work took, or a benchmark's own rounds, make a result noisy."""
    assert not a_result(noisy=False).is_noisy
    assert a_result(noisy=True).is_noisy
    assert a_result(apart_noisy=True).is_noisy
    assert Result(name="x", figures={}, seconds=1.0, others=0.5).is_noisy


def test_pictures_are_svg_that_says_what_it_shows() -> None:
    """Well-formed, with every label and number also as text for who cannot see it."""
    picture = chart("Less <is> better", [("A & B", {"Chatkeep": 0.5, "other": 1234.0})])
    root = ET.fromstring(picture)  # noqa: S314 -- our own
    said = "".join(root.itertext())
    assert "Less <is> better" in said
    assert "A & B: Chatkeep 0.5, other 1,234" in said


def test_what_was_not_measured_is_not_drawn() -> None:
    """A peer that is not installed has no bar, and a benchmark that was not run no picture."""
    pictures = plotted({"database": {"profile_ours_us": 50, "profile_bare_us": 40}})
    assert list(pictures) == ["database"]
    assert "SQLAlchemy" not in pictures["database"]


def test_committed_results_have_every_ratio() -> None:
    """`make bench-check` compares something for each ratio that has a target."""
    results = report.read()
    assert {"tokens", "database"} <= {one.name for one in results}
    missing = [
        target.figure
        for one in results
        for target in TARGETS.get(one.name, [])
        if target.steady and target.figure not in one.figures
    ]
    assert missing == []


def test_committed_results_have_every_bar() -> None:
    """No picture lacks a bar because a figure is called otherwise than where it is drawn."""
    found = {one.name: one.figures for one in report.read()}
    missing = [
        figure
        for _, panels in PLOTS.values()
        for panel in panels
        for figure in panel.bars.values()
        if panel.benchmark in found and figure not in found[panel.benchmark]
    ]
    assert missing == []


def test_capacity_page_says_what_it_reckons_with() -> None:
    """Each number of its sums stands in a line with the figure that it rests on."""
    lines = CAPACITY.read_text().splitlines()
    unsaid = [
        one.figure
        for one in RECKONED
        if not any(
            one.said in line
            and f"`{one.figure.replace('_', ' ')}`" in line
            and f"RESULTS.md#{one.benchmark})" in line
            for line in lines
        )
    ]
    assert unsaid == []


def test_capacity_page_names_only_figures_there_are() -> None:
    """What it rests on was measured, as far as the benchmark was run."""
    found = {one.name: set(one.figures) for one in report.read()}
    named = re.findall(r"RESULTS\.md#(\w+)\), `([^`]+)`", CAPACITY.read_text())
    assert len(named) > len(RECKONED)
    missing = [
        figure
        for name, figure in named
        if name in found and figure.replace(" ", "_") not in found[name]
    ]
    assert missing == []


def test_report_says_what_is_met_and_what_was_never_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every target has a row, and the sums of the capacity page one for what they rest on."""
    for name, place in (("RAW", "results.json"), ("RESULTS", "RESULTS.md"), ("PLOTS", "plots")):
        monkeypatch.setattr(report, name, tmp_path / place)
    figures = {"profile_ours_of_bare": 1.0, "store_ours_of_bare": 3.0, "profile_ours_us": 9000.0}
    report.write(
        [a_result(**figures, noisy=True), Result(name="turn", figures={}, seconds=1.0, others=0.0)]
    )
    said = report.RESULTS.read_text()
    assert "| database | profile ours of bare | 1 | <= 1.4 | met (noisy) |" in said
    assert "| database | store ours of bare | 3 | <= 1.2 | **not met** (noisy) |" in said
    assert "| start | chatkeep start s |  | <= 3 | not measured |" in said
    assert "| database | profile ours us | 9000 | 150 | **not enough** |" in said
    assert "LiteLLM was not installed for turn:" in said
