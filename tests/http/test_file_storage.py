"""Files in a bucket of a real S3 server: kept, read, erased, swept; and what is wrong with it."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from aiohttp import web

from chatkeep.config import Settings
from chatkeep.conversations import purge_deleted
from chatkeep.errors import FileStorageUnavailable, SetupError
from chatkeep.files import FileLimits
from chatkeep.files.buckets import Bucket, BucketAddress, bucket_of
from chatkeep.files.stored import StoredFiles
from chatkeep.setup_checks.doctor import examine_files
from tests.chatkit_client import Kit, done_items
from tests.free_ports import free_port
from tests.s3_servers import BUCKET, KEY, S3Server, start_s3
from tests.serving import serving, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node, Person

PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
RAW: Final = {"content-type": "application/octet-stream"}


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    """A server of one test, whose objects nobody else counts."""
    with start_s3(tmp_path / "objects") as server:
        yield server


@pytest.fixture
async def stored(s3: S3Server, start: StartNode) -> Node:
    """A node that keeps its files there."""
    return await start(**s3.settings)


async def announced(kit: Kit, content: bytes, media_type: str = "image/png") -> str:
    """Announce a file; return its id."""
    made = await kit.call(
        "attachments.create", name="a.png", size=len(content), mime_type=media_type
    )
    assert made.status == 200, made.text
    return str(made.json["id"])


async def put(client: Client, file_id: str, content: bytes) -> Answer:
    """Upload the bytes of a file that was announced."""
    path = f"/support/attachments/{file_id}/upload"
    return await client.call("PUT", path, data=content, headers=RAW)


async def uploaded(person: Person, content: bytes = PNG) -> str:
    """Return a new file of *person*."""
    file_id = await announced(Kit(person.client), content)
    assert (await put(person.client, file_id, content)).status == 204
    return file_id


def row_of(database: MigratedDatabase, file_id: str) -> tuple[Any, ...]:
    """Return whether the row of a file has bytes, and where they are."""
    with psycopg.connect(database.admin_url) as admin:
        found = admin.execute(
            "select content is not null, object_key from chat.chatkit_attachments where id = %s",
            [file_id],
        ).fetchone()
    assert found is not None
    return tuple(found)


# --- kept there ---------------------------------------------------------------------------------


async def test_bytes_are_in_the_bucket_and_reach_owner_and_model(
    stored: Node, s3: S3Server, database: MigratedDatabase
) -> None:
    """Announced, uploaded, sent, shown to the model, read back and given to nobody else."""
    person = stored.person()
    kit = Kit(person.client)
    file_id = await uploaded(person)
    has_bytes, key = row_of(database, file_id)
    assert (has_bytes, s3.objects()) == (False, [PNG])
    assert file_id not in key
    assert person.id not in key
    model = stored.stage.play(["Nice."])
    thread, events = await kit.create("Look", attachments=[file_id])
    assert done_items(events)[0]["attachments"][0]["id"] == file_id
    [image] = model.prompts[0].messages[-1].images
    assert image == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    for path in (f"/support/attachments/{file_id}/content", f"/api/files/{file_id}"):
        read = await person.client.get(path)
        assert (read.status, read.body) == (200, PNG)
        assert (await stored.person().client.get(path)).status == 404
        assert (await stored.nobody().get(path)).status == 401
    page = (await person.client.get(f"/api/v1/chat/{thread}")).text
    assert base64.b64encode(PNG).decode() not in page
    assert f"/api/files/{file_id}" in page
    everything = json.dumps([one.text for one in (await kit.call("threads.list"),)]) + page
    assert s3.url not in everything  # nobody is told where the bucket is


async def test_same_bytes_again_change_nothing_and_others_are_refused(
    stored: Node, s3: S3Server
) -> None:
    """Ten uploads at once are one object."""
    person = stored.person()
    file_id = await announced(Kit(person.client), PNG)
    answers = await asyncio.gather(*(put(person.client, file_id, PNG) for _ in range(10)))
    assert {one.status for one in answers} == {204}
    assert s3.objects() == [PNG]
    assert (await put(person.client, file_id, PNG[::-1])).status == 400
    assert s3.objects() == [PNG]


async def test_truncated_upload_keeps_nothing(stored: Node, s3: S3Server) -> None:
    """Shorter than announced, or cut off on the way: no object, and it can be sent again."""
    person = stored.person()
    file_id = await announced(Kit(person.client), PNG)
    assert (await put(person.client, file_id, PNG[:-1])).status == 400
    reader, writer = await asyncio.open_connection("127.0.0.1", stored.port)
    bearer = person.client.headers["authorization"]
    head = (
        f"PUT /support/attachments/{file_id}/upload HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: {bearer}\r\nContent-Length: {len(PNG)}\r\n\r\n"
    )
    writer.write(head.encode() + PNG[:100])
    await writer.drain()
    writer.close()
    del reader
    assert (await person.client.get(f"/api/files/{file_id}")).status == 404
    assert (await put(person.client, file_id, PNG)).status == 204
    assert s3.objects() == [PNG]


async def test_file_in_the_database_is_read_after_a_bucket_was_configured(
    node: Node, stored: Node, s3: S3Server, database: MigratedDatabase
) -> None:
    """What was kept before stays where it is; new files go to the bucket."""
    person = node.person()
    old = await uploaded(person)
    assert row_of(database, old) == (True, None)
    there = person.client.but(url=stored.url)
    assert (await there.get(f"/api/files/{old}")).body == PNG
    assert s3.objects() == []


# --- erased and taken away ----------------------------------------------------------------------


async def test_erasing_takes_the_objects_too(stored: Node, s3: S3Server) -> None:
    """One file by its owner; everything of a person at once; nothing of anybody else."""
    person, other = stored.person(), stored.person()
    first, second = await uploaded(person, PNG), await uploaded(person, PNG + b"2")
    await uploaded(other, PNG + b"3")
    assert (await other.client.delete(f"/api/files/{first}")).status == 204
    assert len(s3.objects()) == 3
    deleted = await Kit(person.client).call("attachments.delete", attachment_id=first)
    assert deleted.json == {}
    assert s3.objects() == [PNG + b"2", PNG + b"3"]
    await Kit(person.client).create("Look", attachments=[second])
    erased = await person.client.delete("/api/account/data?confirm=erase")
    assert erased.status == 200, erased.text
    assert s3.objects() == [PNG + b"3"]


async def test_file_goes_with_the_item_that_had_it(stored: Node, s3: S3Server) -> None:
    """At once, where nothing else names it; not while another item or a copy of the chat has it."""
    person = stored.person()
    alone, twice, copied = [await uploaded(person, PNG + bytes([one])) for one in range(3)]
    made = (await person.client.post("/v1/conversations", {})).json["id"]
    path = f"/v1/conversations/{made}/items"

    async def sent(*file_ids: str) -> str:
        """Send files in an item; return where it is."""
        content = [{"type": "input_file", "file_id": one} for one in file_ids]
        added = await person.client.post(path, {"items": [{"role": "user", "content": content}]})
        return f"{path}/{added.json['data'][0]['id']}"

    async def left() -> list[str]:
        """Return which of the files can be read."""
        found = [await person.client.get(f"/api/files/{one}") for one in (alone, twice, copied)]
        names = zip(("alone", "twice", "copied"), found, strict=True)
        return [name for name, one in names if one.status == 200]

    keeps = await sent(copied)
    await person.client.post(f"/api/v1/chat/{made.removeprefix('conv_')}/fork", {})
    first, second = await sent(alone, twice), await sent(twice)
    for item, expected in (
        (keeps, ["alone", "twice", "copied"]),
        (first, ["twice", "copied"]),
        (second, ["copied"]),
    ):
        assert (await person.client.delete(item)).status == 200
        assert await left() == expected
    assert s3.objects() == [PNG + bytes([2])]


async def test_export_has_the_bytes(stored: Node) -> None:
    """In the messages that a file was sent with, and apart where it was sent with none."""
    person = stored.person()
    sent, unsent = await uploaded(person), await uploaded(person, PNG + b"2")
    thread, _ = await Kit(person.client).create("Look", attachments=[sent])
    data = (await person.client.get("/api/account/data")).json
    [question] = [one for one in data["conversations"][0]["messages"] if one["role"] == "user"]
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert question["parts"][-1]["url"] == url
    assert [(one["id"], one["filename"]) for one in data["files"]] == [(unsent, "a.png")]
    assert base64.b64decode(data["files"][0]["url"].partition(",")[2]) == PNG + b"2"
    one = (await person.client.get(f"/api/v1/chat/{thread}/export")).json
    assert one["messages"][0]["parts"][-1]["url"] == url


async def test_forgotten_files_and_orphans_are_swept(
    stored: Node, s3: S3Server, database: MigratedDatabase
) -> None:
    """A file in no conversation after a day, and an object that no row names; a used one stays."""
    person = stored.person()
    kit = Kit(person.client)
    used, forgotten = await uploaded(person, PNG), await uploaded(person, PNG + b"2")
    thread, _ = await kit.create("Look", attachments=[used])
    fork = (await person.client.post(f"/api/v1/chat/{thread}/fork", {})).json["id"]
    files = stored.services.files
    assert files.bucket is not None
    await files.bucket.put(files.bucket.new_key(), b"orphan")
    assert await files.sweep() == 0  # it is not a day old, and may be an upload under way
    assert await files.sweep(forgotten_after=timedelta(seconds=-5)) == 1
    assert s3.objects() == [PNG, PNG + b"2"]

    def a_day_passes() -> None:
        with psycopg.connect(database.admin_url) as admin:
            admin.execute(
                "update chat.chatkit_attachments set created_at = now() - interval '25 hours'"
            )
            admin.execute(
                "update chat.conversations set deleted_at = now() - interval '25 hours'"
                " where deleted_at is not null"
            )

    a_day_passes()
    await files.purge()
    assert s3.objects() == [PNG]
    assert (await person.client.get(f"/api/files/{forgotten}")).status == 404
    for conversation, left in ((thread, [PNG]), (fork, [])):
        assert (await person.client.delete(f"/api/v1/chat/{conversation}")).status == 204
        a_day_passes()
        await purge_deleted(stored.services.db)
        await files.purge()
        assert s3.objects() == left


# --- what is wrong with it ----------------------------------------------------------------------


async def test_storage_that_is_down_is_a_503_and_comes_back(
    tmp_path: Path, start: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    """The chat goes on; nothing is half kept; no key is in any answer or log."""
    port = free_port()
    with start_s3(tmp_path / "objects", port) as server:
        node = await start(**server.settings)
        person = node.person()
        kept = await uploaded(person)
        waiting = await announced(Kit(person.client), PNG)
    refused = [
        await put(person.client, waiting, PNG),
        await person.client.get(f"/api/files/{kept}"),
    ]
    for one in refused:
        assert (one.status, one.json["code"]) == (503, "file_storage_unavailable")
        assert int(one.headers["retry-after"]) > 0
        assert str(port) not in one.text
    node.stage.play(["Without."])
    thread, _ = await Kit(person.client).create("No file")
    assert thread
    with start_s3(tmp_path / "objects", port):
        assert (await put(person.client, waiting, PNG)).status == 204
        assert (await person.client.get(f"/api/files/{kept}")).body == PNG
    assert KEY not in caplog.text


async def test_slow_storage_is_given_up(node: Node) -> None:
    """One that takes the connection and never answers holds nobody longer than it may."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    address = BucketAddress(
        name=BUCKET,
        endpoint=url,
        region="us-east-1",
        access_key_id=KEY,
        secret_access_key=KEY,
        prefix="chatkeep/",
    )
    bucket = Bucket(address, within_s=0.3)
    stored = StoredFiles(node.services.db, FileLimits(size=1000, types=("image/*",)), bucket)
    person = node.person()
    with pytest.raises(FileStorageUnavailable):
        await stored.keep(person.id, "f", name="a", media_type="image/png", content=PNG)
    assert "in time" in str(await bucket.problem())
    server.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"FILES_S3_ACCESS_KEY_ID": "WRONG"}, "refuses the keys"),
        ({"FILES_S3_BUCKET": "nobodys-bucket"}, "no such bucket"),
    ],
)
async def test_wrong_key_or_bucket_is_a_503_and_named_by_the_doctor(
    s3: S3Server, start: StartNode, change: dict[str, str], said: str
) -> None:
    """Callers hear only that it is away; whoever runs the server hears what is wrong."""
    settings = {**s3.settings, **change}
    node = await start(**settings)
    person = node.person()
    file_id = await announced(Kit(person.client), PNG)
    refused = await put(person.client, file_id, PNG)
    assert (refused.status, refused.json["code"]) == (503, "file_storage_unavailable")
    bucket = bucket_of(Settings.from_env(settings))
    assert bucket is not None
    problem = await bucket.problem()
    assert problem is not None
    assert said in problem
    [told] = (await examine_files(Settings.from_env(settings))).problems
    assert problem in told
    assert "wrong" not in problem.lower()


async def test_wrong_secret_is_named() -> None:
    """s3rver looks at no signature, so the refusal is played as S3 words it."""

    async def refuse(_: web.Request) -> web.Response:
        code = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"
        return web.Response(status=403, text=code, content_type="application/xml")

    async with serving(web.route("*", "/{rest:.*}", refuse)) as address:
        settings = {
            "FILES_S3_BUCKET": BUCKET,
            "FILES_S3_ENDPOINT": address,
            "FILES_S3_ACCESS_KEY_ID": KEY,
            "FILES_S3_SECRET_ACCESS_KEY": "a-wrong-secret",
        }
        bucket = bucket_of(Settings.from_env(settings))
        assert bucket is not None
        problem = str(await bucket.problem())
    assert "refuses the keys" in problem
    assert "a-wrong-secret" not in problem


async def test_doctor_finds_a_sound_bucket_sound(s3: S3Server) -> None:
    """It writes, reads and erases an object, and leaves nothing behind."""
    finding = await examine_files(Settings.from_env(s3.settings))
    assert (finding.name, finding.problems) == ("Files", ())
    assert BUCKET in finding.note
    assert s3.objects() == []


async def test_changed_object_is_not_given_out(stored: Node, s3: S3Server) -> None:
    """What is not as it was written is nobody's file."""
    person = stored.person()
    file_id = await uploaded(person)
    s3.spoil()
    assert (await person.client.get(f"/api/files/{file_id}")).status == 503


async def test_storage_that_is_away_fails_an_answer_that_needs_a_file(
    tmp_path: Path, start: StartNode
) -> None:
    """The question is kept, the answer says why there is none, and trying again works."""
    port = free_port()
    with start_s3(tmp_path / "objects", port) as server:
        node = await start(**server.settings)
        person = node.person()
        file_id = await uploaded(person)
    node.stage.play(["Seen."])
    _, events = await Kit(person.client).create("Look", attachments=[file_id])
    failed = [one for one in events if one["type"] == "error"]
    assert failed[0]["message"] == FileStorageUnavailable.default_detail
    question = done_items(events)[0]
    with start_s3(tmp_path / "objects", port):
        again = await Kit(person.client).stream(
            "threads.retry_after_item",
            thread_id=question["thread_id"],
            item_id=question["id"],
        )
    assert not [one for one in again if one["type"] == "error"]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"FILES_S3_BUCKET": ""}, "FILES_S3_ENDPOINT needs FILES_S3_BUCKET."),
        ({"FILES_S3_BUCKET": "No Bucket"}, "FILES_S3_BUCKET must be the name of a bucket"),
        ({"FILES_S3_SECRET_ACCESS_KEY": ""}, "need each other"),
        ({"FILES_S3_ENDPOINT": "s3.example.com"}, "FILES_S3_ENDPOINT must be an address"),
        ({"FILES_S3_REGION": "Here!"}, "FILES_S3_REGION must be a region"),
        ({"FILES_S3_PREFIX": "../"}, "FILES_S3_PREFIX must be a path"),
        (
            {
                "ENVIRONMENT": "production",
                "PUBLIC_URL": "https://chat.example.com",
                "CHATKEEP_SECRET": "0123456789abcdef" * 4,
            },
            "FILES_S3_ENDPOINT must begin with https:// in production.",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(change: dict[str, str], said: str) -> None:
    """Each with a sentence that names it, and never with a secret."""
    sound = {
        "FILES_S3_BUCKET": "files",
        "FILES_S3_ENDPOINT": "http://127.0.0.1:9000",
        "FILES_S3_ACCESS_KEY_ID": "id",
        "FILES_S3_SECRET_ACCESS_KEY": "a-secret-of-the-bucket",
    }
    Settings.from_env(sound)
    with pytest.raises(SetupError) as refused:
        Settings.from_env({**sound, **change})
    assert any(said in one for one in refused.value.problems), refused.value.problems
    assert "a-secret" not in str(refused.value)


async def test_upload_is_cut_off_before_it_is_too_large(stored: Node, s3: S3Server) -> None:
    """Whoever says nothing of the length is counted while they send."""
    person = stored.person()
    headers = {"content-type": "image/png"}
    large = b"x" * ((5 << 20) + 1)
    refused = await person.client.call("POST", "/api/files", data=large, headers=headers)
    assert refused.status == 413
    await until(lambda: s3.objects() == [])
