"""What a thread is called when ChatKit's SDK writes back what it has held in memory."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadMetadata,
    UserMessageItem,
)

from chatkeep import conversations
from chatkeep.chatkit.attachments import KeptAttachments
from chatkeep.chatkit.context import ChatKitContext
from chatkeep.chatkit.store import ConversationStore
from chatkeep.files import FileLimits
from chatkeep.files.stored import StoredFiles
from chatkeep.principal import Principal
from tests.chatkit_client import Kit, said_by_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.types import ThreadStreamEvent

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

SECRET = "Quixotic zebras danced"


class Forgetful(ChatKitServer[ChatKitContext]):
    """An application's server, which calls a thread by its question and can forget that."""

    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,
        context: ChatKitContext,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Do what the question says."""
        assert input_user_message is not None
        wish = input_user_message.content[0].text
        if wish == "forget":
            first = await self.store.load_thread_items(thread.id, None, 1, "asc", context)
            yield ThreadItemRemovedEvent(item_id=first.data[0].id)
            thread.metadata = {"forgot": 1}
        elif wish == "call it so again":
            thread.title = "Another"
            yield ThreadItemDoneEvent(item=self._said(thread, context))
            thread.title = SECRET
        elif thread.title is None:
            thread.title = wish
        yield ThreadItemDoneEvent(item=self._said(thread, context))

    def _said(self, thread: ThreadMetadata, context: ChatKitContext) -> AssistantMessageItem:
        return AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now().astimezone(),
            content=[AssistantMessageContent(text="Done.")],
        )


async def title_of(kit: Kit, thread: str) -> str | None:
    """Return what a thread is called."""
    found: str | None = (await kit.call("threads.get_by_id", thread_id=thread)).json.get("title")
    return found


async def asked(kit: Kit, thread: str, text: str) -> list[dict[str, Any]]:
    """Ask on in a thread."""
    told = said_by_user(text)
    return await kit.stream("threads.add_user_message", thread_id=thread, input=told)


async def test_title_that_went_with_its_message_is_not_written_back(start: StartNode) -> None:
    """The request that has erased the message still holds the thread with the title it had."""
    node = await start(CHATKIT_SERVER="tests.http.test_chatkit_titles:Forgetful")
    kit = Kit(node.person().client)
    thread, _ = await kit.create(SECRET)
    assert await title_of(kit, thread) == SECRET
    events = await asked(kit, thread, "forget")
    assert "thread.updated" in [event["type"] for event in events]
    assert await title_of(kit, thread) is None
    assert SECRET not in str(await kit.items(thread))


async def test_application_may_call_a_thread_what_it_was_called(start: StartNode) -> None:
    """What it says last holds, also where that is what the thread was called at first."""
    node = await start(CHATKIT_SERVER="tests.http.test_chatkit_titles:Forgetful")
    kit = Kit(node.person().client)
    thread, _ = await kit.create(SECRET)
    await asked(kit, thread, "call it so again")
    assert await title_of(kit, thread) == SECRET


# --- the store ----------------------------------------------------------------------------------


@pytest.fixture
def store(node: Node) -> ConversationStore:
    """The store, on the node's database."""
    stored = StoredFiles(node.services.db, FileLimits(size=10, types=("text/plain",)))
    attachments = KeptAttachments(stored, base_url="http://localhost")
    return ConversationStore(node.services.db, attachments)


@pytest.fixture
def who() -> Principal:
    """Somebody new."""
    return Principal(user_id=str(uuid4()), issuer="test", subject="x")


async def held(store: ConversationStore, context: ChatKitContext) -> ThreadMetadata:
    """Return a new thread as a request of its own holds it, with another note."""
    earlier = ChatKitContext(who=context.who)
    made = ThreadMetadata(
        id=store.generate_thread_id(earlier), created_at=datetime.now().astimezone(), title=SECRET
    )
    await store.save_thread(made, earlier)
    thread = await store.load_thread(made.id, context)
    thread.metadata = {"note": 1}
    return thread


async def test_title_that_somebody_gave_meanwhile_stays(
    store: ConversationStore, who: Principal, node: Node
) -> None:
    """On another device, say: what the request has not changed it does not write."""
    context = ChatKitContext(who=who)
    thread = await held(store, context)
    await conversations.rename(node.services.db, who.user_id, thread.id, "Zebras")
    await store.save_thread(thread, context)
    found = await store.load_thread(thread.id, ChatKitContext(who=who))
    assert (found.title, found.metadata) == ("Zebras", {"note": 1})


async def test_thread_that_was_erased_meanwhile_does_not_come_back(
    store: ConversationStore, who: Principal, database: MigratedDatabase
) -> None:
    """As when everything of its person was, while a request held it."""
    context = ChatKitContext(who=who)
    thread = await held(store, context)
    database.operate("delete from chat.conversations where user_id = %s returning id", who.user_id)
    with pytest.raises(NotFoundError):
        await store.save_thread(thread, context)
    with pytest.raises(NotFoundError):
        await store.load_thread(thread.id, context)
