"""Figures of the whole installation: what administrators see, and what they are never shown."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString, cast
from uuid import uuid4

import msgspec
import pytest

from chatkeep.administration.overview import Overview, Overviews, _by_class, read_overview
from chatkeep.budgets.administered import set_limits
from chatkeep.claims import read_drain
from chatkeep.cli.claims import in_words
from chatkeep.db import ADMIN, WORKER
from chatkeep.errors import ModelBroken, NotFound, Unavailable
from chatkeep.events import Usage
from chatkeep.web import measures
from tests.gotrue_people import OURS_ALONE
from tests.http.test_administration import Member, join
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from chatkeep.administration.overview import Window
    from chatkeep.db import Database
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

NODE_SETTINGS = OURS_ALONE
OVERVIEW = "/api/admin/overview"
SECRET = "what nobody else may read"
USED = Usage(prompt_tokens=40, completion_tokens=60, cost=Decimal("0.25"))
pytestmark = pytest.mark.usefixtures("node")


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[Member]:
    """An administrator, until the test ends."""
    member = await join(node)
    await member.grant()
    yield member
    await member.revoke()


async def ask(client: Client) -> Answer:
    """Ask once, and return the whole answer."""
    message = {"role": "user", "parts": [{"type": "text", "text": SECRET}]}
    body = {"id": str(uuid4()), "message": message}
    return await client.call("POST", "/api/chat", json=body, headers={"accept": "application/json"})


async def overview(admin: Member, window: str = "hour") -> dict[str, Any]:
    """Return what the administrator sees."""
    answer = await admin.client.get(f"{OVERVIEW}?window={window}")
    assert answer.status == 200, answer.text
    return cast("dict[str, Any]", answer.json)


def total(found: dict[str, Any], name: str) -> Decimal:
    """Add up what all buckets have of *name*."""
    return sum((Decimal(one[name]) for one in found["buckets"]), Decimal(0))


async def test_answers_are_counted_by_how_they_ended(node: Node, admin: Member) -> None:
    """With tokens, cost and people, in the minute that they were asked, and in its quarter hour."""
    before = {window: await overview(admin, window) for window in ("hour", "day")}
    node.stage.play(["Hi", USED])
    for _ in range(2):
        assert (await ask((await join(node)).client)).status == 200
    node.stage.play(["Hi", ModelBroken()])
    await ask((await join(node)).client)
    for window, was in before.items():
        found = await overview(admin, window)
        for name, more in (("done", 2), ("failed", 1), ("people", 3), ("prompt_tokens", 80)):
            assert total(found, name) - total(was, name) >= more, (window, name)
        assert total(found, "cost") - total(was, "cost") == Decimal("0.5")
        assert found["people"] - was["people"] == 3
        assert sum(one["answers"] for one in found["errors"]) > 0
    assert len(before["hour"]["buckets"]) == 60
    assert len(before["day"]["buckets"]) == 96
    assert (before["hour"]["bucket_seconds"], before["day"]["bucket_seconds"]) == (60, 900)


async def test_an_answer_that_is_being_made_is_open(node: Node, admin: Member) -> None:
    """It stands as open until it has ended, and then as what it became."""
    gate = asyncio.Event()
    model = node.stage.play(["Hi", gate, " there", USED])
    was = await overview(admin)
    asked = asyncio.create_task(ask((await join(node)).client))
    try:
        await until(lambda: model.running == 1)
        now = await overview(admin)
        assert total(now, "open") == total(was, "open") + 1
        assert now["running"] == was["running"] + 1
    finally:
        gate.set()
        await asked
    now = await overview(admin)
    assert total(now, "open") == total(was, "open")
    assert total(now, "done") == total(was, "done") + 1
    assert now["running"] == was["running"]


async def test_what_this_server_knows_is_named_as_its_own(node: Node, admin: Member) -> None:
    """Its pool, its requests and how fast answers began, of this process and no other."""
    was = (await overview(admin))["this_server"]
    node.stage.play(["Hi", USED])
    await ask(admin.client)
    now = (await overview(admin))["this_server"]
    assert (was["host"], was["process"]) == (now["host"], now["process"])
    assert now["requests"]["2xx"] > was["requests"]["2xx"]
    assert sum(now["first_piece"]["counts"]) == sum(was["first_piece"]["counts"]) + 1
    assert len(now["first_piece"]["counts"]) == len(now["first_piece"]["bounds"]) + 1
    assert 0 <= now["pool"]["idle"] <= now["pool"]["size"] <= now["pool"]["most"]


def test_requests_are_told_by_the_kind_of_their_answers() -> None:
    """Also those that ended without one, and what stands for no kind of answer at all."""
    counted = _by_class({"200": 2.0, "204": 1.0, "304": 1.0, "404": 1.0, "503": 1.0, "0": 3.0})
    assert counted == {"2xx": 3, "3xx": 1, "4xx": 1, "5xx": 1, "none": 3}


async def test_no_text_is_among_the_figures(node: Node, admin: Member) -> None:
    """Neither what was asked nor answered, nor whose it is, nor where: numbers and codes only."""
    ana = await join(node)
    node.stage.play(["the answer is secret too", USED])
    said = (await ask(ana.client)).json
    for window in ("hour", "day"):
        answer = await admin.client.get(f"{OVERVIEW}?window={window}")
        for secret in (SECRET, "answer is secret", ana.id, ana.email, said["conversation_id"]):
            assert secret not in answer.text
    tries: tuple[LiteralString, ...] = (
        "select conversation_id from chat.runs",
        "select message_id from chat.runs",
        "select id from chat.runs",
        "select asked from chat.runs",
        "select 1 from chat.messages",
        "select 1 from chat.conversations",
        "select 1 from chat.message_words",
    )
    for statement in tries:
        with pytest.raises(NotFound):
            await node.services.db.execute(ADMIN, statement, ())


async def test_others_see_no_figures(node: Node) -> None:
    """Nobody without a sign-in, and nobody without the role."""
    ana = await join(node)
    assert (await ana.client.get(OVERVIEW)).json["code"] == "forbidden"
    assert (await node.nobody().get(OVERVIEW)).status == 401
    assert (await node.nobody().get("/api/access")).status == 401


async def test_a_window_is_one_of_two(admin: Member) -> None:
    """So nobody asks for a year."""
    assert (await admin.client.get(f"{OVERVIEW}?window=year")).status == 422


async def test_who_is_an_administrator_is_told(node: Node, admin: Member) -> None:
    """To them and of themselves, as it is now; and asking is nothing that the log would note."""
    ana = await join(node)
    assert (await ana.client.get("/api/access")).json == {"administrator": False}
    assert (await admin.client.get("/api/access")).json == {"administrator": True}
    await ana.grant()
    assert (await ana.client.get("/api/access")).json == {"administrator": True}
    await ana.revoke()
    assert (await ana.client.get("/api/access")).json == {"administrator": False}


async def test_what_somebody_used_is_shown(node: Node, admin: Member) -> None:
    """By day, with the limits that are theirs alone; of people of other issuers, too."""
    ana = await join(node)
    node.stage.play(["Hi", USED])
    await ask(ana.client)
    wishes = {"tokens_per_day": Decimal("5000.50"), "cost_per_day": Decimal("Infinity")}
    await set_limits(node.services.db, "user", ana.id, wishes)

    async def shown() -> dict[str, Any]:
        answer = await admin.client.get(f"/api/admin/users/{ana.id}/usage")
        return cast("dict[str, Any]", answer.json)

    await until(lambda: _is_told(shown))
    found = await shown()
    (today,) = found["by_day"]
    assert (today["answers"], today["prompt_tokens"], today["cost"]) == (1, 40, "0.25")
    assert {one["name"]: one["limit"] for one in found["limits"]} == {
        "tokens-per-day": "5000.5",
        "cost-per-day": None,
    }
    nobody_known = (await admin.client.get("/api/admin/users/other:somebody/usage")).json
    assert (nobody_known["by_day"], nobody_known["limits"]) == ([], [])
    assert (await admin.client.get(f"/api/admin/users/{ana.id}/usage?days=93")).status == 422


async def _is_told(shown: Callable[[], Awaitable[dict[str, Any]]]) -> bool:
    return bool((await shown())["by_day"])


async def test_keys_that_sign_are_shown_without_what_they_sign_with(
    node: Node, admin: Member
) -> None:
    """Which one signs, and nothing that could sign."""
    answer = await admin.client.get("/api/admin/signing-keys")
    assert [one["status"] for one in answer.json["keys"]].count("current") == 1
    assert node.services
    assert set(answer.json["keys"][0]) == {
        *("kid", "algorithm", "status", "created_at", "signs_since", "until")
    }


async def test_page_command_and_metric_say_the_same_of_old_tokens(
    start: StartNode, database: MigratedDatabase
) -> None:
    """One number, whoever is asked, and the same date for the end of the fallbacks."""
    node = await start(database.url, **OURS_ALONE)
    admin = await join(node)
    await admin.grant()
    await node.services.db.execute(
        WORKER,
        "insert into chatkeep.claim_counts (hour, version, claim, tokens, reads, newest_issued_at)"
        " values (date_trunc('hour', now()), 1, '', 4321, 1234, now())"
        " on conflict (hour, version, claim) do update set tokens = excluded.tokens,"
        " reads = excluded.reads, newest_issued_at = excluded.newest_issued_at",
        (),
    )
    page = (await admin.client.get("/api/admin/claims")).json
    shown = next(one for one in page["versions"] if one["version"] == 1)
    assert (shown["tokens"], shown["reads"]) == (4321, 1234)
    metric = await measures.collect(node.services)
    assert re.search(r'chatkeep_claim_version_tokens\{version="1",state="\w+"\} 4321\n', metric)
    assert re.search(r'chatkeep_claim_version_reads\{version="1",state="\w+"\} 1234\n', metric)
    drain = await read_drain(node.services.db, node.services.session_tokens.versions)
    (line,) = [one for one in in_words(drain, now=datetime.now(UTC)) if "4321" in one]
    assert "1234" in line
    assert page == msgspec.json.decode(msgspec.json.encode(drain))
    await admin.revoke()


async def test_consoles_that_ask_at_once_share_one_look(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a million answers it takes seconds: however many look, chats get a connection."""
    overviews, reads, go_on = Overviews(node.services.db), 0, asyncio.Event()

    async def read_slowly(db: Database, window: Window) -> Overview:
        nonlocal reads
        reads += 1
        await go_on.wait()
        return await read_overview(db, window)

    monkeypatch.setattr("chatkeep.administration.overview.read_overview", read_slowly)
    looks = [asyncio.create_task(overviews.read("day")) for _ in range(5)]
    await until(lambda: reads == 1)
    looks[0].cancel()  # who began it may go away
    go_on.set()
    first, *others = await asyncio.gather(*looks, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert all(isinstance(one, Overview) for one in others)
    assert reads == 1
    await overviews.read("day")
    assert reads == 2  # it was quick, so the next is new


async def test_look_that_took_long_is_shown_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For four times as long, so that the database has a rest of it; the other window has not."""
    now, reads = 0.0, list[str]()

    async def read_slowly(db: Database, window: Window) -> Overview:
        nonlocal now
        reads.append(window)
        now += 3
        return await read_overview(db, window)

    monkeypatch.setattr("chatkeep.administration.overview.read_overview", read_slowly)
    overviews = Overviews(node.services.db, clock=lambda: now)
    first = await overviews.read("day")
    now = 14.9
    assert await overviews.read("day") is first
    assert await overviews.read("hour") is not first
    now = 30
    assert await overviews.read("day") is not first
    assert reads == ["day", "hour", "day"]


async def test_failure_of_a_look_is_not_kept(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks next asks the database again."""
    overviews = Overviews(node.services.db)

    async def fail(_db: Database, _window: Window) -> Overview:
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr("chatkeep.administration.overview.read_overview", fail)
        with pytest.raises(Unavailable):
            await overviews.read("hour")
    assert (await overviews.read("hour")).window == "hour"
