"""Development's outbox: for whoever sits at the machine, and for nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from starlette.requests import Request

from chatkeep.db import AUTH
from chatkeep.errors import NotFound
from chatkeep.mail import Mail, queued
from chatkeep.mail.outbox import KEPT, list_outbox, trim_outbox
from chatkeep.web.routes.outbox import _sits_here
from tests.mail_servers import mail_server
from tests.serving import until

if TYPE_CHECKING:
    from chatkeep.db import Database
    from chatkeep.mail import Outgoing
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

PATHS = ("/outbox", "/api/outbox", "/outbox/1")


@pytest.fixture(autouse=True)
def empty_outbox(database: MigratedDatabase) -> None:
    """Nothing is there from the test before."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("truncate chatkeep_queue.procrastinate_jobs cascade")


async def post(node: Node, *, to: str = "ana@example.com", code: str = "314159") -> None:
    """Queue a mail as a flow would."""
    home = node.services.embedded.outgoing.home
    mail = Mail(
        kind="magic_link", to=to, link=f"{home}/auth/v1/verify?token=a&type=magiclink", code=code
    )
    await node.services.db.fetch_all(AUTH, queued(mail, node.services.embedded.outgoing))


async def test_outbox_without_mail_says_what_to_do(node: Node) -> None:
    """The empty page tells how the first mail comes to be there."""
    answer = await node.nobody().get("/outbox")
    assert answer.status == 200
    assert "No mail yet" in answer.text
    assert (await node.nobody().get("/api/outbox")).json == {"mails": []}


async def test_outbox_shows_mail_newest_first(node: Node) -> None:
    """Links and codes, as JSON for tests and as a page to click on."""
    await post(node, to="ana@example.com", code="111111")
    await post(node, to="bo@example.com", code="222222")
    first, second = (await node.nobody().get("/api/outbox")).json["mails"][:2]
    assert (first["to"], second["to"]) == ("bo@example.com", "ana@example.com")
    assert first["code"] == "222222"
    assert first["link"].startswith(node.services.embedded.outgoing.home)
    assert first["code"] in first["text"]
    page = (await node.nobody().get("/outbox")).text
    assert page.index("222222") < page.index("111111")
    assert '<a class="open" href="' in page
    whole = await node.nobody().get(f"/outbox/{first['id']}")
    assert "222222" in whole.text
    assert (await node.nobody().get("/outbox/999999999")).status == 404


async def test_outbox_runs_no_script(node: Node) -> None:
    """What somebody signed up with stays text, and the page may run nothing at all."""
    await post(node, code="<script>alert(1)</script>")
    for path in ("/outbox", f"/outbox/{(await list_outbox(*_of(node)))[0].id}"):
        answer = await node.nobody().get(path)
        assert "<script" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "script-src" not in policy
        assert answer.headers["cache-control"] == "no-store"
    assert (
        "unsafe-inline"
        not in (await node.nobody().get("/outbox")).headers["content-security-policy"]
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "chat.example"},
        {"host": "127.0.0.1.evil.example"},
        {"x-forwarded-for": "203.0.113.9"},
        {"x-forwarded-host": "chat.example"},
        {"forwarded": "for=203.0.113.9"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://localhost.evil.example"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
async def test_outbox_is_not_there_for_others(
    node: Node, path: str, headers: dict[str, str]
) -> None:
    """Another name, a proxy's client, a page of another site: as if there were none."""
    answer = await node.nobody(**headers).get(path)
    assert answer.status == 404
    assert answer.json["code"] == "not_found"


async def test_outbox_is_not_there_for_another_machine_that_says_it_is_this_one(
    node: Node,
) -> None:
    """The Host header is the client's word: the connection itself must come from here."""

    def asked_from(address: str) -> Request:
        headers = [(b"host", b"localhost")]
        client = (address, 4711)
        return Request({"type": "http", "headers": headers, "client": client, "app": node.app})

    for address in ("203.0.113.9", "192.168.0.7", "fe80::1"):
        with pytest.raises(NotFound):
            await _sits_here(asked_from(address))
    await _sits_here(asked_from("127.0.0.1"))
    await _sits_here(asked_from("::1"))


async def test_outbox_is_there_for_pages_of_this_machine(node: Node) -> None:
    """A front end on another port of this machine may read it."""
    client = node.nobody(origin="http://localhost:5173")
    assert (await client.get("/api/outbox")).status == 200
    assert (await node.nobody(host="localhost").get("/outbox")).status == 200


async def test_outbox_is_gone_once_mail_is_sent(start: StartNode) -> None:
    """With a mail server there is no outbox, and what it held is not sent afterwards."""
    before = await start()
    await post(before, to="held@example.com")
    async with mail_server() as server:
        node = await start(
            SMTP_URL=server.address, SMTP_TLS="off", MAIL_FROM="no-reply@example.com"
        )
        for path in PATHS:
            assert (await node.nobody().get(path)).status == 404
        await post(node, to="new@example.com")
        await until(lambda: bool(server.recipients))
        assert server.recipients == ["new@example.com"]


async def test_outbox_forgets_the_oldest(node: Node) -> None:
    """It does not grow for ever."""
    for number in range(KEPT + 5):
        await post(node, to=f"person{number}@example.com")
    await trim_outbox(node.services.db)
    shown = await list_outbox(*_of(node))
    assert len(shown) == KEPT
    assert shown[0].mail.to == f"person{KEPT + 4}@example.com"
    await trim_outbox(node.services.db)
    assert len(await list_outbox(*_of(node))) == KEPT


def _of(node: Node) -> tuple[Database, Outgoing]:
    return node.services.db, node.services.embedded.outgoing
