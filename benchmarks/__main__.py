"""Run every benchmark, or those named, and write `benchmarks/RESULTS.md`."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("tokens", "routes", "turn", "revocation")


def main() -> None:
    """Run and write; arguments are names, and `--quick`."""
    quick = ["--quick"] if "--quick" in sys.argv else []
    wanted = [name for name in sys.argv[1:] if not name.startswith("--")] or list(NAMES)
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"No such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(NAMES)}.")
    sections = [_run(name, quick) for name in wanted]
    if not quick and wanted == list(NAMES):
        text = "\n\n".join([_head(), *sections])
        (HERE / "RESULTS.md").write_text(text + "\n")


def _head() -> str:
    return (
        "# Results\n\n"
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with `make bench`,"
        f" Python {platform.python_version()}, {platform.machine()}, the server on one core and"
        " the load on another.\n"
        "The other token libraries come with `.venv/bin/pip install -r benchmarks/peers.txt`.\n"
        "Medians of interleaved rounds; what matters is the ratios."
    )


def _run(name: str, quick: list[str]) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *quick]
    print(f"{name} ...", flush=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    rows = [f"| {key.replace('_', ' ')} | {value} |" for key, value in figures.items()]
    table = "\n".join(["| figure | median |", "| --- | --- |", *rows])
    print(table, flush=True)
    return f"## {name}\n\n`python -m benchmarks.{name}`\n\n{table}"


if __name__ == "__main__":
    main()
