"""Mail from the transaction that queues it to a real mail server, on serving nodes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from chatkeep.db import AUTH, Query
from chatkeep.errors import Invalid
from chatkeep.job_queue import GONE_AFTER_S
from chatkeep.mail import Mail, outgoing_mail, queued
from chatkeep.mail.delivery import PAUSES
from chatkeep.mail.outgoing import Posted
from tests.free_ports import free_port
from tests.mail_servers import PASSWORD, USER, Certificate, mail_server, make_certificate
from tests.serving import SERVER_SECRET, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.conftest import StartNode
    from tests.mail_servers import MailServerOfTests
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

TOKEN = "one-time-token-of-the-test"
CODE = "314159"
LONG_ENOUGH_S = 30  # for a few mails, on a machine with other work


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """A certificate that this process trusts."""
    made = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    return made


@pytest.fixture(autouse=True)
def clean_queue(database: MigratedDatabase) -> None:
    """Nothing waits from the test before."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("truncate chatkeep_queue.procrastinate_jobs cascade")
        admin.execute("truncate chatkeep.mail_hours")


@dataclass(frozen=True, slots=True)
class Failing:
    """A row that never comes."""

    number: int


def settings_for(server: MailServerOfTests, **others: str) -> dict[str, Any]:
    """Return the settings of a node that sends through *server*, in plain text."""
    return {
        "SMTP_URL": server.address,
        "SMTP_TLS": "off",
        "SMTP_TIMEOUT": "40",  # what is given up and sent anew would be there twice
        "MAIL_FROM": "no-reply@example.com",
        "MAIL_NAME": "Prüfstand",
        **others,
    }


def a_mail(node: Node, to: str = "ana@example.com") -> Mail:
    """Return a mail with a link and a code."""
    home = node.services.embedded.outgoing.home
    return Mail(
        kind="magic_link",
        to=to,
        link=f"{home}/auth/v1/verify?token={TOKEN}&type=magiclink",
        code=CODE,
        user_id="ana",
    )


async def queue(node: Node, mail: Mail) -> None:
    """Queue *mail* as a flow of the node would."""
    await node.services.db.fetch_all(AUTH, queued(mail, node.services.embedded.outgoing))


def waiting(database: MigratedDatabase) -> list[tuple[str, str, int]]:
    """Return state, content and attempts of what is queued."""
    with psycopg.connect(database.admin_url) as admin:
        return admin.execute(
            "select status::text, args::text, attempts from chatkeep_queue.procrastinate_jobs"
        ).fetchall()


def make_due(database: MigratedDatabase) -> None:
    """Let what waits for another attempt be due, instead of waiting with it."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("update chatkeep_queue.procrastinate_jobs set scheduled_at = now()")


def given_up(database: MigratedDatabase) -> list[tuple[str, str | None, str]]:
    """Return reason, person and kind of the mail that was given up."""
    with psycopg.connect(database.admin_url) as admin:
        return admin.execute(
            "select reason, user_id, details ->> 'kind' from chatkeep.audit_log"
            " where action = 'mail.given_up' order by number"
        ).fetchall()


async def test_mail_arrives_with_both_parts(start: StartNode, database: MigratedDatabase) -> None:
    """Whoever it is for gets the link and the code as text and as HTML, and nothing is kept."""
    async with mail_server() as server:
        node = await start(**settings_for(server))
        await queue(node, a_mail(node))
        await until(lambda: bool(server.received) and not waiting(database))
        (got,) = server.received
        assert (got.sender, got.to) == ("no-reply@example.com", ["ana@example.com"])
        assert got.message["From"] == "Prüfstand <no-reply@example.com>"
        assert got.message["Subject"] == "Sign in to Prüfstand"
        assert got.message["Auto-Submitted"] == "auto-generated"
        assert got.message["Message-ID"].endswith("@example.com>")
        assert got.message["Date"].datetime is not None
        for part in (got.text, got.html):
            assert TOKEN in part
            assert CODE in part
        assert got.message.get_content_type() == "multipart/alternative"


async def test_mailbox_with_a_name_outside_ascii_gets_its_mail(
    start: StartNode, database: MigratedDatabase
) -> None:
    """Of a server that takes it (RFC 6531), at an address that one signs up with as with others."""
    async with mail_server() as server:
        node = await start(**settings_for(server))
        await queue(node, a_mail(node, "josé@bücher.example"))
        await until(lambda: bool(server.received) and not waiting(database))
        (got,) = server.received
        assert got.to == ["josé@xn--bcher-kva.example"]
        (whom,) = got.message["To"].addresses  # as raw bytes, says the standard library
        assert whom.username.encode(errors="surrogateescape").decode() == "josé"
        assert got.message["From"] == "Prüfstand <no-reply@example.com>"
        assert TOKEN in got.text


async def test_queued_mail_is_sealed(start: StartNode, database: MigratedDatabase) -> None:
    """A copy of the database shows neither link nor code nor address."""
    node = await start()
    await queue(node, a_mail(node))
    ((_, content, _),) = waiting(database)
    for secret in (TOKEN, CODE, "ana@example.com", "magic_link"):
        assert secret not in content


async def test_rolled_back_change_sends_nothing(
    start: StartNode, database: MigratedDatabase
) -> None:
    """Mail belongs to its transaction: what did not happen is not written about."""
    async with mail_server() as server:
        node = await start(**settings_for(server))
        query = queued(a_mail(node), node.services.embedded.outgoing)
        failing = Query("select 1 / 0 as number", (), Failing)
        with pytest.raises(Invalid):
            await node.services.db.fetch_all(AUTH, query, failing)
        await queue(node, a_mail(node, "bo@example.com"))
        await until(lambda: bool(server.received))
        assert server.recipients == ["bo@example.com"]


async def test_starttls_with_login(start: StartNode, certificate: Certificate) -> None:
    """The password is said after STARTTLS only, to a server whose certificate is good."""
    async with mail_server(certificate, with_login=True) as server:
        login = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
        url = f"smtp://{login}@localhost:{server.port}"
        node = await start(SMTP_URL=url, MAIL_FROM="no-reply@example.com")
        await queue(node, a_mail(node))
        await until(lambda: bool(server.received))
        assert server.received[0].encrypted


async def test_encrypted_from_the_first_byte(start: StartNode, certificate: Certificate) -> None:
    """`smtps://` works, with a login."""
    async with mail_server(certificate, encrypted=True, with_login=True) as server:
        login = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
        url = f"smtps://{login}@localhost:{server.port}"
        node = await start(SMTP_URL=url, MAIL_FROM="no-reply@example.com")
        await queue(node, a_mail(node))
        await until(lambda: bool(server.received))
        assert server.received[0].logged_in


async def test_strangers_certificate_gets_no_mail(
    start: StartNode, database: MigratedDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that cannot prove its name is sent nothing; the mail waits."""
    async with mail_server(make_certificate(tmp_path)) as server:
        node = await start(
            SMTP_URL=f"smtp://localhost:{server.port}", MAIL_FROM="no-reply@example.com"
        )
        await queue(node, a_mail(node))
        await until(lambda: "untrusted_certificate" in caplog.text)
        assert server.recipients == []
        await until(lambda: [one[2] for one in waiting(database)] == [1])


async def test_server_without_starttls_gets_no_mail(
    start: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who strips STARTTLS from the greeting reads no mail."""
    async with mail_server() as server:
        node = await start(**settings_for(server, SMTP_TLS="on"))
        await queue(node, a_mail(node))
        await until(lambda: "starttls_or_login_not_offered" in caplog.text)
        assert server.recipients == []


async def test_temporary_refusal_is_tried_again(
    start: StartNode, database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """A 4xx answer is no end: the mail comes after a pause, once."""
    async with mail_server() as server:
        server.to_recipients = ["450 greylisted, ana@example.com"]
        server.to_messages = ["451 later"]
        node = await start(**settings_for(server))
        await queue(node, a_mail(node))
        for reason in ("recipient_450", "message_451"):
            await until(lambda reason=reason: reason in caplog.text)  # type: ignore[misc]
            await until(lambda: waiting(database)[0][0] == "todo")
            make_due(database)
        await until(lambda: bool(server.received) and not waiting(database))
        assert len(server.received) == 1
        assert "ana@example.com" not in caplog.text
        assert TOKEN not in caplog.text


async def test_refused_address_is_not_tried_again(
    start: StartNode, database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """A 5xx answer to the address is final, and stands in the audit log without the address."""
    async with mail_server() as server:
        server.to_recipients = ["550 no such user ana@example.com"]
        node = await start(**settings_for(server))
        await queue(node, a_mail(node))
        await until(lambda: not waiting(database) and bool(given_up(database)))
        assert given_up(database)[-1] == ("recipient_550", "ana", "magic_link")
        assert len(server.recipients) == 1
        assert "is given up at attempt 1: recipient_550" in caplog.text
        assert "ana@example.com" not in caplog.text


async def test_mail_server_that_is_away(start: StartNode, database: MigratedDatabase) -> None:
    """A refused connection is no end: when the mail server is back, the mail goes."""
    port = free_port()
    node = await start(
        SMTP_URL=f"smtp://127.0.0.1:{port}", SMTP_TLS="off", MAIL_FROM="no-reply@example.com"
    )
    await queue(node, a_mail(node))
    await until(lambda: [one[::2] for one in waiting(database)] == [("todo", 1)])
    async with mail_server(port=port) as server:
        make_due(database)
        await until(lambda: bool(server.received))


async def test_mail_that_never_goes_is_given_up(
    start: StartNode, database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """After the last attempt there is no further one, and the audit log says so."""
    before = len(given_up(database))
    node = await start(
        SMTP_URL=f"smtp://127.0.0.1:{free_port()}",
        SMTP_TLS="off",
        MAIL_FROM="no-reply@example.com",
    )
    await queue(node, a_mail(node))
    for attempts in range(1, len(PAUSES) + 1):
        wanted = [("todo", attempts)]
        await until(lambda wanted=wanted: [one[::2] for one in waiting(database)] == wanted)  # type: ignore[misc]
        make_due(database)
    await until(lambda: not waiting(database))
    await until(lambda: len(given_up(database)) == before + 1)
    assert given_up(database)[-1][0] == "unreachable"
    assert f"given up at attempt {len(PAUSES) + 1}" in caplog.text


async def test_old_link_is_not_sent(start: StartNode, database: MigratedDatabase) -> None:
    """A link that waited longer than it is good for goes nowhere; news still does."""
    async with mail_server() as server:
        idle = await start()
        sending = await start(**settings_for(server))
        outgoing = sending.services.embedded.outgoing
        old = outgoing.opened(outgoing.sealed(_posted(a_mail(idle), hours_ago=2)))
        assert old is not None
        news = Mail(kind="password_changed", to="bo@example.com")
        for mail in (a_mail(sending), news):
            sealed = outgoing.sealed(_posted(mail, hours_ago=2))
            await _queue_sealed(sending, sealed, due_in="1 hour")
        database.operate(
            "update chatkeep_queue.procrastinate_events set at = now() - interval '2 hours'"
        )
        make_due(database)
        await until(lambda: not waiting(database))
        assert server.recipients == ["bo@example.com"]
        assert given_up(database)[-1][0] == "too_old"


@pytest.mark.parametrize("hours", [-9, 9])
async def test_mail_of_a_node_with_a_wrong_clock_is_sent(
    start: StartNode, database: MigratedDatabase, hours: int
) -> None:
    """How old it is says the clock of the database, by which it was queued a moment ago."""
    async with mail_server() as server:
        node = await start(**settings_for(server))
        posted = _posted(a_mail(node), hours_ago=hours)
        await _queue_sealed(node, node.services.embedded.outgoing.sealed(posted))
        await until(lambda: not waiting(database))
        assert server.recipients == [posted.mail.to]


async def test_what_another_secret_sealed_is_left_to_others_and_then_dropped(
    start: StartNode, database: MigratedDatabase
) -> None:
    """Content that does not open here is never guessed at; a node of a newer version may know."""
    async with mail_server() as server:
        node = await start(**settings_for(server))
        await _queue_sealed(node, "AAAA")
        await until(lambda: [one[::2] for one in waiting(database)] == [("todo", 1)])
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute("update chatkeep_queue.procrastinate_jobs set attempts = 6")
        make_due(database)
        await until(lambda: not waiting(database))
        assert server.recipients == []
        assert given_up(database)[-1] == ("unreadable", None, "unknown")


async def test_mail_server_that_hangs_up_after_the_mail(
    start: StartNode, database: MigratedDatabase
) -> None:
    """What it took it has: a goodbye without an answer is no reason to send it again."""
    async with mail_server() as server:
        server.without_goodbye = True
        node = await start(**settings_for(server))
        await queue(node, a_mail(node))
        await until(lambda: bool(server.received) and not waiting(database))
        assert len(server.received) == 1


async def test_two_nodes_send_each_mail_once(start: StartNode, database: MigratedDatabase) -> None:
    """Of several nodes on one queue, exactly one sends each mail."""
    async with mail_server() as server:
        nodes = [await start(**settings_for(server)) for _ in range(2)]
        wanted = sorted(f"person{number}@example.com" for number in range(24))
        async with asyncio.TaskGroup() as group:
            for number, to in enumerate(wanted):
                group.create_task(queue(nodes[number % 2], a_mail(nodes[0], to)))
        await until(lambda: len(server.received) >= len(wanted) and not waiting(database))
        assert sorted(server.recipients) == wanted


async def test_more_than_an_hour_may_have_waits(
    start: StartNode, database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """MAIL_PER_HOUR holds over all nodes; what is more is queued for the next hour."""
    left_s = 3600 - time.time() % 3600
    if left_s < LONG_ENOUGH_S:  # all of it must be in one hour
        await asyncio.sleep(left_s)
    async with mail_server() as server:
        nodes = [await start(**settings_for(server, MAIL_PER_HOUR="2")) for _ in range(2)]
        for number in range(4):
            await queue(nodes[number % 2], a_mail(nodes[0], f"person{number}@example.com"))
        await until(lambda: [one[::2] for one in waiting(database)] == [("todo", 1)] * 2)
        assert len(server.received) == 2
        assert "MAIL_PER_HOUR" in caplog.text
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute("update chatkeep.mail_hours set hour = hour - interval '1 hour'")
        make_due(database)
        await until(lambda: len(server.received) == 4 and not waiting(database))


async def test_work_of_a_killed_node_is_done_again(
    start: StartNode, database: MigratedDatabase
) -> None:
    """What a node had begun when it died is taken by another as soon as it counts as gone."""
    async with mail_server() as server:
        node = await start(**settings_for(server))
        # At once, or the node, which clears away who is gone, might do so in between.
        with psycopg.connect(database.admin_url) as admin:
            sealed = node.services.embedded.outgoing.sealed(_posted(a_mail(node), hours_ago=0))
            dead = admin.execute(
                "insert into chatkeep_queue.procrastinate_workers (last_heartbeat)"
                " values (now() - make_interval(secs => %s)) returning id",
                [GONE_AFTER_S + 1],
            ).fetchone()
            assert dead is not None
            admin.execute(
                "insert into chatkeep_queue.procrastinate_jobs"
                " (queue_name, task_name, args, status, worker_id)"
                " select 'mail', 'send_mail', jsonb_build_object('sealed', %s::text), 'doing', %s",
                [sealed, dead[0]],
            )
        again = await start(**settings_for(server))
        await until(lambda: bool(server.received) and not waiting(database))
        assert len(server.received) == 1
        await again.stop()


async def test_stopping_lets_the_mail_at_hand_go(
    start: StartNode, database: MigratedDatabase
) -> None:
    """A node that is stopped while it sends waits for the answer; nothing is sent twice."""
    async with mail_server() as server:
        server.gate = asyncio.Event()
        node = await start(**settings_for(server, DRAIN_SECONDS="60"))
        await queue(node, a_mail(node))
        await until(lambda: server.at_gate == 1)
        stopping = asyncio.create_task(node.stop())
        await until(lambda: node.services.jobs._stopping)
        server.gate.set()
        await stopping
        assert waiting(database) == []
        assert len(server.received) == 1


async def test_mail_that_outlasts_the_drain_is_put_back(
    start: StartNode, database: MigratedDatabase
) -> None:
    """A mail server that does not answer holds nobody up: the mail waits for another node."""
    async with mail_server() as server:
        server.gate = asyncio.Event()
        node = await start(**settings_for(server, DRAIN_SECONDS="0"))
        await queue(node, a_mail(node))
        await until(lambda: server.at_gate == 1)
        await node.stop()
        assert [one[::2] for one in waiting(database)] == [("todo", 1)]


async def test_database_that_comes_back(start: StartNode, database: MigratedDatabase) -> None:
    """Every connection lost, and the queue goes on by itself."""
    async with mail_server() as server:
        node = await start(**settings_for(server))
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        await queue(node, a_mail(node))
        await until(lambda: bool(server.received) and not waiting(database))
        assert len(server.received) == 1


async def test_production_without_a_mail_server_queues_nothing(
    start: StartNode, database: MigratedDatabase
) -> None:
    """Notices need no question first: where no mail can go, none is kept either."""
    node = await start()
    production = replace(
        node.services.settings, environment="production", public_url="https://chat.example"
    )
    assert not production.mail_enabled
    nowhere = outgoing_mail(production, SERVER_SECRET.encode())
    mail = Mail(kind="password_changed", to="ana@example.com")
    assert await node.services.db.fetch_all(AUTH, queued(mail, nowhere)) == [[]]
    assert waiting(database) == []


def _posted(mail: Mail, *, hours_ago: float) -> Posted:
    return Posted(mail=mail, at=time.time() - hours_ago * 3600)


async def _queue_sealed(node: Node, sealed: str, *, due_in: str = "0") -> None:
    await node.services.db.execute(
        AUTH,
        "insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args, scheduled_at)"
        " values ('mail', 'send_mail', jsonb_build_object('sealed', %s::text),"
        " now() + %s::interval)",
        [sealed, due_in],
    )
