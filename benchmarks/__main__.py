"""Run every benchmark, or those named, and write down what was found.

It goes into `results.json`, `RESULTS.md` and the plots beside this file, in place of what was
there of the same benchmarks; a `--quick` run writes nothing.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.report import RESULTS, write
from benchmarks.running import NAMES, run

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Run and write; *arguments* are names, and `--quick`."""
    quick = "--quick" in arguments
    wanted = [name for name in arguments if not name.startswith("--")] or list(NAMES)
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"No such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(NAMES)}.")
    if not quick:
        peers.install()
    for name in wanted:
        print(f"{name} ...", flush=True)
        found = run(name, quick=quick)
        print(json.dumps(found.figures, indent=1), flush=True)
        if not quick:
            write([found])
    if not quick:
        print(f"Written: {RESULTS}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
