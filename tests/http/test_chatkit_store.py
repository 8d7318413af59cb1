"""ChatKit's store and an application's own server on it: upstream's contract, and our traps.

The expectations are those of `TestStore` in openai/chatkit-python: what was written comes
back equal, pages have everything once, and nothing is anybody else's.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageItem,
    ClientToolCallItem,
    ClosedStatus,
    EndOfTurnItem,
    FileAttachment,
    HiddenContextItem,
    ImageAttachment,
    InferenceOptions,
    LockedStatus,
    ProgressUpdateEvent,
    StructuredInputFreeform,
    StructuredInputItem,
    ThoughtTask,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
    Workflow,
    WorkflowItem,
)
from chatkit.widgets import Card, Text
from pydantic import AnyUrl

from chatkeep import conversations, files
from chatkeep.chatkit.attachments import KeptAttachments
from chatkeep.chatkit.context import ChatKitContext
from chatkeep.chatkit.store import ConversationStore
from chatkeep.files import FileLimits
from chatkeep.files.stored import StoredFiles
from chatkeep.principal import Principal
from tests.chatkit_client import Kit, done_items, said_by_user, text_of
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.actions import Action
    from chatkit.types import ThreadItem, ThreadStreamEvent

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

NAIVE = datetime(2026, 1, 2, 3, 4, 5, 678901)  # noqa: DTZ001 -- the SDK writes times without a zone
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "use-chatkit.md"


def context() -> ChatKitContext:
    """Return the context of somebody new."""
    return ChatKitContext(who=Principal(user_id=str(uuid4()), issuer="test", subject="x"))


@pytest.fixture
def ana() -> ChatKitContext:
    """Ana calls."""
    return context()


@pytest.fixture
def store(node: Node) -> ConversationStore:
    """The store, on the node's database."""
    limits = FileLimits(size=10, types=("text/plain",))
    attachments = KeptAttachments(
        StoredFiles(node.services.db, limits), base_url="http://localhost"
    )
    return ConversationStore(node.services.db, attachments)


async def a_thread(store: ConversationStore, ana: ChatKitContext, **more: Any) -> ThreadMetadata:  # noqa: ANN401 -- any member
    """Keep a new thread."""
    known = {"id": store.generate_thread_id(ana), "created_at": NAIVE, **more}
    thread = ThreadMetadata(**known)
    await store.save_thread(thread, ana)
    return thread


def question(thread: ThreadMetadata, item_id: str, **more: Any) -> UserMessageItem:  # noqa: ANN401 -- any member
    """Return a user's message."""
    known = {
        "content": [UserMessageTextContent(text="Hi")],
        "inference_options": InferenceOptions(),
        **more,
    }
    return UserMessageItem(id=item_id, thread_id=thread.id, created_at=NAIVE, **known)


def items_of_every_kind(thread: ThreadMetadata) -> list[ThreadItem]:
    """Return one item of each kind, with everything it can have."""
    at: dict[str, Any] = {"thread_id": thread.id, "created_at": NAIVE}
    tag = UserMessageTagContent(id="t", text="@tag", data={"a": [1, None]}, interactive=True)
    task = ThoughtTask(content="Hm.")
    return [
        question(thread, "u", content=[tag], quoted_text="quoted\ntwice"),
        HiddenContextItem(id="h", content={"deep": ["ä", 1.5, None]}, **at),
        WidgetItem(id="w", widget=Card(children=[Text(id="x", value="Hello")]), **at),
        AssistantMessageItem(
            id="a",
            content=[AssistantMessageContent(text=one) for one in ("One ", "two")],
            **at,
        ),
        ClientToolCallItem(id="c", call_id="1", name="n", arguments={"x": [1]}, **at),
        StructuredInputItem(
            id="s", inputs=[StructuredInputFreeform(id="q", question="Why?")], **at
        ),
        WorkflowItem(id="f", workflow=Workflow(type="reasoning", tasks=[task]), **at),
        EndOfTurnItem(id="e", **at),
    ]


# --- upstream's contract ------------------------------------------------------------------------


@pytest.mark.parametrize("title", [None, "Title"])
@pytest.mark.parametrize("status", [None, LockedStatus(reason="why"), ClosedStatus()])
async def test_thread_comes_back_equal(
    store: ConversationStore,
    ana: ChatKitContext,
    title: str | None,
    status: LockedStatus | ClosedStatus | None,
) -> None:
    """Its times without a zone, its state and its metadata too; and after it was changed."""
    more = {} if status is None else {"status": status}
    thread = await a_thread(store, ana, title=title, metadata={"deep": {"x": [1]}}, **more)
    assert await store.load_thread(thread.id, ana) == thread
    thread.title, thread.metadata = "Another", {}
    await store.save_thread(thread, ana)
    thread.title = None
    await store.save_thread(thread, ana)
    assert await store.load_thread(thread.id, ana) == thread


async def test_items_of_every_kind_come_back_equal(
    store: ConversationStore, ana: ChatKitContext
) -> None:
    """In the order they were added, although all have the same time; and one by one."""
    thread = await a_thread(store, ana)
    written = items_of_every_kind(thread)
    for item in written:
        await store.add_thread_item(thread.id, item, ana)
    page = await store.load_thread_items(thread.id, None, 20, "asc", ana)
    assert page.data == written
    newest = await store.load_thread_items(thread.id, None, 20, "desc", ana)
    assert newest.data == written[::-1]
    for item in written:
        assert await store.load_item(thread.id, item.id, ana) == item


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_items_have_each_once(
    store: ConversationStore, ana: ChatKitContext, limit: int, order: str
) -> None:
    """The cursor is the last one's id, and None where nothing more comes."""
    thread = await a_thread(store, ana)
    for item in items_of_every_kind(thread):
        await store.add_thread_item(thread.id, item, ana)
    seen: list[str] = []
    after = None
    while True:
        page = await store.load_thread_items(thread.id, after, limit, order, ana)
        seen += [item.id for item in page.data]
        after = page.after
        if not page.has_more:
            break
        assert after == seen[-1]
    assert after is None
    assert "".join(seen) == ("uhwacsfe" if order == "asc" else "efscawhu")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_cursor_that_was_taken_out_loses_no_other_item(
    store: ConversationStore, ana: ChatKitContext, order: str
) -> None:
    """As when somebody erases the last item of a page, on another device, before the next page."""
    thread = await a_thread(store, ana)
    for item_id in "abcdefg":
        await store.add_thread_item(thread.id, question(thread, item_id), ana)
    first = await store.load_thread_items(thread.id, None, 3, order, ana)
    assert first.after is not None
    await store.delete_thread_item(thread.id, first.after, ana)
    rest = await store.load_thread_items(thread.id, first.after, 3, order, ana)
    assert "".join(item.id for item in rest.data) == ("def" if order == "asc" else "dcb")


async def test_threads_of_one_moment_are_paged_without_a_gap(
    store: ConversationStore, ana: ChatKitContext, database: MigratedDatabase
) -> None:
    """Ties in time lose nobody."""
    made = {(await a_thread(store, ana)).id for _ in range(5)}
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(
            "update chat.conversations set created_at = '2026-01-01' where user_id = %s",
            [ana.who.user_id],
        )
    for order in ("asc", "desc"):
        seen: list[str] = []
        after = None
        for _ in range(3):
            page = await store.load_threads(2, after, order, ana)
            seen += [thread.id for thread in page.data]
            after = page.after
        assert (len(seen), set(seen), after) == (5, made, None)


async def test_item_can_be_changed_and_taken_out(
    store: ConversationStore, ana: ChatKitContext
) -> None:
    """`save_item` makes what is not there; what was taken out is gone, words and all."""
    thread = await a_thread(store, ana)
    for item in items_of_every_kind(thread):
        await store.save_item(thread.id, item, ana)
    answer = await store.load_item(thread.id, "a", ana)
    assert isinstance(answer, AssistantMessageItem)
    answer.content = [AssistantMessageContent(text="Changed")]
    await store.save_item(thread.id, answer, ana)
    assert await store.load_item(thread.id, "a", ana) == answer
    for item_id in ("a", "w"):
        await store.delete_thread_item(thread.id, item_id, ana)
        with pytest.raises(NotFoundError):
            await store.load_item(thread.id, item_id, ana)
    page = await store.load_thread_items(thread.id, None, 20, "asc", ana)
    assert "".join(item.id for item in page.data) == "uhcsfe"


async def test_words_of_an_item_are_those_that_it_has_now(
    store: ConversationStore, ana: ChatKitContext, database: MigratedDatabase
) -> None:
    """Where the search looks: of what was changed the new ones, of what was taken out none."""
    thread = await a_thread(store, ana)
    asked = question(thread, "u")
    await store.add_thread_item(thread.id, asked, ana)

    def words() -> set[str]:
        kept = database.operate(
            "select unnest(tsvector_to_array(words)) from chat.message_words where user_id = %s",
            ana.who.user_id,
        )
        return {str(word) for (word,) in kept if len(word) < 64}

    before = words()
    assert before
    asked.content = [UserMessageTextContent(text="Zebras")]
    await store.save_item(thread.id, asked, ana)
    assert words() == {"zebras", "zebra"}
    await store.delete_thread_item(thread.id, "u", ana)
    assert words() == set()


@pytest.mark.parametrize(("typed", "left"), [(False, None), (True, "Zebras")])
async def test_title_goes_with_the_question_that_it_was_made_of(
    store: ConversationStore,
    ana: ChatKitContext,
    node: Node,
    typed: bool,
    left: str | None,
) -> None:
    """It would say its words on; one that somebody typed says what they wanted."""
    thread = await a_thread(store, ana, title="Quixotic zebras danced")
    if typed:
        await conversations.rename(node.services.db, ana.who.user_id, thread.id, "Zebras")
    said = [UserMessageTextContent(text="Quixotic zebras danced.")]
    await store.add_thread_item(thread.id, question(thread, "u", content=said), ana)
    await store.add_thread_item(thread.id, question(thread, "v"), ana)
    await store.delete_thread_item(thread.id, "v", ana)
    assert (await store.load_thread(thread.id, ana)).title == (left or "Quixotic zebras danced")
    await store.delete_thread_item(thread.id, "u", ana)
    assert (await store.load_thread(thread.id, ana)).title == left


async def test_file_goes_with_the_message_that_had_it(
    store: ConversationStore, ana: ChatKitContext, node: Node
) -> None:
    """Unless another message has it too, here or in another thread, or it is only out of sight."""
    known: dict[str, Any] = {"mime_type": "text/plain"}
    sent = [FileAttachment(id=f"{one}-{uuid4().hex}", name=one, **known) for one in "abc"]
    stored = StoredFiles(node.services.db, FileLimits(size=10, types=("text/plain",)))
    for one in sent:
        await stored.keep(
            ana.who.user_id, one.id, name="n", media_type="text/plain", content=b"quixotic"
        )
    first, second = await a_thread(store, ana), await a_thread(store, ana)
    for thread, item_id, had in (
        (first, "u", sent),
        (first, "v", sent[1:2]),
        (second, "w", sent[2:]),
    ):
        for one in had:
            await store.save_attachment(one.model_copy(update={"thread_id": thread.id}), ana)
        await store.add_thread_item(thread.id, question(thread, item_id, attachments=had), ana)

    async def there() -> str:
        rows = await files.list_files(node.services.db, ana.who.user_id, limit=9)
        return "".join(sorted(one.id[0] for one in rows))

    ana.progress.retrying = True
    await store.delete_thread_item(first.id, "u", ana)
    assert await there() == "abc"
    ana.progress.retrying = False
    await store.delete_thread_item(first.id, "u", ana)
    assert await there() == "bc"
    await store.delete_thread_item(first.id, "v", ana)
    assert await there() == "c"
    await store.delete_thread_item(second.id, "w", ana)
    assert await there() == ""


async def test_files_and_images_come_back_equal(
    store: ConversationStore, ana: ChatKitContext
) -> None:
    """With their metadata, and are gone when they were deleted."""
    known: dict[str, Any] = {"name": "n", "mime_type": "text/plain", "metadata": {"x": 1}}
    url = AnyUrl("https://example.com/p")
    for one in (FileAttachment(id="f", **known), ImageAttachment(id="i", preview_url=url, **known)):
        await store.save_attachment(one, ana)
        assert await store.load_attachment(one.id, ana) == one
        await store.delete_attachment(one.id, ana)
        with pytest.raises(NotFoundError):
            await store.load_attachment(one.id, ana)


async def test_nothing_is_anybody_elses(store: ConversationStore, ana: ChatKitContext) -> None:
    """Not found, never refused otherwise; and nobody takes over a thread's id."""
    bo = context()
    thread = await a_thread(store, ana, title="Mine")
    await store.add_thread_item(thread.id, question(thread, "u"), ana)
    await store.save_attachment(FileAttachment(id="f", name="n", mime_type="text/plain"), ana)
    for attempt in (
        store.load_thread(thread.id, bo),
        store.save_thread(thread, bo),
        store.delete_thread(thread.id, bo),
        store.load_item(thread.id, "u", bo),
        store.add_thread_item(thread.id, question(thread, "x"), bo),
        store.save_item(thread.id, question(thread, "u"), bo),
        store.load_attachment("f", bo),
    ):
        with pytest.raises(NotFoundError):
            await attempt
    await store.delete_thread_item(thread.id, "u", bo)
    await store.delete_attachment("f", bo)
    assert (await store.load_thread_items(thread.id, None, 20, "asc", bo)).data == []
    assert (await store.load_threads(20, None, "desc", bo)).data == []
    assert (await store.load_thread(thread.id, ana)).title == "Mine"
    assert len((await store.load_thread_items(thread.id, None, 20, "asc", ana)).data) == 1
    assert (await store.load_attachment("f", ana)).name == "n"


async def test_ids_have_their_prefixes(store: ConversationStore, ana: ChatKitContext) -> None:
    """Those that ChatKit gives them, with 128 bits behind."""
    thread = await a_thread(store, ana)
    prefixes = {
        "message": "msg",
        "tool_call": "tc",
        "task": "tsk",
        "workflow": "wf",
        "attachment": "atc",
        "sdk_hidden_context": "shcx",
    }
    for kind, prefix in prefixes.items():
        made = {store.generate_item_id(kind, thread, ana) for _ in range(100)}  # type: ignore[arg-type]  # each is one of its words
        assert len(made) == 100
        assert all(one.startswith(f"{prefix}_") and len(one) == len(prefix) + 33 for one in made)


# --- an application's own server ----------------------------------------------------------------


class Shop(ChatKitServer[ChatKitContext]):
    """What an application has written for ChatKit, unaware of us."""

    said: str = ""
    contexts: list[ChatKitContext]

    def __init__(self, store: Any) -> None:  # noqa: ANN401 -- as applications write it
        super().__init__(store)
        self.contexts = []

    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,
        context: ChatKitContext,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Do what the question says."""
        self.contexts.append(context)
        at: dict[str, Any] = {"thread_id": thread.id, "created_at": datetime.now()}  # noqa: DTZ005 -- as applications do
        wish = "" if input_user_message is None else input_user_message.content[0].text
        if wish == "fail":
            raise RuntimeError("a secret of the application")
        if wish == "lock":
            thread.status = LockedStatus(reason="Enough.")
        if wish == "hang":
            item = AssistantMessageItem(id="hanging", content=[], **at)
            yield ThreadItemAddedEvent(item=item)
            part = AssistantMessageContentPartAdded(
                content_index=0, content=AssistantMessageContent(text="Half")
            )
            yield ThreadItemUpdatedEvent(item_id="hanging", update=part)
            await asyncio.Event().wait()
        hidden_id = self.store.generate_item_id("message", thread, context)
        yield ThreadItemDoneEvent(item=HiddenContextItem(id=hidden_id, content="hidden", **at))
        widget = Card(children=[Text(id="x", value="Pick")])
        widget_id = self.store.generate_item_id("message", thread, context)
        yield ThreadItemDoneEvent(item=WidgetItem(id=widget_id, widget=widget, **at))
        said = [AssistantMessageContent(text=f"You said {wish}.")]
        answer_id = self.store.generate_item_id("message", thread, context)
        yield ThreadItemDoneEvent(item=AssistantMessageItem(id=answer_id, content=said, **at))

    async def action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: ChatKitContext,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Say what was pressed."""
        said = [AssistantMessageContent(text=f"Pressed {action.type}.")]
        item_id = self.store.generate_item_id("message", thread, context)
        at = datetime.now()  # noqa: DTZ005 -- as applications do
        item = AssistantMessageItem(id=item_id, thread_id=thread.id, created_at=at, content=said)
        yield ThreadItemDoneEvent(item=item)


@pytest.fixture
async def shop(start: StartNode) -> Node:
    """A node whose support chat is the application's."""
    return await start(CHATKIT_SERVER="tests.http.test_chatkit_store:Shop")


@pytest.fixture
def kit(shop: Node) -> Kit:
    """Somebody new in it."""
    return Kit(shop.person().client)


async def test_server_of_an_application_moves_over_unchanged(shop: Node, kit: Kit) -> None:
    """Its widgets and hidden context are kept, its words are messages on every surface."""
    thread, events = await kit.create("a shirt")
    shown = [item["type"] for item in done_items(events)]
    assert shown == ["user_message", "widget", "assistant_message"]
    listed = await kit.items(thread)
    assert [item["id"] for item in listed] == [item["id"] for item in done_items(events)]
    assert "hidden" not in str(events)
    assert all("+" in item["created_at"] or "Z" in item["created_at"] for item in listed)
    page = (await kit.client.get(f"/api/v1/chat/{thread}")).json["messages"]
    assert [one["content"] for one in page] == ["a shirt", "You said a shirt."]
    pressed = await kit.stream(
        "threads.custom_action",
        thread_id=thread,
        item_id=listed[1]["id"],
        action={"type": "buy", "payload": {}},
    )
    assert text_of(done_items(pressed)[-1]) == "Pressed buy."
    wrong = await kit.call(
        "threads.custom_action",
        thread_id=thread,
        item_id=listed[2]["id"],
        action={"type": "buy", "payload": {}},
    )
    assert wrong.status == 400


async def test_failing_server_ends_its_stream_and_tells_nothing(kit: Kit) -> None:
    """The client may try again; the error's text stays here."""
    thread, events = await kit.create("fail")
    assert events[-1] == {"type": "error", "code": "stream.error", "allow_retry": True}
    assert "secret" not in str(events)
    assert [item["type"] for item in await kit.items(thread)] == ["user_message"]


async def test_failed_retry_of_an_application_leaves_its_answer(kit: Kit, shop: Node) -> None:
    """Its widgets too: nothing was taken out for good before there was something new."""
    thread, events = await kit.create("a shirt")
    before = await kit.items(thread)
    server = shop.services.chatkit._surface._server  # type: ignore[union-attr]  # it was just asked

    async def broken(*_: object) -> AsyncIterator[ThreadStreamEvent]:
        yield ProgressUpdateEvent(text="Looking")
        raise RuntimeError

    server.respond = broken  # type: ignore[method-assign]
    item_id = done_items(events)[0]["id"]
    failed = await kit.stream("threads.retry_after_item", thread_id=thread, item_id=item_id)
    assert failed[-1]["type"] == "error"
    assert await kit.items(thread) == before
    del server.respond
    again = await kit.stream("threads.retry_after_item", thread_id=thread, item_id=item_id)
    assert [item["type"] for item in done_items(again)] == ["widget", "assistant_message"]
    after = await kit.items(thread)
    assert [item["type"] for item in after] == ["user_message", "widget", "assistant_message"]
    assert {item["id"] for item in after} & {item["id"] for item in before} == {item_id}


async def test_hanging_up_keeps_what_an_application_said(kit: Kit) -> None:
    """The SDK's own clean-up awaits the database, and is let."""
    async with kit.open("threads.create", input=said_by_user("hang")) as stream:
        events = await stream.until(lambda event: event.data["type"] == "thread.item.updated")
        thread = events[0].data["thread"]["id"]

    async def is_kept() -> bool:
        return [text_of(item) for item in await kit.items(thread)] == ["hang", "Half"]

    await until(is_kept)
    more = await kit.stream("threads.add_user_message", thread_id=thread, input=said_by_user("on"))
    assert text_of(done_items(more)[-1]) == "You said on."


async def test_thread_that_is_locked_takes_no_more(kit: Kit) -> None:
    """Every change is refused with its reason; it is read, renamed and deleted as ever."""
    thread, events = await kit.create("lock")
    (updated,) = [event for event in events if event["type"] == "thread.updated"]
    assert updated["thread"]["status"] == {"type": "locked", "reason": "Enough."}
    item_id = done_items(events)[0]["id"]
    for kind, more in (
        ("threads.add_user_message", {"input": said_by_user("More")}),
        ("threads.retry_after_item", {"item_id": item_id}),
        ("threads.custom_action", {"action": {"type": "x", "payload": {}}}),
    ):
        refused = await kit.call(kind, thread_id=thread, **more)
        assert (refused.status, refused.json["detail"]) == (409, "This thread is locked: Enough.")
    assert (await kit.call("threads.update", thread_id=thread, title="T")).status == 200
    assert (await kit.call("threads.delete", thread_id=thread)).status == 200


async def test_thread_is_changed_once_at_a_time_on_any_node(
    kit: Kit, start: StartNode, database: MigratedDatabase
) -> None:
    """A server that has no runs is held to it all the same; who has died is waited for."""
    other = await start(CHATKIT_SERVER="tests.http.test_chatkit_store:Shop")
    thread, _ = await kit.create("first")
    more: dict[str, Any] = {"thread_id": thread, "input": said_by_user("hang")}
    async with kit.open("threads.add_user_message", **more) as stream:
        await stream.until(lambda event: event.data["type"] == "thread.item.updated")
        for client in (kit.client, kit.client.but(url=other.url)):
            refused = await Kit(client).call("threads.add_user_message", **more)
            assert (refused.status, refused.json["code"]) == (409, "run_in_progress")
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(
            "update chat.chatkit_threads set busy_with = 'dead', busy_until = %s",
            [datetime.now().astimezone() - timedelta(seconds=1)],
        )
    more["input"] = said_by_user("after")
    events = await Kit(kit.client.but(url=other.url)).stream("threads.add_user_message", **more)
    assert text_of(done_items(events)[-1]) == "You said after."


async def test_application_is_told_who_calls(shop: Node) -> None:
    """What the client says of itself is metadata, and nobody's identity."""
    person = shop.person()
    client = person.client.but(accept_language="de-AT, en;q=0.5")
    body = {
        "type": "threads.create",
        "params": {"input": said_by_user("Hi")},
        "metadata": {"user_id": "somebody else"},
    }
    async with client.stream("/support/chatkit", body) as stream:
        await stream.rest()
    (context,) = shop.services.chatkit._surface._server.contexts  # type: ignore[union-attr]  # it is the Shop
    assert (context["user_id"], context["locale"]) == (person.id, "de-AT")
    assert context["metadata"] == {"user_id": "somebody else"}
    assert context["principal"].user_id == person.id
    assert context["request"].headers["accept-language"].startswith("de-AT")


async def test_code_of_the_how_to_runs(
    start: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's own server answers."""
    code = HOW_TO.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "support_of_the_page.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    node = await start(CHATKIT_SERVER="support_of_the_page:Support")
    person = node.person()
    _, events = await Kit(person.client).create("Hi")
    assert text_of(done_items(events)[-1]) == f"{person.id} said: Hi"
