"""What `chatkeep doctor` says of MCP servers: whether they are there, and what they offer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chatkeep.mcp_servers.connections import connected, first_of, list_all
from chatkeep.mcp_servers.offering import offered_tools
from chatkeep.setup_checks.findings import Finding
from chatkeep.tools import RegisteredTool

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from chatkeep.config import Settings
    from chatkeep.config.mcp import McpServer


async def examine_mcp_servers(settings: Settings) -> list[Finding]:
    """Connect to every server, side by side, and ask for its tools; none is called."""
    public_only = settings.production
    asked = [_examined(one, public_only=public_only) for one in settings.mcp_servers]
    return list(await asyncio.gather(*asked))


async def _examined(server: McpServer, *, public_only: bool) -> Finding:
    name = f"MCP {server.name}"
    try:
        async with connected(server, public_only=public_only) as client:
            found = await list_all(client)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is why there are no tools
        there = f"{server.prefix}_{'COMMAND' if server.command else 'URL'}"
        first = first_of(error)
        said = str(first)[:200] or type(first).__name__
        problem = f"It does not answer ({said}): check {there}."
        return Finding(name=name, problems=(problem,))
    offered = offered_tools(server, found, _nobody_calls)
    missing = sorted(set(server.tools) - {one.name for one in found})
    problems = [f"It has no tool {one}: check {server.prefix}_TOOLS." for one in missing]
    return Finding(name=name, note=_shown(offered), problems=tuple(problems))


def _nobody_calls(_: str) -> Callable[..., Any]:
    return RegisteredTool  # anything that could be called: here no tool is


def _shown(offered: list[RegisteredTool]) -> str:
    asked = sum(one.needs_approval for one in offered)
    names = ", ".join(one.offered.name for one in offered)
    return f"{len(offered)} tools, of which {asked} ask first: {names}"
