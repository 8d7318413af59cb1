"""Writes what was found: `RESULTS.md` for people, `results.json` for `bench-check`, plots."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.plots import plotted
from benchmarks.running import NAMES, Result
from benchmarks.targets import RECKONED, TARGETS, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WITH_LITELLM = ("turn", "stream", "start")
HERE = Path(__file__).parent
RESULTS, RAW, PLOTS = HERE / "RESULTS.md", HERE / "results.json", HERE / "plots"


def write(found: Sequence[Result]) -> None:
    """Write *found*, in place of what was there of the same benchmarks, and the report anew."""
    known = {one.name: one for one in (*read(), *found)}
    results = [known[name] for name in NAMES if name in known]
    raw = {"machine": _machine(), "results": [asdict(one) for one in results]}
    RAW.write_text(json.dumps(raw, indent=1) + "\n")
    PLOTS.mkdir(exist_ok=True)
    pictures = plotted({one.name: one.figures for one in results})
    for name, picture in pictures.items():
        (PLOTS / f"{name}.svg").write_text(picture)
    sections = [_section(name, known.get(name)) for name in NAMES]
    parts = [_head(results), _targets(results), *_embedded(pictures), *sections]
    parts.append(_reckoned(results))
    RESULTS.write_text("\n\n".join(parts) + "\n")


def read() -> list[Result]:
    """Return what was written last."""
    if not RAW.exists():
        return []
    return [Result(**one) for one in json.loads(RAW.read_text())["results"]]


def _machine() -> str:
    model = platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        for line in about.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _head(found: Sequence[Result]) -> str:
    took = sum(one.seconds for one in found)
    noisy = [one.name for one in found if one.is_noisy]
    said = (
        "No benchmark was too noisy to be believed."
        if not noisy
        else f"Too noisy to be believed to the digit: {', '.join(noisy)}."
        " Ratios of work done in turn hold better than times."
    )
    return (
        "# Results\n\n"
        f"Measured with `make bench`, at the times that are told below, in {took / 60:.0f} minutes"
        f" altogether: {_machine()}, the server on one core and the load on another.\n"
        "Medians of interleaved rounds; what matters is the ratios.\n"
        "This file, `results.json` and `plots/` are written by the command.\n\n"
        f"{said}{_without_litellm(found)}"
    )


def _without_litellm(found: Sequence[Result]) -> str:
    alone = [one.name for one in found if one.name in _WITH_LITELLM and not _has_litellm(one)]
    if not alone:
        return ""
    return f"\nLiteLLM was not installed for {', '.join(alone)}: `scripts/litellm-peer`."


def _has_litellm(one: Result) -> bool:
    return any("litellm" in figure for figure in one.figures)


def _targets(found: Sequence[Result]) -> str:
    rows = ["| benchmark | figure | measured | must be | |", "| --- | --- | --- | --- | --- |"]
    known = {one.name: one for one in found}
    for name, targets in TARGETS.items():
        one = known.get(name)
        numbers, noise = ({}, "") if one is None else (one.numbers(), " (noisy)" * one.is_noisy)
        for target in targets:
            value = numbers.get(target.figure)
            met = "not measured" if value is None else _verdict(target, value) + noise
            rows.append(
                f"| {name} | {target.figure.replace('_', ' ')} | {_shown(value)}"
                f" | {target.sense} {_shown(target.bound)} | {met} |"
            )
    return "## Targets\n\n" + "\n".join(rows)


def _verdict(target: Target, value: float) -> str:
    return "met" if target.is_met(value) else "**not met**"


def _shown(value: float | None) -> str:
    """Return *value* as people read it: no powers of ten, and no digits that mean nothing."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:g}"


def _reckoned(found: Sequence[Result]) -> str:
    """What the capacity page takes for its sums, beside what was measured."""
    known = {one.name: one.numbers() for one in found}
    rows = [
        "| benchmark | figure | measured | reckoned with | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in RECKONED:
        value = known.get(one.benchmark, {}).get(one.figure)
        is_safe = None if value is None else value <= one.value
        said = {None: "not measured", True: "on the safe side", False: "**not enough**"}[is_safe]
        rows.append(
            f"| {one.benchmark} | {one.figure.replace('_', ' ')} | {_shown(value)}"
            f" | {_shown(one.value)} | {said} |"
        )
    return (
        "## What the sums rest on\n\n"
        "[Capacity](../docs/explanation/capacity.md) reckons with these.\n\n" + "\n".join(rows)
    )


def _embedded(pictures: dict[str, str]) -> Iterator[str]:
    for name, picture in pictures.items():
        title = picture.partition("<title>")[2].partition("</title>")[0]
        yield f"![{title}](plots/{name}.svg)"


def _section(name: str, one: Result | None) -> str:
    if one is None:
        return f"## {name}\n\nNot measured yet: `make bench ARGS={name}`."
    rows = [
        f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in one.numbers().items()
    ]
    others = (
        "what else the machine did is not known"
        if one.others is None
        else f"other work took {one.others:.0%} of the machine meanwhile"
    )
    took = f", {one.seconds:.0f} s" if one.seconds else ""
    noise = f"{one.measured_at} UTC{took}; {others}."
    noise += " **Noisy.**" if one.is_noisy else ""
    table = "\n".join(["| figure | median |", "| --- | --- |", *rows])
    return f"## {one.name}\n\n`python -m benchmarks.{one.name}`, {noise}\n\n{table}"
