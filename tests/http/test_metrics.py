"""Metrics of a serving node: asked for as Prometheus does, on an address of their own."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import SetupError
from chatkeep.events import Usage
from chatkeep.web.app import create_app
from tests.free_ports import free_port
from tests.serving import Client, until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.serving import Node

TOKEN = "a token of monitoring 0123456789 abc"
START = "/api/v1/chat/start"
MESSAGE = "/api/v1/chat/message"
MODEL = "chatkeep/eliza"


class Watched:
    """A node, and what a monitoring system reads of it."""

    def __init__(self, node: Node, port: int) -> None:
        """Read at *port*."""
        self.node = node
        self.client = Client(f"http://127.0.0.1:{port}", node.session)

    async def text(self) -> str:
        """Return the whole text."""
        answer = await self.client.get("/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return answer.text

    async def number(self, series: str) -> float:
        """Return at what *series* stands; 0 when it is not there."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", await self.text(), re.MULTILINE)
        return float(found.group(1)) if found else 0.0


@pytest.fixture
async def watched(start: StartNode) -> Watched:
    """A node that is watched."""
    port = free_port()
    return Watched(await start(METRICS_PORT=str(port)), port)


async def test_a_turn_is_counted(watched: Watched) -> None:
    """Request, answer, tokens and the wait for the first piece, by the route's own path."""
    used = Usage(prompt_tokens=7, completion_tokens=3, cost=Decimal("0.25"))
    watched.node.stage.play(["Hello.", used])
    ana = watched.node.person()
    series = {
        f'chatkeep_http_requests_total{{method="POST",route="{MESSAGE}",status="200"}}': 1,
        f'chatkeep_http_response_seconds_count{{method="POST",route="{MESSAGE}"}}': 1,
        'chatkeep_answers_total{state="done",error=""}': 1,
        "chatkeep_first_piece_seconds_count": 1,
        "chatkeep_answer_seconds_count": 1,
        f'chatkeep_tokens_total{{model="{MODEL}",kind="prompt"}}': 7,
        f'chatkeep_cost_dollars_total{{model="{MODEL}"}}': 0.25,
    }
    before = {one: await watched.number(one) for one in series}
    begun = (await ana.client.post(START, {})).json
    body = {"conversation_id": begun["conversation_id"], "message": "hello"}
    answer = await ana.client.post(MESSAGE, body)
    assert answer.status == 200
    assert answer.json["model"] == MODEL
    for one, more in series.items():
        assert await watched.number(one) == before[one] + more, one
    text = await watched.text()
    for secret in (ana.id, begun["conversation_id"], answer.json["message_id"]):
        assert secret not in text


async def test_stranger_cannot_multiply_the_series(watched: Watched) -> None:
    """Invented paths, methods and ids are one series each."""
    nobody = watched.node.nobody()
    await watched.node.person().client.get("/api/v1/chat/no-such-conversation")
    before = (await watched.text()).count("chatkeep_http_requests_total{")
    for number in range(30):
        await nobody.get(f"/invented/{number}")
        await nobody.call(f"INVENTED{number}", "/healthz")
        await watched.node.person().client.get(f"/api/v1/chat/invented-{number}")
    text = await watched.text()
    assert text.count("chatkeep_http_requests_total{") - before <= 4
    assert "invented" not in text.lower()


async def test_methods_that_a_route_has_not_take_no_room(watched: Watched) -> None:
    """Whoever tries them all on every route leaves the series of those that there are."""
    nobody = watched.node.nobody()
    refused = 'chatkeep_http_requests_total{method="PATCH",route="none",status="405"}'
    before = await watched.number(refused)
    answers = [await nobody.call("PATCH", path) for path in watched.node.app.openapi()["paths"]]
    wrong = sum(answer.status == 405 for answer in answers)
    assert wrong > 80
    assert await watched.number(refused) == before + wrong
    assert not re.search(r'method="PATCH",route="/[^"]*",status="405"', await watched.text())


async def test_refused_sign_in_is_counted(watched: Watched) -> None:
    """A rise of these is somebody who guesses."""
    series = 'chatkeep_audit_entries_total{action="session.begun",outcome="refused"}'
    before = await watched.number(series)
    key = watched.node.services.embedded.supabase_keys.publishable
    nobody = watched.node.nobody(apikey=key)
    body = {"email": "nobody@example.com", "password": "a wrong guess"}
    assert (await nobody.post("/auth/v1/token?grant_type=password", body)).status == 400
    assert await watched.number(series) == before + 1


async def test_open_stream_is_counted_while_it_is_open(watched: Watched) -> None:
    """Up with the first byte, down when the reader hangs up."""
    gate = asyncio.Event()
    watched.node.stage.play(["Once", gate, " upon a time."])
    ana = watched.node.person()
    begun = (await ana.client.post(START, {})).json
    body = {"conversation_id": begun["conversation_id"], "message": "hello"}
    before = await watched.number("chatkeep_open_streams")
    async with ana.client.stream(MESSAGE, body, accept="text/event-stream") as stream:
        await stream.next()
        assert await watched.number("chatkeep_open_streams") == before + 1
        assert await watched.number('chatkeep_runs{state="running"}') == 1
        gate.set()
        await stream.rest()

    async def closed() -> bool:
        return await watched.number("chatkeep_open_streams") == before

    await until(closed)


async def test_state_of_the_process_is_shown(watched: Watched) -> None:
    """Pool, revocations, database and the process itself."""
    text = await watched.text()
    for name in ("chatkeep_database_up", "chatkeep_build_info", "process_open_fds"):
        assert f"\n{name}" in text
    assert await watched.number("chatkeep_database_up") == 1
    assert await watched.number("chatkeep_database_connections_most") == 5
    assert 0 <= await watched.number("chatkeep_revocations_age_seconds") < 5
    assert await watched.number("process_resident_memory_bytes") > 1_000_000
    assert await watched.number("process_open_fds") < await watched.number("process_max_fds")

    async def measured() -> bool:
        return await watched.number("chatkeep_event_loop_lag_seconds_count") > 0

    await until(measured)


async def test_database_that_is_away_is_said(watched: Watched) -> None:
    """The numbers of the process are still there, those of the database are not."""
    await watched.node.services.db.close()
    text = await watched.text()
    assert "\nchatkeep_database_up 0\n" in text
    assert "\nprocess_open_fds " in text
    assert "\nchatkeep_runs{" not in text


@pytest.mark.parametrize("shown", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer", "Bearer \xff"])
async def test_whoever_lacks_the_token_reads_nothing(start: StartNode, shown: str | None) -> None:
    """With METRICS_TOKEN set, only who shows it is answered."""
    port = free_port()
    node = await start(METRICS_PORT=str(port), METRICS_TOKEN=TOKEN)
    client = Client(f"http://127.0.0.1:{port}", node.session)
    headers = {} if shown is None else {"authorization": shown}
    refused = await client.get("/metrics", headers=headers)
    assert (refused.status, refused.body) == (401, b"")
    allowed = await client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert allowed.status == 200
    assert TOKEN not in allowed.text


async def test_people_cannot_read_metrics_where_they_chat(watched: Watched) -> None:
    """The chat's own address has no such route, and the metrics' address nothing else."""
    assert (await watched.node.nobody().get("/metrics")).status == 404
    assert (await watched.client.get("/healthz")).status == 404
    assert (await watched.client.post("/metrics")).status == 405


async def test_taken_port_is_said(watched: Watched) -> None:
    """Two servers cannot be read at one address; the second says so and does not start."""
    settings = watched.node.services.settings
    app = create_app(settings, model=watched.node.stage)
    with pytest.raises(SetupError, match=r"^METRICS_PORT: .* Address already in use\.$"):
        async with app.router.lifespan_context(app):
            pass
