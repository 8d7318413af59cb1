"""Requests sent twice: which are done once by a key, which by their nature, and what is kept."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
import pytest
from starlette.requests import Request

from chatkeep import idempotency
from chatkeep.db import ConstraintViolated
from chatkeep.errors import (
    AnswerNotKept,
    DatabaseUnavailable,
    RateLimited,
    RequestInProgress,
    Unavailable,
)
from chatkeep.idempotency import Held, IdempotencyKeys, Kept
from chatkeep.limits import RATES, Rate
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from chatkeep.web.once import Recorded, fingerprint_of, kept_or_given_up
from tests.api_document import DOCUMENT
from tests.chatkit_client import ROUTE as CHATKIT
from tests.chatkit_client import Kit, request, said_by_user
from tests.http.test_ai_sdk import asked, submit
from tests.peers import SHORT, Peer, start_aimock
from tests.serving import start_node, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    import aiohttp

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node, Person, Stage

CHAT = "/api/v1/chat"
WRITES: Final = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method != "get"
}
#: What is as if done once however often it is done, and why.
BY_NATURE: Final = {
    "PATCH /api/v1/chat/{conversation_id}": "the title and the branch are what was sent",
    "DELETE /api/v1/chat/{conversation_id}": "it is deleted",
    "POST /api/v1/chat/{conversation_id}/restore": "it is there",
    "POST /api/chat/{conversation_id}/stop": "nothing is being made",
    "DELETE /api/v1/shares/{share_id}": "it has ended",
    "DELETE /api/v1/chat/{conversation_id}/queue/{run_id}": "it does not wait any more",
    "DELETE /api/keys/{key_id}": "it has ended",
    "DELETE /api/files/{file_id}": "it is gone",
    "DELETE /v1/responses/{response_id}": "it is gone",
    "POST /v1/responses/{response_id}/cancel": "it has ended",
    "POST /v1/conversations/{conversation_id}": "its metadata are what was sent",
    "DELETE /v1/conversations/{conversation_id}": "it is gone",
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}": "it is gone",
    "PATCH /api/settings": "they are what was sent; `version` refuses what is late",
    "DELETE /api/account/data": "there is nothing left",
    "POST /support/attachments/{attachment_id}/upload": "the same bytes are there",
    "PUT /support/attachments/{attachment_id}/upload": "the same bytes are there",
    "DELETE /api/sessions/{session_id}": "it has ended",
    "POST /api/sessions/revoke-others": "they have ended",
    "POST /api/sessions/revoke-all": "they have ended",
}
#: Surfaces whose every request has a one-time secret, or ends or sets something by its name.
OF_SURFACES: Final = {
    "/auth/v1/": "as its clients know it: codes, links and tokens serve once",
    "/auth/": "a token is looked at, exchanged once, or ended",
    "/api/auth/": "a token is looked at, exchanged once, or ended",
    "/token/": "a token is looked at, or exchanged once",
    "/session": "sessions are ended by their name",
    "/logout": "the session has ended",
    "/sign-in": "whoever signs in twice has two sessions",
    "/api/admin/": "bans, sign-outs and limits are what was sent",
}


def takes_key(operation: dict[str, Any]) -> bool:
    """Whether the document says that a key may come with it."""
    names = [one["name"].lower() for one in operation.get("parameters", ())]
    return "idempotency-key" in names


@pytest.mark.parametrize("name", WRITES)
def test_every_write_says_how_it_is_done_once(name: str) -> None:
    """By a key, by its nature, or by the rules of its surface: one of them, and no other."""
    path = name.partition(" ")[2]
    by_surface = any(path.startswith(one) for one in OF_SURFACES)
    ways = [takes_key(WRITES[name]), name in BY_NATURE, by_surface]
    assert ways.count(True) == 1, f"{name}: {ways}"


@pytest.mark.parametrize("name", [name for name in WRITES if takes_key(WRITES[name])])
def test_keys_of_the_document_can_be_refused(name: str) -> None:
    """Whoever takes a key says so: 409 while it is being answered, 422 with another request."""
    assert {"409", "422"} <= WRITES[name]["responses"].keys()


def test_lists_name_nothing_that_is_gone() -> None:
    """Each name is an operation's."""
    assert WRITES.keys() >= BY_NATURE.keys()


# --- ten at once --------------------------------------------------------------------------------


async def ten(client: Client, path: str, body: object, **headers: str) -> list[Answer]:
    """Send one request ten times at once, with one key."""
    keyed = {"idempotency-key": "one", **headers}
    return await asyncio.gather(*(client.post(path, body, headers=keyed) for _ in range(10)))


async def listed(client: Client) -> list[str]:
    """Return the ids of a person's conversations."""
    answer = await client.get(CHAT)
    return [one["id"] for one in answer.json["conversations"]]


async def begun(client: Client) -> str:
    """Return a new conversation."""
    return str((await client.post(f"{CHAT}/start", {})).json["conversation_id"])


def same(answers: list[Answer]) -> Answer:
    """Return the one answer that all of them are; all but one say that they are replayed."""
    assert {one.status for one in answers} == {200}, [one.text for one in answers]
    assert len({one.body for one in answers}) == 1
    assert sum("idempotency-replayed" in one.headers for one in answers) == len(answers) - 1
    return answers[0]


async def test_ten_starts_are_one_conversation(ana: Person) -> None:
    """And without a key each is its own."""
    answer = same(await ten(ana.client, f"{CHAT}/start", {}))
    assert await listed(ana.client) == [answer.json["conversation_id"]]
    await begun(ana.client)
    assert len(await listed(ana.client)) == 2


async def test_ten_shares_are_one_link_and_it_opens(
    ana: Person, node: Node, database: MigratedDatabase
) -> None:
    """What is shown once is shown to each copy, and stands in no table."""
    conversation = await begun(ana.client)
    answer = same(await ten(ana.client, f"{CHAT}/{conversation}/shares", {}))
    assert len((await ana.client.get("/api/v1/shares")).json["shares"]) == 1
    token = answer.json["url"].rpartition("/")[2]
    assert (await node.nobody().get(f"/api/v1/shared/{token}")).status == 200
    with psycopg.connect(database.admin_url) as admin:
        kept = admin.execute("select answer from chat.idempotency_keys").fetchall()
    assert any(row[0] for row in kept)
    assert all(token.encode() not in bytes(row[0] or b"") for row in kept)


async def test_ten_imports_count_once(ana: Person) -> None:
    """The limit of imports too: a copy is no import."""
    sent = [
        {
            "title": "One",
            "create_time": 1.0,
            "conversation_id": "c1",
            "current_node": "m",
            "mapping": {
                "m": {
                    "id": "m",
                    "parent": None,
                    "children": [],
                    "message": {
                        "id": "m",
                        "author": {"role": "user"},
                        "create_time": 1.0,
                        "content": {"content_type": "text", "parts": ["Hello"]},
                    },
                }
            },
        }
    ]
    assert same(await ten(ana.client, f"{CHAT}/import", sent)).json == {"imported": 1, "known": 0}
    assert len(await listed(ana.client)) == 1


# --- one upstream call --------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def node(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that offers the models of this file."""
    offered = {"MODELS": "gpt-4o,fake/model", "OPENAI_CHAT_MODEL": "gpt-4o"}
    started = await start_node(database.url, session, project, **offered)
    yield started
    await started.stop()


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A provider that keeps a journal."""
    with start_aimock(tmp_path_factory.mktemp("aimock"), latency_ms=5) as peer:
        yield peer


@pytest.fixture
async def provided(node: Node, aimock: Peer) -> AsyncIterator[Peer]:
    """The node asks the provider."""
    model = OpenAICompatibleModel(base_url=aimock.base_url, api_key=aimock.api_key)
    before, node.stage.model = node.stage.model, model  # type: ignore[assignment]  # a stage plays any model
    yield aimock
    node.stage.model = before
    await model.aclose()


def upstream_calls(peer: Peer, words: str) -> int:
    """Return how often the provider was asked with these words."""
    return sum(words in str(one) for one in peer.received())


def bodies(words: str, conversation: str) -> dict[str, tuple[str, dict[str, Any], dict[str, str]]]:
    """Return a question on each surface: where it goes, the body, and further headers."""
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": words}]}
    completion = {"model": "gpt-4o", "messages": [{"role": "user", "content": words}]}
    create = request("threads.create", input=said_by_user(words))
    rest = {"conversation_id": conversation, "message": words}
    return {
        "REST": (f"{CHAT}/message", rest, {}),
        "REST, streamed": (f"{CHAT}/message", rest, {"accept": "text/event-stream"}),
        "AI SDK": ("/api/chat", {"id": str(uuid4()), "message": message}, {}),
        "ChatKit": (CHATKIT, create, {}),
        "/v1": ("/v1/chat/completions", completion, {}),
        "/v1, streamed": ("/v1/chat/completions", {**completion, "stream": True}, {}),
    }


@pytest.mark.parametrize(
    "surface", ["REST", "REST, streamed", "AI SDK", "ChatKit", "/v1", "/v1, streamed"]
)
async def test_ten_copies_are_one_call_of_the_provider(
    ana: Person, provided: Peer, surface: str
) -> None:
    """As its own journal has it; every copy has the whole answer, and it is kept once."""
    conversation, words = await begun(ana.client), f"Hello {uuid4()}"
    path, body, headers = bodies(words, conversation)[surface]
    answers = await ten(ana.client, path, body, **headers)
    assert {one.status for one in answers} == {200}, answers[0].text
    assert len({one.body for one in answers}) == 1 or "/v1" not in surface
    for one in answers:
        assert SHORT[:8] in one.text
    assert upstream_calls(provided, words) == 1
    wanted = words.removeprefix("Hello ")
    found = await ana.client.get(f"/api/v1/search?q={wanted}")
    kept = 0 if "/v1" in surface else 1
    assert len(found.json["found"]) == kept


async def test_ten_copies_by_the_message_id_are_one_call(ana: Person, provided: Peer) -> None:
    """Where the client names its messages it needs no key."""
    conversation, words = await begun(ana.client), f"Hello {uuid4()}"
    body = {"conversation_id": conversation, "message": words, "client_message_id": "m1"}
    sent = (ana.client.post(f"{CHAT}/message", body) for _ in range(10))
    assert len({one.body for one in await asyncio.gather(*sent)}) == 1
    assert upstream_calls(provided, words) == 1


# --- another request, another person, another day -----------------------------------------------


@pytest.mark.parametrize(
    "surface", ["REST", "AI SDK", "ChatKit", "/v1", "/v1, streamed", "start", "share", "fork"]
)
async def test_another_body_under_the_same_key_is_refused(
    ana: Person, stage: Stage, surface: str
) -> None:
    """Nothing is asked and nothing made; the first one's answer is still to be had."""
    model = stage.play(answer=lambda _: ["Hello."])
    conversation = await begun(ana.client)
    first, other = bodies("One", conversation), bodies("Other", conversation)
    made: dict[str, tuple[str, dict[str, Any], str]] = {
        "start": (f"{CHAT}/start", {}, f"{CHAT}/{conversation}/fork"),
        "share": (f"{CHAT}/{conversation}/shares", {}, f"{CHAT}/{conversation}/shares"),
        "fork": (f"{CHAT}/{conversation}/fork", {}, f"{CHAT}/start"),
    }
    if surface in made:
        path, body, elsewhere = made[surface]
        twice: Any = {"expires_in_days": 3} if surface == "share" else {}
    else:
        path, body, _ = first[surface]
        elsewhere, twice = path, other[surface][1]
    key = {"idempotency-key": "k"}
    told = await ana.client.post(path, body, headers=key)
    assert told.status == 200
    refused = await ana.client.post(elsewhere, twice, headers=key)
    found = refused.json.get("error") if path.startswith("/v1") else refused.json
    assert (refused.status, found["code"]) == (422, "idempotency_key_reused")
    assert (await ana.client.post(path, body, headers=key)).body == told.body
    assert len(model.prompts) == (surface not in made)


async def test_order_of_members_says_nothing(ana: Person, stage: Stage) -> None:
    """Another serialiser's copy is the same request; other values are not."""
    model = stage.play(["Hello."])
    conversation = await begun(ana.client)
    body = {"conversation_id": conversation, "message": "Hi", "temperature": 0.5}
    turned = dict(reversed(body.items()))
    key = {"idempotency-key": "k"}
    answers = [await ana.client.post(f"{CHAT}/message", one, headers=key) for one in (body, turned)]
    assert answers[0].body == answers[1].body
    warmer = await ana.client.post(f"{CHAT}/message", {**body, "temperature": 0.6}, headers=key)
    assert warmer.status == 422
    assert len(model.prompts) == 1


async def test_long_body_is_told_apart_without_being_read() -> None:
    """Megabytes of JSON are compared as they are: in memory they would be thirty times as many."""
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    request = Request({**scope, "scheme": "http", "server": ("localhost", 80)})
    long, other = (b"[" + b"{}," * (1 << 20) + end for end in (b"1]", b"2]"))
    tracemalloc.start()
    try:
        said = [await fingerprint_of(request, one) for one in (long, long, other)]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (said[0] == said[1], said[0] == said[2]) == (True, False)
    assert most < 3 * len(long)


async def test_key_is_one_persons(ana: Person, bo: Person) -> None:
    """Bo's request with Ana's key is his own."""
    answers = [
        await client.post(f"{CHAT}/start", {}, headers={"idempotency-key": "k"})
        for client in (ana.client, bo.client)
    ]
    assert answers[0].json["conversation_id"] != answers[1].json["conversation_id"]
    assert all("idempotency-replayed" not in one.headers for one in answers)


async def test_key_is_forgotten_after_a_day(
    ana: Person, stage: Stage, node: Node, database: MigratedDatabase
) -> None:
    """Then it is anybody's request again: of what is kept and of what begins a run."""
    model = stage.play(answer=lambda _: ["Hello."])
    key = {"idempotency-key": "k"}
    first = await ana.client.post(f"{CHAT}/start", {}, headers=key)
    conversation = first.json["conversation_id"]
    asked = {"conversation_id": conversation, "message": "Hi"}
    run = {"idempotency-key": "r"}
    await ana.client.post(f"{CHAT}/message", asked, headers=run)

    def a_day_passes() -> None:
        with psycopg.connect(database.admin_url) as admin:
            admin.execute("update chat.idempotency_keys set created_at = now() - interval '25 h'")

    a_day_passes()
    again = await ana.client.post(f"{CHAT}/start", {}, headers=key)
    assert again.json["conversation_id"] != conversation
    other = {"conversation_id": conversation, "message": "Something else"}
    assert (await ana.client.post(f"{CHAT}/message", other, headers=run)).status == 200
    assert len(model.prompts) == 2
    a_day_passes()
    assert await idempotency.forget_old(node.services.db) >= 2


# --- what is not kept ---------------------------------------------------------------------------


async def test_what_was_refused_may_be_tried_again(ana: Person) -> None:
    """A refusal leaves the key free, also for another body."""
    conversation = await begun(ana.client)
    key = {"idempotency-key": "k"}
    path = f"{CHAT}/{conversation}/shares"
    refused = await ana.client.post(path, {"head_id": "none"}, headers=key)
    assert refused.status == 403
    assert (await ana.client.post(path, {}, headers=key)).status == 200


async def test_edit_that_comes_again_with_its_key_is_made_once(ana: Person, stage: Stage) -> None:
    """However late: without a key the same wording may be meant anew, and a key says it is not."""
    model, chat = stage.play(["One."], ["Two."], ["Three."], ["Four."]), str(uuid4())

    async def ask(words: str, key: str, **members: str) -> str:
        message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": words}]}
        body = {"id": chat, "message": message, "model": "fake/model", **members}
        headers = {"accept": "application/json", "idempotency-key": key}
        return str((await ana.client.post("/api/chat", body, headers=headers)).json["run_id"])

    await ask("Hi", "first")
    edited = await ask("Ho", "edit", messageId="m1")
    await ask("Hu", "another", messageId="m1")
    assert await ask("Ho", "edit", messageId="m1") == edited
    assert len(model.prompts) == 3


async def test_stream_that_nobody_read_to_its_end_is_begun_anew(ana: Person, stage: Stage) -> None:
    """On `/v1` hanging up stops the answer, so its key is free again."""
    model = stage.play(["Half", asyncio.Event()], ["Whole."])
    body = {
        "model": "fake/model",
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    async with ana.client.stream("/v1/chat/completions", body, idempotency_key="k") as stream:
        await stream.until(lambda event: "Half" in str(event.data))
    await until(lambda: model.abandoned == 1)
    again = await ana.client.post("/v1/chat/completions", body, headers={"idempotency-key": "k"})
    assert "Whole." in again.text
    assert len(model.prompts) == 2


async def test_hanging_up_on_chatkit_makes_no_second_thread(ana: Person, stage: Stage) -> None:
    """What was said before is played again: the question is kept, and is not asked twice."""
    model = stage.play(["Half", asyncio.Event()], ["Never."])
    kit = Kit(ana.client.but(idempotency_key="k"))
    async with kit.open("threads.create", input=said_by_user("Hi")) as stream:
        await stream.until(lambda event: "Half" in str(event.data))
    await until(lambda: model.abandoned == 1)
    again = await kit.stream("threads.create", input=said_by_user("Hi"))
    assert "Half" in str(again)
    assert len(model.prompts) == 1
    assert len((await Kit(ana.client).call("threads.list")).json["data"]) == 1


async def test_copies_count_against_no_limit(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided before limits are: the copy is answered when nothing is left, and takes nothing."""
    monkeypatch.setitem(RATES, "chat", Rate(3, 36_000))
    node = await start(RATE_LIMITS="on")
    person = node.person()
    conversation = await begun(person.client)
    body = {"conversation_id": conversation, "message": "Hi"}
    by_id = {**body, "message": "Ho", "client_message_id": "m"}
    key = {"idempotency-key": "k"}
    first = await person.client.post(f"{CHAT}/message", body, headers=key)
    named = await person.client.post(f"{CHAT}/message", by_id)
    for _ in range(3):
        assert (await person.client.post(f"{CHAT}/message", by_id)).status == 200
        assert (await person.client.post(f"{CHAT}/message", body, headers=key)).status == 200
    with suppress(RateLimited):
        for _ in range(3):
            await node.services.limits.spend("chat", person.id)
    refused = await person.client.post(f"{CHAT}/message", {**body, "message": "New"})
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    again = await person.client.post(f"{CHAT}/message", body, headers=key)
    assert (again.status, again.body) == (200, first.body)
    again = await person.client.post(f"{CHAT}/message", by_id)
    assert (again.status, again.body) == (200, named.body)


async def test_edit_back_to_earlier_words_is_one_more_for_the_limits(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no copy of the first one: whoever has nothing left is not given that one's answer."""
    monkeypatch.setitem(RATES, "chat", Rate(3, 36_000))
    node = await start(RATE_LIMITS="on")
    person, chat = node.person(), str(uuid4())
    assert (await person.client.post("/api/chat", submit(chat, asked("W", "m1")))).status == 200
    for words, status in (("X", 200), ("Y", 200), ("X", 429)):
        edit = submit(chat, asked(words, "m1"), messageId="m1")
        assert (await person.client.post("/api/chat", edit)).status == status


async def test_whose_holder_died_is_taken_over_with_the_same_id(node: Node, ana: Person) -> None:
    """Not before its lease is over; what was made before is found under the same id."""
    keys = IdempotencyKeys(node.services.db, b"s" * 32, wait_s=0, lease_s=30)
    short = IdempotencyKeys(node.services.db, b"s" * 32, wait_s=5, lease_s=0.2)
    held = await short.take(ana.id, "k", b"same")
    assert isinstance(held, Held)
    await keys.renew(ana.id, "k", held._holder)
    with pytest.raises(RequestInProgress):
        await keys.take(ana.id, "k", b"same")
    await short.renew(ana.id, "k", held._holder)
    taken = await short.take(ana.id, "k", b"same")
    assert isinstance(taken, Held)
    assert taken.id == held.id
    await held.keep(Kept(status=200, body=b"late", media_type="text/plain"))
    await taken.keep(Kept(status=200, body=b"mine", media_type="text/plain"))
    kept = await short.take(ana.id, "k", b"same")
    assert isinstance(kept, Kept)
    assert kept.body == b"mine"


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnavailable,
        partial(Unavailable, "The database took too long."),
        partial(ConstraintViolated, "of what came after"),
    ],
    ids=["lost", "too late", "fault"],
)
async def test_lost_commit_makes_no_second_thing(
    ana: Person, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    """Its answer did not come after the database has done it: the next try finds it done."""
    from chatkeep import conversations  # noqa: PLC0415 -- only to break it

    start_conversation = conversations.start_conversation

    async def lost(*args: Any, **more: Any) -> str:  # noqa: ANN401 -- handed through
        await start_conversation(*args, **more)
        raise error()

    monkeypatch.setattr(conversations, "start_conversation", lost)
    key = {"idempotency-key": "k"}
    assert (await ana.client.post(f"{CHAT}/start", {}, headers=key)).status >= 500
    monkeypatch.undo()
    again = await ana.client.post(f"{CHAT}/start", {}, headers=key)
    assert await listed(ana.client) == [again.json["conversation_id"]]


async def test_request_that_was_cancelled_leaves_its_key(node: Node, ana: Person) -> None:
    """As when a server ends in the middle of it: nobody knows whether it was done."""

    async def cancelled(held: Held) -> None:
        async with kept_or_given_up(held):
            raise asyncio.CancelledError

    held = await node.services.idempotency.take(ana.id, "k", b"same")
    assert isinstance(held, Held)
    with pytest.raises(asyncio.CancelledError):
        await cancelled(held)
    again = await node.services.idempotency.take(ana.id, "k", b"same")
    assert isinstance(again, Held)
    assert again.id == held.id


async def test_large_answer_is_not_kept_and_not_made_again(node: Node, ana: Person) -> None:
    """Nor one that was sealed with another secret: it is told, and nothing is done twice."""
    keys = IdempotencyKeys(node.services.db, b"s" * 32)
    held = await keys.take(ana.id, "large", b"same")
    assert isinstance(held, Held)
    body = b"x" * (idempotency.KEPT_AT_MOST + 1)
    await held.keep(Kept(status=200, body=body, media_type="text/plain"))
    other = IdempotencyKeys(node.services.db, b"t" * 32)
    for who in (keys, other):
        with pytest.raises(AnswerNotKept):
            await who.take(ana.id, "large", b"same")


async def test_stream_that_is_too_long_to_keep_fills_no_memory(node: Node, ana: Person) -> None:
    """What goes on for hours is sent on; of what nobody will be shown again nothing is held."""
    keys = IdempotencyKeys(node.services.db, b"s" * 32)
    held = await keys.take(ana.id, "endless", b"same")
    assert isinstance(held, Held)
    frame = b"data: " + b"x" * (1 << 20) + b"\n\n"
    sent = 0

    async def frames() -> AsyncGenerator[bytes, None]:
        for _ in range(64):
            yield frame

    tracemalloc.start()
    try:
        async with aclosing(Recorded(frames(), held)) as recorded:
            async for one in recorded:
                sent += len(one)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == 64 * len(frame)
    assert most < 4 * idempotency.KEPT_AT_MOST
    with pytest.raises(AnswerNotKept):
        await keys.take(ana.id, "endless", b"same")
