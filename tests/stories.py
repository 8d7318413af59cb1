"""Stories: what an unmodified client of npm lives through, as a script of Node.js tells it.

Each prints one JSON line for a step, `{"step", "error"?}`; see `tests/clients/stories.mjs`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parent / "clients" / "node_modules"


async def lines_of(story: Path, *arguments: str) -> list[Any]:
    """Run *story* with *arguments*; return what it printed, a value a line."""
    if not CLIENTS.exists():
        pytest.skip("the npm packages of tests/clients are not installed: run `make test`")
    process = await asyncio.create_subprocess_exec(
        *("node", str(story), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return [json.loads(line) for line in output.splitlines()]


async def told_by(story: Path, *arguments: str) -> dict[str, str | None]:
    """Run *story*; return what went wrong at each step, None where nothing did."""
    return {line["step"]: line.get("error") for line in await lines_of(story, *arguments)}
