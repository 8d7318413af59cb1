"""Conversations over plain REST: start, list, read, rename, delete, restore, export."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

from chatkeep.web import rest_exports
from tests.serving import said

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node, Person, Stage

CHAT = "/api/v1/chat"


async def begin(client: Client) -> str:
    """Start a conversation and return its id."""
    answer = await client.post(f"{CHAT}/start", {})
    assert answer.status == 200
    return str(answer.json["conversation_id"])


async def say(client: Client, conversation: str, text: str) -> dict[str, Any]:
    """Send a message and return the whole answer."""
    answer = await client.post(
        f"{CHAT}/message", {"conversation_id": conversation, "message": text}
    )
    assert answer.status == 200, answer.text
    said: dict[str, Any] = answer.json
    return said


async def titled(client: Client, *titles: str) -> list[str]:
    """Start a conversation for each of *titles* and return their ids."""
    ids = []
    for title in titles:
        ids.append(await begin(client))
        await client.patch(f"{CHAT}/{ids[-1]}", {"title": title})
    return ids


async def listed(client: Client, query: str = "") -> list[str]:
    """Return the ids of a page of the list."""
    answer = await client.get(f"{CHAT}?{query}")
    assert answer.status == 200, answer.text
    return [one["id"] for one in answer.json["conversations"]]


def masked(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """Return everything about an answer but what differs between any two."""
    request_id = answer.headers["x-request-id"]
    same = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date"}}
    return answer.status, same, answer.body.replace(request_id.encode(), b"-")


# --- who is calling -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
async def test_every_kind_of_supabase_key_signs_in(node: Node, algorithm: str) -> None:
    """The shared secret and the published keys work side by side, and the `sub` is the user."""
    person = node.person(algorithm)
    answer = await person.client.get(CHAT)
    assert answer.status == 200
    assert answer.json == {"user_id": person.id, "conversations": [], "next_cursor": None}


async def test_both_kinds_of_key_are_the_same_person(node: Node, ana: Person) -> None:
    """Whoever is signed in anew after the key migration finds what was there before."""
    conversation = await begin(ana.client)
    later = node.person("ES256", sub=ana.id)
    assert await listed(later.client) == [conversation]


async def test_no_token_is_told_so(node: Node) -> None:
    """Without a token: 401 with the promised words and how to authenticate."""
    answer = await node.nobody().get(CHAT)
    assert answer.status == 401
    assert answer.json["error"] == "Missing Authorization Bearer token"
    assert answer.json["detail"] == answer.json["error"]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("bearer", ["garbage", "a.b.c", "", "é", "x" * 9000])
async def test_bad_token_is_told_so(node: Node, bearer: str) -> None:
    """A bad token is a 401 with the promised words, whatever is wrong with it."""
    answer = await node.nobody(authorization=f"Bearer {bearer}").get(CHAT)
    assert answer.status == 401
    assert answer.json["error"] == "Invalid or expired Supabase token"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_expired_token_is_told_so(node: Node) -> None:
    """An expired token has the same words, and a code of its own because it verified."""
    person = node.person(exp=1_700_003_600, iat=1_700_000_000)
    answer = await person.client.get(CHAT)
    assert (answer.status, answer.json["code"]) == (401, "token_expired")
    assert answer.json["error"] == "Invalid or expired Supabase token"


# --- start and read -----------------------------------------------------------------------------


async def test_conversation_starts_with_the_greeting(ana: Person) -> None:
    """The greeting is answered, and kept as the first message of the assistant."""
    started = (await ana.client.post(f"{CHAT}/start", {})).json
    assert set(started) == {"conversation_id", "message"}
    assert started["message"] == "Hello! How can I help you today?"
    page = (await ana.client.get(f"{CHAT}/{started['conversation_id']}")).json
    (greeting,) = page["messages"]
    assert (greeting["role"], greeting["content"]) == ("assistant", started["message"])
    assert page["active_run"] is None
    assert page["title"] is None


async def test_greeting_is_the_operators(start: StartNode) -> None:
    """`CHAT_GREETING` is what a conversation starts with."""
    node = await start(CHAT_GREETING="Welcome to the desk.")
    started = await node.person().client.post(f"{CHAT}/start", {})
    assert started.json["message"] == "Welcome to the desk."


@pytest.mark.parametrize(("body", "status"), [(None, 200), (b"", 200), (b"{}", 200)])
async def test_start_needs_no_body(ana: Person, body: bytes | None, status: int) -> None:
    """Starting a conversation needs nothing."""
    headers = {} if body is None else {"content-type": "application/json"}
    answer = await ana.client.call("POST", f"{CHAT}/start", data=body, headers=headers)
    assert answer.status == status


async def test_start_takes_no_owner(ana: Person, bo: Person) -> None:
    """Nobody can start a conversation in somebody else's name."""
    answer = await ana.client.post(f"{CHAT}/start", {"user_id": bo.id})
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "user_id")
    assert await listed(bo.client) == []


async def test_exchange_is_answered_and_kept(ana: Person, stage: Stage) -> None:
    """An answer has the promised members, and both messages are there afterwards."""
    stage.play(["Four", "teen."])
    conversation = await begin(ana.client)
    answer = await say(ana.client, conversation, "What is twice seven?")
    promised = {
        *("conversation_id", "message", "message_id", "user_message_id", "run_id", "model"),
        "usage",
    }
    assert promised <= set(answer)
    assert answer["message"] == "Fourteen."
    page = (await ana.client.get(f"{CHAT}/{conversation}")).json
    assert page["conversation_id"] == conversation
    _, question, reply = page["messages"]
    assert (question["role"], question["content"]) == ("user", "What is twice seven?")
    assert (reply["role"], reply["content"]) == ("assistant", "Fourteen.")
    assert (question["id"], reply["id"]) == (answer["user_message_id"], answer["message_id"])
    assert (reply["status"], reply["run_id"]) == ("done", answer["run_id"])
    assert question["created_at"] < reply["created_at"]
    age = datetime.now(UTC) - datetime.fromisoformat(reply["created_at"])
    assert 0 <= age.total_seconds() < 60


async def test_unicode_survives(ana: Person, stage: Stage) -> None:
    """What is said comes back letter by letter, whatever the script."""
    words = 'Zażółć 👩‍👩‍👧‍👦 \u2028 "quotes" \\ </script> \t\n\x1b[31mred\x1b[0m \ufffd'
    model = stage.play([words])
    conversation = await begin(ana.client)
    assert (await say(ana.client, conversation, words))["message"] == words
    _, question, reply = (await ana.client.get(f"{CHAT}/{conversation}")).json["messages"]
    assert (question["content"], reply["content"]) == (words, words)
    assert model.prompts[0].messages[-1].text == words


async def test_answer_streams_as_named_events(ana: Person, stage: Stage) -> None:
    """`Accept: text/event-stream` streams `start`, `delta`s and one `done` that has it all."""
    stage.play(["Good", " day", "."])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Hi"}
    async with ana.client.stream(f"{CHAT}/message", body, accept="text/event-stream") as stream:
        events = await stream.rest()
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert "no-store" in stream.headers["cache-control"]
    assert stream.headers["x-accel-buffering"] == "no"
    assert (events[0].name, events[-1].name) == ("start", "done")
    assert {event.name for event in events[1:-1]} == {"delta"}
    assert said(events) == events[-1].data["message"] == "Good day."
    assert events[0].data["message_id"] == events[-1].data["message_id"]


# --- the list -----------------------------------------------------------------------------------


async def test_list_has_the_newest_first(ana: Person) -> None:
    """The conversation that was written to last comes first."""
    first, second = await begin(ana.client), await begin(ana.client)
    assert await listed(ana.client) == [second, first]
    await say(ana.client, first, "Up you go.")
    assert await listed(ana.client) == [first, second]


async def test_list_entry_has_the_promised_members(ana: Person) -> None:
    """An entry has id, title and both times; the list says whose it is."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "What is the capital of Peru?")
    answer = (await ana.client.get(CHAT)).json
    (entry,) = answer["conversations"]
    assert set(entry) == {"id", "title", "created_at", "updated_at"}
    assert entry["title"] == "What is the capital of Peru?"
    assert entry["created_at"] < entry["updated_at"]
    assert answer["user_id"] == ana.id


async def test_pages_neither_skip_nor_repeat_ties(ana: Person, database: MigratedDatabase) -> None:
    """Conversations of the very same moment are each on exactly one page."""
    ids = [await begin(ana.client) for _ in range(7)]
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "update chat.conversations set updated_at = '2026-01-01 00:00:00.123456+00'"
            " where user_id = %s",
            [ana.id],
        )
    seen: list[str] = []
    cursor = ""
    while True:
        answer = (await ana.client.get(f"{CHAT}?limit=3{cursor}")).json
        seen += [one["id"] for one in answer["conversations"]]
        if answer["next_cursor"] is None:
            break
        assert len(answer["conversations"]) == 3
        cursor = f"&cursor={answer['next_cursor']}"
    assert len(seen) == 7
    assert set(seen) == set(ids)


async def test_page_that_is_exactly_full_has_no_next(ana: Person) -> None:
    """A cursor is given only when something follows."""
    await titled(ana.client, "a", "b")
    assert (await ana.client.get(f"{CHAT}?limit=2")).json["next_cursor"] is None


async def test_limit_is_clamped(ana: Person, database: MigratedDatabase) -> None:
    """However many are asked for, a page has at most 100."""
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "insert into chat.conversations (user_id, id) select %s, gen_random_uuid()::text"
            " from generate_series(1, 101)",
            [ana.id],
        )
    for limit in (100, 101, 10**30):
        assert len(await listed(ana.client, f"limit={limit}")) == 100


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=1.5", f"limit={'9' * 5000}", "limit=", "cursor="],
)
async def test_nonsense_in_the_query_is_refused(ana: Person, query: str) -> None:
    """A limit that is none, or an empty cursor, is a 422 that names the parameter."""
    answer = await ana.client.get(f"{CHAT}?{query}")
    assert (answer.status, answer.json["code"]) == (422, "validation_failed")
    assert answer.json["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    "cursor",
    ["!", "null", "e30", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwieCJd", "%00", "%F0%9F%92%A9", "A" * 600],
)
async def test_cursor_of_somebody_elses_making_is_refused(ana: Person, cursor: str) -> None:
    """A cursor that is none of ours is a 422, never a 5xx."""
    answer = await ana.client.get(f"{CHAT}?cursor={cursor}")
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "cursor"


async def test_cursor_shows_nobody_elses_conversations(ana: Person, bo: Person) -> None:
    """A cursor is a place in time: with Ana's, Bo sees his own list."""
    await titled(ana.client, "a", "b")
    (own,) = await titled(bo.client, "mine")
    cursor = (await ana.client.get(f"{CHAT}?limit=1")).json["next_cursor"]
    assert set(await listed(bo.client, f"cursor={cursor}")) <= {own}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("%", ["100% cotton"]),
        ("_", ["snake_case"]),
        ("\\", ["C:\\temp"]),
        ("COTTON", ["100% cotton"]),
        ("käse", ["Käsekuchen"]),
        ("' or 1=1 --", []),
        ("nothing like it", []),
    ],
)
async def test_search_finds_the_words_as_they_are(
    ana: Person, bo: Person, words: str, found: list[str]
) -> None:
    """A search is for the very characters, in one's own titles, whatever their case."""
    await titled(bo.client, "100% cotton", "snake_case", "C:\\temp")
    await titled(ana.client, "100% cotton", "snake_case", "C:\\temp", "Käsekuchen", "plain")
    answer = await ana.client.get(f"{CHAT}?q={quote(words)}")
    assert [one["title"] for one in answer.json["conversations"]] == found


async def test_search_is_paged(ana: Person) -> None:
    """The pages of a search are as those of the list."""
    ids = await titled(ana.client, "tea 1", "coffee", "tea 2", "tea 3")
    first = (await ana.client.get(f"{CHAT}?q=tea&limit=2")).json
    rest = await listed(ana.client, f"q=tea&limit=2&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["conversations"]] == [ids[3], ids[2]]
    assert rest == [ids[0]]


async def test_search_with_an_unstorable_character_is_refused(ana: Person) -> None:
    """NUL in a search is a 422."""
    assert (await ana.client.get(f"{CHAT}?q=%00")).status == 422


# --- a long conversation ------------------------------------------------------------------------


async def test_history_is_paged_backwards(ana: Person) -> None:
    """The newest page comes first, each oldest first; `before` walks back to the start."""
    conversation = await begin(ana.client)
    for number in range(5):
        await say(ana.client, conversation, f"question {number}")
    whole = (await ana.client.get(f"{CHAT}/{conversation}")).json["messages"]
    assert len(whole) == 11
    seen: list[str] = []
    before = ""
    while True:
        page = (await ana.client.get(f"{CHAT}/{conversation}?limit=4{before}")).json
        seen = [one["id"] for one in page["messages"]] + seen
        if page["next_cursor"] is None:
            break
        before = f"&before={page['next_cursor']}"
    assert seen == [one["id"] for one in whole]


async def test_page_of_long_messages_ends_early(ana: Person, stage: Stage) -> None:
    """A page is bounded by its size, too; the cursor leads to the rest as ever."""
    conversation = await begin(ana.client)
    for letter in "abcdefgh":
        await say(ana.client, conversation, letter * 190_000)
    seen: list[str] = []
    before, pages = "", 0
    while True:
        answer = await ana.client.get(f"{CHAT}/{conversation}?limit=100{before}")
        assert len(answer.body) < 4 << 20
        seen = [
            one["content"][0] for one in answer.json["messages"] if one["role"] == "user"
        ] + seen
        pages += 1
        if answer.json["next_cursor"] is None:
            break
        before = f"&before={answer.json['next_cursor']}"
    assert "".join(seen) == "abcdefgh"
    assert pages > 1


async def test_history_cursor_of_another_conversation_is_refused(ana: Person, bo: Person) -> None:
    """`before` must be of this conversation: Bo's message and one that never was look alike."""
    mine, his = await begin(ana.client), await begin(bo.client)
    message = (await bo.client.get(f"{CHAT}/{his}")).json["messages"][0]["id"]
    foreign = await ana.client.get(f"{CHAT}/{mine}?before={message}")
    never = await ana.client.get(f"{CHAT}/{mine}?before={uuid4()}")
    assert foreign.status == 422
    assert masked(foreign) == masked(never)


# --- titles -------------------------------------------------------------------------------------


async def test_title_is_made_from_the_first_question(ana: Person, stage: Stage) -> None:
    """The first question gives the title, before it is answered; the next ones do not."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "How do **tides** work? And why?")
    await say(ana.client, conversation, "What is a neap tide?")
    assert (await ana.client.get(f"{CHAT}/{conversation}")).json["title"] == "How do tides work?"


async def test_title_comes_from_the_answer_when_only_greeted(ana: Person, stage: Stage) -> None:
    """A greeting names no subject: then the answer does."""
    stage.play(["Tell me about your garden. I am listening."])
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "Hi!")
    page = await ana.client.get(f"{CHAT}/{conversation}")
    assert page.json["title"] == "Tell me about your garden"


async def test_title_that_a_person_chose_stays(ana: Person) -> None:
    """No exchange replaces a title that somebody typed."""
    (conversation,) = await titled(ana.client, "Mine")
    await say(ana.client, conversation, "Something else entirely.")
    assert (await ana.client.get(f"{CHAT}/{conversation}")).json["title"] == "Mine"


async def test_rename_does_not_move_it(ana: Person) -> None:
    """A new title is answered, kept, and no reason to come first in the list."""
    first, second = await begin(ana.client), await begin(ana.client)
    answer = await ana.client.patch(f"{CHAT}/{first}", {"title": "  Better  "})
    assert answer.status == 200
    assert (answer.json["id"], answer.json["title"]) == (first, "Better")
    assert await listed(ana.client) == [second, first]


@pytest.mark.parametrize(
    "title",
    ["", "   ", "a\nb", "a\r\nSet-Cookie: x=1", "\x00", "\x1b[31m", "x" * 201, 5, True, ["x"]],
)
async def test_title_must_be_one_line(ana: Person, title: object) -> None:
    """What cannot be a title is a 422 naming the field, and changes nothing."""
    (conversation,) = await titled(ana.client, "Kept")
    answer = await ana.client.patch(f"{CHAT}/{conversation}", {"title": title})
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "title"
    assert (await ana.client.get(f"{CHAT}/{conversation}")).json["title"] == "Kept"


@pytest.mark.parametrize("field", ["user_id", "id", "created_at", "owner", "deleted_at"])
async def test_nothing_else_can_be_changed(ana: Person, field: str) -> None:
    """Only the title and the branch are the caller's to change."""
    conversation = await begin(ana.client)
    body = {"title": "x", field: "y"}
    answer = await ana.client.patch(f"{CHAT}/{conversation}", body)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)


async def test_empty_change_is_refused(ana: Person) -> None:
    """A change of nothing says what could be changed."""
    conversation = await begin(ana.client)
    answer = await ana.client.patch(f"{CHAT}/{conversation}", {})
    assert answer.status == 422
    assert "title" in answer.json["detail"]


# --- branches -----------------------------------------------------------------------------------


async def test_another_branch_can_be_shown(ana: Person, stage: Stage) -> None:
    """`head_id` shows the branch through a message, down to its newest descendant."""
    stage.play(["one"], ["two"], ["three"])
    chat = str(uuid4())
    ask = {"id": chat, "message": {"role": "user", "parts": [{"type": "text", "text": "Q"}]}}
    again = {**ask, "trigger": "regenerate-message"}
    for body in (ask, again, again):
        assert (await ana.client.post("/api/chat", body)).status == 200
    shown = (await ana.client.get(f"{CHAT}/{chat}")).json["messages"]
    assert [one["content"] for one in shown] == ["Q", "three"]
    siblings = shown[1]["siblings"]
    assert len(siblings) == 3
    assert siblings[2] == shown[1]["id"]
    changed = await ana.client.patch(f"{CHAT}/{chat}", {"head_id": siblings[0]})
    assert changed.status == 200
    shown = (await ana.client.get(f"{CHAT}/{chat}")).json["messages"]
    assert [one["content"] for one in shown] == ["Q", "one"]
    await ana.client.patch(f"{CHAT}/{chat}", {"head_id": shown[0]["id"], "title": "T"})
    page = (await ana.client.get(f"{CHAT}/{chat}")).json
    assert ([one["content"] for one in page["messages"]], page["title"]) == (["Q", "three"], "T")


# --- delete and restore -------------------------------------------------------------------------


async def test_deleted_conversation_is_as_if_it_had_never_been(ana: Person) -> None:
    """After deleting, reading, writing and listing it are as for an id that never existed."""
    conversation, never = await begin(ana.client), str(uuid4())
    answer = await ana.client.delete(f"{CHAT}/{conversation}")
    assert (answer.status, answer.body) == (204, b"")
    assert await listed(ana.client) == []
    gone, unknown = [await ana.client.get(f"{CHAT}/{one}") for one in (conversation, never)]
    assert gone.status == 403
    assert masked(gone) == masked(unknown)
    again, unknown = [await ana.client.delete(f"{CHAT}/{one}") for one in (conversation, never)]
    assert masked(again) == masked(unknown)
    late = await ana.client.post(
        f"{CHAT}/message", {"conversation_id": conversation, "message": "Still there?"}
    )
    assert late.status == 403


async def test_deleted_conversation_is_not_brought_back_by_writing(ana: Person) -> None:
    """The AI SDK makes a conversation for a new id, and never for a deleted one."""
    conversation = await begin(ana.client)
    await ana.client.delete(f"{CHAT}/{conversation}")
    body = {
        "id": conversation,
        "message": {"role": "user", "parts": [{"type": "text", "text": "Hello?"}]},
    }
    assert (await ana.client.post("/api/chat", body)).status == 404
    assert await listed(ana.client) == []


async def test_deleted_answer_is_not_played_again(ana: Person) -> None:
    """The same question again does not bring back the answer of a deleted conversation."""
    question = {"id": "q1", "role": "user", "parts": [{"type": "text", "text": "A secret?"}]}
    body = {"id": f"deleted-{uuid4()}", "messages": [question]}
    assert (await ana.client.post("/api/chat", body)).status == 200
    assert (await ana.client.delete(f"{CHAT}/{body['id']}")).status == 204
    assert (await ana.client.post("/api/chat", body)).status == 404


async def test_deletion_can_be_undone(ana: Person) -> None:
    """Restoring brings everything back; asked a second time, all is as it was."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "Remember this.")
    before = (await ana.client.get(f"{CHAT}/{conversation}")).json
    await ana.client.delete(f"{CHAT}/{conversation}")
    restored = await ana.client.post(f"{CHAT}/{conversation}/restore")
    assert restored.status == 200
    assert restored.json["id"] == conversation
    assert (await ana.client.get(f"{CHAT}/{conversation}")).json == before
    again = await ana.client.post(f"{CHAT}/{conversation}/restore")
    assert (again.status, again.json) == (200, restored.json)


# --- exports ------------------------------------------------------------------------------------


async def test_export_has_every_branch(ana: Person, stage: Stage) -> None:
    """The JSON export has each message with its parent, also what is not shown."""
    stage.play(["first"], ["second"])
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "Q")
    await ana.client.post(
        "/api/chat",
        {
            "id": conversation,
            "trigger": "regenerate-message",
            "message": {"role": "user", "parts": [{"type": "text", "text": "Q"}]},
        },
    )
    answer = await ana.client.get(f"{CHAT}/{conversation}/export")
    assert answer.headers["content-type"] == "application/json"
    messages = answer.json["messages"]
    greeting, question, first, second = messages
    assert [one["content"] for one in messages[1:]] == ["Q", "first", "second"]
    assert question["parent_id"] == greeting["id"]
    assert first["parent_id"] == second["parent_id"] == question["id"]


async def test_export_as_markdown(ana: Person, stage: Stage) -> None:
    """The Markdown export is the title and who said what."""
    stage.play(["It **is** 42."])
    (conversation,) = await titled(ana.client, "The answer")
    await say(ana.client, conversation, "What is it?")
    answer = await ana.client.get(f"{CHAT}/{conversation}/export?format=markdown")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.text.startswith("# The answer\n")
    assert re.search(r"## You, \d{4}-\d\d-\d\d \d\d:\d\d UTC\n\nWhat is it\?", answer.text)
    assert answer.text.rstrip().endswith("It **is** 42.")


async def test_long_conversation_is_exported_in_pieces(node: Node, ana: Person) -> None:
    """No piece of an export grows with the conversation, and nothing is left out."""
    conversation = await begin(ana.client)
    for number in range(13):
        await say(ana.client, conversation, f"{number:02}" * 20_000)
    pieces = [piece async for piece in rest_exports.everything(node.services.files, ana.id)]
    assert max(map(len, pieces)) < 2 * 20_000 * 3
    (whole,) = json.loads(b"".join(pieces))["conversations"]
    asked = [one["content"][:2] for one in whole["messages"] if one["role"] == "user"]
    assert asked == [f"{number:02}" for number in range(13)]
    alone = (await ana.client.get(f"{CHAT}/{conversation}/export")).json
    assert alone == whole


async def test_export_in_an_unknown_format_is_refused(ana: Person) -> None:
    """A format that is not offered is a 422."""
    conversation = await begin(ana.client)
    assert (await ana.client.get(f"{CHAT}/{conversation}/export?format=pdf")).status == 422


async def test_export_of_everything(ana: Person, bo: Person, database: MigratedDatabase) -> None:
    """All conversations of the caller are in it once, and nobody else's."""
    await titled(bo.client, "not this one")
    kept = await titled(ana.client, "one", "two")
    (deleted,) = await titled(ana.client, "three")
    await ana.client.delete(f"{CHAT}/{deleted}")
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "insert into chat.conversations (user_id, id, title) select %s,"
            " gen_random_uuid()::text, 'many' from generate_series(1, 120)",
            [ana.id],
        )
    answer = await ana.client.get(f"{CHAT}/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="chatkeep-export.json"'
    everything = answer.json
    ids = [one["id"] for one in everything["conversations"]]
    assert everything["user_id"] == ana.id
    assert len(ids) == len(set(ids)) == 122
    assert set(kept) <= set(ids)
    assert deleted not in ids
    assert all(one["messages"] for one in everything["conversations"] if one["id"] in kept)


async def test_export_misses_nothing_that_changes_meanwhile(node: Node, ana: Person) -> None:
    """A conversation that is written to during the export is still in it, once."""
    ids = [await begin(ana.client) for _ in range(60)]
    export = rest_exports.everything(node.services.files, ana.id)
    pieces = [await anext(export) for _ in range(5)]
    await say(ana.client, ids[-1], "Me too.")
    await say(ana.client, ids[0], "And me.")
    pieces += [piece async for piece in export]
    exported = json.loads(b"".join(pieces))["conversations"]
    assert sorted(one["id"] for one in exported) == sorted(ids)


# --- somebody else's ----------------------------------------------------------------------------

ROUTES = {
    "read": ("GET", "{id}", None),
    "page": ("GET", "{id}?limit=5&before={message}", None),
    "rename": ("PATCH", "{id}", {"title": "Mine now"}),
    "show a branch": ("PATCH", "{id}", {"head_id": "{message}"}),
    "delete": ("DELETE", "{id}", None),
    "restore": ("POST", "{id}/restore", None),
    "export": ("GET", "{id}/export", None),
    "export as Markdown": ("GET", "{id}/export?format=markdown", None),
    "write": ("POST", "message", {"conversation_id": "{id}", "message": "Let me in"}),
    "write with a key": (
        "POST",
        "message",
        {"conversation_id": "{id}", "message": "Let me in", "client_message_id": "{message}"},
    ),
}


def filled(value: object, ids: dict[str, str]) -> object:
    """Return *value* with the ids in its texts."""
    if isinstance(value, dict):
        return {name: filled(one, ids) for name, one in value.items()}
    if isinstance(value, str):
        return value.format(**ids)
    return value


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("deleted", [False, True], ids=["there", "deleted"])
async def test_foreign_and_unknown_ids_look_the_same(
    ana: Person, bo: Person, route: str, deleted: bool
) -> None:
    """Whoever is not the owner gets the same 403, byte for byte, as for an id that never was."""
    conversation = await begin(ana.client)
    message = (await say(ana.client, conversation, "Secret"))["message_id"]
    before = (await ana.client.get(f"{CHAT}/{conversation}/export")).body
    if deleted:
        await ana.client.delete(f"{CHAT}/{conversation}")
    method, path, body = ROUTES[route]
    answers = []
    for ids in (
        {"id": conversation, "message": message},
        {"id": str(uuid4()), "message": str(uuid4())},
    ):
        answer = await bo.client.call(method, f"{CHAT}/{filled(path, ids)}", json=filled(body, ids))
        answers.append(masked(answer))
    assert answers[0] == answers[1]
    status, headers, raw = answers[0]
    assert status == 403
    assert b"Conversation does not belong to this user" in raw
    assert headers["content-type"] == "application/problem+json"
    if deleted:
        await ana.client.post(f"{CHAT}/{conversation}/restore")
    assert (await ana.client.get(f"{CHAT}/{conversation}/export")).body == before


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_needs_a_token(node: Node, route: str) -> None:
    """Without a token each route is the same 401."""
    method, path, body = ROUTES[route]
    ids = {"id": str(uuid4()), "message": str(uuid4())}
    answer = await node.nobody().call(method, f"{CHAT}/{filled(path, ids)}", json=filled(body, ids))
    assert answer.status == 401
    assert answer.json["error"] == "Missing Authorization Bearer token"


@pytest.mark.parametrize(
    "odd", ["%00", "%20", "x" * 300, "..%2f..", "%F0%9F%92%A9", "'--", "%ff", "a%0d%0ab"]
)
async def test_odd_ids_are_nobodys_conversation(ana: Person, odd: str) -> None:
    """Any text in the place of an id is a 4xx and never a 5xx."""
    for method in ("GET", "DELETE"):
        answer = await ana.client.call(method, f"{CHAT}/{odd}")
        assert answer.status in {403, 404, 405, 422}, answer.text
