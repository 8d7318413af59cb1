"""An MCP server of a shop: `python -m tests.mcp_shop http PORT`, or `... stdio`.

The file that MCP_SHOP_NOTES names gets a line for each call. Where MCP_SHOP_GATE names a file,
`heard` answers when there is one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

READS = ToolAnnotations(read_only_hint=True)
server = MCPServer("shop", log_level="CRITICAL")


def note(line: str) -> None:
    """Say that something was called."""
    path = os.environ.get("MCP_SHOP_NOTES")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


@server.tool(annotations=READS)
async def stock(item: str) -> str:
    """Say how many there are of an item."""
    note(f"stock {item}")
    return f"7 of {item}"


@server.tool()
async def order(item: str, count: int) -> dict[str, int]:
    """Order an item."""
    note(f"order {item} {count}")
    return {item: count}


@server.tool(annotations=READS, structured_output=False)
async def heard(context: Context) -> str:
    """Say what this server was told of the caller."""
    note("heard")
    headers = context.headers or {}
    await asyncio.sleep(float(os.environ.get("MCP_SHOP_PAUSE", "0")))
    gate = os.environ.get("MCP_SHOP_GATE")
    while gate and not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 -- another process makes it
        await asyncio.sleep(0.02)
    said = {name.lower(): value for name, value in headers.items()}
    return f"{said.get('authorization')} {said.get('chatkeep-caller')} {said.get('cookie')}"


@server.tool(annotations=READS)
async def slow() -> str:
    """Never answer."""
    note("slow")
    await asyncio.sleep(600)
    return "too late"


@server.tool(annotations=READS)
async def long() -> str:
    """Say more than a model should hear."""
    return "x" * 100_000


@server.tool(annotations=READS)
async def endless() -> str:
    """Say more than anybody should keep."""
    return "x" * 3_000_000


@server.tool(annotations=READS)
async def broken() -> str:
    """Fail."""
    raise ValueError("no such shelf")


@server.tool(annotations=READS, structured_output=False)
async def environment() -> str:
    """Say what this process was given."""
    return ",".join(sorted(os.environ))


@server.tool(name="a.dotted/name", annotations=READS)
async def dotted() -> str:
    """Have a name that no provider of models takes."""
    return "dotted"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
