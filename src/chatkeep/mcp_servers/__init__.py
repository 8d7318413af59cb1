"""MCP servers: programs of others whose tools our models may ask for.

What a server says, of its tools too, is untrusted: it is bounded in size and time, and the
operator chooses what is offered and what a person is asked about first. A caller's own
credential never leaves this server.
"""

from chatkeep.mcp_servers.connections import McpConnection, open_mcp_servers
from chatkeep.mcp_servers.examining import examine_mcp_servers

__all__ = ["McpConnection", "examine_mcp_servers", "open_mcp_servers"]
