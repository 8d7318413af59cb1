"""A provider that misbehaves, seen from the far side of the server, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.config import Settings
from chatkeep.errors import SetupError
from tests.chatkit_client import said_by_user
from tests.machine_time import quick
from tests.patience import PATIENCE_S
from tests.raw_upstream import RawUpstream, Wire, delta, failing, provider_of, raw_upstream
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.http.conftest import StartNode
    from tests.raw_upstream import Answer as Upstream
    from tests.serving import Client, Node, Stream

CHAT = "/api/v1/chat"
KEY = "sk-nobody-may-see-this"
HELLO = [{"role": "user", "content": "Hello"}]
#: From the moment somebody leaves to the moment the provider sees it.
GONE_WITHIN_S = 2.0


@asynccontextmanager
async def serving(
    start: StartNode, answer: Upstream, **environment: str
) -> AsyncIterator[tuple[Node, RawUpstream]]:
    """Give a node and the only provider it asks, whose model `m` gives *answer*."""
    async with raw_upstream(provider_of("m", m=answer)) as upstream:
        environ = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_CHAT_MODEL": "m",
            **environment,
        }
        yield await start(**environ), upstream


async def new_chat(client: Client) -> dict[str, Any]:
    """Return a question for a new conversation."""
    chat = (await client.post(f"{CHAT}/start")).json["conversation_id"]
    return {"conversation_id": chat, "message": "Hello"}


async def last_message(client: Client, question: dict[str, Any]) -> dict[str, Any]:
    """Return the newest message of the conversation."""
    kept = await client.get(f"{CHAT}/{question['conversation_id']}")
    found: dict[str, Any] = kept.json["messages"][-1]
    return found


# --- streams as nobody writes them --------------------------------------------------------------

HEL, LO = (json.dumps(delta(content=text)).encode() for text in ("Hel", "lo é"))
STOP = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
GOOD = [HEL, LO, STOP, b"[DONE]"]


def lines(*payloads: bytes, end: bytes = b"\n") -> bytes:
    """Return events with these payloads."""
    return b"".join(b"data: " + one + end + end for one in payloads)


def two_lines(payload: bytes) -> bytes:
    """Return *payload* as an event of two `data` lines, which a newline joins."""
    head, comma, tail = payload.partition(b",")
    return b"data: " + head + comma + b"\ndata: " + tail + b"\n\n"


ODD_BUT_GOOD = {
    "comments": b": OPENROUTER PROCESSING\n\n" + lines(HEL) + b": x\n" + lines(LO, STOP, b"[DONE]"),
    "CRLF": lines(*GOOD, end=b"\r\n"),
    "CR": lines(*GOOD, end=b"\r"),
    "several data lines": two_lines(HEL) + two_lines(LO) + lines(STOP, b"[DONE]"),
    "byte order mark": b"\xef\xbb\xbf" + lines(*GOOD),
    "no [DONE]": lines(HEL, LO, STOP),
    "data after [DONE]": lines(*GOOD) + lines(json.dumps(delta(content="more")).encode()),
    "other fields": b"event: x\nid: 7\nretry: 1\n" + lines(*GOOD),
    "usage of no answer": lines(HEL, LO, STOP, b'{"usage": {"prompt_tokens": 3000000000}}'),
}
BROKEN = {
    "bad JSON": lines(HEL, b"{nonsense"),
    "a line of ten megabytes": lines(HEL) + b"data: " + b"x" * (10 << 20) + b"\n\n",
    "an end without a reason": lines(HEL),
}


def sending(body: bytes, *, pieces: int) -> Upstream:
    """Return an answer of *body*, cut into so many bytes at a time."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        for at in range(0, len(body), pieces):
            await wire.send(body[at : at + pieces])
        await wire.end()

    return answer


@pytest.mark.parametrize("pieces", [3, 1 << 16], ids=["in crumbs", "at once"])
@pytest.mark.parametrize("body", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD.keys())
async def test_odd_stream_is_read_as_what_it_says(
    start: StartNode, body: bytes, pieces: int
) -> None:
    """Also where a character is cut in two; what is stored is what was said."""
    async with serving(start, sending(body, pieces=pieces)) as (node, upstream):
        client = node.person().client
        question = await new_chat(client)
        answer = await client.post(f"{CHAT}/message", question)
        assert (answer.status, answer.json["message"]) == (200, "Hello é")
        assert (await last_message(client, question))["content"] == "Hello é"
        assert upstream.asked == ["m"]


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_stream_of_nonsense_is_one_typed_error(start: StartNode, body: bytes) -> None:
    """What came before it is kept, and nobody is asked again."""
    async with serving(start, sending(body, pieces=1 << 16)) as (node, upstream):
        client = node.person().client
        question = await new_chat(client)
        async with client.stream(f"{CHAT}/message", question, accept="text/event-stream") as stream:
            events = await stream.rest()
        assert [one.name for one in events] == ["start", "delta", "error"]
        assert events[-1].data["code"] == "model_broken"
        kept = await last_message(client, question)
        assert (kept["content"], kept["status"]) == ("Hel", "failed")
        assert upstream.asked == ["m"]


async def test_page_in_place_of_a_stream_is_broken(start: StartNode) -> None:
    """A captive portal's, for one; nothing of it is shown."""

    async def answer(wire: Wire) -> None:
        await wire.begin(200, "text/html")
        await wire.send(f"<html>{KEY}</html>".encode())
        await wire.end()

    async with serving(start, answer) as (node, _):
        client = node.person().client
        refused = await client.post(f"{CHAT}/message", await new_chat(client))
        assert (refused.status, refused.json["code"]) == (502, "model_broken")
        assert "html" not in refused.text


async def test_error_inside_a_stream_is_typed_and_the_message_failed(start: StartNode) -> None:
    """The words of the provider go nowhere."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("Hel")
        error = {"code": 502, "message": KEY, "metadata": {"error_type": "provider_unavailable"}}
        stopped = {"index": 0, "delta": {}, "finish_reason": "error"}
        await wire.event({"error": error, "choices": [stopped]})
        await wire.end()

    async with serving(start, answer) as (node, _):
        client = node.person().client
        question = await new_chat(client)
        refused = await client.post(f"{CHAT}/message", question)
        assert (refused.status, refused.json["code"]) == (502, "model_broken")
        kept = await last_message(client, question)
        assert (kept["content"], kept["status"]) == ("Hel", "failed")
        streamed = await client.post(
            "/v1/chat/completions", {"model": "m", "messages": HELLO, "stream": True}
        )
        assert '"code":"model_broken"' in streamed.text
        assert KEY not in refused.text + streamed.text + json.dumps(kept)


# --- refusals before the first byte -------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [
        (400, 422, "model_refused"),
        (401, 502, "model_misconfigured"),
        (402, 502, "model_misconfigured"),
        (403, 502, "model_misconfigured"),
        (404, 502, "model_misconfigured"),
        (408, 504, "model_timeout"),
        (429, 429, "model_rate_limited"),
        (500, 503, "model_unavailable"),
        (503, 503, "model_unavailable"),
        (529, 503, "model_unavailable"),
    ],
)
async def test_refusal_of_a_provider_is_never_the_callers_sign_in(
    start: StartNode, status: int, ours: int, code: str
) -> None:
    """On REST and for OpenAI clients: our word for it, when to come back, no key and no address."""
    async with serving(start, failing(status, f"Incorrect key {KEY}")) as (node, upstream):
        client = node.person().client
        answers = (
            await client.post(f"{CHAT}/message", await new_chat(client)),
            await client.post("/v1/chat/completions", {"model": "m", "messages": HELLO}),
        )
        for answer in answers:
            assert answer.status == ours, answer.text
            said = answer.json.get("error") or answer.json
            assert (said["code"] if isinstance(said, dict) else answer.json["code"]) == code
            assert ("retry-after" in answer.headers) == (ours in {429, 503, 504})
            whole = answer.text + json.dumps(dict(answer.headers))
            assert KEY not in whole
            assert upstream.base_url.removeprefix("http://") not in whole


# --- time-outs ----------------------------------------------------------------------------------


async def silent(wire: Wire) -> None:
    """Take the request, and nothing else."""
    await wire.hung_up()


async def hesitant(wire: Wire) -> None:
    """Say one word, and no more."""
    await wire.begin()
    await wire.say("Hel")
    await wire.hung_up()


async def endless(wire: Wire) -> None:
    """Say word after word for ever."""
    await wire.begin()
    while True:
        await wire.say("word ")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "setting", "said"),
    [
        (silent, {"MODEL_FIRST_BYTE_TIMEOUT": "0.3"}, ""),
        (hesitant, {"MODEL_CHUNK_TIMEOUT": "0.3"}, "Hel"),
        (endless, {"MODEL_TIMEOUT": "2"}, "word "),
    ],
    ids=["first byte", "between chunks", "the whole"],
)
async def test_each_time_out_ends_the_answer_and_frees_its_place(
    start: StartNode, answer: Upstream, setting: dict[str, str], said: str
) -> None:
    """With an error event; the next question is taken at once."""
    async with serving(start, answer, **setting) as (node, upstream):
        client = node.person().client
        question = await new_chat(client)
        for times in (1, 2):
            async with client.stream(
                f"{CHAT}/message", question, accept="text/event-stream"
            ) as stream:
                assert stream.status == 200
                events = await stream.rest()
            assert (events[-1].name, events[-1].data["code"]) == ("error", "model_timeout")
            kept = await last_message(client, question)
            assert kept["status"] == "failed"
            assert kept["content"].startswith(said)
            assert upstream.asked == ["m"] * times
        await until(lambda: not node.services.replies._work)


# --- asked again --------------------------------------------------------------------------------


async def test_busy_provider_is_asked_again_and_the_answer_is_one(start: StartNode) -> None:
    """After the second that it wished for: one message, one answer charged."""
    asked_at: list[float] = []

    async def answer(wire: Wire) -> None:
        asked_at.append(time.monotonic())
        if len(asked_at) == 1:
            await wire.answer(429, {"error": {"code": 429}}, Retry_After="1")
            return
        await wire.begin()
        await wire.say("Hello")
        usage = {"prompt_tokens": 7, "completion_tokens": 2}
        await wire.event({"choices": [], "usage": usage})
        await wire.finish()

    async with serving(start, answer) as (node, _):
        client = node.person().client
        said = await client.post(f"{CHAT}/message", await new_chat(client))
        assert (said.status, said.json["message"]) == (200, "Hello")
        assert len(asked_at) == 2
        assert asked_at[1] - asked_at[0] > 0.9
        month = (await client.get("/api/usage")).json["this_month"]
        assert (month["answers"], month["prompt_tokens"]) == (1, 7)


async def test_provider_that_stays_busy_is_asked_three_times(start: StartNode) -> None:
    """And costs nobody anything."""
    async with serving(start, failing(503)) as (node, upstream):
        client = node.person().client
        refused = await client.post(f"{CHAT}/message", await new_chat(client))
        assert (refused.status, upstream.asked) == (503, ["m"] * 3)
        month = (await client.get("/api/usage")).json["this_month"]
        assert (month["prompt_tokens"], month["completion_tokens"]) == (0, 0)


async def test_answer_that_broke_off_is_not_asked_for_again(start: StartNode) -> None:
    """There would be two bills: what was said is kept and charged once."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("x" * 300)
        wire.writer.close()

    async with serving(start, answer) as (node, upstream):
        client = node.person().client
        refused = await client.post(f"{CHAT}/message", await new_chat(client))
        assert (refused.status, upstream.asked) == (502, ["m"])
        month = (await client.get("/api/usage")).json["this_month"]
        assert (month["answers"], month["completion_tokens"]) == (1, 100)


# --- leaving ------------------------------------------------------------------------------------


async def leave_completions(client: Client, _spoke: asyncio.Event) -> None:
    """Hang up on an OpenAI stream that has begun."""
    body = {"model": "m", "messages": HELLO, "stream": True}
    async with client.stream("/v1/chat/completions", body) as stream:
        await _heard(stream, lambda data: "word" in json.dumps(data))


async def leave_completions_whole(client: Client, spoke: asyncio.Event) -> None:
    """Give up waiting for a whole OpenAI answer."""
    body = {"model": "m", "messages": HELLO}
    waiting = asyncio.create_task(client.post("/v1/chat/completions", body))
    await spoke.wait()
    waiting.cancel()
    await asyncio.wait([waiting])


async def leave_responses(client: Client, _spoke: asyncio.Event) -> None:
    """Hang up on a response that is not kept."""
    body = {"model": "m", "input": "Hello", "stream": True, "store": False}
    async with client.stream("/v1/responses", body) as stream:
        await _heard(stream, lambda data: "word" in json.dumps(data))


async def leave_chatkit(client: Client, _spoke: asyncio.Event) -> None:
    """Hang up on the support chat."""
    wish = {"type": "threads.create", "params": {"input": said_by_user("Hello")}}
    async with client.stream("/support/chatkit", wish) as stream:
        await _heard(stream, lambda data: "word" in json.dumps(data))


async def stop_rest(client: Client, _spoke: asyncio.Event) -> None:
    """Press the stop button of another device."""
    question = await new_chat(client)
    async with client.stream(f"{CHAT}/message", question, accept="text/event-stream") as stream:
        await _heard(stream, lambda data: "word" in json.dumps(data))
        stopped = await client.post(f"/api/chat/{question['conversation_id']}/stop")
        assert stopped.status == 200


async def stop_ai_sdk(client: Client, _spoke: asyncio.Event) -> None:
    """Stop an answer of `useChat`, whose page was closed before."""
    message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    chat = str(uuid4())
    async with client.stream("/api/chat", {"id": chat, "message": message}) as stream:
        await _heard(stream, lambda data: "word" in json.dumps(data))
    assert (await client.post(f"/api/chat/{chat}/stop")).status == 200


async def _heard(stream: Stream, wanted: Callable[[Any], bool]) -> None:
    assert stream.status == 200
    await stream.until(lambda event: wanted(event.data))


LEAVING = [
    leave_completions,
    leave_completions_whole,
    leave_responses,
    leave_chatkit,
    stop_rest,
    stop_ai_sdk,
]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda one: one.__name__)
async def test_whoever_leaves_or_stops_frees_the_provider_within_two_seconds(
    start: StartNode, leave: Callable[[Client, asyncio.Event], Awaitable[None]]
) -> None:
    """Its connection is closed, what was said is booked, and the next answer is all its own."""
    closed, spoke = asyncio.Event(), asyncio.Event()
    words = 0

    async def answer(wire: Wire) -> None:
        nonlocal words
        if closed.is_set():
            await wire.begin()
            await wire.say("fresh")
            await wire.finish()
            return
        talking = asyncio.create_task(_talk(wire))
        try:
            await wire.hung_up()
        finally:
            closed.set()
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _talk(wire: Wire) -> None:
        nonlocal words
        await wire.begin()
        while True:
            await wire.say("word ")
            words += 1
            spoke.set()
            await asyncio.sleep(0.01)

    async with serving(start, answer) as (node, upstream):
        client = node.person().client
        await leave(client, spoke)
        with quick(GONE_WITHIN_S):
            async with asyncio.timeout(PATIENCE_S):
                await closed.wait()

        async def booked() -> bool:
            month = (await client.get("/api/usage")).json["this_month"]
            return bool(month["answers"] == 1 and month["completion_tokens"] > 0)

        await until(booked)
        month = (await client.get("/api/usage")).json["this_month"]
        # Five bytes a word are taken for less than two tokens.
        assert month["completion_tokens"] <= words * 2
        assert month["prompt_tokens"] > 0
        whole = await client.post("/v1/chat/completions", {"model": "m", "messages": HELLO})
        assert whole.json["choices"][0]["message"]["content"] == "fresh"
        assert upstream.asked == ["m", "m"]
        assert upstream.connections >= 2


# --- what goes into a header --------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {"PUBLIC_URL": "https://chat.example/\r\nX-Evil: 1"},
        {"OPENAI_API_KEY": "sk-1\r\nX-Evil: 1"},
        {"OPENAI_BASE_URL": "https://x.example/v1\r\nX-Evil: 1"},
        {"UPSTREAMS": "x", "UPSTREAM_X_URL": "https://x.example/v1\r\nX-Evil: 1"},
    ],
    ids=lambda one: list(one)[-1],
)
def test_line_break_in_what_goes_into_a_header_is_refused(environ: dict[str, str]) -> None:
    """At the start or when the adapter is made, not with the first question."""
    from chatkeep.llm.choice import choose_model  # noqa: PLC0415 -- only here

    with pytest.raises(SetupError):
        choose_model(Settings.from_env(environ))
