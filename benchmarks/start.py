"""How long a server takes to answer, started on a data folder it knows, and what it holds idle.

Warm: the folder has been made and migrated, and the system has read the files before. Memory
is what is resident a while after the start, PostgreSQL's own processes not counted (they
share their buffers). LiteLLM, where it is installed, starts in turn with ours; it has no
database here.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack

from benchmarks import contenders
from benchmarks.figures import is_noisy, spread
from benchmarks.processes import memory_kib
from benchmarks.stack import LOAD_CORE, chatkeep_process, pin

_SETTLES_S, _SETTLES_QUICKLY_S = 2.0, 1.0


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians over interleaved starts."""
    rounds, has_litellm = (3 if quick else 5), contenders.has_litellm()
    data = tempfile.mkdtemp(prefix="chatkeep-bench-")
    seconds: dict[str, list[float]] = {"chatkeep": [], "litellm": []}
    memory: dict[str, list[float]] = {"chatkeep": [], "litellm": []}
    try:
        with chatkeep_process(data=data):
            pass  # the first start makes the folder
        for _ in range(rounds):
            for name in ("chatkeep", "litellm") if has_litellm else ("chatkeep",):
                began, held = _start(name, data, _SETTLES_QUICKLY_S if quick else _SETTLES_S)
                seconds[name].append(began)
                memory[name].append(held)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    figures: dict[str, object] = {}
    for name, took in seconds.items():
        if took:
            figures[f"{name}_start_s"] = round(statistics.median(took), 2)
            figures[f"{name}_idle_mib"] = round(statistics.median(memory[name]), 1)
    if has_litellm:
        for what, found in (("start", seconds), ("idle", memory)):
            pairs = zip(found["litellm"], found["chatkeep"], strict=True)
            ratio = statistics.median(theirs / ours for theirs, ours in pairs)
            figures[f"litellm_{what}_times_ours"] = round(ratio, 2)
    figures["spread"] = round(max(spread(took) for took in seconds.values()), 2)
    figures["noisy"] = is_noisy(*seconds.values())
    return figures


def _start(name: str, data: str, settles_s: float) -> tuple[float, float]:
    """Return the seconds until it answered, and the MiB it held a while later."""
    with ExitStack() as stack:
        began = time.perf_counter()
        if name == "litellm":
            pid = stack.enter_context(contenders.litellm(1)).pid
        else:
            _, pid = stack.enter_context(chatkeep_process(data=data))
        took = time.perf_counter() - began
        time.sleep(settles_s)
        return took, memory_kib(pid) / 1024


if __name__ == "__main__":
    pin(LOAD_CORE)
    print(json.dumps(measure(quick="--quick" in sys.argv)))
