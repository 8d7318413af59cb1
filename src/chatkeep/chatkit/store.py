"""ChatKit's `Store` on our conversations: threads, items and attachments of one caller.

Ownership is the database's: every statement runs as the caller, so what belongs to
somebody else is not found. Ids have 128 bits. Items come back exactly as they were written,
in the order they were written, however equal their times are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from chatkit.store import NotFoundError, Store
from chatkit.types import (
    AssistantMessageItem,
    Page,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
)

from chatkeep import conversations
from chatkeep.answering.retitling import attached_to
from chatkeep.chatkit import erasing, items, records
from chatkeep.chatkit.context import ChatKitContext
from chatkeep.chatkit.records import NewItem
from chatkeep.conversations.attached import Attached
from chatkeep.errors import NotFound
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit.store import StoreItemType
    from chatkit.types import Attachment

    from chatkeep.chatkit.attachments import KeptAttachments
    from chatkeep.chatkit.records import ThreadRow
    from chatkeep.db import Database

PAGE_AT_MOST: Final = 100
_PREFIXES: Final[dict[str, str]] = {
    "thread": "thr",
    "message": "msg",
    "tool_call": "tc",
    "workflow": "wf",
    "task": "tsk",
    "attachment": "atc",
    "sdk_hidden_context": "shcx",
}


def generated_id(kind: str) -> str:
    """Return a new id with ChatKit's prefix for *kind* and 128 bits behind it."""
    return f"{_PREFIXES[kind]}_{UUID(new_id()).hex}"


class ConversationStore(Store[ChatKitContext]):
    """Threads and items, kept as conversations and messages."""

    def __init__(
        self,
        db: Database,
        attachments: KeptAttachments,
        *,
        runs_in_client: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        """Keep everything in *db*; *runs_in_client* tells tools that the client runs."""
        self._db = db
        self._attachments = attachments
        self._runs_in_client = runs_in_client

    def generate_thread_id(self, context: ChatKitContext) -> str:
        """Return an id that no two threads share."""
        wanted, context.progress.thread_id = context.progress.thread_id, None
        return wanted or generated_id("thread")

    def generate_item_id(
        self, item_type: StoreItemType, thread: ThreadMetadata, context: ChatKitContext
    ) -> str:
        """Return an id that no two items share."""
        del thread, context
        return generated_id(item_type)

    async def load_thread(self, thread_id: str, context: ChatKitContext) -> ThreadMetadata:
        """Return a thread of the caller. Raises `NotFoundError`."""
        row = await records.find_thread(self._db, context.who.user_id, thread_id)
        if row is None:
            raise NotFoundError(thread_id)
        return _thread(row, context)

    async def save_thread(self, thread: ThreadMetadata, context: ChatKitContext) -> None:
        """Make or change a thread. Raises `NotFoundError` where the id is somebody else's.

        A title that the request has only read is not written: it may be older than what the
        thread is called now, or have gone with the message that it was made of.
        """
        kept = ThreadMetadata.model_dump(thread, mode="json", exclude={"id", "title", "items"})
        title, read = thread.title, context.progress.titles.get(thread.id)
        retitled = read is None or title not in read
        try:
            await records.save_thread(
                self._db,
                context.who.user_id,
                thread.id,
                title=title,
                thread=kept,
                known=read is not None,
                retitled=retitled,
            )
        except NotFound as error:
            raise NotFoundError(thread.id) from error
        if retitled:
            context.progress.titles[thread.id] = {title}

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: ChatKitContext
    ) -> Page[ThreadMetadata]:
        """List the caller's threads by when they were made."""
        limit = _clamped(limit)
        rows = await records.list_threads(
            self._db,
            context.who.user_id,
            limit=limit + 1,
            after=after,
            newest_first=order == "desc",
        )
        return _page([_thread(row, context) for row in rows], limit)

    async def delete_thread(self, thread_id: str, context: ChatKitContext) -> None:
        """Delete the thread; like every conversation it can be restored for a day."""
        try:
            await conversations.delete(self._db, context.who.user_id, thread_id)
        except NotFound as error:
            raise NotFoundError(thread_id) from error

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: ChatKitContext
    ) -> Page[ThreadItem]:
        """List items of the branch that is shown. Only messages near the page are read.

        A page ends early with the message that fills it: it is held in memory whole.
        """
        limit = _clamped(limit)
        user_id = context.who.user_id
        ids = await conversations.branch_ids(
            self._db, user_id, thread_id, from_id=None, limit=conversations.BRANCH_AT_MOST
        )
        branch = [*ids, ""]
        if order != "desc":
            branch.reverse()
        start = 0
        if after is not None:
            message_id = await self._message_of(thread_id, after, context)
            if message_id is None or message_id not in branch:
                return Page()
            start = branch.index(message_id)
        found: list[ThreadItem] = []
        for index in range(start, len(branch), limit + 1):
            left = branch[index : index + limit + 1]
            while left:
                here, taken = await self._items(thread_id, left, context, reverse=order == "desc")
                found, left = found + here, left[taken:]
                if after is not None:
                    found, after = _behind(found, after), None
                if len(found) > limit or (left and found):
                    return _page(found, limit, more=bool(left))
        return _page(found, limit)

    async def load_item(self, thread_id: str, item_id: str, context: ChatKitContext) -> ThreadItem:
        """Return an item of a thread of the caller. Raises `NotFoundError`."""
        message_id = await self._message_of(thread_id, item_id, context)
        if message_id is not None:
            here, _ = await self._items(thread_id, [message_id], context)
            for item in here:
                if item.id == item_id:
                    return item
        raise NotFoundError(item_id)

    async def add_thread_item(
        self, thread_id: str, item: ThreadItem, context: ChatKitContext
    ) -> None:
        """Keep a new item; our engine's own answers are kept already."""
        if items.message_of(item.id) in context.progress.kept:
            return
        try:
            await records.add_item(self._db, context.who.user_id, thread_id, self._new(item))
        except NotFound as error:
            raise NotFoundError(thread_id) from error
        context.progress.added = True

    async def save_item(self, thread_id: str, item: ThreadItem, context: ChatKitContext) -> None:
        """Write an item, new or not."""
        message_id = await self._message_of(thread_id, item.id, context)
        if message_id is None:
            await self.add_thread_item(thread_id, item, context)
            return
        await records.save_item(
            self._db,
            context.who.user_id,
            thread_id,
            self._new(item),
            message_id=message_id or None,
        )

    async def delete_thread_item(
        self, thread_id: str, item_id: str, context: ChatKitContext
    ) -> None:
        """Take an item out: for good, or only out of sight while another answer is tried."""
        message_id = await self._message_of(thread_id, item_id, context)
        if message_id is None:
            return
        user_id = context.who.user_id
        if context.progress.retrying:
            await records.hide_item(
                self._db, user_id, thread_id, item_id, message_id=message_id or None
            )
            context.progress.hidden.append(item_id)
        else:
            await self._erase(user_id, thread_id, item_id, message_id or None)

    async def _erase(
        self, user_id: str, thread_id: str, item_id: str, message_id: str | None
    ) -> None:
        """Erase an item, and with a message its files and a title that says its words on."""
        found = await conversations.list_messages(self._db, user_id, thread_id, [item_id])
        attached = Attached()
        if found:
            attached = await attached_to(self._db, user_id, thread_id, found[0])
        scope = (self._db, user_id, thread_id, item_id)
        objects = await erasing.erase_item(*scope, message_id=message_id, attached=attached)
        await self._attachments.forget(objects)

    async def save_attachment(self, attachment: Attachment, context: ChatKitContext) -> None:
        """Write what is known of a file."""
        await self._attachments.save(attachment, context)

    async def load_attachment(self, attachment_id: str, context: ChatKitContext) -> Attachment:
        """Return what is known of a file of the caller. Raises `NotFoundError`."""
        return await self._attachments.load(attachment_id, context)

    async def delete_attachment(self, attachment_id: str, context: ChatKitContext) -> None:
        """Erase a file of the caller."""
        await self._attachments.delete_attachment(attachment_id, context)

    async def _message_of(
        self, thread_id: str, item_id: str, context: ChatKitContext
    ) -> str | None:
        """The message that an item belongs to, '' before all of them; None: no such item."""
        user_id = context.who.user_id
        row = await records.find_item(self._db, user_id, thread_id, item_id)
        if row is not None:
            return row.message_id or ""
        names = [item_id, items.message_of(item_id)]
        found = await conversations.list_messages(self._db, user_id, thread_id, names)
        return found[0].id if found else None

    async def _items(
        self,
        thread_id: str,
        message_ids: list[str],
        context: ChatKitContext,
        *,
        reverse: bool = False,
    ) -> tuple[list[ThreadItem], int]:
        """Return the items of the first messages, and of how many of them there was room for."""
        user_id = context.who.user_id
        listed, taken = await conversations.list_fitting(self._db, user_id, thread_id, message_ids)
        message_ids = message_ids[:taken]
        rows = await records.list_items(self._db, user_id, thread_id, message_ids)
        messages = {one.id: one for one in listed}
        found: list[ThreadItem] = []
        for message_id in message_ids:
            own = [row for row in rows if (row.message_id or "") == message_id]
            message = messages.get(message_id)
            here = (
                items.items_from(own)
                if message is None
                else items.items_of(message, own, thread_id, runs_in_client=self._runs_in_client)
            )
            found += reversed(here) if reverse else here
        return found, taken

    def _new(self, item: ThreadItem) -> NewItem:
        kept = items.kept_form(item)
        match item:
            case UserMessageItem():
                text = "".join(one.text for one in item.content)
                if item.quoted_text:
                    quoted = "\n".join(f"> {line}" for line in item.quoted_text.splitlines())
                    text = f"{quoted}\n\n{text}"
                sent = [self._attachments.part(one) for one in item.attachments]
                parts: list[dict[str, Any]] | None = None
                if sent:
                    parts = [{"type": "text", "text": text}, *sent]
                return NewItem(id=item.id, item=kept, role="user", content=text, parts=parts)
            case AssistantMessageItem():
                text = "".join(one.text for one in item.content)
                return NewItem(id=item.id, item=kept, role="assistant", content=text)
            case _:
                return NewItem(id=item.id, item=kept)


def _thread(row: ThreadRow, context: ChatKitContext) -> ThreadMetadata:
    context.progress.titles.setdefault(row.id, set()).add(row.title)
    known = {"created_at": row.created_at, **(row.thread or {})}
    return ThreadMetadata(id=row.id, title=row.title, **known)


def _clamped(limit: int) -> int:
    return max(1, min(limit, PAGE_AT_MOST))


def _behind(found: list[ThreadItem], after: str) -> list[ThreadItem]:
    """What comes behind the item *after*; all of it where that was taken out meanwhile."""
    ids = [item.id for item in found]
    return found[ids.index(after) + 1 :] if after in ids else found


def _page(found: list[Any], limit: int, *, more: bool = False) -> Page[Any]:
    data = found[:limit]
    has_more = more or len(found) > limit
    return Page(data=data, has_more=has_more, after=data[-1].id if has_more else None)
