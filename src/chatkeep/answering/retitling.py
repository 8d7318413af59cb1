"""What goes with a message that is erased: its files, and a title that says its words on.

A title that nobody typed is made from the exchange that a conversation begins with, or from the
first message that names a subject; a model may have worded it. The next question gives another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep import conversations, files
from chatkeep.answering.titles import title_from
from chatkeep.conversations.attached import Attached

if TYPE_CHECKING:
    from chatkeep.conversations import Message
    from chatkeep.db import Database

#: What stands above a first question: a greeting, instructions. Of more nobody can tell.
_LOOKED_AT: Final = 10


async def attached_to(
    db: Database, user_id: str, conversation_id: str, message: Message
) -> Attached:
    """Return what goes with *message*, with whatever title it may have given."""
    titles = await _titles(db, user_id, conversation_id, message)
    return Attached(file_ids=files.in_parts(message.parts), titles=titles)


async def _titles(
    db: Database, user_id: str, conversation_id: str, message: Message
) -> list[str] | None:
    if message.role == "system":
        return []
    ids = await conversations.branch_ids(
        db, user_id, conversation_id, from_id=message.id, limit=_LOOKED_AT
    )
    above = await conversations.list_messages(db, user_id, conversation_id, ids)
    if sum(one.role == "user" for one in above) <= 1:
        return None
    names = [part.get("filename") for part in message.parts or () if part.get("type") == "file"]
    said = [message.content, *(name for name in names if isinstance(name, str))]
    found = [title for text in said for title in (title_from(text), title_from("", text))]
    return [title for title in found if title is not None]
