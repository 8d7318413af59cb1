"""Files in messages of the AI SDK: kept as the caller's, given to the model, and given back.

The bodies are those that `ai` 5, 6 and 7 send: the parts of the three differ only in members
that 6 and 7 have added.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
import pytest

from chatkeep import conversations, files
from chatkeep.answering import shown_files
from chatkeep.errors import PayloadTooLarge
from chatkeep.files import FileRow
from chatkeep.files.stored import File, StoredFiles
from chatkeep.limits import AT_ONCE, RATES, Rate
from tests.serving import said, types, until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Event, Node, Person, Stage

ROUTE: Final = "/api/chat"
PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
PDF: Final = b"%PDF-1.7 not much of one"


def data_url(content: bytes, media_type: str = "image/png") -> str:
    """Return a file in an address, as browsers write one."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture(**more: Any) -> dict[str, Any]:  # noqa: ANN401 -- any member of a part
    """Return a picture as a part of a message."""
    known = {"type": "file", "mediaType": "image/png", "filename": "a.png"}
    return {**known, "url": data_url(PNG), **more}


def text_file(size: int) -> dict[str, Any]:
    """Return a file of words as a client sends it in a message."""
    words = data_url(b"x" * size, "text/plain")
    return picture(url=words, mediaType="text/plain", filename="a.txt")


TEXT: Final = {"type": "text", "text": "What is this?"}
#: One message of each version: what the client itself has put into it.
MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "ai 5": {"id": "m5", "role": "user", "parts": [picture(), TEXT]},
    "ai 6": {
        "id": "m6",
        "role": "user",
        "metadata": {"at": 1},
        "parts": [picture(providerMetadata={"x": {"y": 1}}), {**TEXT, "state": "done"}],
    },
    "ai 7": {
        "id": "m7",
        "role": "user",
        "parts": [picture(providerReference={"openai": "file-1"}), {**TEXT, "citations": []}],
    },
}


def body_of(chat: str, *parts: dict[str, Any], message_id: str = "m1") -> dict[str, Any]:
    """Return what a client sends."""
    message = {"id": message_id, "role": "user", "parts": list(parts)}
    return {"id": chat, "messages": [message], "trigger": "submit-message"}


async def played(client: Client, body: object, **headers: str) -> list[Event]:
    """Send *body* and return the whole stream."""
    async with client.stream(ROUTE, body, **headers) as stream:
        events = await stream.rest()
        assert stream.status == 200, stream.raw
        return events


async def first_parts(client: Client, chat: str) -> list[dict[str, Any]]:
    """Return the parts of the first message that is kept."""
    page = (await client.get(f"/api/v1/chat/{chat}")).json
    found: list[dict[str, Any]] = page["messages"][0]["parts"]
    return found


async def files_of(node: Node, person: Person) -> int:
    """Return how many files a person has."""
    from chatkeep import files  # noqa: PLC0415 -- for this look alone

    return len(await files.list_files(node.services.db, person.id, limit=100))


# --- kept and given back ------------------------------------------------------------------------


@pytest.mark.parametrize("version", MESSAGES)
@pytest.mark.parametrize("shape", ["messages", "message"])
async def test_picture_reaches_the_model_and_comes_back(
    ana: Person, bo: Person, stage: Stage, version: str, shape: str
) -> None:
    """Of each version, and with either body: the history has its address, not its bytes."""
    model = stage.play(["A square."], ["Still one."])
    chat, message = str(uuid4()), MESSAGES[version]
    sent = {"messages": [message]} if shape == "messages" else {"message": message}
    events = await played(ana.client, {"id": chat, "trigger": "submit-message", **sent})
    assert said(events) == "A square."
    [image] = model.prompts[0].messages[-1].images
    assert image == data_url(PNG)
    text, file = await first_parts(ana.client, chat)
    assert text == TEXT
    assert (file["type"], file["mediaType"], file["filename"]) == ("file", "image/png", "a.png")
    assert file["url"].startswith("/api/files/")
    read = await ana.client.get(file["url"])
    assert (read.body, read.headers["content-type"]) == (PNG, "image/png")
    assert (await bo.client.get(file["url"])).status == 404
    export = (await ana.client.get(f"/api/v1/chat/{chat}/export")).json
    assert export["messages"][0]["parts"][1]["url"] == data_url(PNG)
    follow_up = body_of(chat, {"type": "text", "text": "Sure?"}, message_id="m9")
    await played(ana.client, follow_up)
    assert model.prompts[1].messages[0].images == (data_url(PNG),)


async def test_uploaded_file_is_named_in_a_message(ana: Person, node: Node, stage: Stage) -> None:
    """What the upload answers is the part to send: relative, absolute, or of ChatKit's upload."""
    model = stage.play(answer=lambda _: ["Seen."])
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="../a b.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + PNG + b"\r\n--x--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=x"}
    made = await ana.client.call("POST", "/api/files", data=form, headers=headers)
    assert made.status == 200, made.text
    part = made.json
    assert (part["type"], part["mediaType"], part["filename"]) == ("file", "image/png", "a b.png")
    home = node.services.settings.base_url
    addresses = [
        part["url"],
        f"{home}{part['url']}",
        f"{home}/support/attachments/{part['id']}/content",
    ]
    for url in addresses:
        await played(ana.client, body_of(str(uuid4()), {**part, "url": url}, TEXT))
        assert model.prompts[-1].messages[-1].images == (data_url(PNG),)
    assert await files_of(node, ana) == 1


async def test_head_of_a_form_is_short(ana: Person, node: Node) -> None:
    """What a name is looked for with takes a hundred times the memory of where it is looked for."""
    headers = {"content-type": "multipart/form-data; boundary=x"}
    told = []
    for length in (1000, 1_000_000):
        name = b"a" * length
        form = b'--x\r\ncontent-disposition: form-data; name="f"; filename="%s"\r\n' % name
        form += b"content-type: image/png\r\n\r\n" + PNG + b"\r\n--x--\r\n"
        told.append(await ana.client.call("POST", "/api/files", data=form, headers=headers))
    assert [one.status for one in told] == [200, 400]
    assert await files_of(node, ana) == 1


async def test_file_alone_is_a_question_and_names_the_chat(ana: Person, stage: Stage) -> None:
    """No word is needed beside it."""
    model = stage.play(["A square."])
    chat = str(uuid4())
    await played(ana.client, body_of(chat, picture(filename="holiday.png")))
    assert model.prompts[0].messages[-1].images
    assert (await ana.client.get(f"/api/v1/chat/{chat}")).json["title"] == "holiday.png"


async def test_text_is_read_as_text_and_others_as_files(ana: Person, stage: Stage) -> None:
    """A note becomes words of the message; a PDF goes along for models that read such."""
    model = stage.play(["Read."])
    parts = [
        picture(url=data_url(b"a,b\n1,2\n", "text/csv"), mediaType="text/csv", filename="t.csv"),
        picture(
            url=data_url(PDF, "application/pdf"), mediaType="application/pdf", filename="d.pdf"
        ),
    ]
    await played(ana.client, body_of(str(uuid4()), *parts, TEXT))
    asked = model.prompts[0].messages[-1]
    assert asked.text == "t.csv:\n```\na,b\n1,2\n\n```\n\nWhat is this?"
    assert asked.images == ()
    [file] = asked.files
    assert (file.name, file.url) == ("d.pdf", data_url(PDF, "application/pdf"))


async def test_answer_given_again_sees_the_file_again(ana: Person, stage: Stage) -> None:
    """Regenerated, and in a fork: the question is what it was."""
    model = stage.play(answer=lambda _: ["Seen."])
    chat = str(uuid4())
    await played(ana.client, body_of(chat, picture(), TEXT))
    await played(
        ana.client,
        {
            "id": chat,
            "messages": [{"id": "m1", "role": "user", "parts": [TEXT]}],
            "trigger": "regenerate-message",
        },
    )
    fork = (await ana.client.post(f"/api/v1/chat/{chat}/fork", {})).json["id"]
    await played(ana.client, body_of(fork, TEXT, message_id="m2"))
    assert [one.messages[0].images for one in model.prompts] == [(data_url(PNG),)] * 3


async def test_answer_that_had_not_begun_goes_on_with_the_file(ana: Person, stage: Stage) -> None:
    """It was stopped before its first word: all that is kept is the question, whole."""
    model = stage.play([asyncio.Event()], ["Seen."])
    chat = str(uuid4())
    asking = asyncio.create_task(played(ana.client, body_of(chat, picture(), TEXT)))
    await until(lambda: model.running == 1)
    await ana.client.post(f"{ROUTE}/{chat}/stop")
    await asking
    answer = await ana.client.post(f"/api/v1/chat/{chat}/continue")
    assert answer.json["message"] == "Seen."
    [question] = model.prompts[1].messages
    assert (question.text, question.images) == ("What is this?", (data_url(PNG),))


async def test_file_of_a_message_that_waits_is_not_lost(ana: Person, stage: Stage) -> None:
    """Queued behind an answer, it is asked with its file when its turn has come."""
    gate = asyncio.Event()
    model = stage.play(["Slow", gate], ["Seen."])
    chat = str(uuid4())
    first = asyncio.create_task(played(ana.client, body_of(chat, TEXT)))
    await until(lambda: bool(model.prompts))
    waiting = {**body_of(chat, picture(), TEXT, message_id="m2"), "when_busy": "queue"}
    second = asyncio.create_task(played(ana.client, waiting))

    async def waits() -> bool:
        return bool((await ana.client.get(f"/api/v1/chat/{chat}/queue")).json["waiting"])

    await until(waits)
    gate.set()
    await first
    assert said(await second) == "Seen."
    assert model.prompts[1].messages[-1].images == (data_url(PNG),)


async def test_duplicates_keep_one_file_and_another_file_is_another_message(
    ana: Person, node: Node, stage: Stage
) -> None:
    """Ten copies are one question with one file; the same words with another file are new."""
    model = stage.play(answer=lambda _: ["Seen."])
    chat = str(uuid4())
    body = body_of(chat, picture(), TEXT)
    streams = await asyncio.gather(*(played(ana.client, body) for _ in range(10)))
    assert len({one[0].data["messageId"] for one in streams}) == 1
    assert (len(model.prompts), await files_of(node, ana)) == (1, 1)
    other = body_of(chat, picture(url=data_url(PNG + b"2")), TEXT, message_id="m1")
    await played(ana.client, {**other, "messageId": "m1"})
    assert (len(model.prompts), await files_of(node, ana)) == (2, 2)


async def test_erased_file_is_left_out_and_the_chat_goes_on(ana: Person, stage: Stage) -> None:
    """The part stays and names what is gone."""
    model = stage.play(answer=lambda _: ["Seen."])
    chat = str(uuid4())
    await played(ana.client, body_of(chat, picture(), TEXT))
    _, file = await first_parts(ana.client, chat)
    assert (await ana.client.delete(file["url"])).status == 204
    assert (await ana.client.get(file["url"])).status == 404
    await played(ana.client, body_of(chat, TEXT, message_id="m2"))
    assert model.prompts[1].messages[0].images == ()
    assert (await ana.client.get(f"/api/v1/chat/{chat}/export")).status == 200


async def test_files_of_earlier_messages_are_not_believed(ana: Person, stage: Stage) -> None:
    """Only the last message is read: a client cannot write files into the history."""
    model = stage.play(["Seen."])
    forged = {"id": "m0", "role": "user", "parts": [picture(filename="forged.png")]}
    body = body_of(str(uuid4()), TEXT)
    await played(ana.client, {**body, "messages": [forged, *body["messages"]]})
    assert all(not one.images for one in model.prompts[0].messages)


async def test_stream_is_what_every_version_takes(ana: Person, stage: Stage) -> None:
    """A message with a file is answered with the chunks that 5, 6 and 7 have in common."""
    stage.play(["Seen."])
    events = await played(ana.client, body_of(str(uuid4()), picture(), TEXT))
    in_common = {"start", "start-step", "text-start", "text-delta", "text-end"}
    assert set(types(events)) <= in_common | {"finish-step", "finish", "[DONE]"}


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (picture(url="https://example.com/a.png"), 422),
        (picture(url="http://169.254.169.254/latest/meta-data"), 422),
        (picture(url="file:///etc/passwd"), 422),
        (picture(url="/api/files/../../etc/passwd"), 422),
        (picture(url="/api/files/atc_none"), 422),
        (picture(url="data:image/png,not-base64"), 422),
        (picture(url="data:image/png;base64,***"), 422),
        (picture(url=""), 422),
        (picture(url=None), 422),
        ({"type": "file", "mediaType": "image/png"}, 422),
        (picture(mediaType="image/svg+xml"), 400),
        (picture(mediaType="text/html"), 400),
        (picture(mediaType="image/png\r\nx: y"), 400),
        (picture(url="data:image/png;base64,"), 400),
        (picture(mediaType=7), 200),
        (picture(filename="../../\u202egnp.exe\x00"), 200),
    ],
)
async def test_file_that_is_not_taken_is_refused_before_anything_is_kept(
    ana: Person, node: Node, stage: Stage, part: dict[str, Any], status: int
) -> None:
    """Nothing is fetched, asked or stored; odd names are made safe."""
    model = stage.play(answer=lambda _: ["Seen."])
    chat = str(uuid4())
    answer = await ana.client.post(ROUTE, body_of(chat, part, TEXT))
    assert answer.status == status, answer.text
    assert len(model.prompts) == (status == 200)
    assert await files_of(node, ana) == (status == 200)
    if status == 200:
        _, kept = await first_parts(ana.client, chat)
        assert not set(kept["filename"]) & set("/\\\x00\u202e")
    else:
        assert (await ana.client.get(f"/api/v1/chat/{chat}")).status == 403
        assert "169.254" not in answer.text


async def test_too_large_and_too_many_are_refused(ana: Person, node: Node, stage: Stage) -> None:
    """By the bytes of a file, and by their number."""
    model = stage.play()
    many = [picture() for _ in range(21)]
    refused = await ana.client.post(ROUTE, body_of(str(uuid4()), *many, TEXT))
    assert refused.status == 422
    limits = node.services.files.limits
    large = base64.b64encode(b"x" * 1024).decode()
    object.__setattr__(limits, "size", 1000)
    try:
        refused = await ana.client.post(
            ROUTE, body_of(str(uuid4()), picture(url=f"data:image/png;base64,{large}"))
        )
    finally:
        object.__setattr__(limits, "size", 5 << 20)
    assert refused.status == 413
    assert model.prompts == []
    assert await files_of(node, ana) == 0


async def test_file_of_somebody_else_is_as_one_that_never_was(
    ana: Person, bo: Person, stage: Stage
) -> None:
    """Word for word, and announced is not yet uploaded."""
    stage.play(["Never."])
    headers = {"content-type": "image/png"}
    made = await ana.client.call("POST", "/api/files?name=a.png", data=PNG, headers=headers)
    foreign, none = [
        await bo.client.post(ROUTE, body_of(str(uuid4()), {**made.json, "url": url}, TEXT))
        for url in (made.json["url"], "/api/files/atc_" + "0" * 32)
    ]
    assert foreign.status == none.status == 422
    unlike = {"request_id"}
    assert {k: v for k, v in foreign.json.items() if k not in unlike} == {
        k: v for k, v in none.json.items() if k not in unlike
    }


async def test_who_is_not_signed_in_sends_no_files(node: Node) -> None:
    """Nothing of theirs is kept, so there is nowhere for a file."""
    refused = await node.nobody().post(ROUTE, body_of(str(uuid4()), picture(), TEXT))
    assert refused.status in {401, 422}
    headers = {"content-type": "image/png"}
    upload = await node.nobody().call("POST", "/api/files", data=PNG, headers=headers)
    assert upload.status == 401


async def test_file_named_again_and_again_is_read_once(
    ana: Person, node: Node, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each question, and what does not fit any more not at all: others are read instead."""
    model = stage.play(answer=lambda _: ["Seen."])
    chat, large = str(uuid4()), PNG + b"larger"
    urls = [await uploaded(ana, content) for content in (PNG, large)]
    for index, url in enumerate(urls):
        await played(ana.client, body_of(chat, *[picture(url=url)] * 20, message_id=f"m{index}"))
    monkeypatch.setattr(shown_files, "_SHOWN_AT_MOST", 2 * len(large) + len(PNG))
    read: list[str] = []

    async def counted(user_id: str, file_id: str) -> File:
        read.append(file_id)
        return await StoredFiles.read(node.services.files, user_id, file_id)

    monkeypatch.setattr(node.services.files, "read", counted)
    await played(ana.client, body_of(chat, TEXT, message_id="m9"))
    shown = [one.images for one in model.prompts[-1].messages if one.role == "user"]
    assert shown == [(data_url(PNG),), (data_url(large),) * 2, ()]
    assert sorted(read) == sorted(url.rpartition("/")[2] for url in urls)


async def test_export_holds_one_file_at_a_time(ana: Person, node: Node, stage: Stage) -> None:
    """However often a message names it, and a piece of it is what is sent at once."""
    stage.play(["Seen."])
    chat, content = str(uuid4()), b"\x89PNG\r\n\x1a\n" + bytes(1 << 20)
    url = await uploaded(ana, content)
    await played(ana.client, body_of(chat, *[picture(url=url)] * 20, TEXT))
    _, messages = await conversations.get_page(node.services.db, ana.id, chat, limit=2)
    pieces = [
        piece async for piece in node.services.files.written_out(ana.id, messages[0].parts or [])
    ]
    assert max(len(piece) for piece in pieces) < len(content)
    whole = json.loads(b"".join(pieces))
    assert whole == [TEXT, *[picture(url=data_url(content))] * 20]
    export = (await ana.client.get(f"/api/v1/chat/{chat}/export")).json
    assert export["messages"][0]["parts"] == whole


async def uploaded(person: Person, content: bytes) -> str:
    """Upload a picture; return its address."""
    headers = {"content-type": "image/png"}
    sent = await person.client.call("POST", "/api/files?name=a.png", data=content, headers=headers)
    assert sent.status == 200, sent.text
    return str(sent.json["url"])


async def test_upload_once_by_its_key(ana: Person, node: Node) -> None:
    """Ten copies of an upload are one file; other bytes under the key are refused."""
    headers = {"content-type": "image/png", "idempotency-key": "k"}
    sent = (
        ana.client.call("POST", "/api/files?name=a.png", data=PNG, headers=headers)
        for _ in range(10)
    )
    answers = await asyncio.gather(*sent)
    assert {one.status for one in answers} == {200}
    assert len({one.body for one in answers}) == 1
    assert await files_of(node, ana) == 1
    other = await ana.client.call("POST", "/api/files?name=a.png", data=PDF, headers=headers)
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


async def test_uploads_of_one_person_at_once_have_an_end(start: StartNode) -> None:
    """Each is in memory while it arrives; what has ended, or was refused, counts no more."""
    node = await start(RATE_LIMITS="on")
    ana, bo, limits = node.person(), node.person(), node.services.limits
    headers = {"content-type": "image/png"}
    for _ in range(AT_ONCE["uploads"]):
        limits.enter("uploads", ana.id)
    for method, path in (("POST", "/api/files"), ("PUT", "/support/attachments/atc_x/upload")):
        refused = await ana.client.call(method, path, data=PNG, headers=headers)
        assert (refused.status, "retry-after" in refused.headers) == (429, True)
    await uploaded(bo, PNG)
    limits.leave("uploads", ana.id)
    for content in (PNG, b""):  # taken, and refused
        await ana.client.call("POST", "/api/files", data=content, headers=headers)
    await uploaded(ana, PNG)


async def test_file_of_a_question_that_is_one_too_many_is_not_kept(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted first; the question before, sent again, is answered as it was all the same."""
    monkeypatch.setitem(RATES, "chat", Rate(1, 600))
    node = await start(RATE_LIMITS="on")
    ana, chat = node.person(), str(uuid4())
    node.stage.play(["Seen."])
    first = body_of(chat, picture(), TEXT)
    await played(ana.client, first)
    assert await files_of(node, ana) == 1
    more = body_of(chat, picture(url=data_url(PNG + b"more")), TEXT, message_id="m2")
    refused = await ana.client.post(ROUTE, more)
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    assert await files_of(node, ana) == 1
    assert said(await played(ana.client, first)) == "Seen."
    assert await files_of(node, ana) == 1


async def test_files_that_come_at_once_are_counted_one_after_the_other(
    node: Node, database: MigratedDatabase
) -> None:
    """Who announces one waits for whoever is announcing another, and counts that."""
    db, user_id = node.services.db, str(uuid4())
    known = FileRow(
        id="atc_2", attachment={"name": "b"}, media_type="text/plain", size=600, digest=None
    )
    with psycopg.connect(database.admin_url) as other:
        other.execute(
            "select pg_advisory_xact_lock(hashtextextended('files of ' || %s, 0))", [user_id]
        )
        other.execute(
            "insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size)"
            " values (%s, 'atc_1', '{}', 'text/plain', 600)",
            [user_id],
        )
        announcing = asyncio.create_task(files.announce(db, user_id, known, total=1000))
        await until(lambda: waits_for_a_lock(database))
    with pytest.raises(PayloadTooLarge):
        await announcing


def waits_for_a_lock(database: MigratedDatabase) -> bool:
    """Whether somebody waits for a lock that an application has named."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        found = admin.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            " and database = (select oid from pg_database where datname = current_database())"
        ).fetchone()
    return found is not None and found[0] > 0


async def test_files_of_a_person_have_an_end(start: StartNode) -> None:
    """By each way to send one; of somebody else's nobody hears, and what is erased is free."""
    node = await start(FILES_BYTES_PER_USER="1000")
    node.stage.play(answer=lambda _: ["Seen."])
    ana, bo = node.person(), node.person()
    text = {"content-type": "text/plain"}

    async def upload(person: Person, size: int) -> Answer:
        return await person.client.call("POST", "/api/files", data=b"x" * size, headers=text)

    kept = await upload(ana, 600)
    assert kept.status == 200
    params = {"name": "a.txt", "size": 500, "mime_type": "text/plain"}
    ways = [
        await upload(ana, 500),
        await ana.client.post(ROUTE, body_of(str(uuid4()), text_file(500), TEXT)),
        await ana.client.post("/support/chatkit", {"type": "attachments.create", "params": params}),
    ]
    assert [one.status for one in ways] == [413, 413, 413]
    assert "1000 bytes" in ways[0].json["detail"]
    assert (await upload(bo, 1000)).status == 200
    assert (await upload(ana, 400)).status == 200
    assert (await ana.client.delete(kept.json["url"])).status == 204
    assert (await upload(ana, 500)).status == 200
