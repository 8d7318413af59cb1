"""Tools of MCP servers: a real server in a process of its own, asked through ours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiohttp import web

from chatkeep.config import Settings
from chatkeep.errors import SetupError
from chatkeep.events import Done, TextDelta, ToolCall
from chatkeep.mcp_servers import examine_mcp_servers
from chatkeep.tools import Tools
from tests.free_ports import free_port
from tests.patience import PATIENCE_S
from tests.serving import serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import ModelInfo, Prompt
    from tests.http.conftest import StartNode
    from tests.serving import Client, Node

own = Tools()


@own.tool(name="shop_stock")
async def shadowed() -> str:
    """Have the name of the shop's."""
    return "our own"


class Asking:
    """A model that asks for the tool that the question names, and then says what it heard."""

    name = "asking"

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Ask, or say."""
        self.prompts.append(prompt)
        last = prompt.messages[-1]
        if last.role == "tool":
            yield TextDelta(text=f"Heard: {last.text}")
            yield Done(finish_reason="stop")
            return
        tool, _, arguments = last.text.partition(" ")
        yield ToolCall(call_id=str(uuid4()), name=tool, arguments=arguments or "{}")
        yield Done(finish_reason="tool-calls")

    async def list_models(self) -> list[ModelInfo]:
        """Have no list."""
        return []


class Shop:
    """The shop's server, which may be killed and begun again at its port."""

    def __init__(self, notes: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.notes = notes
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, **environ: str) -> None:
        """Begin; wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.mcp_shop", "http", str(self.port)),
            env={**os.environ, "MCP_SHOP_NOTES": str(self.notes), **environ},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await until(self._listens)

    async def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            await process.wait()

    def noted(self) -> list[str]:
        """Return what was called."""
        return self.notes.read_text().split("\n") if self.notes.exists() else []

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """The shop's server, not begun."""
    made = Shop(tmp_path / "notes")
    yield made
    await made.kill()


async def begun(
    start: StartNode, shop: Shop, tools: Tools | None = None, /, **environ: str
) -> Node:
    """Return a node that offers the shop's tools already."""
    settings = {"MCP_SERVERS": "shop", "MCP_SHOP_URL": shop.url, **environ}
    node = await start(None, tools, **settings)
    model: Any = Asking()
    node.stage.model = model
    await until(lambda: "shop_heard" in offered(node))
    return node


def offered(node: Node) -> set[str]:
    """Return the names of the tools that a node would offer a model now."""
    return {one.name for one in node.services.tools.offered()}


async def ask(client: Client, text: str) -> dict[str, Any]:
    """Ask in a conversation of its own; return the answer that is kept."""
    chat = str(uuid4())
    message = {"role": "user", "parts": [{"type": "text", "text": text}]}
    answer = await client.post("/api/chat", {"id": chat, "message": message})
    assert answer.status == 200, answer.text
    found: dict[str, Any] = (await client.get(f"/api/v1/chat/{chat}")).json["messages"][-1]
    return {**found, "chat": chat}


async def test_tools_of_a_server_are_tools_like_ours(start: StartNode, shop: Shop) -> None:
    """They are offered with the server's name before theirs, called, and their answers kept."""
    await shop.start()
    node = await begun(start, shop)
    ana = node.person().client
    said = await ask(ana, 'shop_stock {"item": "tea"}')
    assert said["content"] == 'Heard: {"result":"7 of tea"}'
    prompt = node.stage.model.prompts[0]
    tea = next(one for one in prompt.tools if one.name == "shop_stock")
    assert tea.description == "Say how many there are of an item."
    assert tea.parameters["properties"]["item"]["type"] == "string"
    assert (await ask(ana, "shop_a_dotted_name"))["content"] == 'Heard: {"result":"dotted"}'


async def test_what_may_change_something_is_asked_about(start: StartNode, shop: Shop) -> None:
    """A tool that does not say it only reads runs after a yes, and only then."""
    await shop.start()
    node = await begun(start, shop)
    ana = node.person().client
    said = await ask(ana, 'shop_order {"item": "tea", "count": 2}')
    (tool,) = [part for part in said["parts"] if part["type"] == "dynamic-tool"]
    assert tool["state"] == "approval-requested"
    assert shop.noted() == []
    tool["approval"]["approved"] = True
    tool["state"] = "approval-responded"
    back = {"id": said["id"], "role": "assistant", "parts": said["parts"]}
    body = {"id": said["chat"], "messages": [back], "messageId": said["id"]}
    answer = await ana.post("/api/chat", body)
    assert answer.status == 200, answer.text
    assert "order tea 2" in shop.noted()


@pytest.mark.parametrize(("approval", "asks"), [("always", True), ("never", False)])
async def test_operator_says_what_is_asked_about(
    start: StartNode, shop: Shop, approval: str, *, asks: bool
) -> None:
    """Whatever the server says of its tools."""
    await shop.start()
    node = await begun(start, shop, MCP_SHOP_APPROVAL=approval, MCP_SHOP_TOOLS="order,heard")
    assert offered(node) == {"shop_order", "shop_heard"}
    tools = node.services.tools
    assert all(
        known.needs_approval is asks
        for name in offered(node)
        if (known := tools.find(name)) is not None
    )
    said = await ask(node.person().client, 'shop_stock {"item": "tea"}')
    assert "There is no tool 'shop_stock'" in said["content"]


async def test_own_tool_keeps_its_name(start: StartNode, shop: Shop) -> None:
    """A server cannot take the place of a function of the application's."""
    await shop.start()
    node = await begun(start, shop, own)
    assert (await ask(node.person().client, "shop_stock"))["content"] == "Heard: our own"
    assert own.find("shop_heard") is None


async def test_callers_token_never_reaches_a_server(start: StartNode, shop: Shop) -> None:
    """By default a server is told nothing of who asks."""
    await shop.start()
    node = await begun(start, shop)
    said = await ask(node.person().client, "shop_heard")
    assert said["content"] == "Heard: None None None"


async def test_server_is_told_who_asks_where_that_is_wanted(start: StartNode, shop: Shop) -> None:
    """By a statement of ours for that server alone, each call its own caller's."""
    await shop.start(MCP_SHOP_PAUSE="0.3")
    node = await begun(start, shop, MCP_SHOP_CALLER="statement", MCP_SHOP_TOKEN="sesame")
    people = [node.person() for _ in range(3)]
    answers = await asyncio.gather(*(ask(one.client, "shop_heard") for one in people))
    for person, said in zip(people, answers, strict=True):
        bearer, statement, cookie = said["content"].removeprefix("Heard: ").rsplit(" ", 2)
        assert (bearer, cookie) == ("Bearer sesame", "None")
        claims = await confirmed(node, statement)
        assert claims["sub"] == f"supabase:{person.id}" or claims["sub"] == person.id
        assert claims["aud"] == shop.url
        assert claims["exp"] - claims["iat"] == 60
        used = await node.nobody(authorization=f"Bearer {statement}").get("/api/settings")
        assert used.status == 401


async def confirmed(node: Node, statement: str) -> dict[str, Any]:
    """Return what *statement* says, its signature checked with our published keys."""
    import jwt  # noqa: PLC0415 -- an independent judge, for this alone

    keys = (await node.nobody().get("/auth/v1/.well-known/jwks.json")).json["keys"]
    header = jwt.get_unverified_header(statement)
    assert header["typ"] == "chatkeep-caller+jwt"
    key = next(one for one in keys if one["kid"] == header["kid"])
    options: Any = {"verify_aud": False}
    found: dict[str, Any] = jwt.decode(
        statement, jwt.PyJWK(key).key, algorithms=[header["alg"]], options=options
    )
    return found


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("shop_long", "more than 65536 bytes"),
        ("shop_endless", "more than 1048576 bytes"),
        ("shop_broken", "Error executing tool"),
        ("shop_stock", "item"),
        ("shop_slow", "took too long"),
        ("shop_stock [1]", "do not fit"),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model(
    start: StartNode, shop: Shop, tool: str, words: str
) -> None:
    """As the tool's failure; the answer goes on, and so does the server."""
    await shop.start()
    # Only what never answers is waited for in vain; a slow machine may take its time for the rest.
    node = await begun(start, shop, MCP_SHOP_TIMEOUT="2" if tool == "shop_slow" else "60")
    ana = node.person().client
    said = await ask(ana, tool)
    object.__setattr__(node.services.settings.mcp_servers[0], "timeout_s", PATIENCE_S)
    (part,) = [one for one in said["parts"] if one["type"] == "dynamic-tool"]
    assert part["state"] == "output-error"
    assert any(word in part["errorText"] for word in words.split("|")), part["errorText"]
    await until(lambda: "shop_stock" in offered(node))
    assert "7 of tea" in (await ask(ana, 'shop_stock {"item": "tea"}'))["content"]


async def test_server_killed_in_the_middle_of_a_call(start: StartNode, shop: Shop) -> None:
    """The model hears of it at once, nothing offers the tool, and a new server is found."""
    await shop.start()
    node = await begun(start, shop, MCP_SHOP_TIMEOUT="60")
    ana = node.person().client
    asking = asyncio.create_task(ask(ana, "shop_slow"))
    await until(lambda: "slow" in shop.noted())
    await shop.kill()
    said = await asyncio.wait_for(asking, PATIENCE_S)
    assert "lost before it answered" in said["content"] or "no usable" in said["content"]
    await until(lambda: offered(node) == set())
    said = await ask(ana, 'shop_stock {"item": "tea"}')
    assert "cannot be reached now" in said["content"]
    await shop.start()
    await until(lambda: "shop_stock" in offered(node))
    assert "7 of tea" in (await ask(ana, 'shop_stock {"item": "tea"}'))["content"]


async def test_lost_call_costs_nobody_else_theirs(
    start: StartNode, shop: Shop, tmp_path: Path
) -> None:
    """The connection is everybody's: one answer that is too large ends that call alone."""
    gate = tmp_path / "gate"
    await shop.start(MCP_SHOP_GATE=str(gate))
    node = await begun(start, shop, MCP_SHOP_TIMEOUT="60")
    waiting = asyncio.create_task(ask(node.person().client, "shop_heard"))
    await until(lambda: "heard" in shop.noted())
    said = await ask(node.person().client, "shop_endless")
    assert "more than 1048576 bytes" in said["content"]
    assert not waiting.done()
    gate.touch()
    assert (await waiting)["content"] == "Heard: None None None"


async def test_server_that_is_away_stops_nothing(start: StartNode, shop: Shop) -> None:
    """We start without it, answer without it, and use it once it is there."""
    node = await start(MCP_SERVERS="shop", MCP_SHOP_URL=shop.url)
    answer = await node.person().client.post(
        "/api/chat",
        {"id": "a", "message": {"role": "user", "parts": [{"type": "text", "text": "Hi"}]}},
    )
    assert answer.status == 200
    await shop.start()
    await until(lambda: "shop_stock" in offered(node))


async def test_command_gets_nothing_of_our_environment(start: StartNode, tmp_path: Path) -> None:
    """But what is harmless, and what is named."""
    os.environ["MCP_TEST_GIVEN"], os.environ["MCP_TEST_KEPT"] = "1", "1"
    try:
        node = await start(
            MCP_SERVERS="shop",
            MCP_SHOP_COMMAND=f"{sys.executable} -m tests.mcp_shop stdio",
            MCP_SHOP_ENV="MCP_TEST_GIVEN,PYTHONPATH",
        )
        await until(lambda: "shop_heard" in offered(node))
    finally:
        del os.environ["MCP_TEST_GIVEN"], os.environ["MCP_TEST_KEPT"]
    assert tmp_path
    model: Any = Asking()
    node.stage.model = model
    said = await ask(node.person().client, "shop_environment")
    names = said["content"].removeprefix("Heard: ").split(",")
    assert "MCP_TEST_GIVEN" in names
    assert "MCP_TEST_KEPT" not in names
    assert "CHATKEEP_SECRET" not in names


async def test_production_reaches_into_no_private_network(shop: Shop) -> None:
    """A name that leads to this machine is not connected to, unless the operator says so."""
    await shop.start()
    settings = {
        "ENVIRONMENT": "production",
        "CHATKEEP_SECRET": "0123456789abcdef" * 4,
        "DATABASE_URL": "postgresql://x@localhost/x",
        "PUBLIC_URL": "https://chat.example.com",
        "MCP_SERVERS": "shop",
    }
    with socket.create_server(("127.0.0.1", 0)) as private:
        private.setblocking(False)
        settings["MCP_SHOP_URL"] = f"https://localhost:{private.getsockname()[1]}/mcp"
        (finding,) = await examine_mcp_servers(Settings.from_env(settings))
        assert not finding.is_good
        with pytest.raises(BlockingIOError):  # nobody has connected
            private.accept()
    with pytest.raises(SetupError, match="MCP_SHOP_URL must be https in production"):
        Settings.from_env({**settings, "MCP_SHOP_URL": shop.url})
    allowed = {**settings, "MCP_SHOP_URL": shop.url, "MCP_SHOP_PRIVATE": "on"}
    (finding,) = await examine_mcp_servers(Settings.from_env(allowed))
    assert finding.is_good, finding.problems
    assert "shop_stock" in finding.note


async def test_redirect_to_elsewhere_is_not_followed(shop: Shop) -> None:
    """A server cannot make us ask another one."""
    asked: list[str] = []
    await shop.start()

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.method)
        raise web.HTTPTemporaryRedirect(shop.url)

    async with serving(web.route("*", "/{path:.*}", redirect)) as address:
        environ = {"MCP_SERVERS": "shop", "MCP_SHOP_URL": f"{address}/mcp"}
        (finding,) = await examine_mcp_servers(Settings.from_env(environ))
    assert asked
    assert not finding.is_good


async def test_doctor_says_what_is_away(shop: Shop) -> None:
    """And which setting to look at; and of a tool that is not there, that too."""
    environ = {"MCP_SERVERS": "shop", "MCP_SHOP_URL": shop.url, "MCP_SHOP_TOOLS": "stock,gone"}
    settings = Settings.from_env(environ)
    (finding,) = await examine_mcp_servers(settings)
    assert "check MCP_SHOP_URL" in finding.problems[0]
    await shop.start()
    (finding,) = await examine_mcp_servers(settings)
    assert finding.problems == ("It has no tool gone: check MCP_SHOP_TOOLS.",)
    ends = Settings.from_env({"MCP_SERVERS": "shop", "MCP_SHOP_COMMAND": "true"})
    (finding,) = await examine_mcp_servers(ends)
    assert finding.problems == ("It does not answer (Connection closed): check MCP_SHOP_COMMAND.",)
    assert json.dumps(finding.note)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "Set one of MCP_SHOP_URL and MCP_SHOP_COMMAND"),
        ({"MCP_SHOP_URL": "https://x.example", "MCP_SHOP_COMMAND": "x"}, "Set one of"),
        ({"MCP_SHOP_COMMAND": "x 'y"}, "MCP_SHOP_COMMAND must be a command"),
        ({"MCP_SHOP_COMMAND": "x", "MCP_SHOP_CALLER": "statement"}, "for a server with an address"),
        ({"MCP_SHOP_COMMAND": "x", "MCP_TEA_URL": "https://x.example"}, "MCP_TEA_URL belongs to"),
        (
            {"MCP_SHOP_COMMAND": "x", "MCP_SHOP_APROVAL": "always"},
            "MCP_SHOP_APROVAL is no setting of a name in MCP_SERVERS: there are URL, .* APPROVAL",
        ),
    ],
)
def test_settings_that_fit_nothing_stop_the_start(environ: dict[str, str], problem: str) -> None:
    """With a sentence that names the setting."""
    with pytest.raises(SetupError, match=problem):
        Settings.from_env({"MCP_SERVERS": "shop", **environ})


def test_variable_of_a_command_may_be_called_like_its_settings() -> None:
    """What MCP_SHOP_ENV lends it is the command's, and no setting that is misspelt."""
    settings = Settings.from_env(
        {
            "MCP_SERVERS": "shop",
            "MCP_SHOP_COMMAND": "x",
            "MCP_SHOP_ENV": "MCP_SHOP_LOGIN",
            "MCP_SHOP_LOGIN": "ana",
        }
    )
    assert settings.mcp_servers[0].env == ("MCP_SHOP_LOGIN",)
