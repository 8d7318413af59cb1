"""Webhooks: what others are told, when, how often, and by whom it is signed."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from chatkeep.config import Settings
from chatkeep.config.webhooks import EVENTS
from chatkeep.errors import DatabaseUnavailable, SetupError
from chatkeep.events import Done, TextDelta, Usage
from chatkeep.webhooks import new_secret, records
from chatkeep.webhooks.delivery import PAUSES
from tests.serving import until
from tests.webhook_receivers import receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node
    from tests.webhook_receivers import Receiver

OLD, NEW = new_secret(), new_secret()


@pytest.fixture(autouse=True)
def nothing_waits(database: MigratedDatabase) -> None:
    """Nobody listens yet, and nothing waits from the test before."""
    database.operate(
        "truncate chatkeep_queue.procrastinate_jobs, chatkeep.webhooks, chatkeep.dead_webhooks"
        " cascade",
    )


@pytest.fixture
async def crm() -> AsyncIterator[Receiver]:
    """Somebody who is told."""
    async with receiving() as receiver:
        yield receiver


def listening(receiver: Receiver, name: str = "crm", **changes: str) -> dict[str, str]:
    """Return the settings that tell *receiver*."""
    prefix = f"WEBHOOK_{name.upper()}"
    more = {f"{prefix}_{ending}": value for ending, value in changes.items()}
    return {"WEBHOOKS": name, f"{prefix}_URL": receiver.url, f"{prefix}_SECRET": OLD, **more}


async def ask(client: Client, text: str = "Who are you?") -> str:
    """Have a conversation with one exchange; return its id."""
    chat = str(uuid4())
    message = {"role": "user", "parts": [{"type": "text", "text": text}]}
    answer = await client.post("/api/chat", {"id": chat, "message": message})
    assert answer.status == 200, answer.text
    return chat


def plays(node: Node, text: str) -> None:
    """Let the model say *text*."""
    usage = Usage(prompt_tokens=2, completion_tokens=3)
    node.stage.play([TextDelta(text=text), usage, Done(finish_reason="stop")])


async def test_an_exchange_is_told_of(start: StartNode, crm: Receiver) -> None:
    """The conversation, and its answer with what it used; signed, by ids, without a word of it."""
    node = await start(**listening(crm))
    plays(node, "The answer that nobody else hears.")
    ana = node.person()
    chat = await ask(ana.client, "The question that nobody else hears?")
    await until(lambda: len(crm.heard) == 2)
    told = {one.type: one for one in crm.heard}
    assert told["conversation.created"].data["conversation_id"] == chat
    finished = told["answer.finished"]
    messages = (await ana.client.get(f"/api/v1/chat/{chat}")).json["messages"]
    assert finished.data["message_id"] == messages[-1]["id"]
    assert (finished.data["state"], finished.data["completion_tokens"]) == ("done", 3)
    assert finished.data["user_id"].endswith(ana.id)
    assert all(one.is_signed_with(OLD) and not one.is_signed_with(NEW) for one in crm.heard)
    assert b"nobody else hears" not in b"".join(one.signed for one in crm.heard)


async def test_words_are_told_to_whoever_is_to_have_them(
    start: StartNode, crm: Receiver, database: MigratedDatabase
) -> None:
    """And are nowhere in the queue: what was erased before it was told is not told."""
    node = await start(**listening(crm, TEXT="on", EVENTS="answer.finished"))
    plays(node, "I am.")
    await ask(node.person().client, "Are you?")
    await until(lambda: len(crm.heard) == 1)
    assert (crm.heard[0].data["question"], crm.heard[0].data["answer"]) == ("Are you?", "I am.")
    crm.statuses = [500]
    ana = node.person().client
    chat = await ask(ana, "Erase me?")
    await until(lambda: len(crm.heard) == 2)
    assert (await ana.delete(f"/api/v1/chat/{chat}")).status == 204
    await until(lambda: waits(database))
    database.operate(DUE)
    node.services.webhooks.missed()
    await until(lambda: len(crm.heard) == 3)
    assert crm.heard[1].data["question"] == "Erase me?"
    assert crm.heard[2].data["question"] is crm.heard[2].data["answer"] is None


#: What waits for another attempt is due, as after some time.
DUE = "update chatkeep_queue.procrastinate_jobs set scheduled_at = now()"


async def test_accounts_and_sessions_are_told_of(
    start: StartNode, crm: Receiver, database: MigratedDatabase
) -> None:
    """Whoever signs up, signs out and is erased; an operator's own statement is told of too."""
    node = await start(**listening(crm))
    nobody = node.nobody(apikey=node.services.embedded.supabase_keys.publishable)
    person = {"email": f"{uuid4().hex}@example.com", "password": "a password for tests"}
    signed = (await nobody.post("/auth/v1/signup", person)).json
    await until(lambda: crm.types() == ["user.created"])
    account = crm.heard[0].data["user_id"]
    assert account.endswith(signed["user"]["id"])
    assert person["email"] not in crm.heard[0].signed.decode()
    bearer = nobody.but(authorization=f"Bearer {signed['access_token']}")
    assert (await bearer.post("/auth/v1/logout")).status == 204
    await until(lambda: crm.types()[1:] == ["session.ended"])
    assert crm.heard[1].data["reason"] == "logout"
    assert crm.heard[1].data["user_id"] == account
    await nobody.post("/auth/v1/token?grant_type=password", person)
    ending = "update public.user_sessions set is_active = false where is_active and user_id = %s"
    database.operate(ending, account)
    await until(lambda: crm.types()[2:] == ["session.ended"])
    database.operate(f"delete from chatkeep.users where id = '{signed['user']['id']}'")  # noqa: S608 -- an id of ours
    await until(lambda: crm.types()[3:] == ["user.deleted"])


async def test_what_was_rolled_back_was_never_told(
    start: StartNode, crm: Receiver, database: MigratedDatabase
) -> None:
    """It is queued in the transaction of the change."""
    await start(**listening(crm))
    with psycopg.connect(database.admin_url) as admin:
        admin.execute("insert into chat.conversations (user_id, id) values ('ana', 'rolled back')")
        admin.rollback()
        admin.execute("insert into chat.conversations (user_id, id) values ('ana', 'kept')")
        admin.commit()
    await until(lambda: bool(crm.heard))
    assert [one.data["conversation_id"] for one in crm.heard] == ["kept"]


async def test_server_that_lacks_a_receiver_ends_it_for_nobody(
    start: StartNode, crm: Receiver, database: MigratedDatabase
) -> None:
    """As while servers are replaced: what happens there is told by the others, or waits for one."""
    telling = await start(**listening(crm))
    crm.statuses = [500]
    database.operate("insert into chat.conversations (user_id, id) values ('ana', 'waits')")
    await until(lambda: waits(database))
    lacking = await start()
    await lacking.services.webhooks.look()
    await ask(lacking.person().client)
    await until(lambda: crm.has_heard(3))
    await telling.stop()
    chat = await ask(lacking.person().client)
    assert crm.has_heard(3)
    database.operate(DUE)
    await start(**listening(crm))
    await until(lambda: crm.has_heard(6))
    told = [one.data["conversation_id"] for one in crm.heard[3:]]
    assert sorted(told) == sorted(["waits", chat, chat])


async def test_receiver_that_no_server_names_ends_after_a_day(
    start: StartNode, crm: Receiver, database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """With what waits for it; one that a server names goes on, also where that is another one."""
    async with receiving() as other:
        both = {**listening(other, "erp"), **listening(crm), "WEBHOOKS": "erp,crm"}
        first = await start(**both)
        crm.statuses = [500]
        database.operate("insert into chat.conversations (user_id, id) values ('ana', 'no more')")
        await until(lambda: waits(database))
        await first.stop()
        named, lacking = await start(**listening(other, "erp")), await start()
        ages = "update chatkeep.webhooks set listened_at = now() - interval '25 hours'"
        database.operate("update chatkeep.webhooks set listened_at = now() - interval '23 hours'")
        await lacking.services.webhooks.look()
        assert receivers(database) == ["crm", "erp"]
        database.operate(ages)
        await named.services.webhooks.look()
        assert receivers(database) == ["erp"]
        await lacking.services.webhooks.look()
        assert receivers(database) == ["erp"]
        assert "webhooks to crm have ended: no server has named it for a day" in caplog.text
        assert "1 webhooks are dropped" in caplog.text
        await ask(lacking.person().client)
        await until(lambda: other.has_heard(3))
        await until(lambda: not database.operate("select 1 from chatkeep_queue.procrastinate_jobs"))
        assert crm.has_heard(1)


async def test_who_is_told_is_looked_after_while_the_database_is_away_for_a_moment(
    start: StartNode,
    crm: Receiver,
    database: MigratedDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A receiver that was ended begins again with the next look of a server that names it."""
    looks: list[None] = []
    begin_again = records.go_on

    async def away(*given: Any) -> None:  # noqa: ANN401 -- whatever it is given
        looks.append(None)
        if len(looks) < 3:
            raise DatabaseUnavailable
        await begin_again(*given)

    monkeypatch.setattr(records, "go_on", away)
    monkeypatch.setattr("chatkeep.webhooks.delivery._LOOK_EVERY_S", 0.01)
    node = await start(**listening(crm))
    assert await records.end(node.services.db, "crm")
    await until(lambda: len(looks) > 3 and receivers(database) == ["crm"])


def receivers(database: MigratedDatabase) -> list[str]:
    """Return for whom what happens is queued."""
    found = database.operate("select name from chatkeep.webhooks order by name")
    return [name for (name,) in found]


def test_only_an_end_of_an_answer_is_told(database: MigratedDatabase) -> None:
    """Not that it begins, nor what is written to one that has ended; its second end is told."""
    database.operate("insert into chatkeep.webhooks values ('crm', '{answer.finished}')")
    database.operate(
        "with talk as ("
        "  insert into chat.conversations (user_id, id) values ('ana', 'ends') returning *"
        "), said as ("
        "  insert into chat.messages (user_id, conversation_id, id, role, run_id)"
        "  select user_id, id, 'answer', 'assistant', 'run' from talk returning *"
        ") insert into chat.runs"
        " (user_id, id, conversation_id, message_id, state, model, lease_until)"
        " select user_id, run_id, conversation_id, id, 'queued', 'm', now() from said"
    )
    told = []
    for state in ("running", "interrupted", "interrupted", "running", "done"):
        database.operate("update chat.runs set state = %s where user_id = 'ana'", state)
        queued = "select count(*) from chatkeep_queue.procrastinate_jobs"
        told += [number for (number,) in database.operate(queued)]
    assert told == [0, 1, 1, 1, 2]


async def test_two_secrets_are_good_at_once(start: StartNode, crm: Receiver) -> None:
    """While a receiver changes over, it finds a signature with either."""
    node = await start(**listening(crm, SECRET=f"{NEW},{OLD}"))
    await ask(node.person().client)
    await until(lambda: len(crm.heard) == 2)
    assert all(one.is_signed_with(OLD) and one.is_signed_with(NEW) for one in crm.heard)


@pytest.mark.parametrize("hours", [1, -1])
async def test_request_says_when_it_was_sent_by_the_clock_of_the_database(
    start: StartNode, crm: Receiver, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Receivers refuse what is five minutes off, and lost what a node with a wrong clock told."""
    node = await start(**listening(crm))
    wrong = SimpleNamespace(time=lambda: time.time() + hours * 3600)
    monkeypatch.setattr("chatkeep.webhooks.delivery.time", wrong)
    await ask(node.person().client)
    await until(lambda: bool(crm.heard))
    _, sent_at, _ = crm.heard[0].signed.split(b".", 2)
    assert abs(int(sent_at) - time.time()) < 300
    assert crm.heard[0].is_signed_with(OLD)


async def test_what_is_not_taken_is_told_again_under_the_same_id(
    start: StartNode, crm: Receiver, database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """With growing pauses; at last it is kept for an operator, who has it told once more."""
    caplog.set_level(logging.WARNING)
    node = await start(**listening(crm, EVENTS="conversation.created"))
    crm.statuses = [500, 302, *[503] * (len(PAUSES) - 1)]
    await ask(node.person().client)
    for attempt in range(1, len(PAUSES) + 2):
        await until(partial(crm.has_heard, attempt))
        if attempt <= len(PAUSES):
            await until(lambda: waits(database))
            database.operate(DUE)
            node.services.webhooks.missed()
    await until(lambda: not database.operate("select 1 from chatkeep_queue.procrastinate_jobs"))
    assert len({one.id for one in crm.heard}) == 1
    (dead,) = await records.list_dead(node.services.db)
    assert (dead.id, dead.reason, dead.attempts) == (crm.heard[0].id, "503", len(PAUSES) + 1)
    assert await records.redeliver(node.services.db, [dead.id]) == 1
    await until(lambda: len(crm.heard) == len(PAUSES) + 2)
    assert crm.heard[-1].id == dead.id
    assert await records.list_dead(node.services.db) == []
    assert crm.url not in caplog.text
    assert OLD not in caplog.text


def waits(database: MigratedDatabase) -> bool:
    """Whether something waits for another attempt."""
    found = database.operate(
        "select 1 from chatkeep_queue.procrastinate_jobs where status = 'todo'"
        " and scheduled_at > now()",
    )
    return bool(found)


async def test_receiver_that_is_gone_is_not_asked_again(start: StartNode, crm: Receiver) -> None:
    """410 means never."""
    node = await start(**listening(crm, EVENTS="conversation.created"))
    crm.statuses = [410]
    await ask(node.person().client)
    await until_dead(node, "410")
    assert len(crm.heard) == 1


async def test_what_was_given_up_is_kept_for_a_month(
    node: Node, database: MigratedDatabase
) -> None:
    """Whatever is given up next clears away what nobody has looked at since."""

    async def bury(identity: str) -> None:
        await records.bury(
            node.services.db,
            name="crm",
            identity=identity,
            event="test",
            content="{}",
            attempts=9,
            reason="503",
        )

    for identity, days in (("old", 31), ("young", 29)):
        await bury(identity)
        database.operate(
            "update chatkeep.dead_webhooks set died_at = now() - make_interval(days => %s)"
            " where id = %s",
            *(days, identity),
        )
    await bury("new")
    assert [one.id for one in await records.list_dead(node.services.db)] == ["young", "new"]


async def until_dead(node: Node, reason: str) -> None:
    """Wait until something was given up for *reason*."""

    async def died() -> bool:
        return [one.reason for one in await records.list_dead(node.services.db)] == [reason]

    await until(died)


async def test_slow_receiver_keeps_nobody_else_waiting(start: StartNode, crm: Receiver) -> None:
    """Each has a queue of its own, and mail has another."""
    async with receiving() as slow:
        slow.gate = asyncio.Event()
        both = {**listening(slow, "slow"), **listening(crm), "WEBHOOKS": "slow,crm"}
        node = await start(**both)
        ana = node.person().client
        for _ in range(6):
            await ask(ana)
        await until(lambda: len(crm.heard) == 12)
        assert slow.heard == []
        assert slow.begun <= 4
        slow.gate.set()
        await until(lambda: len(slow.heard) == 12)


async def test_two_nodes_tell_once(
    start: StartNode, crm: Receiver, database: MigratedDatabase
) -> None:
    """Whichever is free does it, and the other does not."""
    nodes = [await start(**listening(crm)) for _ in range(2)]
    people = [nodes[0].person().client, nodes[1].person().client.but(url=nodes[1].url)]
    for _ in range(5):
        await asyncio.gather(*(ask(one) for one in people))
    await until(lambda: len(crm.heard) == 20)
    await until(lambda: not database.operate("select 1 from chatkeep_queue.procrastinate_jobs"))
    assert len({one.id for one in crm.heard}) == len(crm.heard) == 20


async def test_exhausted_budget_is_told_once(
    start: StartNode, crm: Receiver, database: MigratedDatabase
) -> None:
    """However often somebody is refused, on whichever surface; and for what time."""
    node = await start(**listening(crm, EVENTS="budget.exhausted"), BUDGET_TOKENS_PER_DAY="1")
    ana = node.person()
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "fake/model"}
    for _ in range(3):
        assert (await ana.client.post("/v1/chat/completions", body)).status == 429
        message = {"role": "user", "parts": [{"type": "text", "text": "Hi"}]}
        refused = await ana.client.post("/api/chat", {"id": str(uuid4()), "message": message})
        assert refused.status == 429
    await until(lambda: not database.operate("select 1 from chatkeep_queue.procrastinate_jobs"))
    (told,) = crm.heard
    assert told.data["budget"] == "tokens-per-day"
    assert told.data["user_id"].endswith(ana.id)
    assert told.data["resets_at"].endswith("T00:00:00Z")


async def test_exhausted_budget_that_could_not_be_queued_is_told_at_the_next_refusal(
    start: StartNode, crm: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may be away for a moment, and back long before the budget begins anew."""
    queue = records.queue

    async def away(*_: object) -> None:
        monkeypatch.setattr(records, "queue", queue)
        raise DatabaseUnavailable

    node = await start(**listening(crm, EVENTS="budget.exhausted"), BUDGET_TOKENS_PER_DAY="1")
    monkeypatch.setattr(records, "queue", away)
    ana = node.person()
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "fake/model"}
    for _ in range(2):
        assert (await ana.client.post("/v1/chat/completions", body)).status == 429
    await until(lambda: bool(crm.heard))


async def test_production_tells_nobody_in_a_private_network(crm: Receiver, node: Node) -> None:
    """Whatever its name leads to when it is told; a refusal leaves no trace of the address."""
    from chatkeep.webhooks.delivery import Delivery, test_event  # noqa: PLC0415 -- for this alone

    settings = Settings.from_env(listening(crm))
    (endpoint,) = settings.webhooks
    delivery = Delivery(db=node.services.db, endpoint=endpoint, public_only=True, account=str)
    assert await delivery.send(test_event()) == "address"
    assert crm.begun == 0
    assert crm.url not in repr(endpoint)
    allowed = Settings.from_env(listening(crm, PRIVATE="on")).webhooks[0]
    delivery = Delivery(db=node.services.db, endpoint=allowed, public_only=True, account=str)
    assert await delivery.send(test_event()) is None
    assert crm.types() == ["test"]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"WEBHOOK_CRM_SECRET": OLD}, "WEBHOOK_CRM_URL must be set"),
        ({"WEBHOOK_CRM_URL": "https://x.example"}, "WEBHOOK_CRM_SECRET must be set"),
        ({"WEBHOOK_CRM_SECRET": "hunter2"}, "WEBHOOK_CRM_SECRET must be like"),
        ({"WEBHOOK_CRM_EVENTS": "user.sneezed"}, "WEBHOOK_CRM_EVENTS must list"),
        ({"WEBHOOK_ERP_URL": "https://x.example"}, "WEBHOOK_ERP_URL belongs to no name"),
        (
            {"WEBHOOK_CRM_EVENT": "user.created"},
            "WEBHOOK_CRM_EVENT is no setting of a name in WEBHOOKS: there are URL, SECRET, EVENTS",
        ),
    ],
)
def test_settings_that_fit_nothing_stop_the_start(environ: dict[str, str], problem: str) -> None:
    """With a sentence that names the setting, and no secret."""
    with pytest.raises(SetupError, match=problem) as raised:
        Settings.from_env({"WEBHOOKS": "crm", **environ})
    assert "hunter2" not in str(raised.value)


async def test_every_event_has_a_trigger_or_a_place(database: MigratedDatabase) -> None:
    """What can be asked for is told of by the database, but for what no row tells."""
    found = database.operate(
        "select distinct encode(tgargs, 'escape') from pg_trigger where tgname like 'webhooks%'",
    )
    told = {one.removesuffix("\\000") for (one,) in found}
    assert told == set(EVENTS) - {"budget.exhausted"}
