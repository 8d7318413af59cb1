"""The how-to pages on tools and responders: their modules, run by a real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from chatkeep.answering.responders import Asked
from chatkeep.config import Settings
from chatkeep.errors import SetupError
from chatkeep.events import Done, ToolCall
from chatkeep.extensions import Extensions, responder_of, tools_of
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.principal import Principal
from chatkeep.runs import Address
from chatkeep.tools import ToolContext
from tests.page_packages import package_of

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
TOOLS, RESPONDER = "give-the-model-tools.md", "answer-yourself.md"


def module_of(page: str) -> str:
    """Return the module that *page* shows."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.search(r"^```python\n# \S+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that has both modules, and is the present one; the package's name."""
    monkeypatch.chdir(tmp_path)
    return package_of(tmp_path, {"tools": module_of(TOOLS), "answers": module_of(RESPONDER)})


def settings(**environ: str) -> Settings:
    """Return settings with these names."""
    return Settings.from_env(environ)


async def test_tools_of_the_page_run_as_their_caller(shop: str) -> None:
    """Ana's order is found for Ana, and for nobody else."""
    tools = tools_of(Extensions(), settings(TOOLS=f"{shop}.tools:tools"))
    assert [one.name for one in tools.offered()] == ["order_status", "cancel_order", "locate"]
    call = ToolCall(call_id="c", name="order_status", arguments='{"order": 7}')
    said: dict[str, Any] = {}
    for name in ("ana", "bo"):
        who = Principal(user_id=name, issuer="embedded", subject=name)
        context = ToolContext(who=who, conversation_id="x", run_id="r", call_id="c")
        said[name] = await tools.run(call, context)
    assert said["ana"].output == "on its way"
    assert said["bo"].error == "The caller has no such order."
    known = tools.find("cancel_order")
    assert known is not None
    assert (known.needs_approval, known.timeout_s) == (True, 10)


async def test_responder_of_the_page_answers(shop: str) -> None:
    """What it yields ends with a `Done`, and the settings find it."""
    found = responder_of(Extensions(), settings(RESPONDER=f"{shop}.answers:respond"))
    assert found is not None
    prompt = Prompt(
        messages=[PromptMessage(role="user", text="Why?")], settings=ModelSettings(model="m")
    )
    run = Address(id="r", conversation_id="c", message_id="m", user_message_id="q")
    events = [event async for event in found.respond(Asked(prompt=prompt, who=None, run=run))]
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize(
    ("setting", "path", "complaint"),
    [
        ("TOOLS", "{shop}.tools:ORDERS", "is no Tools"),
        ("TOOLS", "{shop}.nowhere:tools", "cannot be imported"),
        ("RESPONDER", "{shop}.tools:tools", "neither"),
    ],
)
def test_what_does_not_fit_stops_the_start(
    shop: str, setting: str, path: str, complaint: str
) -> None:
    """And names the setting."""
    chosen = settings(**{setting: path.format(shop=shop)})
    find = tools_of if setting == "TOOLS" else responder_of
    with pytest.raises(SetupError, match=f"{setting}.*{complaint}"):
        find(Extensions(), chosen)
