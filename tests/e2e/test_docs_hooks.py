"""The how-to pages on checks, retrieval, MCP and webhooks: their code, run."""

from __future__ import annotations

import importlib
import re
import sys
import time
from base64 import b64decode
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.answering.responders import Asked
from chatkeep.config import Settings
from chatkeep.errors import AnswerRefused, MessageRefused
from chatkeep.events import Done, Source, TextDelta
from chatkeep.extensions import Extensions, build_responder
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.mcp_servers import examine_mcp_servers
from chatkeep.runs import Address
from chatkeep.testing import FakeModel
from chatkeep.tools import Tools
from chatkeep.webhooks import new_secret, signature
from tests.page_packages import package_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.events import ReplyEvent
    from chatkeep.principal import Principal
    from tests.postgres_servers import MigratedDatabase

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
CHECKS, MANUAL = "check-messages-and-answers.md", "look-things-up.md"
MCP, WEBHOOKS = "use-mcp-servers.md", "tell-other-programs.md"


def example(page: str, language: str) -> str:
    """Return the code of *language* that *page* shows first."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that has both modules, and is the present one; the package's name."""
    pages = {"checks": CHECKS, "server": MCP, "hooks": WEBHOOKS, "manual": MANUAL}
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return package_of(tmp_path, {name: example(page, "python") for name, page in pages.items()})


async def anybody(_: Principal) -> None:
    """Let whoever asked go on."""


async def answer(question: str, *said: str, **environ: str) -> tuple[list[ReplyEvent], FakeModel]:
    """Let a server with these settings answer *question*, with a model that says *said*."""
    model = FakeModel([*(TextDelta(text=one) for one in said), Done(finish_reason="stop")])
    settings = Settings.from_env(environ)
    responder = build_responder(
        Extensions(), settings, model=model, tools=Tools(), still_stands=anybody
    )
    prompt = Prompt(
        messages=[PromptMessage(role="user", text=question)], settings=ModelSettings(model="m")
    )
    run = Address(id="r", conversation_id="c", message_id="m", user_message_id="q")
    async with aclosing(responder.respond(Asked(prompt=prompt, who=None, run=run))) as events:
        return [event async for event in events], model


def text_of(events: list[ReplyEvent]) -> str:
    """Return what readers see."""
    return "".join(one.text for one in events if isinstance(one, TextDelta))


async def test_checks_of_the_page(shop: str) -> None:
    """They refuse, answer and replace as the page says."""
    hooks = {"BEFORE": f"{shop}.checks:before", "AFTER": f"{shop}.checks:after"}
    events, model = await answer("Who makes it?", "ACM", "E does.", **hooks)
    assert text_of(events) == "our supplier does."
    events, model = await answer("Opening hours", "Sure.", **hooks)
    assert (text_of(events), model.prompts) == ("We are open from 9 to 5.", [])
    with pytest.raises(MessageRefused):
        await answer("My card is 4111 1111 1111 1111", "Sure.", **hooks)
    with pytest.raises(AnswerRefused):
        await answer("And then?", "A guaranteed refund.", **hooks)


@pytest.fixture
async def manual(database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The page's table, with two pages in it; ends what the module opened."""
    async with await psycopg.AsyncConnection.connect(database.admin_url, autocommit=True) as opened:
        await opened.execute(example(MANUAL, "sql").encode())
        await opened.cursor().executemany(
            "insert into manual values (%s, %s, %s)",
            [
                ("https://shop.example/returns", "Returns", "Send it back within thirty days."),
                ("https://shop.example/care", "Care", "Never wash wool in hot water."),
            ],
        )
        monkeypatch.setenv("MANUAL_URL", database.admin_url)
        yield database.admin_url
        await opened.execute("drop table manual")


async def test_retriever_of_the_page(shop: str, manual: str) -> None:
    """It finds the passage by any word of the question, and names the page."""
    assert manual
    path = f"{shop}.manual:retrieve"
    try:
        events, model = await answer("How do I wash my wool?", "Cold.", RETRIEVER=path)
        assert events[0] == Source(source_id="1", url="https://shop.example/care", title="Care")
        assert "Never wash wool" in model.prompts[0].messages[0].text
        events, _ = await answer("'; drop table manual; --", "No.", RETRIEVER=path)
        assert text_of(events) == "No."
    finally:
        await importlib.import_module(f"{shop}.manual").pool().close()
        sys.modules.pop(f"{shop}.manual")


def test_receiver_of_the_page(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what is signed, once, and nothing that is forged, changed or old."""
    secret = new_secret()
    monkeypatch.setenv("WEBHOOK_CRM_SECRET", secret)
    told = importlib.import_module(f"{shop}.hooks").told
    key, body, now = b64decode(secret.removeprefix("whsec_")), b'{"type": "test"}', int(time.time())

    def headers(at: int, key: bytes = key) -> dict[str, str]:
        signed = signature([b"x" * 32, key], identity="msg_1", at=at, body=body)
        return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signed}

    assert told(headers(now), body) == {"type": "test"}
    assert told(headers(now), body) is None
    for bad, sent in (
        (headers(now, b"y" * 32), body),
        (headers(now), b'{"type": "user.deleted"}'),
        (headers(now - 600), body),
        (headers(now) | {"webhook-signature": "v1,\xff"}, body),
        ({}, body),
    ):
        with pytest.raises(ValueError, match=r"Chatkeep|too old"):
            told(bad, sent)


async def test_mcp_server_of_the_page(shop: str, tmp_path: Path) -> None:
    """It is started as the page says, and what it offers asks first where it writes."""
    command = f"{sys.executable} -m {shop}.server"
    environ = {"MCP_SERVERS": "shop", "MCP_SHOP_COMMAND": command}
    assert Path.cwd() == tmp_path
    (finding,) = await examine_mcp_servers(Settings.from_env(environ))
    assert finding.note == "2 tools, of which 1 ask first: shop_stock, shop_order"
