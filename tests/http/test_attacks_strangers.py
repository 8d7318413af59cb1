"""Many people at once do anything, with their own ids and with everybody else's.

What each of them sees is compared with a model in memory, which is one dictionary a person.
`make strangers` takes a million steps, not two thousand.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.http.test_conversations import CHAT

if TYPE_CHECKING:
    from tests.serving import Answer, Client, Node

PEOPLE = 20
STEPS = int(os.environ.get("STEPS", "2000"))
AT_ONCE = 8
ACTS = ("start", "say", "say", "rename", "delete", "restore", "read", "read", "list")
ANSWERS_OF_A_PAGE = 50


@dataclass(slots=True)
class Kept:
    """A conversation as its owner must see it."""

    title: str | None = None
    said: list[str] = field(default_factory=list)
    deleted: bool = False


@dataclass(slots=True)
class Somebody:
    """A person, what they have, and who else is to be tried."""

    client: Client
    has: dict[str, Kept] = field(default_factory=dict)


async def step(one: Somebody, dice: random.Random, all_ids: list[str]) -> None:
    """Do something as *one*; a conversation that is not theirs must be as if it was not."""
    act = dice.choice(
        ["start", "say", "say", "rename", "delete", "restore", "read", "read", "list"]
    )
    if act == "start" or not all_ids:
        answer = await one.client.post(f"{CHAT}/start", {})
        made = str(answer.json["conversation_id"])
        one.has[made] = Kept(said=[answer.json["message"]])
        all_ids.append(made)
        return
    if act == "list":
        await listed(one)
        return
    chosen = dice.choice([dice.choice(all_ids), *one.has]) if one.has else dice.choice(all_ids)
    answer = await call(one, act, chosen, dice)
    kept = one.has.get(chosen)
    if kept is None or (kept.deleted and act != "restore"):
        assert (answer.status, answer.json["error"]) == (
            403,
            "Conversation does not belong to this user",
        ), (act, chosen, answer.text)
        return
    assert answer.status in {200, 204}, (act, answer.text)
    follow(kept, act, answer)


async def call(one: Somebody, act: str, chosen: str, dice: random.Random) -> Answer:
    """Ask the server to do *act*."""
    match act:
        case "say":
            body = {"conversation_id": chosen, "message": f"said {dice.getrandbits(40)}"}
            return await one.client.post(f"{CHAT}/message", body)
        case "rename":
            return await one.client.patch(f"{CHAT}/{chosen}", {"title": f"t {dice.random()}"})
        case "delete":
            return await one.client.delete(f"{CHAT}/{chosen}")
        case "restore":
            return await one.client.post(f"{CHAT}/{chosen}/restore", {})
        case _:
            return await one.client.get(f"{CHAT}/{chosen}?limit=100")


def follow(kept: Kept, act: str, answer: Answer) -> None:
    """Do to the model what was done, or compare what was read with it."""
    match act:
        case "say":
            kept.said += [answer.json["message"]]
        case "rename":
            kept.title = answer.json["title"]
        case "delete":
            kept.deleted = True
        case "restore":
            kept.deleted = False
        case _:
            answers = [m["content"] for m in answer.json["messages"] if m["role"] == "assistant"]
            assert answers == kept.said[-ANSWERS_OF_A_PAGE:]


async def listed(one: Somebody) -> None:
    """Compare the whole list with what they have."""
    answer = await one.client.get(f"{CHAT}?limit=100")
    assert answer.status == 200
    shown = {each["id"] for each in answer.json["conversations"]}
    wanted = {each for each, kept in one.has.items() if not kept.deleted}
    assert shown <= wanted
    assert len(shown) == min(100, len(wanted))


async def test_nobody_ever_meets_what_is_not_theirs(node: Node) -> None:
    """Each person's own view never differs from the model, and a stranger changes nothing."""
    seed = random.Random(20260711)
    people = [Somebody(node.person("HS256").client) for _ in range(PEOPLE)]
    node.stage.play(answer=lambda prompt: [f"answer to {prompt.messages[-1].text}"])
    all_ids: list[str] = []
    turns = iter(range(STEPS))

    async def walk(own: list[Somebody]) -> None:
        for _ in turns:
            await step(seed.choice(own), seed, all_ids)

    # One person's steps follow each other; different people's run side by side.
    await asyncio.gather(*(walk(people[place::AT_ONCE]) for place in range(AT_ONCE)))
    for one in people:
        await listed(one)
        for conversation, kept in one.has.items():
            if not kept.deleted:
                follow(kept, "read", await one.client.get(f"{CHAT}/{conversation}?limit=100"))
