"""Search in one's own messages: what is found, in which order, and what never is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

from chatkeep.conversations.search import Piece, passage
from chatkeep.limits import AT_ONCE
from tests.http.test_conversations import CHAT, begin, say

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node, Person, Stage


async def searched(client: Client, words: str, more: str = "") -> dict[str, Any]:
    """Return a page of what is found for *words*."""
    answer = await client.get(f"/api/v1/search?q={quote(words)}{more}")
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


async def texts(client: Client, words: str) -> list[str]:
    """Return the passages that are found, their matches in brackets."""
    return [
        "".join(f"[{one['text']}]" if one["match"] else one["text"] for one in found["passage"])
        for found in (await searched(client, words))["found"]
    ]


async def test_question_and_answer_are_found_as_soon_as_it_has_ended(
    ana: Person, stage: Stage
) -> None:
    """Each with its conversation, title, role and time, and the match marked."""
    stage.play("The dough wants rest.")
    conversation = await begin(ana.client)
    sent = await say(ana.client, conversation, "How do I bake bread?")
    (found,) = (await searched(ana.client, "dough"))["found"]
    assert found["conversation_id"] == conversation
    assert found["message_id"] == sent["message_id"]
    assert (found["role"], found["title"]) == ("assistant", "How do I bake bread?")
    assert found["passage"][1] == {"text": "dough", "match": True}
    (asked,) = (await searched(ana.client, "baking"))["found"]
    assert (asked["message_id"], asked["role"]) == (sent["user_message_id"], "user")


async def test_nobody_finds_what_others_said(ana: Person, bo: Person) -> None:
    """The same words of two people are found by each alone."""
    for person in (ana, bo):
        await say(person.client, await begin(person.client), f"Our xylophone {person.id}")
    mine = await texts(ana.client, "xylophone")
    assert [ana.id in text for text in mine] == [True]
    assert await texts(ana.client, bo.id) == []


async def test_deleted_is_not_found_and_restored_is(ana: Person) -> None:
    """A deleted conversation is in no search until it is restored."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "A zeppelin")
    await ana.client.delete(f"{CHAT}/{conversation}")
    assert await texts(ana.client, "zeppelin") == []
    await ana.client.post(f"{CHAT}/{conversation}/restore")
    assert await texts(ana.client, "zeppelin") == ["A [zeppelin]"]


async def test_forms_of_the_language_of_the_profile(ana: Person) -> None:
    """English unless the person says otherwise; the word as it stands is found always."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "Running with scissors")
    assert await texts(ana.client, "run scissor") == ["[Running] with [scissors]"]
    await ana.client.patch("/api/settings", {"locale": "de-AT"})
    await say(ana.client, conversation, "Viele Häuser")
    assert await texts(ana.client, "Haus") == ["Viele [Häuser]"]
    assert len(await texts(ana.client, "running")) == 1


@pytest.mark.parametrize(
    "words",
    [
        "%",
        "_",
        "\\",
        "___",
        "'",
        '"',
        "&",
        "|",
        "!",
        "<->",
        ":*",
        "()",
        "a:*&!b'\\",
        "-",
        "-" * 200,
        "- " * 100,
        "-(" * 100,
        "<!--" * 50,
        "\U0001f4a9",
    ],
)
async def test_signs_of_patterns_and_queries_mean_nothing(ana: Person, words: str) -> None:
    """None of them is an error, and none finds everything."""
    await say(ana.client, await begin(ana.client), "Harmless words")
    assert await texts(ana.client, words) == []


async def test_phrase_alternative_and_exclusion(ana: Person) -> None:
    """What people know from search engines."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "red green blue")
    await say(ana.client, conversation, "green red yellow")
    assert await texts(ana.client, '"red green"') == ["[red] [green] blue"]
    assert len(await texts(ana.client, "blue or yellow")) == 2
    assert len(await texts(ana.client, "red -blue")) == 1


async def test_markup_is_text_and_marks_cannot_be_forged(ana: Person) -> None:
    """A passage is plain text; who writes our marks into a message marks nothing."""
    said = "<b>x</b> \ue000forged\ue001 kumquat"
    await say(ana.client, await begin(ana.client), said)
    (found,) = (await searched(ana.client, "kumquat"))["found"]
    assert [one["text"] for one in found["passage"] if one["match"]] == ["kumquat"]
    assert "\ue000" not in str(found)


async def test_few_come_best_first_and_pages_fit_together(ana: Person) -> None:
    """Page by page the same as in one, without a find twice or left out."""
    conversation = await begin(ana.client)
    for count in (1, 4, 2, 3):
        await say(ana.client, conversation, "plum " * count + "filler " * 10)
    whole = await searched(ana.client, "plum")
    assert whole["order"] == "best"
    said = ["".join(one["text"] for one in found["passage"]) for found in whole["found"]]
    assert [one.count("plum") for one in said] == [4, 3, 2, 1]
    paged, cursor = [], ""
    while True:
        page = await searched(ana.client, "plum", f"&limit=1{cursor}")
        paged += page["found"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert paged == whole["found"]


async def test_many_come_newest_first_and_pages_fit_together(
    ana: Person, database: MigratedDatabase
) -> None:
    """More finds than are ranked: in order of time, also beyond what is looked through first."""
    fill(database, ana.id, common=150, after=12_000)
    paged: list[Any] = []
    cursor = ""
    while True:
        page = await searched(ana.client, "kiwi", f"&limit=50{cursor}")
        paged += page["found"]
        assert page["order"] == "newest"
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len({one["message_id"] for one in paged}) == len(paged) == 150
    times = [one["created_at"] for one in paged]
    assert times == sorted(times, reverse=True)


def fill(database: MigratedDatabase, user_id: str, *, common: int, after: int) -> None:
    """Say the word "kiwi" in *common* messages, the oldest half before *after* others."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        talk = str(uuid4())
        connection.execute(
            "insert into chat.conversations (user_id, id) values (%s, %s)", [user_id, talk]
        )
        connection.execute(
            "insert into chat.messages (user_id, conversation_id, id, role, content, created_at)"
            " select %(user)s, %(talk)s, n::text, 'user',"
            "   case when n <= %(half)s or n > %(half)s + %(after)s then 'kiwi' else 'x' end,"
            "   now() - interval '1 day' + n * interval '1 second'"
            " from generate_series(1, %(all)s) n",
            {
                "user": user_id,
                "talk": talk,
                "half": common // 2,
                "after": after,
                "all": common + after,
            },
        )


@pytest.mark.parametrize("said", ["a_", "~/", "./", "a-a.", "<!--"])
async def test_words_without_a_space_hold_nobody_up(ana: Person, said: str) -> None:
    """Signs at which PostgreSQL's parser begins anew, thousands of them: kept, and found."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, f"tamarind {said * (50_000 // len(said))}")
    assert len((await searched(ana.client, "tamarind"))["found"]) == 1


async def test_words_repeated_in_long_messages_are_looked_for_in_time(
    ana: Person, database: MigratedDatabase
) -> None:
    """A long phrase in many long messages of nothing else takes no quarter of a minute."""
    say_often(database, ana.id, "a b " * 5000, times=51)
    found = await searched(ana.client, '"' + "a b " * 45 + '"', "&limit=50")
    assert len(found["found"]) == 50
    assert all(any(piece["match"] for piece in one["passage"]) for one in found["found"])


async def test_searches_of_one_person_leave_room_for_others(start: StartNode) -> None:
    """So many at once, and no more: each has a connection to the database to itself."""
    node = await start(RATE_LIMITS="on")
    busy, other = node.person(), node.person()
    for _ in range(AT_ONCE["searches"]):
        node.services.limits.enter("searches", busy.id)
    refused = await busy.client.get("/api/v1/search?q=x")
    assert (refused.status, "retry-after" in refused.headers) == (429, True)
    await searched(other.client, "x")
    node.services.limits.leave("searches", busy.id)
    for _ in range(2):  # each is given back
        await searched(busy.client, "x")


def say_often(database: MigratedDatabase, user_id: str, text: str, *, times: int) -> None:
    """Say *text* in so many messages of one conversation."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        talk = str(uuid4())
        connection.execute(
            "insert into chat.conversations (user_id, id) values (%s, %s)", [user_id, talk]
        )
        connection.execute(
            "insert into chat.messages (user_id, conversation_id, id, role, content)"
            " select %s, %s, n::text, 'user', %s from generate_series(1, %s) n",
            [user_id, talk, text, times],
        )


@pytest.mark.parametrize("cursor", ["x", "bnVsbA", "WzEsMiwzXQ", "%00"])
async def test_forged_cursor_is_refused(ana: Person, cursor: str) -> None:
    """What is no cursor of ours is a 422."""
    assert (await ana.client.get(f"/api/v1/search?q=x&cursor={cursor}")).status == 422


@pytest.mark.parametrize("query", ["", "q=", f"q={'x' * 201}", "q=%00", "q=x&limit=0"])
async def test_what_cannot_be_searched_is_refused(ana: Person, query: str) -> None:
    """No words, too many, or what cannot be stored: a 422."""
    assert (await ana.client.get(f"/api/v1/search?{query}")).status == 422


async def test_answer_is_not_indexed_while_it_is_made(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """A checkpoint writes no words; the end of the run does, however it ends."""
    conversation = await begin(ana.client)
    sent = await say(ana.client, conversation, "Hello")
    key = [ana.id, conversation, sent["message_id"]]
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("delete from chat.message_words where user_id = %s", [ana.id])
        admin.execute(
            "update chat.messages set content = 'quokka'"
            " where user_id = %s and conversation_id = %s and id = %s",
            key,
        )
        admin.execute("update chat.runs set state = 'running' where user_id = %s", [ana.id])
        assert await texts(ana.client, "quokka") == []
        admin.execute(
            "update chat.runs set lease_until = now() - interval '1 hour' where user_id = %s",
            [ana.id],
        )
        # The sweep of the node, or of this test, whichever is first.
        admin.execute(
            "update chat.runs set state = 'interrupted' where user_id = %s and state = 'running'",
            [ana.id],
        )
    assert await texts(ana.client, "quokka") == ["[quokka]"]


def test_passage_is_taken_apart() -> None:
    """Marks become pieces, and nothing of the text is lost."""
    assert passage("a \ue000b\ue001 c") == [
        Piece(text="a ", match=False),
        Piece(text="b", match=True),
        Piece(text=" c", match=False),
    ]
    assert passage("") == []
