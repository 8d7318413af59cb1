"""Items of ChatKit's that are taken out of their thread for good, with what they said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep import files
from chatkeep.conversations import holding, search
from chatkeep.conversations.attached import Attached
from chatkeep.conversations.erasing import erasing
from chatkeep.db import Query, as_user

if TYPE_CHECKING:
    from chatkeep.db import Database

_NOTHING: Final = Attached()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


async def erase_item(
    db: Database,
    user_id: str,
    thread_id: str,
    item_id: str,
    *,
    message_id: str | None,
    attached: Attached = _NOTHING,
) -> list[str]:
    """Take an item out of the thread, and erase what it said; a message stays as a joint.

    What was *attached* goes with it; return where the bytes of its files were, if elsewhere.
    """
    scope = {"user": user_id, "thread": thread_id, "id": item_id, "message": message_id}
    _, _, _, _, *left = await db.fetch_all(
        as_user(user_id),
        holding(user_id, thread_id),
        erasing(user_id, thread_id, item_id, attached),
        Query(
            """
            insert into chat.chatkit_items
              (user_id, conversation_id, id, message_id, item, hidden)
            values (%(user)s, %(thread)s, %(id)s, %(message)s, '{}', true)
            on conflict (user_id, conversation_id, id) do update set item = '{}', hidden = true
            returning id
            """,
            scope,
            _Id,
        ),
        search.reading_again(thread_id, item_id),
        *files.leaving(user_id, thread_id, attached.file_ids),
    )
    return files.objects_left(left)
