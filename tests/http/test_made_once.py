"""What was made by a server that died before it could keep its answer is made once all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from chatkeep.events import Done, ToolCall
from chatkeep.idempotency import IdempotencyKeys
from tests.http.test_openai_api import MODEL
from tests.serving import until

if TYPE_CHECKING:
    from chatkeep.idempotency import Kept
    from tests.serving import Person, Stage

CHAT: Final = "/api/v1/chat"
OPENAI: Final = "/v1/conversations"
SAID: Final = {"items": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps an answer: its server has died before, and its lease is over."""

    async def keep(
        keys: IdempotencyKeys, user_id: str, key: str, holder: str, _answer: Kept
    ) -> None:
        await keys.leave(user_id, key, holder)

    monkeypatch.setattr(IdempotencyKeys, "keep", keep)


async def begun(person: Person) -> str:
    """Begin a conversation of *person*; return its id."""
    made = await person.client.post(f"{CHAT}/start", {})
    return str(made.json["conversation_id"])


async def said_in(person: Person, talk: str) -> list[str]:
    """Return what is said in a conversation after its greeting."""
    messages = (await person.client.get(f"{CHAT}/{talk}")).json["messages"]
    return [one["content"] for one in messages][1:]


@pytest.mark.usefixtures("dies")
@pytest.mark.parametrize("what", ["start", "fork", "shares", "files", "OpenAI", "items"])
async def test_what_is_sent_again_is_there_already(ana: Person, what: str) -> None:
    """Under its id, and nothing else is: but for a link's address, the answer is the first one."""
    talk = await begun(ana)
    asked: dict[str, tuple[str, Any]] = {
        "start": (f"{CHAT}/start", {}),
        "fork": (f"{CHAT}/{talk}/fork", {}),
        "shares": (f"{CHAT}/{talk}/shares", {}),
        "files": ("/api/files?name=a.txt", b"a"),
        "OpenAI": (OPENAI, {**SAID, "metadata": {"topic": "x"}}),
        "items": (f"{OPENAI}/conv_{talk}/items", SAID),
    }
    path, body = asked[what]
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    headers = {"idempotency-key": str(uuid4())}
    if what == "files":
        headers["content-type"] = "text/plain"
    answers = [await ana.client.call("POST", path, headers=headers, **sent) for _ in range(3)]
    assert [one.status for one in answers] == [200] * 3
    first, *others = [{**one.json, "url": ""} for one in answers]
    assert others == [first, first]
    assert await said_in(ana, talk) == (["a", "b"] if what == "items" else [])
    listed = (await ana.client.get(CHAT)).json["conversations"]
    assert len(listed) == (2 if what in {"start", "fork", "OpenAI"} else 1)


@pytest.mark.usefixtures("dies")
async def test_items_sent_again_are_where_they_were_when_others_have_come(ana: Person) -> None:
    """They are answered as they were, and not added below what was said since."""
    talk = await begun(ana)
    path, headers = f"{OPENAI}/conv_{talk}/items", {"idempotency-key": "k"}
    first = await ana.client.post(path, SAID, headers=headers)
    await ana.client.post(path, {"items": [{"role": "user", "content": "c"}]})
    again = await ana.client.post(path, SAID, headers=headers)
    assert (again.status, again.json) == (200, first.json)
    assert await said_in(ana, talk) == ["a", "b", "c"]
    await ana.client.delete(f"{CHAT}/{talk}")
    assert (await ana.client.post(path, SAID, headers=headers)).status == 404


@pytest.mark.usefixtures("dies")
async def test_output_of_a_function_sent_again_is_the_same(ana: Person, stage: Stage) -> None:
    """It belongs to the answer that stood above, with what was said after it."""
    stage.play(
        [ToolCall(call_id="c1", name="weather", arguments="{}"), Done(finish_reason="tool-calls")]
    )
    tool = {"type": "function", "name": "weather", "parameters": {}, "strict": False}
    body = {"model": MODEL, "input": "Rome?", "tools": [tool]}
    made = (await ana.client.post("/v1/responses", body)).json
    output = {"type": "function_call_output", "call_id": "c1", "output": "30 degrees"}
    items = {"items": [output, {"role": "user", "content": "So?"}]}
    path, headers = f"{OPENAI}/{made['conversation']['id']}/items", {"idempotency-key": "k"}
    first, again = [await ana.client.post(path, items, headers=headers) for _ in range(2)]
    assert [one["type"] for one in first.json["data"]] == ["function_call_output", "message"]
    assert (again.status, again.json) == (200, first.json)


@pytest.mark.usefixtures("dies")
@pytest.mark.parametrize("more", ["added", "asked", "being asked"])
async def test_output_alone_sent_again_is_taken_whatever_was_said_since(
    ana: Person, stage: Stage, more: str
) -> None:
    """It stands in the answer that made the call; another one, or for another call, is refused."""
    gate = asyncio.Event()
    model = stage.play(
        [ToolCall(call_id="c1", name="weather", arguments="{}"), Done(finish_reason="tool-calls")],
        ["Sunny", *([gate] if more == "being asked" else []), "."],
    )
    tool = {"type": "function", "name": "weather", "parameters": {}, "strict": False}
    body = {"model": MODEL, "input": "Rome?", "tools": [tool]}
    made = (await ana.client.post("/v1/responses", body)).json
    chat = made["conversation"]["id"]
    output = {"type": "function_call_output", "call_id": "c1", "output": "30 degrees"}
    path, headers = f"{OPENAI}/{chat}/items", {"idempotency-key": "k"}
    first = await ana.client.post(path, {"items": [output]}, headers=headers)
    if more == "added":
        await ana.client.post(path, {"items": [{"role": "user", "content": "So?"}]})
    else:
        asking = {**body, "input": "So?", "conversation": chat, "background": more != "asked"}
        await ana.client.post("/v1/responses", asking)
        await until(lambda: len(model.prompts) == 2)
    again = await ana.client.post(path, {"items": [output]}, headers=headers)
    assert (again.status, again.json) == (200, first.json)
    for other in ({**output, "output": "3 degrees"}, {**output, "call_id": "c2"}):
        refused = await ana.client.post(path, {"items": [other]})
        assert refused.status == 400, refused.text
    gate.set()
    await ana.client.post(f"/api/chat/{chat.removeprefix('conv_')}/stop")
    shown = (await ana.client.get(f"{path}?order=asc")).json["data"]
    assert [one["type"] for one in shown[:4]] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]


async def test_key_that_nobody_was_shown_is_not_made_again(
    ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words are known to nobody: whoever asks again is told to look, however often."""
    wanted = {"name": "x", "scopes": ["chat"]}
    headers = {"idempotency-key": "k"}
    with monkeypatch.context() as broken:

        async def lost(*_: object) -> None:
            raise ConnectionError

        broken.setattr("chatkeep.web.routes.keys._require_still_here", lost)
        assert (await ana.client.post("/api/keys", wanted, headers=headers)).status == 500
    for _ in range(3):
        again = await ana.client.post("/api/keys", wanted, headers=headers)
        assert (again.status, again.json["code"]) == (409, "answer_not_kept")
    assert len((await ana.client.get("/api/keys")).json["keys"]) == 1
