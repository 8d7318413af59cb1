"""Links to one branch: what they show to strangers, and what they never do."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from chatkeep.limits import RATES, Rate
from tests.gotrue_people import OURS_ALONE, nobody, sign_up, signed_in
from tests.http.test_conversations import CHAT, begin, masked, say
from tests.postgres_servers import MigratedDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import StartNode
    from tests.postgres_servers import Server
    from tests.serving import Client, Node, Person, Stage


@pytest.fixture
def own_database(postgres: Server) -> Iterator[MigratedDatabase]:
    """A database of one test: whose people have bare user ids is decided once in each."""
    made = MigratedDatabase(
        server=postgres, name=postgres.new_database(template=postgres.migrated_template())
    )
    yield made
    postgres.drop_database(made.name)


async def shared(client: Client, conversation: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """Make a link."""
    answer = await client.post(f"{CHAT}/{conversation}/shares", body)
    assert answer.status == 200, answer.text
    made: dict[str, Any] = answer.json
    return made


def token_of(made: dict[str, Any]) -> str:
    """Return what opens a link."""
    return str(made["url"]).rpartition("/s/")[2]


async def texts(node: Node, made: dict[str, Any]) -> list[str]:
    """Return what somebody without any account reads through a link."""
    answer = await node.nobody().get(f"/api/v1/shared/{token_of(made)}")
    assert answer.status == 200, answer.text
    return [one["text"] for one in answer.json["messages"]]


async def test_link_shows_the_branch_and_nothing_said_later(
    node: Node, ana: Person, stage: Stage
) -> None:
    """Up to its end: neither what follows nor another branch."""
    conversation = await begin(ana.client)
    stage.play("First answer")
    first = await say(ana.client, conversation, "First question")
    made = await shared(ana.client, conversation)
    await say(ana.client, conversation, "Said afterwards")
    early = await shared(ana.client, conversation, head_id=first["user_message_id"])
    assert (await texts(node, made))[1:] == ["First question", "First answer"]
    assert (await texts(node, early))[1:] == ["First question"]


async def title_of(node: Node, made: dict[str, Any]) -> str | None:
    """Return what a link calls the conversation."""
    answer = await node.nobody().get(f"/api/v1/shared/{token_of(made)}")
    assert answer.status == 200, answer.text
    title: str | None = answer.json["title"]
    return title


async def test_title_says_nothing_that_the_link_does_not_show(node: Node, ana: Person) -> None:
    """A title is made of what was asked first, which may be edited away, also before a copy."""
    conversation = uuid4().hex
    first = await ask(ana, conversation, "The password is hunter2")
    edited = await ask(ana, conversation, "What is a bread?", instead_of=first["user_message_id"])
    before = await shared(ana.client, conversation, head_id=first["message_id"])
    after = await shared(ana.client, conversation, head_id=edited["message_id"])
    copy = (await ana.client.post(f"{CHAT}/{conversation}/fork", {})).json["id"]
    assert await title_of(node, before) == "The password is hunter2"
    assert await title_of(node, after) == "What is a bread?"
    assert await title_of(node, await shared(ana.client, copy)) == "What is a bread?"
    await ana.client.patch(f"{CHAT}/{conversation}", {"title": "My words"})
    copy = (await ana.client.post(f"{CHAT}/{conversation}/fork", {})).json["id"]
    for made in (before, after, await shared(ana.client, copy)):
        assert await title_of(node, made) == "My words"


async def test_title_is_not_of_what_was_said_after_the_link_or_erased(
    node: Node, ana: Person
) -> None:
    """One that was made later, of a later question, and one of a question that is gone."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "Hi")
    early = await shared(ana.client, conversation)
    named = await title_of(node, early)
    await say(ana.client, conversation, "The password is hunter2")
    assert await title_of(node, early) == named
    erased = uuid4().hex
    said = await ask(ana, erased, "The password is hunter2")
    made = await shared(ana.client, erased)
    item = f"msg_{said['user_message_id']}_0"
    gone = await ana.client.delete(f"/v1/conversations/conv_{erased}/items/{item}")
    assert gone.status == 200
    assert "hunter2" not in (await title_of(node, made) or "")


async def ask(
    who: Person, conversation: str, text: str, *, instead_of: str | None = None
) -> dict[str, Any]:
    """Ask as `useChat` does, and wait for the whole answer; *instead_of* is edited by it."""
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": text}]}
    edit = {"trigger": "submit-message", "messageId": instead_of} if instead_of else {}
    client = who.client.but(accept="application/json")
    answer = await client.post("/api/chat", {"id": conversation, "message": message, **edit})
    assert answer.status == 200, answer.text
    made: dict[str, Any] = answer.json
    return made


async def test_what_tools_and_reasoning_said_is_not_shown(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """Of the parts only text and sources with a safe address leave."""
    conversation = await begin(ana.client)
    sent = await say(ana.client, conversation, "Hello")
    parts = (
        '[{"type":"reasoning","text":"hidden"},{"type":"dynamic-tool","toolCallId":"1",'
        '"toolName":"t","state":"output-available","input":{"a":"hidden"},"output":"hidden"},'
        '{"type":"source-url","sourceId":"1","url":"https://example.com/a"},'
        '{"type":"source-url","sourceId":"2","url":"javascript:hidden"},'
        '{"type":"text","text":"seen"}]'
    )
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "update chat.messages set content = 'seen', parts = %s::jsonb where user_id = %s"
            " and id = %s",
            [parts, ana.id, sent["message_id"]],
        )
    made = await shared(ana.client, conversation)
    for path in (f"/api/v1/shared/{token_of(made)}", f"/s/{token_of(made)}"):
        answer = await node.nobody().get(path)
        assert "seen" in answer.text
        assert "https://example.com/a" in answer.text
        assert "hidden" not in answer.text
        assert ana.id not in answer.text
        assert conversation not in answer.text


async def test_instructions_of_the_operator_are_not_shown(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """They are in the branch, and not the person's to show."""
    conversation = await begin(ana.client)
    sent = await say(ana.client, conversation, "Hello")
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "update chat.messages m set role = 'system', content = 'Be kind to the rich.'"
            " from chat.messages q where q.user_id = %s and q.id = %s"
            " and m.user_id = q.user_id and m.id = q.parent_id",
            [ana.id, sent["user_message_id"]],
        )
    made = await shared(ana.client, conversation, head_id=sent["user_message_id"])
    assert await texts(node, made) == ["Hello"]


async def test_of_a_long_branch_the_end_is_shown(
    node: Node, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What strangers may read at once is bounded, and says that it is not all."""
    conversation = await begin(ana.client)
    sent = [await say(ana.client, conversation, text) for text in ("One", "Two")]
    made = await shared(ana.client, conversation, head_id=sent[1]["user_message_id"])
    monkeypatch.setattr("chatkeep.conversations.sharing._PAGE", 1)
    for most, is_cut in ((3, True), (4, False)):
        monkeypatch.setattr("chatkeep.conversations.sharing.SHOWN_AT_MOST", most)
        shown = (await node.nobody().get(f"/api/v1/shared/{token_of(made)}")).json
        assert (len(shown["messages"]), shown["messages"][-1]["text"]) == (most, "Two")
        assert shown["cut"] is is_cut


async def test_of_long_messages_the_last_are_shown(
    node: Node, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to sign in for a page, so it has an end in bytes, too."""
    conversation = await begin(ana.client)
    sent = [await say(ana.client, conversation, text) for text in ("x" * 500, "y" * 500)]
    made = await shared(ana.client, conversation, head_id=sent[1]["user_message_id"])
    monkeypatch.setattr("chatkeep.conversations.sharing._PAGE", 1)
    for most, last, is_cut in ((1, 1, True), (505, 2, True), (10_000, 4, False)):
        monkeypatch.setattr("chatkeep.conversations.sharing.SHOWN_BYTES", most)
        shown = (await node.nobody().get(f"/api/v1/shared/{token_of(made)}")).json
        assert (len(shown["messages"]), shown["cut"]) == (last, is_cut)
        assert shown["messages"][-1]["text"] == "y" * 500


async def test_page_runs_nothing_and_is_kept_nowhere(node: Node, ana: Person) -> None:
    """Markup is shown as text; robots, caches and other sites learn nothing of it."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "<script>alert(1)</script><!--shown-->")
    page = await node.nobody().get(f"/s/{token_of(await shared(ana.client, conversation))}")
    assert page.status == 200
    ours = re.findall(
        r'<script(?: type="module" crossorigin)? src="/assets/[\w.-]+"></script>', page.text
    )
    assert page.text.count("<script") == len(ours)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;!--shown--&gt;</div>" in page.text
    assert page.text.count("<main>") == 1
    assert page.headers["x-robots-tag"] == "noindex, nofollow"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "connect-src" not in policy


async def test_ended_links_are_one_answer(
    node: Node, ana: Person, bo: Person, database: MigratedDatabase
) -> None:
    """Revoked, expired, of a deleted conversation, or never made: the same bytes."""
    conversation = await begin(ana.client)
    revoked, expired, kept = [await shared(ana.client, conversation) for _ in range(3)]
    assert (await bo.client.delete(f"/api/v1/shares/{kept['id']}")).status == 204
    assert await texts(node, kept)
    assert (await ana.client.delete(f"/api/v1/shares/{revoked['id']}")).status == 204
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("update chat.shares set expires_at = now() where id = %s", [expired["id"]])
    for one in (revoked, expired):  # before the conversation is deleted, which ends all of them
        assert (await node.nobody().get(f"/api/v1/shared/{token_of(one)}")).status == 404
    listed = (await ana.client.get("/api/v1/shares")).json["shares"]
    assert [one["id"] for one in listed] == [kept["id"]]
    assert "url" not in listed[0]
    assert (await bo.client.get("/api/v1/shares")).json == {"shares": []}
    await ana.client.delete(f"{CHAT}/{conversation}")
    never = {"url": f"/s/{uuid4()}"}
    for path in ("/api/v1/shared/", "/s/"):
        answers = [
            await node.nobody().get(path + token_of(one))
            for one in (revoked, expired, kept, never, {"url": "/s/%00"}, {"url": "/s/%C3%A9"})
        ]
        assert {one.status for one in answers} == {404}
        assert len({str(masked(one)) for one in answers[:4]}) == 1
    await ana.client.post(f"{CHAT}/{conversation}/restore")
    assert await texts(node, kept)


@pytest.mark.parametrize("is_primary", [True, False])
async def test_link_of_an_account_that_is_gone_shows_nothing(
    own_database: MigratedDatabase, start: StartNode, *, is_primary: bool
) -> None:
    """Suspended, deleted or emptied: what it shared is not there, as if it never was."""
    node = await start(own_database.url, **(OURS_ALONE if is_primary else {}))
    secret = node.nobody(authorization=f"Bearer {node.services.embedded.supabase_keys.secret}")
    users = "/auth/v1/admin/users"
    for body in ({}, {"should_soft_delete": True}):
        session = await sign_up(nobody(node))
        client = signed_in(nobody(node), session)
        made = await shared(client, await begin(client))
        account = session["user"]["id"]
        assert await texts(node, made)
        for length, status in (("1h", 404), ("none", 200)):
            banned = {"ban_duration": length}
            assert (await secret.call("PUT", f"{users}/{account}", json=banned)).status == 200
            for path in ("/api/v1/shared/", "/s/"):
                assert (await node.nobody().get(path + token_of(made))).status == status
        gone = await secret.call("DELETE", f"{users}/{account}", json=body)
        assert gone.status == 200
        answers = [
            await node.nobody().get(f"/api/v1/shared/{token}")
            for token in (token_of(made), str(uuid4()))
        ]
        assert {one.status for one in answers} == {404}
        assert len({str(masked(one)) for one in answers}) == 1


async def test_nobody_shares_what_is_not_theirs(ana: Person, bo: Person) -> None:
    """Another's conversation, and a message of another conversation, are not there."""
    conversation, other = await begin(ana.client), await begin(ana.client)
    sent = await say(ana.client, other, "Elsewhere")
    for client, body in ((bo.client, {}), (ana.client, {"head_id": sent["message_id"]})):
        answer = await client.post(f"{CHAT}/{conversation}/shares", body)
        assert (answer.status, answer.json["code"]) == (403, "conversation_forbidden")


async def test_token_is_kept_as_a_hash(ana: Person, database: MigratedDatabase) -> None:
    """Who reads the database opens no link with what they see."""
    made = await shared(ana.client, await begin(ana.client))
    with psycopg.connect(database.admin_url) as admin:
        row = admin.execute(
            "select s::text from chat.shares s where id = %s", [made["id"]]
        ).fetchone()
    assert row is not None
    assert token_of(made) not in row[0]


async def test_token_is_in_no_log(
    node: Node, ana: Person, caplog: pytest.LogCaptureFixture
) -> None:
    """Each request leaves a line, and none of them opens the link."""
    made = await shared(ana.client, await begin(ana.client))
    with caplog.at_level(logging.INFO):
        await texts(node, made)
        await node.nobody().get(f"/s/{token_of(made)}")
    paths = [getattr(record, "path", "") for record in caplog.records]
    assert {"/api/v1/shared/...", "/s/..."} <= set(paths)
    assert token_of(made) not in str(
        [vars(one) for one in caplog.records if one.name.startswith("chatkeep")]
    )


async def test_guesses_are_limited(start: StartNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries links out is told to wait."""
    monkeypatch.setitem(RATES, "shared", Rate(RATES["shared"].burst, 36_000))
    node = await start(RATE_LIMITS="on")
    statuses = {(await node.nobody().get(f"/s/{uuid4()}")).status for _ in range(130)}
    assert statuses == {404, 429}
