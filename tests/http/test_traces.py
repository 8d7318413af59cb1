"""Traces of a serving node: what happened, and nothing that anybody could sign in with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from chatkeep.errors import ModelRefused
from chatkeep.events import Usage
from tests.recorded_spans import RecordedSpans
from tests.serving import until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.serving import Node, Person, Stage

START = "/api/v1/chat/start"
MESSAGE = "/api/v1/chat/message"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedSpans:
    """What `opentelemetry-instrument` would set up, but that the spans stay here."""
    spans = RecordedSpans()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: spans)
    return spans


async def test_answer_is_within_its_request(
    recorded: RecordedSpans, ana: Person, stage: Stage
) -> None:
    """One trace: the request by its route, and the answer with its model and tokens."""
    stage.play(["Hello.", Usage(prompt_tokens=7, completion_tokens=3)])
    begun = (await ana.client.post(START, {})).json
    body = {"conversation_id": begun["conversation_id"], "message": "hello"}
    answered = await ana.client.post(MESSAGE, body)
    await until(lambda: bool(recorded.named(f"POST {MESSAGE}")))
    (request,) = recorded.named(f"POST {MESSAGE}")
    (answer,) = [one for one in recorded.spans if one.name.startswith("chat ")]
    assert request.kind is SpanKind.SERVER
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": MESSAGE,
        "http.response.status_code": 200,
        "chatkeep.request_id": answered.headers["x-request-id"],
    }
    assert answer.parent == request.get_span_context()
    assert answer.ended
    assert answer.attributes["gen_ai.usage.input_tokens"] == 7
    assert answer.attributes["gen_ai.usage.output_tokens"] == 3
    assert answer.status is StatusCode.UNSET


async def test_failed_answer_says_with_what_code(
    recorded: RecordedSpans, ana: Person, stage: Stage
) -> None:
    """The code of the error, and not what a provider said."""
    stage.play([ModelRefused("my canary of a detail")])
    begun = (await ana.client.post(START, {})).json
    await ana.client.post(MESSAGE, {"conversation_id": begun["conversation_id"], "message": "hi"})
    (answer,) = [one for one in recorded.spans if one.name.startswith("chat ")]
    assert answer.status is StatusCode.ERROR
    assert answer.attributes["error.type"] == ModelRefused.code
    assert "canary" not in recorded.everything()


async def test_no_span_holds_what_one_could_sign_in_with(
    recorded: RecordedSpans, node: Node, ana: Person
) -> None:
    """Links of mails and shares, tokens, passwords and words of people are in none."""
    canary = "canary0123456789abcdef"
    nobody = node.nobody()
    await nobody.get(f"/auth/v1/verify?type=signup&token={canary}&redirect_to=/{canary}")
    await nobody.get(f"/auth/v1/callback?code={canary}&state={canary}")
    await nobody.get(f"/s/{canary}")
    await nobody.get(f"/api/v1/shared/{canary}")
    await nobody.get(f"/{canary}")
    await nobody.call(canary.upper(), "/healthz")
    await nobody.post("/auth/v1/token?grant_type=password", {"email": f"{canary}@x.example"})
    await node.nobody(authorization=f"Bearer {canary}", cookie=f"a={canary}").get("/api/settings")
    await ana.client.get(f"/api/v1/search?q={canary}")
    await ana.client.get(f"/api/v1/chat/{canary}")
    assert len([one for one in recorded.spans if one.ended]) >= 9
    assert canary not in recorded.everything().lower()
    assert ana.id not in recorded.everything()


async def test_stranger_cannot_choose_the_trace(recorded: RecordedSpans, node: Node) -> None:
    """Else anybody could have all of their requests recorded, or write into others' traces."""
    await node.nobody(traceparent=PARENT).get("/healthz")
    (request,) = recorded.named("GET /healthz")
    assert not request.parent.is_valid


async def test_proxy_of_ours_chooses_the_trace(recorded: RecordedSpans, start: StartNode) -> None:
    """A request goes on with the trace that began before us."""
    node = await start(TRUSTED_PROXIES="127.0.0.1")
    await node.nobody(traceparent=PARENT).get("/healthz")
    (request,) = recorded.named("GET /healthz")
    assert format(request.parent.trace_id, "032x") == TRACE


async def test_log_line_names_the_trace(
    recorded: RecordedSpans, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """From a line of the log one finds the trace, and the other way round."""
    caplog.set_level("DEBUG", logger="chatkeep.access")
    await node.nobody().get("/healthz")
    (request,) = recorded.named("GET /healthz")
    trace_id = format(request.get_span_context().trace_id, "032x")
    assert trace_id in {getattr(one, "trace_id", None) for one in caplog.records}


async def test_nothing_is_traced_unless_asked(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Without OpenTelemetry's SDK there is no trace, and no name of one in the log."""
    caplog.set_level("DEBUG", logger="chatkeep.access")
    await node.nobody().get("/healthz")
    assert {getattr(one, "trace_id", None) for one in caplog.records} == {None}
