"""Importing conversations: once, for oneself, and as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.http.test_conversations import CHAT, listed, say
from tests.unit.test_imports import chatgpt, node

if TYPE_CHECKING:
    from tests.serving import Client, Person

TREE = {
    "q": node(None, "user", "How do birds fly?"),
    "a1": node("q", "assistant", "With feathers"),
    "a2": node("q", "assistant", "With wings"),
}


async def imported(client: Client, content: bytes) -> tuple[int, Any]:
    """Import a file; return status and answer."""
    headers = {"content-type": "application/json"}
    answer = await client.call("POST", f"{CHAT}/import", data=content, headers=headers)
    return answer.status, answer.json


async def test_import_is_read_searched_and_goes_on(ana: Person) -> None:
    """The branch that was shown is shown, the other is its sibling, and one can go on."""
    status, told = await imported(ana.client, chatgpt(TREE, current_node="a1"))
    assert (status, told) == (200, {"imported": 1, "known": 0})
    (conversation,) = await listed(ana.client)
    page = (await ana.client.get(f"{CHAT}/{conversation}")).json
    assert [one["content"] for one in page["messages"]] == ["How do birds fly?", "With feathers"]
    assert len(page["messages"][1]["siblings"]) == 2
    assert page["title"] == "A title"
    assert page["messages"][0]["created_at"].startswith("2023-11-14")
    found = (await ana.client.get("/api/v1/search?q=wings")).json["found"]
    assert [one["conversation_id"] for one in found] == [conversation]
    await say(ana.client, conversation, "And bats?")


async def test_again_makes_no_double_and_people_are_apart(ana: Person, bo: Person) -> None:
    """The same file again adds nothing, also not over what was said since; Bo has his own."""
    file = chatgpt(TREE)
    await imported(ana.client, file)
    (conversation,) = await listed(ana.client)
    await say(ana.client, conversation, "Since then")
    before = (await ana.client.get(f"{CHAT}/{conversation}/export")).body
    assert await imported(ana.client, file) == (200, {"imported": 0, "known": 1})
    assert (await ana.client.get(f"{CHAT}/{conversation}/export")).body == before
    assert await imported(bo.client, file) == (200, {"imported": 1, "known": 0})
    assert set(await listed(bo.client)).isdisjoint([conversation])


async def test_what_was_deleted_comes_back(ana: Person, bo: Person) -> None:
    """Within its day as it was, once; not what somebody else deleted."""
    file = chatgpt(TREE)
    for person in (ana, bo):
        await imported(person.client, file)
        (conversation,) = await listed(person.client)
        await say(person.client, conversation, "Since then")
        before = (await person.client.get(f"{CHAT}/{conversation}/export")).body
        assert (await person.client.delete(f"{CHAT}/{conversation}")).status == 204
    assert await imported(bo.client, file) == (200, {"imported": 1, "known": 0})
    assert await listed(bo.client) == [conversation]
    assert (await bo.client.get(f"{CHAT}/{conversation}/export")).body == before
    assert await imported(bo.client, file) == (200, {"imported": 0, "known": 1})
    assert await listed(ana.client) == []


async def test_refused_file_leaves_nothing(ana: Person) -> None:
    """A sound conversation beside a bad one is not imported either."""
    bad = chatgpt({"a": node("a", "user", "x")})
    both = chatgpt(TREE)[:-1] + b"," + bad[1:]
    status, told = await imported(ana.client, both)
    assert (status, told["code"]) == (422, "validation_failed")
    assert "own ancestors" in told["detail"]
    assert await listed(ana.client) == []
