"""Settings: MCP servers whose tools models may ask for, each by its name."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from chatkeep.config import values as read
from chatkeep.config.reading import read_named, setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.config.values import Secret

Approval = Literal["writes", "always", "never"]
Told = Literal["nothing", "statement"]


def _command(text: str) -> tuple[str, ...]:
    """Read a command as a shell would split it; no shell runs it."""
    try:
        found = tuple(shlex.split(read.plain_text(text)))
    except ValueError:
        found = ()
    if not found:
        raise read.Refused("must be a command, with quotes around what has spaces in it")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A server of tools: at *url*, or a *command* of this machine that speaks on its pipes.

    Of its tools those of *tools* are offered, all of them where that is empty. *approval*
    says which the person is asked about first: those that change something, by what the
    server says of them, all, or none. *caller* is what it is told of who asks. *token* is
    its own credential for us; *env* the names of variables that the command is given.
    *private*: it may be in a private network, and reached without encryption.
    """

    name: str
    url: str | None = None
    command: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    approval: Approval = "writes"
    timeout_s: float = 30.0
    token: Secret | None = None
    caller: Told = "nothing"
    private: bool = False
    env: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""
        return f"MCP_{self.name.upper().replace('-', '_')}"


_SETTINGS: Final = {
    "URL": ("url", read.exact_web_address),
    "COMMAND": ("command", _command),
    "TOOLS": ("tools", read.words),
    "APPROVAL": ("approval", read.choice("writes", "always", "never")),
    "TIMEOUT": ("timeout_s", read.number(0.1, 600)),
    "TOKEN": ("token", read.secret),
    "CALLER": ("caller", read.choice("nothing", "statement")),
    "PRIVATE": ("private", read.flag),
    "ENV": ("env", read.words),
}


@dataclass(frozen=True, kw_only=True)
class McpSettings:
    """Servers of tools."""

    mcp_server_names: tuple[str, ...] = setting("MCP_SERVERS", read.names, default=())
    #: Those that MCP_SERVERS names.
    mcp_servers: tuple[McpServer, ...] = ()


def read_mcp_servers(
    names: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> tuple[McpServer, ...]:
    """Read MCP_<NAME>_URL and so on for each of *names*."""
    # A command's own variable may be called as it is: MCP_GITHUB_ENV=MCP_GITHUB_LOGIN.
    lent = {
        word
        for name in names
        for word in read.words(environ.get(f"{McpServer(name=name).prefix}_ENV", ""))
    }
    ours = {name: value for name, value in environ.items() if name not in lent}
    return read_named(McpServer, _SETTINGS, names, ours, problems, listed="MCP_SERVERS")


def mcp_problems(settings: McpSettings, *, production: bool) -> list[str]:
    """Return what is wrong with the servers, a sentence each."""
    problems = []
    for one in settings.mcp_servers:
        own = one.prefix
        if bool(one.url) == bool(one.command):
            problems.append(f"Set one of {own}_URL and {own}_COMMAND, because {one.name} is named.")
        if one.command and (one.token or one.caller != "nothing" or one.private):
            problems.append(f"{own}_TOKEN, _CALLER and _PRIVATE are for a server with an address.")
        if one.env and not one.command:
            problems.append(f"{own}_ENV is for a server with a command.")
        if production and one.url and not one.url.startswith("https://") and not one.private:
            problems.append(f"{own}_URL must be https in production, or {own}_PRIVATE must be on.")
    return problems
