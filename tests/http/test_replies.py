"""Answers in the moments that hardly ever come: stopped before they begin, not stoppable, lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from chatkeep import runs
from chatkeep.answering import checkpoints, turns
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.db import as_user
from chatkeep.errors import Invalid, NotFound, RunInProgress, Unavailable
from chatkeep.events import TextDelta
from chatkeep.policies import choose
from chatkeep.preferences import NO_PROFILE
from chatkeep.principal import Principal
from chatkeep.web.sse import EventStream
from tests.serving import said, types, until
from tests.turns import a_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from chatkeep.answering.answers import Answer
    from chatkeep.db import Database
    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import Prompt
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node, Person, Stage

ROUTE = "/api/chat"


def submit(chat: str, text: str = "Hi") -> dict[str, Any]:
    """Return the body of a submit."""
    return {"id": chat, "message": {"role": "user", "parts": [{"type": "text", "text": text}]}}


async def begun(node: Node, person: Person, chat: str) -> Answer:
    """Begin the first answer of a conversation, for somebody without a wish."""
    who = Principal(user_id=person.id, issuer="supabase", subject=person.id)
    choices = choose(NO_PROFILE, {}, node.services.offered_models.policy)
    return await node.services.replies.begin(who, a_turn(conversation_id=chat), choices)


async def newest(client: Client, chat: str) -> dict[str, Any]:
    """Return the newest message that is kept."""
    message: dict[str, Any] = (await client.get(f"/api/v1/chat/{chat}")).json["messages"][-1]
    return message


# --- stopping -----------------------------------------------------------------------------------


async def test_answer_stopped_before_its_first_step_is_kept(
    node: Node, ana: Person, stage: Stage
) -> None:
    """A stop that comes before the model was asked ends the run all the same."""
    model = stage.play(["Never said."])
    chat = str(uuid4())
    answer = await begun(node, ana, chat)
    assert node.services.replies.stop_here(answer.address.id)
    text, ending = await answer.whole()
    assert (text, ending.state) == ("", "stopped")
    assert model.prompts == []
    kept = await newest(ana.client, chat)
    assert (kept["status"], kept["content"]) == ("stopped", "")
    assert (await ana.client.post(ROUTE, submit(chat))).status == 200


async def test_answer_begun_at_shutdown_is_kept(start: StartNode, node: Node) -> None:
    """A question that was taken just before the end of the server is marked interrupted."""
    leaving = await start()
    leaving.stage.play([asyncio.Event()])
    person = leaving.person()
    chat = str(uuid4())
    await begun(leaving, person, chat)
    await leaving.services.replies.close(drain_s=0)
    kept = await newest(person.client.but(url=node.url), chat)
    assert (kept["status"], kept["error"]["code"]) == ("interrupted", "answer_interrupted")


@dataclass(frozen=True, slots=True)
class _Charge:
    id: str


async def test_server_that_ends_charges_nobody_for_what_it_refuses(start: StartNode) -> None:
    """A question that is not kept is refused before it is charged, so there is nothing to book."""
    leaving = await start()
    person, asked = leaving.person(), {"messages": [{"role": "user", "content": "Hello?"}]}
    await leaving.services.replies.close(drain_s=0)
    refused = await person.client.post("/v1/chat/completions", {"model": "fake/model", **asked})
    assert refused.status == 503
    charges = "select id from chat.charges where user_id = %s"
    assert (
        await leaving.services.db.fetch(as_user(person.id), charges, [person.id], row=_Charge) == []
    )


class Stubborn:
    """A model that does not let go when it is told to."""

    name = "stubborn"

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def stream(self, prompt: Prompt) -> AsyncIterator[ModelEvent]:
        """Say a word, and wait for the gate whatever happens."""
        yield TextDelta(text="No")
        waiting = asyncio.create_task(self.gate.wait())
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                continue


async def test_answer_that_cannot_be_stopped_yet_is_said_so(
    ana: Person, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When stopping takes too long: 503 with `Retry-After`, and it works a little later."""
    monkeypatch.setattr("chatkeep.answering.replies._STOP_WITHIN_S", 0.05)
    stage.model = model = Stubborn()  # type: ignore[assignment]  # a stage plays any model
    chat = str(uuid4())
    async with ana.client.stream(ROUTE, submit(chat)) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        refused = await ana.client.post(f"{ROUTE}/{chat}/stop")
        assert (refused.status, refused.json["code"]) == (503, "unavailable")
        assert "retry-after" in refused.headers
        model.gate.set()
        await stream.rest()
    assert (await ana.client.post(f"{ROUTE}/{chat}/stop")).json == {"stopped": None}


async def test_crowd_of_questions_is_not_stopped_for_ever(
    node: Node, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others keep asking in between, the last word is that it is being answered."""
    asked = 0

    async def always_another(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise RunInProgress(run_id="r")

    monkeypatch.setattr(node.services.replies, "begin", always_another)
    answer = await ana.client.post(ROUTE, submit(str(uuid4())))
    assert (answer.status, answer.json["code"]) == (409, "run_in_progress")
    assert asked == 4


# --- ends that cannot be kept -------------------------------------------------------------------


class Trailing:
    """A model whose answer just ends."""

    name = "trailing"

    async def stream(self, prompt: Prompt) -> AsyncIterator[ModelEvent]:
        """Say a word, and nothing that ends it."""
        yield TextDelta(text="And")


async def test_answer_without_an_end_is_broken(ana: Person, stage: Stage) -> None:
    """A model that stops talking without saying so has not answered."""
    stage.model = Trailing()  # type: ignore[assignment]  # a stage plays any model
    chat = str(uuid4())
    headers = {"accept": "application/json"}
    answer = await ana.client.post(ROUTE, submit(chat), headers=headers)
    assert (answer.status, answer.json["code"]) == (502, "model_broken")
    assert (await newest(ana.client, chat))["content"] == "And"


@pytest.mark.parametrize("error", [Invalid(), ValueError("of a bug")], ids=["refused", "a bug"])
async def test_end_that_cannot_be_kept_is_a_failure(
    ana: Person, stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nobody is told "done" of what is not kept so; its words are, and the chat goes on."""

    async def refuse(*_: object, **__: object) -> None:
        raise error

    chat = str(uuid4())
    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "finish", refuse)
        stage.play(["Lost."])
        async with ana.client.stream(ROUTE, submit(chat)) as stream:
            assert types(await stream.rest())[-2:] == ["error", "[DONE]"]
    assert said(stream.events) == "Lost."
    kept = await newest(ana.client, chat)
    assert (kept["content"], kept["status"]) == ("Lost.", "failed")
    stage.play(["And on."])
    async with ana.client.stream(ROUTE, submit(chat, "Go on")) as stream:
        await stream.rest()
    assert said(stream.events) == "And on."


async def test_answer_whose_words_cannot_be_kept_ends_too(
    ana: Person, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even of a bug in all that is kept does anybody wait for an end that never comes."""

    async def refuse(*_: object, **__: object) -> None:
        raise ValueError("of a bug")

    chat = str(uuid4())
    monkeypatch.setattr(checkpoints, "finish", refuse)
    monkeypatch.setattr(checkpoints, "keep", refuse)
    stage.play(["Lost."])
    async with ana.client.stream(ROUTE, submit(chat)) as stream:
        assert types(await stream.rest())[-2:] == ["error", "[DONE]"]
    assert (await newest(ana.client, chat))["status"] == "failed"


async def test_delayed_checkpoint_does_not_write_over_the_end(
    node: Node, ana: Person, stage: Stage
) -> None:
    """A checkpoint that the database got late, after the end, leaves the whole answer alone."""
    stage.play(["The whole answer."])
    chat = str(uuid4())
    answer = await begun(node, ana, chat)
    await answer.whole()
    one = Checkpoint(user_id=ana.id, run=answer.address, content="The wh", parts=None)
    await checkpoints.keep(node.services.db, [one])
    kept = await newest(ana.client, chat)
    assert (kept["content"], kept["status"]) == ("The whole answer.", "done")


async def test_one_checkpoint_that_is_refused_keeps_no_other_from_being_kept(
    node: Node, ana: Person, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints go together; when the database does not take them so, each goes alone."""
    together = checkpoints.keep
    refused: list[int] = []

    async def refuse_several(db: Database, some: Sequence[Checkpoint]) -> list[bool]:
        if len(some) > 1:
            refused.append(len(some))
            raise Invalid
        if not refused:  # alone by chance: it comes again, with the other
            raise Unavailable("The database is away.")
        return await together(db, some)

    monkeypatch.setattr(checkpoints, "keep", refuse_several)
    gate, chats = asyncio.Event(), [str(uuid4()), str(uuid4())]
    stage.play(["One", gate], ["One", gate])
    answers = [await begun(node, ana, chat) for chat in chats]
    for chat in chats:

        async def is_kept(chat: str = chat) -> bool:
            return bool((await newest(ana.client, chat))["content"] == "One")

        await until(is_kept)
    gate.set()
    for answer in answers:
        await answer.whole()
    assert refused


# --- followers on another node ------------------------------------------------------------------


async def test_follower_hears_that_it_goes_on(
    node: Node, start: StartNode, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments keep the connection of a reader on another node open as well."""
    monkeypatch.setattr("chatkeep.answering.answers.HEARTBEAT_S", 0.01)
    other = await start()
    gate = asyncio.Event()
    node.stage.play(["One", gate])
    chat = str(uuid4())
    async with ana.client.stream(ROUTE, submit(chat)) as here:
        await here.until(lambda event: types([event]) == ["text-delta"])
        there = ana.client.but(url=other.url)
        async with there.stream(f"{ROUTE}/{chat}/stream", method="GET") as stream:
            reading = asyncio.create_task(stream.rest())
            await until(lambda: stream.raw.count(b": keep-alive\n\n") >= 2)
            gate.set()
            assert said(await reading) == "One"


async def test_follower_of_an_erased_conversation_is_told(
    node: Node, start: StartNode, ana: Person, database: MigratedDatabase
) -> None:
    """When the conversation is erased meanwhile, readers are told and the model is let go."""
    other = await start()
    model = node.stage.play(["One", asyncio.Event()])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(ROUTE, submit(chat)) as here:
        await here.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{ROUTE}/{chat}/stream", method="GET") as stream:
            await stream.next()
            with psycopg.connect(database.admin_url) as connection:
                connection.execute("delete from chat.conversations where id = %s", [chat])
            assert types(await stream.rest())[-2:] == ["error", "[DONE]"]
        await until(lambda: model.abandoned == 1)
        await here.rest()


async def test_question_that_is_gone_is_not_answered(node: Node, ana: Person, stage: Stage) -> None:
    """A new answer to a question that was erased just now begins nothing."""
    db, chat = node.services.db, str(uuid4())
    await ana.client.post(ROUTE, submit(chat))
    gone = a_turn(conversation_id=chat, content=None)
    with pytest.raises(NotFound):
        await turns.start(db, ana.id, gone)
    with pytest.raises(NotFound):
        await runs.get_run(db, ana.id, gone.run_id)


# --- the cache of profiles ----------------------------------------------------------------------


async def test_cache_of_profiles_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many people come by, only so many profiles are remembered."""
    monkeypatch.setattr("chatkeep.preferences._CACHED_AT_MOST", 3)
    preferences = node.services.preferences
    preferences.forget_all()
    for _ in range(10):
        await preferences.get_profile(str(uuid4()))
    assert len(preferences._cache) == 3


# --- the response -------------------------------------------------------------------------------


async def frames(*gates: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """Yield a frame before each gate, and one at the end."""
    for gate in gates:
        yield b"data: x\n\n"
        await gate.wait()
    yield b"data: [DONE]\n\n"


async def received(stream: EventStream, *, takes: int, gone: asyncio.Event) -> list[bytes]:
    """Run *stream* for a reader who takes so many frames, and leaves when *gone*."""
    bodies: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:  # noqa: ANN401 -- ASGI's
        if message["type"] == "http.response.body":
            if len(bodies) >= takes:
                await asyncio.Event().wait()
            bodies.append(message["body"])

    await stream({"type": "http", "state": {}}, receive, send)
    return bodies


async def test_stream_ends_with_its_frames() -> None:
    """Every frame is sent, and then the end of the body."""
    sent = await received(EventStream(frames()), takes=9, gone=asyncio.Event())
    assert sent == [b"data: [DONE]\n\n", b""]


async def test_stream_of_a_reader_who_leaves_is_closed() -> None:
    """The generator is closed when the reader hangs up, wherever it waits."""
    began, closed, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def watched() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: x\n\n"
            began.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    reading = asyncio.create_task(received(EventStream(watched()), takes=9, gone=gone))
    await began.wait()
    gone.set()
    assert await reading == [b"data: x\n\n"]
    assert closed.is_set()


async def test_reader_who_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not read for too long loses the stream."""
    monkeypatch.setattr("chatkeep.web.sse._STALL_S", 0.01)
    with pytest.raises(TimeoutError):
        await received(EventStream(frames(asyncio.Event())), takes=0, gone=asyncio.Event())


async def test_no_stream_lives_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its longest life a stream ends, whatever is still to come."""
    monkeypatch.setattr("chatkeep.web.sse._LIFE_S", 0.01)
    with pytest.raises(TimeoutError):
        await received(EventStream(frames(asyncio.Event())), takes=9, gone=asyncio.Event())


async def test_bug_in_the_middle_of_a_stream_cuts_it(
    ana: Person, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After the first byte there is no other answer: the connection ends, the log says why."""

    def broken(_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("chatkeep.web.ai_sdk.answers._ending", broken)
    stage.play(["Fine"])
    raw = b""
    async with ana.client.stream(ROUTE, submit(str(uuid4()))) as stream:
        with pytest.raises(Exception, match="not completed"):
            await stream.rest()
        raw = stream.raw
    assert b"Fine" in raw
    assert b"[DONE]" not in raw
    assert "ZeroDivisionError" in caplog.text
