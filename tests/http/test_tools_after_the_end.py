"""Tools act for the caller: not for somebody everything of whom has ended meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.events import Done, TextDelta, ToolCall
from chatkeep.tools import ToolContext, Tools
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import ModelInfo, Prompt
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node, Person

ENDS = ("ban", "sign-out")


class Busy:
    """A model that asks for the tool `work` twice and then is done; it waits to be let on."""

    name = "busy"

    def __init__(self) -> None:
        self.asked = 0
        self.goes_on = asyncio.Event()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Ask, or say."""
        self.asked += 1
        await self.goes_on.wait()
        if sum(one.role == "tool" for one in prompt.messages) == 2:
            yield TextDelta(text="Done")
            yield Done(finish_reason="stop")
            return
        yield ToolCall(call_id=str(uuid4()), name="work", arguments="{}")
        yield Done(finish_reason="tool-calls")

    async def list_models(self) -> list[ModelInfo]:
        """Have no list."""
        return []


class Shop:
    """A node with that model and its tool, which waits to be let on, and Eve, who asks."""

    def __init__(self) -> None:
        self.model, self.tools = Busy(), Tools()
        self.begun = self.done = 0
        self.ends = asyncio.Event()
        self.tools.tool(self.work)

    async def work(self, _: ToolContext) -> str:
        """Work."""
        self.begun += 1
        await self.ends.wait()
        self.done += 1
        return "worked"

    async def open(
        self, start: StartNode, database: MigratedDatabase, **environment: str
    ) -> Person:
        """Start the node; return Eve, whose answer is being made."""
        self.node: Node = await start(database.url, self.tools, **environment)
        self.node.stage.model = self.model  # type: ignore[assignment]  # a stage plays any model
        eve = self.node.person()
        await self.ask(eve.client)
        return eve

    async def ask(self, client: Client) -> None:
        """Let *client* ask; return once the answer is being made."""
        chat = (await client.post("/api/v1/chat/start", {})).json["conversation_id"]
        sent = {"conversation_id": chat, "message": "Work"}
        before = self.model.asked
        self.asking: asyncio.Task[Any] = asyncio.create_task(
            client.post("/api/v1/chat/message", sent)
        )
        await until(lambda: self.model.asked > before)

    async def end_everything(self, eve: Person, way: str) -> None:
        """Let an administrator suspend Eve, or sign her out everywhere."""
        admin = self.node.person(app_metadata={"roles": ["admin"]}).client
        answer = await admin.post(f"/api/admin/users/{eve.id}/{way}", {})
        assert answer.status == 200, answer.text


async def _ended_as(database: MigratedDatabase, eve: Person) -> tuple[str, str | None]:
    """Return how Eve's answer ended, once it has."""
    states = "select state, error_code from chat.runs where user_id = %s and state <> 'running'"
    await until(lambda: database.operate(states, eve.id) != [])
    ((state, code),) = database.operate(states, eve.id)
    return state, code


@pytest.mark.parametrize("way", ENDS)
async def test_no_model_hears_what_a_tool_did_for_whom_everything_ended(
    start: StartNode, database: MigratedDatabase, way: str
) -> None:
    """A tool that was at work ends; the model is not asked again, and asks for no other."""
    shop = Shop()
    eve = await shop.open(start, database)
    shop.model.goes_on.set()
    await until(lambda: shop.begun == 1)
    await shop.end_everything(eve, way)
    shop.ends.set()
    assert await _ended_as(database, eve) == ("failed", "token_revoked")
    assert (shop.model.asked, shop.done) == (1, 1)
    await asyncio.gather(shop.asking, return_exceptions=True)


@pytest.mark.parametrize("way", ENDS)
async def test_no_tool_is_run_for_whom_everything_ended(
    start: StartNode, database: MigratedDatabase, way: str
) -> None:
    """Of a model that asks for one only then."""
    shop = Shop()
    eve = await shop.open(start, database)
    await shop.end_everything(eve, way)
    shop.model.goes_on.set()
    assert await _ended_as(database, eve) == ("failed", "token_revoked")
    assert (shop.model.asked, shop.begun) == (1, 0)
    await asyncio.gather(shop.asking, return_exceptions=True)


async def test_answer_goes_on_when_its_session_is_signed_out(
    start: StartNode, database: MigratedDatabase
) -> None:
    """With its tools: whoever signs out on one device finds it on the others."""
    shop = Shop()
    eve = await shop.open(start, database)
    assert (await eve.client.post("/auth/logout")).status == 200
    shop.model.goes_on.set()
    shop.ends.set()
    assert await _ended_as(database, eve) == ("done", None)
    assert (shop.model.asked, shop.done) == (3, 2)
    await asyncio.gather(shop.asking, return_exceptions=True)


async def test_who_is_named_by_the_development_header_has_no_end(
    start: StartNode, database: MigratedDatabase
) -> None:
    """As for their requests, of which none is refused because they signed out everywhere once."""
    shop = Shop()
    shop.model.goes_on.set()
    shop.ends.set()
    header = {"ENVIRONMENT": "development", "DEVELOPMENT_USER_HEADER": "on"}
    eve = await shop.open(start, database, **header)
    assert (await shop.asking).json["message"] == "Done"
    await shop.end_everything(eve, "sign-out")
    await shop.ask(shop.node.nobody(x_user_id=eve.id))
    assert (await shop.asking).json["message"] == "Done"
