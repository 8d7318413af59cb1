"""Forks: a branch goes on in a conversation of its own, and the first stays as it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.http.test_conversations import CHAT, begin, listed, say
from tests.serving import until

if TYPE_CHECKING:
    from tests.serving import Client, Person, Stage


async def fork(client: Client, conversation: str, **body: Any) -> str:  # noqa: ANN401 -- JSON
    """Fork a conversation; return the new one's id."""
    answer = await client.post(f"{CHAT}/{conversation}/fork", body)
    assert answer.status == 200, answer.text
    return str(answer.json["id"])


async def branch(client: Client, conversation: str) -> list[tuple[str, str, str]]:
    """Return role, words and time of each message that is shown."""
    messages = (await client.get(f"{CHAT}/{conversation}")).json["messages"]
    return [(one["role"], one["content"], one["created_at"]) for one in messages]


async def test_fork_has_the_branch_up_to_the_message(ana: Person, stage: Stage) -> None:
    """With words, order, times and title, and under new ids; the first is unharmed."""
    conversation = await begin(ana.client)
    stage.play("One", "Two")
    first = await say(ana.client, conversation, "First question")
    await say(ana.client, conversation, "Second question")
    before = await branch(ana.client, conversation)
    early = await fork(ana.client, conversation, message_id=first["message_id"])
    whole = await fork(ana.client, conversation)
    assert await branch(ana.client, early) == before[:3]
    assert await branch(ana.client, whole) == before == await branch(ana.client, conversation)
    copy = (await ana.client.get(f"{CHAT}/{whole}")).json
    ids = {one["id"] for one in (await ana.client.get(f"{CHAT}/{conversation}")).json["messages"]}
    assert copy["title"] == "First question"
    assert ids.isdisjoint(one["id"] for one in copy["messages"])
    assert [one["parent_id"] for one in copy["messages"][1:]] == [
        one["id"] for one in copy["messages"][:-1]
    ]


async def test_both_go_on_by_themselves(ana: Person) -> None:
    """What is said in one is not in the other, and either can be deleted."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "Common")
    copy = await fork(ana.client, conversation)
    await say(ana.client, copy, "Only here")
    assert "Only here" not in str(await branch(ana.client, conversation))
    await ana.client.delete(f"{CHAT}/{conversation}")
    assert "Only here" in str(await branch(ana.client, copy))


async def test_same_key_makes_one_fork(ana: Person) -> None:
    """Ten at once with one key are one copy; another key makes another."""
    conversation = await begin(ana.client)
    path = f"{CHAT}/{conversation}/fork"
    client = ana.client
    answers = await asyncio.gather(
        *(client.call("POST", path, json={}, headers={"idempotency-key": "k"}) for _ in range(10))
    )
    assert {one.status for one in answers} == {200}
    assert len({one.json["id"] for one in answers}) == 1
    assert len(await listed(client)) == 2


async def test_nobody_forks_what_is_not_theirs(ana: Person, bo: Person) -> None:
    """Another's conversation, and a message of another conversation, are not there."""
    conversation, other = await begin(ana.client), await begin(ana.client)
    sent = await say(ana.client, other, "Elsewhere")
    for client, body in ((bo.client, {}), (ana.client, {"message_id": sent["message_id"]})):
        answer = await client.post(f"{CHAT}/{conversation}/fork", body)
        assert (answer.status, answer.json["code"]) == (403, "conversation_forbidden")
    assert await listed(bo.client) == []


async def test_an_answer_being_made_is_waited_for(ana: Person, stage: Stage) -> None:
    """It would be copied half: the refusal names the run. What is above it can be forked."""
    conversation = await begin(ana.client)
    sent = await say(ana.client, conversation, "Before")
    gate = asyncio.Event()
    stage.play(["Half", gate, "whole"])
    asking = asyncio.create_task(say(ana.client, conversation, "Slow"))
    await stage_reached(ana.client, conversation)
    answer = await ana.client.post(f"{CHAT}/{conversation}/fork", {})
    assert (answer.status, answer.json["code"]) == (409, "run_in_progress")
    await fork(ana.client, conversation, message_id=sent["message_id"])
    gate.set()
    await asking
    await fork(ana.client, conversation)


async def stage_reached(client: Client, conversation: str) -> None:
    """Wait until the conversation is being answered."""

    async def answering() -> bool:
        return (await client.get(f"{CHAT}/{conversation}")).json["active_run"] is not None

    await until(answering)
