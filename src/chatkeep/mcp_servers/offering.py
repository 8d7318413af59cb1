"""What of an MCP server's tools is offered to models, and under which names."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

import msgspec

from chatkeep.llm.model import Tool
from chatkeep.tools import RegisteredTool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    import mcp_types

    from chatkeep.config.mcp import McpServer

_log = logging.getLogger(__name__)

TOOLS_AT_MOST: Final = 128
_DESCRIPTION_AT_MOST: Final = 4096
_SCHEMA_AT_MOST: Final = 32 * 1024
#: What every provider of models takes as the name of a tool.
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")


def offered_tools(
    server: McpServer,
    found: Sequence[mcp_types.Tool],
    call: Callable[[str], Callable[..., Any]],
) -> list[RegisteredTool]:
    """Return those of *found* that *server* is set to offer; *call* gives what runs one.

    One that no model could be told of, or a second one of a name, is left out and logged.
    """
    return list(_offered(server, found, call))


def _offered(
    server: McpServer,
    found: Sequence[mcp_types.Tool],
    call: Callable[[str], Callable[..., Any]],
) -> Iterator[RegisteredTool]:
    seen: set[str] = set()
    for one in found:
        if server.tools and one.name not in server.tools:
            continue
        name = f"{server.name}_{_ODD.sub('_', one.name)}"
        schema = msgspec.json.encode(one.input_schema)
        if len(seen) == TOOLS_AT_MOST or name in seen or not _NAME.fullmatch(name):
            _log.warning(
                "%s: a tool has no name that can be offered, or is one too many", server.name
            )
        elif len(schema) > _SCHEMA_AT_MOST:
            _log.warning("%s: the parameters of %s are too long to be offered", server.name, name)
        else:
            seen.add(name)
            yield RegisteredTool(
                offered=Tool(
                    name=name,
                    description=(one.description or one.title or "")[:_DESCRIPTION_AT_MOST] or None,
                    parameters=msgspec.json.decode(schema),
                ),
                arguments=None,
                function=call(one.name),
                takes_context=True,
                needs_approval=_needs_approval(server, one),
                timeout_s=server.timeout_s,
                takes_all=True,
            )
    if missing := set(server.tools) - {one.name for one in found}:
        _log.warning("%s has no tool %s", server.name, ", ".join(sorted(missing)))


def _needs_approval(server: McpServer, tool: mcp_types.Tool) -> bool:
    """Whether a person says yes first. Who says nothing of a tool may change something with it."""
    if server.approval != "writes":
        return server.approval == "always"
    return tool.annotations is None or tool.annotations.read_only_hint is not True
