"""The adapter against a provider that misbehaves, over a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    SetupError,
)
from chatkeep.events import Done, ModelEvent, ReasoningDelta, TextDelta, ToolCall, Usage
from chatkeep.llm.model import ModelInfo, ModelSettings, Prompt, PromptMessage
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from chatkeep.llm.response import Timeouts
from chatkeep.llm.upstream import TRIES
from tests.patience import PATIENCE_S
from tests.raw_upstream import RawUpstream, Wire, delta, raw_upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.raw_upstream import Answer

KEY = "sk-canary-0123456789abcdef"
#: Answers are watched more closely than in earnest, so that no test waits a second.
pytestmark = pytest.mark.usefixtures("_close_look")

PROMPT = Prompt(
    messages=[PromptMessage(role="user", text="Hi")],
    settings=ModelSettings(model="vendor/model"),
)
QUICK = Timeouts(connect_s=0.2, first_byte_s=0.2, between_chunks_s=0.2, total_s=0.6)


@pytest.fixture
def _close_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatkeep.llm.response._LOOK_EVERY_S", 0.05)


@asynccontextmanager
async def serving(
    answer: Answer,
    **options: Any,  # noqa: ANN401 -- whatever the adapter takes
) -> AsyncIterator[tuple[OpenAICompatibleModel, RawUpstream]]:
    """Give an adapter and the provider it talks to."""
    async with raw_upstream(answer) as upstream:
        model = OpenAICompatibleModel(**{"base_url": upstream.base_url, "api_key": KEY, **options})
        try:
            yield model, upstream
        finally:
            await model.aclose()


async def collect(model: OpenAICompatibleModel, prompt: Prompt = PROMPT) -> list[ModelEvent]:
    """Take a whole answer."""
    return [event async for event in model.stream(prompt)]


async def collect_until_error(
    model: OpenAICompatibleModel,
) -> tuple[list[ModelEvent], ChatkeepError]:
    """Take what comes before the error, and the error."""
    events: list[ModelEvent] = []
    try:
        async for event in model.stream(PROMPT):
            events.append(event)  # noqa: PERF401 -- kept although the loop raises
    except ChatkeepError as error:
        return events, error
    pytest.fail(f"no error after {events}")


async def outcome(
    model: OpenAICompatibleModel,
) -> tuple[list[ModelEvent], type[ChatkeepError]]:
    """Take what comes before the error, and its exact type."""
    events, error = await collect_until_error(model)
    return events, type(error)


def text_of(events: list[ModelEvent]) -> str:
    """Join what was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def say_hello(wire: Wire) -> None:
    """A good answer."""
    await wire.begin()
    await wire.say("Hel")
    await wire.say("lo")
    await wire.finish()


# --- good answers -----------------------------------------------------------------------


async def test_good_answer_has_everything_once() -> None:
    """Comments, reasoning, text, tool call, usage with cost, one end with the real model."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.send(b": OPENROUTER PROCESSING\n\n")
        await wire.event(delta(reasoning="Hm."))
        await wire.say("Hello")
        call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
        await wire.event(delta(tool_calls=[call]))
        stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
        await wire.event(stop)
        usage = {"prompt_tokens": 2, "completion_tokens": 3, "cost": 0.5}
        await wire.event(stop | {"usage": usage})
        await wire.send(b"data: [DONE]\n\n")
        await wire.end()

    async with serving(answer) as (model, _):
        events = await collect(model)
    assert events == [
        ReasoningDelta(text="Hm."),
        TextDelta(text="Hello"),
        ToolCall(call_id="c1", name="f", arguments="{}"),
        Usage(prompt_tokens=2, completion_tokens=3, cost=Decimal("0.5")),
        Done(finish_reason="tool-calls", model="vendor/model"),
    ]


async def test_openrouter_is_told_which_app_is_calling_and_gets_the_key() -> None:
    """The key goes into the header and nowhere else."""
    async with serving(
        say_hello, kind="openrouter", app_title="Chatkeep", app_url="https://chat.example"
    ) as (model, upstream):
        await collect(model)
    [request] = upstream.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-openrouter-title"] == "Chatkeep"
    assert request.headers["http-referer"] == "https://chat.example"
    assert request.headers["content-type"] == "application/json"
    assert KEY not in json.dumps(request.body)
    assert request.headers["accept-encoding"] == "identity"


async def test_no_cookie_is_kept() -> None:
    """Nothing that the provider sets connects one person's answer with the next."""

    async def answer(wire: Wire) -> None:
        await wire.begin(Set_Cookie="track=1; Path=/")
        await wire.say("x")
        await wire.finish()

    async with raw_upstream(answer) as upstream:
        address = upstream.base_url.replace("127.0.0.1", "localhost")
        model = OpenAICompatibleModel(base_url=address, api_key=KEY)
        for _ in range(2):
            await collect(model)
        await model.aclose()
    assert all("cookie" not in request.headers for request in upstream.requests)


async def test_strangers_are_not_told_which_app_is_calling() -> None:
    """Attribution is OpenRouter's; without a key there is no Authorization at all."""
    async with serving(say_hello, api_key=None, app_title="Chatkeep") as (model, upstream):
        await collect(model)
        assert model.name == "127.0.0.1"
    assert not {"x-openrouter-title", "authorization"} & set(upstream.requests[0].headers)


async def test_connection_is_used_again_after_a_whole_answer() -> None:
    """The next answer saves the handshake."""
    async with serving(say_hello) as (model, upstream):
        for _ in range(3):
            assert text_of(await collect(model)) == "Hello"
    assert upstream.connections == 1


async def test_connection_that_the_provider_has_ended_is_not_used_again() -> None:
    """A question that is sent into the end would be lost, and is not asked twice."""
    wires: list[Wire] = []

    async def answer(wire: Wire) -> None:
        wires.append(wire)
        await say_hello(wire)

    async with serving(answer) as (model, upstream):
        for _ in range(3):
            assert text_of(await collect(model)) == "Hello"
            # Nothing is awaited from here on: the event loop cannot have heard of it.
            ended: socket.socket = wires[-1].writer.get_extra_info("socket")
            ended.shutdown(socket.SHUT_WR)
    assert upstream.connections == 3


async def test_connection_without_encryption_is_kept_for_a_short_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Servers of one's own hang up soon, and a new connection to them costs little."""
    monkeypatch.setattr("chatkeep.llm.upstream.SHORT_S", 0.0)
    async with serving(say_hello) as (model, upstream):
        for _ in range(3):
            assert text_of(await collect(model)) == "Hello"
    assert upstream.connections == 3


async def test_end_that_comes_after_done_is_awaited_for_the_connections_sake() -> None:
    """Most providers send it in a packet of its own."""
    heard = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.send(b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        await heard.wait()
        await wire.end()

    async with serving(answer) as (model, upstream):
        for _ in range(2):
            heard.clear()
            async for event in model.stream(PROMPT):
                assert isinstance(event, Done)
                heard.set()
    assert upstream.connections == 1


async def test_bytes_cut_anywhere_make_the_same_answer() -> None:
    """Every byte in a packet of its own, CRLF, a byte order mark, a character in two halves."""
    stream = (
        "\ufeffdata: " + json.dumps(delta(content="Grüße 👋"), ensure_ascii=False) + "\r\n\r\n"
        'data: {"choices":\r\ndata: [{"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
        "data: [DONE]\r\n\r\ndata: junk\r\n\r\n"
    ).encode()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        for at in range(len(stream)):
            await wire.send(stream[at : at + 1])
        await wire.end()

    async with serving(answer) as (model, _):
        events = await collect(model)
    assert (text_of(events), events[-1]) == (
        "Grüße 👋",
        Done(finish_reason="stop", model="vendor/model"),
    )


async def test_body_that_ends_with_the_connection_is_a_body() -> None:
    """HTTP without a length: the end is the end, if the answer was complete."""

    async def answer(wire: Wire) -> None:
        await wire.raw(b"HTTP/1.0 200 OK\r\n\r\n")
        chunk = {"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}
        await wire.raw(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        wire.writer.close()

    async with serving(answer) as (model, _):
        assert text_of(await collect(model)) == "Hello"


async def test_large_history_is_sent_whole() -> None:
    """Over a megabyte."""
    text = "ü" * (1 << 20)
    long = Prompt(
        messages=[PromptMessage(role="user", text=text)], settings=ModelSettings(model="m")
    )
    async with serving(say_hello) as (model, upstream):
        assert text_of(await collect(model, long)) == "Hello"
    assert upstream.requests[0].body["messages"][0]["content"] == text


async def test_a_hundred_answers_at_once_do_not_mix() -> None:
    """Each gets its own words, on connections that were used before."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        for _ in range(5):
            await wire.say(wire.request.body["model"])
            await asyncio.sleep(0)
        await wire.finish()

    def ask(number: int) -> Prompt:
        return Prompt(messages=[], settings=ModelSettings(model=f"<{number}>"))

    async with serving(answer) as (model, _):
        for _ in range(2):
            answers = await asyncio.gather(*(collect(model, ask(n)) for n in range(100)))
            assert [text_of(one) for one in answers] == [f"<{n}>" * 5 for n in range(100)]


# --- refusals before the stream ---------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": {"code": 400, "message": "bad"}}, ModelRefused),
        (400, [{"error": {"status": "INVALID_ARGUMENT"}}], ModelRefused),
        (401, {"error": {"code": 401, "message": "no key"}}, ModelMisconfigured),
        (402, {"error": {"code": 402, "message": "no money"}}, ModelMisconfigured),
        (403, {"error": {"code": 403, "metadata": {"reasons": ["hate"]}}}, ModelRefused),
        (403, {"error": {"code": 403}}, ModelMisconfigured),
        (404, {"detail": "Not Found"}, ModelMisconfigured),
        (408, {"error": "late"}, ModelTimeout),
        (413, {}, ModelRefused),
        (422, {"error": None}, ModelRefused),
        (429, {"error": {"code": 429}}, ModelRateLimited),
        (500, "boom", ModelUnavailable),
        (504, {}, ModelTimeout),
        (524, {}, ModelTimeout),
        (204, {}, ModelBroken),
        (302, {}, ModelMisconfigured),
        (200, {"error": {"code": 429, "message": "slow"}}, ModelRateLimited),
        (200, {"error": {"code": "server_error"}}, ModelBroken),
        (200, {"choices": [{"message": {"content": "not streamed"}}]}, ModelBroken),
    ],
)
async def test_answer_that_is_no_stream_is_named_and_not_repeated(
    status: int, body: object, expected: type[ChatkeepError]
) -> None:
    """One request, one typed error, nothing that reads like our caller's own 401 or 403."""
    async with serving(lambda wire: wire.answer(status, body)) as (model, upstream):
        events, error = await collect_until_error(model)
    assert (events, type(error)) == ([], expected)
    assert error.status not in {401, 402, 403}
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<!doctype html><h1>It works!</h1>"),
        ("text/html", b"data: " + b'{"choices":[{"delta":{"content":"x"}}]}' + b"\n\n"),
        ("text/event-stream", b"<!doctype html><h1>It works!</h1>"),
        ("application/json", b"[" * 100_000),
        ("application/octet-stream", b"\x00\xff" * 100_000),
    ],
)
async def test_page_instead_of_a_stream_is_broken(content_type: str, body: bytes) -> None:
    """As behind a captive portal, or with a wrong address."""

    async def answer(wire: Wire) -> None:
        await wire.begin(200, content_type)
        await wire.send(body)
        await wire.end()

    async with serving(answer) as (model, _):
        assert await outcome(model) == ([], ModelBroken)


async def test_limit_says_when_to_come_back() -> None:
    """`Retry-After` reaches our caller."""
    async with serving(lambda wire: wire.answer(429, {}, Retry_After="17")) as (model, _):
        _, error = await collect_until_error(model)
    assert (error.status, error.retry_after_s) == (429, 17)


async def test_redirect_is_not_followed() -> None:
    """The key goes only where it was configured to go."""
    async with raw_upstream(say_hello) as elsewhere:

        async def answer(wire: Wire) -> None:
            await wire.answer(307, {}, Location=f"{elsewhere.base_url}/chat/completions")

        async with serving(answer) as (model, _):
            assert await outcome(model) == ([], ModelMisconfigured)
        assert not elsewhere.requests


async def test_proxy_and_netrc_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,  # noqa: ANN401 -- pytest's path
) -> None:
    """Only the configuration says where our key goes."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password eve\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(say_hello) as (model, upstream):
        assert text_of(await collect(model)) == "Hello"
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


# --- what breaks in the middle ----------------------------------------------------------


async def _cut_chunked(wire: Wire) -> None:
    wire.writer.close()


async def _end_early(wire: Wire) -> None:
    await wire.end()


async def _bad_json(wire: Wire) -> None:
    await wire.send(b'data: {"choices":\n\n')


async def _bad_chunk_size(wire: Wire) -> None:
    await wire.raw(b"zz\r\nnonsense\r\n")


async def _endless_line(wire: Wire) -> None:
    await wire.send(b"data: " + b"x" * (10 << 20))


async def _error_event(wire: Wire) -> None:
    await wire.event({"error": {"code": "server_error", "message": KEY}, "choices": []})


async def _error_reason(wire: Wire) -> None:
    await wire.finish("error")


async def _wrong_types(wire: Wire) -> None:
    await wire.event(delta(content=5))


@pytest.mark.parametrize(
    "breaks",
    [_cut_chunked, _end_early, _bad_json, _bad_chunk_size, _endless_line, _error_event,
     _error_reason, _wrong_types],
    ids=lambda breaks: breaks.__name__.strip("_").replace("_", " "),
)  # fmt: skip
async def test_answer_that_breaks_off_keeps_what_was_said(breaks: Answer) -> None:
    """What came is yielded, then one error; the request is not repeated."""
    said = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("so far")
        await said.wait()
        await breaks(wire)

    async with serving(answer) as (model, upstream):
        stream = model.stream(PROMPT)
        assert await anext(stream) == TextDelta(text="so far")
        said.set()
        with pytest.raises(ModelBroken):
            await anext(stream)
        assert len(upstream.requests) == 1


async def test_nonsense_that_comes_with_the_text_does_not_swallow_it() -> None:
    """Both in one packet: the connection is gone before we ask for more."""
    listening = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("so")
        await listening.wait()
        piece = b"data: " + json.dumps(delta(content=" far")).encode() + b"\n\n"
        await wire.raw(b"%x\r\n%s\r\nzz\r\nnonsense\r\n" % (len(piece), piece))

    async with serving(answer) as (model, _):
        events: list[ModelEvent] = []
        stream = model.stream(PROMPT)
        events += [await anext(stream)]
        listening.set()
        events += [await anext(stream)]
        await asyncio.sleep(0)  # the loop closes the connection
        with pytest.raises(ModelBroken):
            await anext(stream)
        assert text_of(events) == "so far"


async def test_usage_of_an_answer_that_failed_is_still_reported() -> None:
    """It was paid for."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.event(delta(content="x") | {"usage": {"completion_tokens": 9}})
        await wire.event({"error": {"code": 502}})

    async with serving(answer) as (model, _):
        assert await outcome(model) == (
            [TextDelta(text="x"), Usage(completion_tokens=9)],
            ModelBroken,
        )


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
LAST_WORD = {"choices": [{"delta": {"content": " over"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("line_end", ["", "\n", "\r\n", "\r", "\n: bye", "\nid: 7"])
@pytest.mark.parametrize(
    ("before", "last", "text"),
    [([STOP], "[DONE]", "all"), ([], json.dumps(STOP), "all"), ([], "[DONE]", "all"),
     ([], json.dumps(LAST_WORD), "all over"),
     ([], json.dumps(LAST_WORD).replace('"choices"', '\ndata: "choices"', 1), "all over")],
    ids=["done", "reason", "done alone", "text", "two lines"],
)  # fmt: skip
async def test_last_event_counts_without_a_blank_line_behind_it(
    before: list[Any], last: str, text: str, line_end: str
) -> None:
    """Some providers close behind their last line; the answer is as whole as with the line."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("all")
        for one in before:
            await wire.event(one)
        await wire.send(f"data: {last}{line_end}".encode())
        await wire.end()

    async with serving(answer) as (model, _):
        events = await collect(model)
        assert text_of(events) == text
        assert isinstance(events[-1], Done)


async def test_error_without_a_blank_line_behind_it_has_its_name() -> None:
    """It is often the only event, and the provider closes behind it."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.send(b'data: {"error": {"code": 429, "message": "slow down"}}')
        await wire.end()

    async with serving(answer) as (model, _):
        assert await outcome(model) == ([], ModelRateLimited)


async def test_half_of_a_last_event_says_nothing() -> None:
    """Wherever it was cut: no word of it is shown, and the answer counts as broken off."""
    whole = b"data: " + json.dumps(LAST_WORD).encode()
    for cut in range(len(whole)):

        async def answer(wire: Wire, half: bytes = whole[:cut]) -> None:
            await wire.begin()
            await wire.say("all")
            if half:
                await wire.send(half)
            await wire.end()

        async with serving(answer) as (model, _):
            assert await outcome(model) == ([TextDelta(text="all")], ModelBroken), cut


async def test_half_of_a_last_event_hurts_no_complete_answer() -> None:
    """After the reason to stop only its usage is lost."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("all")
        await wire.event(STOP)
        await wire.send(b'data: {"usage": {"prompt_tokens": 1')
        await wire.end()

    async with serving(answer) as (model, _):
        done = Done(finish_reason="stop", model="vendor/model")
        assert await collect(model) == [TextDelta(text="all"), done]


async def test_complete_answer_survives_a_lost_connection() -> None:
    """After the reason to stop, a cut costs only the usage."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.event({"choices": [{"delta": {"content": "all"}, "finish_reason": "stop"}]})
        wire.writer.close()

    async with serving(answer) as (model, _):
        assert await collect(model) == [TextDelta(text="all"), Done(finish_reason="stop")]


async def test_complete_answer_survives_a_provider_that_never_closes() -> None:
    """`[DONE]` is the end; the connection that stays open is given up, not waited for."""
    hung_up = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("all")
        await wire.send(b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        await wire.hung_up()
        hung_up.set()

    async with serving(answer) as (model, _):
        assert text_of(await collect(model)) == "all"
        await asyncio.wait_for(hung_up.wait(), PATIENCE_S)


async def _torrent(wire: Wire) -> None:
    block = b"data: late\n\n" * 1000
    while not wire.writer.is_closing():
        await wire.send(block)


@pytest.mark.parametrize("afterwards", [_cut_chunked, _torrent, _bad_chunk_size])
async def test_nothing_after_done_hurts_a_complete_answer(afterwards: Answer) -> None:
    """Whatever the connection does then, it is not used again."""
    heard = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("all")
        await heard.wait()
        await wire.send(b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        await afterwards(wire)

    async with serving(answer) as (model, upstream):
        for _ in range(2):
            heard.clear()
            events: list[ModelEvent] = []
            async for event in model.stream(PROMPT):
                events.append(event)
                heard.set()
            assert text_of(events) == "all"
    assert upstream.connections == 2


async def test_complete_answer_does_not_wait_long_for_its_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A provider that said why it stopped and then nothing more."""
    monkeypatch.setattr("chatkeep.llm.response._AFTERMATH_S", 0.1)

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.event({"choices": [{"delta": {"content": "all"}, "finish_reason": "stop"}]})
        await wire.hung_up()

    async with serving(answer) as (model, _), asyncio.timeout(PATIENCE_S / 2):
        assert await collect(model) == [TextDelta(text="all"), Done(finish_reason="stop")]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ModelBroken),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", ModelBroken),
        (b"HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n", ModelBroken),
        (b"", ModelUnavailable),
        (b"HTTP/1.1 200", ModelUnavailable),
    ],
    ids=["not HTTP", "huge header", "odd status", "nothing", "half a status line"],
)
async def test_server_that_speaks_no_http_is_asked_once(
    raw: bytes, expected: type[ChatkeepError]
) -> None:
    """The request was sent, so somebody may be at work on it: it is not sent again."""

    async def answer(wire: Wire) -> None:
        await wire.raw(raw)
        wire.writer.close()

    async with serving(answer) as (model, upstream):
        assert await outcome(model) == ([], expected)
    assert len(upstream.requests) == 1


# --- time-outs --------------------------------------------------------------------------


async def test_connecting_has_a_time_out() -> None:
    """A host that swallows packets: a listener whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        queue = [socket.socket() for _ in range(4)]
        try:
            for one in queue:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            model = OpenAICompatibleModel(
                base_url=f"http://127.0.0.1:{port}/v1",
                api_key=KEY,
                timeouts=Timeouts(connect_s=0.2),
            )
            async with asyncio.timeout(PATIENCE_S):
                assert await outcome(model) == ([], ModelTimeout)
            await model.aclose()
        finally:
            for one in queue:
                one.close()


async def _silence(wire: Wire) -> None:
    """No head."""


async def _head_only(wire: Wire) -> None:
    await wire.begin()


async def _one_chunk(wire: Wire) -> None:
    await wire.begin()
    await wire.say("x")


async def _one_comment(wire: Wire) -> None:
    await wire.begin()
    await wire.send(b": OPENROUTER PROCESSING\n\n")


@pytest.mark.parametrize(
    ("begins", "said", "timeouts"),
    [
        (_silence, "", QUICK),
        (_head_only, "", QUICK),
        (_one_comment, "", QUICK),
        (_one_chunk, "x", Timeouts(between_chunks_s=QUICK.between_chunks_s)),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
async def test_silence_has_a_time_out_at_every_stage(
    begins: Answer, said: str, timeouts: Timeouts
) -> None:
    """The connection is closed, and the request is not repeated: it may be at work."""
    hung_up = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await begins(wire)
        await wire.hung_up()
        hung_up.set()

    async with serving(answer, timeouts=timeouts) as (model, upstream):
        events, error = await collect_until_error(model)
        assert (text_of(events), type(error)) == (said, ModelTimeout)
        await asyncio.wait_for(hung_up.wait(), PATIENCE_S)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("begins", [_silence, _head_only])
async def test_first_byte_has_a_time_out_of_its_own(begins: Answer) -> None:
    """Shorter than the pause between chunks and the total."""

    async def answer(wire: Wire) -> None:
        await begins(wire)
        await wire.hung_up()

    timeouts = Timeouts(first_byte_s=0.1)
    async with serving(answer, timeouts=timeouts) as (model, _), asyncio.timeout(PATIENCE_S / 2):
        assert await outcome(model) == ([], ModelTimeout)


@pytest.mark.parametrize("keep_alive", [b": still here\n\n", b"data: {}\n\n"])
async def test_signs_of_life_do_not_outlast_the_total(keep_alive: bytes) -> None:
    """Comments keep an answer alive beyond the pause between chunks, not for ever."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        while not wire.writer.is_closing():
            await wire.send(keep_alive)
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    timeouts = Timeouts(between_chunks_s=1.0, total_s=2.0)  # a busy machine may pause for long
    async with serving(answer, timeouts=timeouts) as (model, _), asyncio.timeout(PATIENCE_S):
        started = loop.time()
        assert await outcome(model) == ([], ModelTimeout)
        assert timeouts.total_s * 0.9 < loop.time() - started


async def test_torrent_without_an_end_is_stopped_by_the_total() -> None:
    """Also when bytes are there whenever we look."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        block = b": noise\n\n" * 1000
        while not wire.writer.is_closing():
            await wire.send(block)

    async with serving(answer, timeouts=QUICK) as (model, _), asyncio.timeout(PATIENCE_S):
        assert await outcome(model) == ([], ModelTimeout)


async def test_slow_reader_of_ours_is_not_the_providers_fault() -> None:
    """Time spent by whoever takes the events does not count as the provider's silence."""
    timeouts = Timeouts(between_chunks_s=QUICK.between_chunks_s)  # a busy machine may take long
    async with serving(say_hello, timeouts=timeouts) as (model, _):
        events = []
        async for event in model.stream(PROMPT):
            await asyncio.sleep(1.25 * timeouts.between_chunks_s)  # the time is what it is about
            events.append(event)
    assert text_of(events) == "Hello"


_READER = """
import asyncio, sys, uvloop
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from chatkeep.llm.response import Timeouts
from tests.unit.test_llm_adapter import PROMPT

async def read():
    timeouts = Timeouts(between_chunks_s=0.5)
    model = OpenAICompatibleModel(base_url=sys.argv[1], api_key="k", timeouts=timeouts)
    async for event in model.stream(PROMPT):
        print(getattr(event, "text", "the end"), flush=True)
    await model.aclose()

asyncio.Runner(loop_factory=uvloop.new_event_loop).run(read())
"""


async def test_process_that_was_stopped_itself_reads_what_has_come_meanwhile() -> None:
    """A provider spoke on while we were stopped, as a frozen machine is: it was not silent."""
    stopped = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("Hel")
        await stopped.wait()
        await wire.say("lo")
        await wire.finish()

    async with raw_upstream(answer) as upstream:
        # uvloop, on which servers run, looks at its timers before it looks what has come.
        reader = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _READER, upstream.base_url),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert reader.stdout is not None
        assert await reader.stdout.readline() == b"Hel\n"
        reader.send_signal(signal.SIGSTOP)
        stopped.set()
        await asyncio.sleep(2.5)  # how long it is stopped is what it is about
        reader.send_signal(signal.SIGCONT)
        rest, _ = await asyncio.wait_for(reader.communicate(), PATIENCE_S)
    assert (rest, reader.returncode) == (b"lo\nthe end\n", 0)


async def test_error_body_that_never_ends_does_not_hold_us() -> None:
    """The status is enough, and the connection is closed."""
    hung_up = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin(500, "application/json")
        block = b"x" * 10_000
        try:
            while not wire.writer.is_closing():
                await wire.send(block)
        finally:
            hung_up.set()

    async with serving(answer) as (model, _), asyncio.timeout(PATIENCE_S):
        assert await outcome(model) == ([], ModelUnavailable)
        await hung_up.wait()


# --- trying again -----------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, not waited."""
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("chatkeep.llm.upstream.sleep", note)
    return waited


@pytest.mark.parametrize(
    ("status", "headers", "longest_wait_s"),
    [
        (503, {}, 0.25),
        (502, {}, 0.25),
        (503, {"Retry_After": "1"}, 1),
        (429, {"Retry_After": "2"}, 2),
    ],
)
async def test_request_that_was_not_accepted_is_made_again(
    status: int, headers: dict[str, str], longest_wait_s: float, waits: list[float]
) -> None:
    """The reader never learns of it, and the provider gets the time it asked for."""

    async def answer(wire: Wire) -> None:
        if wire.number == 1:
            await wire.answer(status, {}, **headers)
        else:
            await say_hello(wire)

    async with serving(answer) as (model, upstream):
        assert text_of(await collect(model)) == "Hello"
    assert len(upstream.requests) == 2
    assert upstream.requests[0].body == upstream.requests[1].body
    [wait_s] = waits
    assert wait_s == longest_wait_s if headers else 0 < wait_s <= longest_wait_s


async def test_tries_are_few(waits: list[float]) -> None:
    """Then the reader is told."""
    async with serving(lambda wire: wire.answer(503, {})) as (model, upstream):
        assert await outcome(model) == ([], ModelUnavailable)
    assert len(upstream.requests) == TRIES == 3
    assert len(waits) == 2


async def test_next_try_that_would_come_too_late_is_not_made() -> None:
    """The total covers the waits."""
    timeouts = Timeouts(total_s=1.9)
    async with serving(lambda wire: wire.answer(503, {}, Retry_After="2"), timeouts=timeouts) as (
        model,
        upstream,
    ):
        assert await outcome(model) == ([], ModelUnavailable)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {}),
        (429, {"Retry_After": "30"}),
        (503, {"Retry_After": "30"}),
        (500, {}),
        (504, {}),
        (408, {}),
    ],
)
async def test_request_is_not_repeated_when_that_is_unwise(
    status: int, headers: dict[str, str]
) -> None:
    """It may have been worked on, or the wait is longer than a reader's patience."""
    async with serving(lambda wire: wire.answer(status, {}, **headers)) as (model, upstream):
        await collect_until_error(model)
    assert len(upstream.requests) == 1


async def test_refusal_in_the_guise_of_an_outage_is_not_repeated() -> None:
    """The provider's word for it counts: asking again would not make it shorter."""
    error = {"metadata": {"error_type": "context_length_exceeded"}}
    async with serving(lambda wire: wire.answer(503, {"error": error})) as (model, upstream):
        assert await outcome(model) == ([], ModelRefused)
    assert len(upstream.requests) == 1


async def test_unreachable_provider_is_unavailable(unused_port: int, waits: list[float]) -> None:
    """Nobody listens: a few tries, then 503."""
    model = OpenAICompatibleModel(base_url=f"http://127.0.0.1:{unused_port}/v1", api_key=KEY)
    assert await outcome(model) == ([], ModelUnavailable)
    with pytest.raises(ModelUnavailable):
        await model.list_models()
    await model.aclose()


async def test_provider_that_comes_back_between_tries_is_reached(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection is a reason to try again."""
    refused, there = asyncio.Event(), asyncio.Event()

    async def wait_for_it(_seconds: float) -> None:
        refused.set()
        await there.wait()

    monkeypatch.setattr("chatkeep.llm.upstream.sleep", wait_for_it)
    model = OpenAICompatibleModel(base_url=f"http://127.0.0.1:{unused_port}/v1", api_key=KEY)
    asked = asyncio.create_task(collect(model))
    await refused.wait()
    async with raw_upstream(say_hello, unused_port):
        there.set()
        assert text_of(await asked) == "Hello"
    await model.aclose()


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


# --- stopping ---------------------------------------------------------------------------


async def test_closing_the_answer_hangs_up_at_once() -> None:
    """The provider stops, and stops billing, where it can."""
    hung_up = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("x")
        await wire.hung_up()
        hung_up.set()

    async with serving(answer) as (model, _):
        async with aclosing(model.stream(PROMPT)) as events:
            assert await anext(events) == TextDelta(text="x")
        await asyncio.wait_for(hung_up.wait(), PATIENCE_S)


@pytest.mark.parametrize("begins", [_silence, _head_only, _one_chunk])
async def test_cancelling_hangs_up_at_every_stage(begins: Answer) -> None:
    """Before the head, before the first chunk, in the middle."""
    begun, hung_up = asyncio.Event(), asyncio.Event()

    async def answer(wire: Wire) -> None:
        await begins(wire)
        begun.set()
        await wire.hung_up()
        hung_up.set()

    async with serving(answer) as (model, _):
        task = asyncio.create_task(collect(model))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(hung_up.wait(), PATIENCE_S)


async def test_cancelling_hangs_up_on_a_provider_that_does_not_read() -> None:
    """Our question is larger than what the sockets hold, and nobody takes it."""
    connected, hung_up = asyncio.Event(), asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's transports do
        connected.set()
        await stop_listening.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
        while await reader.read(1 << 16):
            pass
        hung_up.set()
        writer.close()

    stop_listening = asyncio.Event()
    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    model = OpenAICompatibleModel(base_url=base_url, api_key=KEY)
    long = Prompt(
        messages=[PromptMessage(role="user", text="x" * (16 << 20))],
        settings=ModelSettings(model="m"),
    )
    task = asyncio.create_task(collect(model, long))
    await connected.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stop_listening.set()
    await asyncio.wait_for(hung_up.wait(), PATIENCE_S)
    await model.aclose()
    server.close()


async def test_connection_of_an_aborted_answer_is_not_used_again() -> None:
    """The next answer has no bytes of the last one."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        for _ in range(100):
            await wire.say(f"secret of answer {wire.number}")
        if wire.number <= 3:  # one that had come whole would leave a clean connection
            await wire.hung_up()
        else:
            await wire.finish()

    async with serving(answer) as (model, upstream):
        for number in (1, 2, 3):
            async with aclosing(model.stream(PROMPT)) as events:
                assert f"answer {number}" in text_of([await anext(events)])
        assert "answer 4" in text_of(await collect(model))
        assert "answer 1" not in text_of(await collect(model))
    assert upstream.connections == 4


async def test_closing_the_model_breaks_answers_off() -> None:
    """A shutdown does not wait for a provider, and nothing is asked after it."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("x")
        await wire.hung_up()

    async with serving(answer) as (model, _):
        stream = model.stream(PROMPT)
        assert await anext(stream) == TextDelta(text="x")
        rest = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await model.aclose()
        with pytest.raises(ModelBroken):
            await rest
        assert await outcome(model) == ([], ModelUnavailable)
        await model.aclose()


# --- secrets ----------------------------------------------------------------------------


async def test_no_secret_is_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Key, address, and the provider's own words stay inside, whatever fails."""
    caplog.set_level(logging.DEBUG)
    words = f"text with {KEY} and their secret"

    async def refuse(wire: Wire) -> None:
        error = {"message": words, "code": words, "metadata": {"error_type": words}}
        await wire.answer(400, {"error": error}, X_Request_Id=f"req {words}")

    async def break_off(wire: Wire) -> None:
        await wire.begin(X_Generation_Id="gen-17")
        await wire.event({"error": {"message": words, "code": "server_error"}})

    async def nonsense(wire: Wire) -> None:
        await wire.raw(b"HTTP/1.1 nonsense\r\n\r\n")
        wire.writer.close()

    errors = []
    for answer in (refuse, break_off, nonsense):
        async with serving(answer) as (model, upstream):
            errors.append((await collect_until_error(model))[1])
    shown = "".join(_everything_about(error) for error in errors)
    for secret in (KEY, "their secret", upstream.base_url, "127.0.0.1"):
        assert secret not in caplog.text + shown
    assert "request=gen-17" in caplog.text
    assert "error=server_error" in caplog.text
    assert KEY not in repr(model) + str(vars(model))


def _everything_about(error: BaseException | None) -> str:
    """Show an error with all that it was raised from or during."""
    if error is None:
        return ""
    about = repr(error) + repr(error.args) + repr(getattr(error, "__dict__", None))
    return about + _everything_about(error.__cause__) + _everything_about(error.__context__)


@pytest.mark.parametrize(
    "base_url",
    ["", "openrouter.ai", "file:///etc/passwd", "ftp://x/v1", "http://", "https://me:pw@x/v1"],
)
def test_unusable_address_is_refused(base_url: str) -> None:
    """When the server starts, not at the first question."""
    with pytest.raises(SetupError):
        OpenAICompatibleModel(base_url=base_url, api_key=KEY)


@pytest.mark.parametrize("key", ["sk-\r\nX-Evil: 1", "schlüssel", "a\0b"])
def test_unusable_key_is_refused(key: str) -> None:
    """A key that would forge a header, and the message does not repeat it."""
    with pytest.raises(SetupError) as caught:
        OpenAICompatibleModel(base_url="https://x.example/v1", api_key=key)
    assert key not in str(caught.value)


# --- the list of models -----------------------------------------------------------------


async def test_models_are_listed() -> None:
    """Ids and names; what cannot be an id is left out."""
    data = [
        {"id": "a/one", "name": "One", "pricing": {"prompt": "0.1"}},
        {"id": "b"},
        {"id": ""},
        {"id": "x\ny"},
        {"id": "a/one", "name": "One"},
    ]
    async with serving(lambda wire: wire.answer(200, {"data": data})) as (model, upstream):
        assert await model.list_models() == [
            ModelInfo(id="a/one", name="One"),
            ModelInfo(id="b", name="b"),
        ]
    assert upstream.requests[0].line == "GET /v1/models HTTP/1.1"


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_provider_without_a_list_lists_nothing(status: int) -> None:
    """It is no failure."""
    async with serving(lambda wire: wire.answer(status, {})) as (model, _):
        assert await model.list_models() == ()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, {}, ModelMisconfigured),
        (500, {}, ModelUnavailable),
        (302, {}, ModelMisconfigured),
        (200, {"models": []}, ModelBroken),
        (200, {"data": [5]}, ModelBroken),
        (200, "x" * (9 << 20), ModelBroken),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_list_that_fails_is_named(
    status: int, body: object, expected: type[ChatkeepError]
) -> None:
    """Nonsense and 9 MB too."""
    async with serving(lambda wire: wire.answer(status, body)) as (model, _):
        with pytest.raises(expected):
            await model.list_models()


async def test_list_that_breaks_off_is_broken() -> None:
    """Half a list is none."""

    async def answer(wire: Wire) -> None:
        await wire.begin(200, "application/json")
        await wire.send(b'{"data": [{"id": "a"}')
        wire.writer.close()

    async with serving(answer) as (model, _):
        with pytest.raises(ModelBroken):
            await model.list_models()


async def test_list_has_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the head and in the middle of the body."""
    monkeypatch.setattr("chatkeep.llm.openai_compatible._LIST_TIMEOUT_S", 0.2)

    async def answer(wire: Wire) -> None:
        if wire.number == 2:
            await wire.begin(200, "application/json")
            await wire.send(b'{"data": [')
        await wire.hung_up()

    async with serving(answer) as (model, _):
        for _ in range(2):
            with pytest.raises(ModelTimeout):
                await model.list_models()
