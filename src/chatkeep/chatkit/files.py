"""Files that were sent with messages: rows of PostgreSQL, each its owner's alone.

A file is announced first and uploaded afterwards, in one piece and once. What was never
sent with a message is erased after a day. Knows nothing of ChatKit's own types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from chatkeep.db import WORKER, ConstraintViolated, as_user
from chatkeep.errors import BadRequest, NotFound, PayloadTooLarge

if TYPE_CHECKING:
    from chatkeep.db import Database

_NAME_AT_MOST: Final = 200
#: What a browser, a shell or a file system could take for more than a name.
_UNSAFE: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069<>:"|?*\\/]'
)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9*][a-z0-9.+-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """What is known of a file, without its bytes; *uploaded* once those are there."""

    id: str
    attachment: dict[str, Any]
    media_type: str
    size: int
    uploaded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file with its bytes."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


def safe_name(name: str) -> str:
    """Return *name* without a path, and without what is not a name's."""
    last = name.replace("\\", "/").rpartition("/")[2]
    cleaned = _UNSAFE.sub("_", last).strip(" .")
    return cleaned.encode("utf-8", "replace").decode()[:_NAME_AT_MOST] or "file"


def is_media_type(text: str, allowed: tuple[str, ...]) -> bool:
    """Whether *text* is one of the *allowed* media types, of which some end with `/*`."""
    if not _MEDIA_TYPE.fullmatch(text):
        return False
    return text in allowed or f"{text.partition('/')[0]}/*" in allowed


async def announce(db: Database, user_id: str, row: FileRow) -> None:
    """Keep that a file will be uploaded."""
    await db.execute(
        as_user(user_id),
        """
        insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size)
        values (%s, %s, %s, %s, %s)
        """,
        [user_id, row.id, Jsonb(row.attachment), row.media_type, row.size],
    )


async def find(db: Database, user_id: str, file_id: str) -> FileRow | None:
    """Find what is known of a file."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select id, attachment, media_type, size, content is not null as uploaded
        from chat.chatkit_attachments where user_id = %s and id = %s
        """,
        [user_id, file_id],
        row=FileRow,
    )
    return rows[0] if rows else None


async def save(
    db: Database,
    user_id: str,
    file_id: str,
    *,
    attachment: dict[str, Any],
    media_type: str,
    thread_id: str | None,
) -> None:
    """Keep what ChatKit knows of a file, in which thread it was sent among it."""
    try:
        await db.execute(
            as_user(user_id),
            """
            insert into chat.chatkit_attachments
              (user_id, id, attachment, media_type, size, conversation_id)
            values (%(user)s, %(id)s, %(attachment)s, %(type)s, 0, %(thread)s)
            on conflict (user_id, id) do update
              set attachment = excluded.attachment, conversation_id = excluded.conversation_id
            """,
            {
                "user": user_id,
                "id": file_id,
                "attachment": Jsonb(attachment),
                "type": media_type,
                "thread": thread_id,
            },
        )
    except ConstraintViolated as violated:
        raise NotFound from violated


async def upload(db: Database, user_id: str, file_id: str, content: bytes) -> None:
    """Keep the bytes of a file that was announced.

    Raises:
        NotFound: no such file of this user.
        PayloadTooLarge, BadRequest: it is not as long as was announced, or there already.
    """
    row = await find(db, user_id, file_id)
    if row is None:
        raise NotFound
    if len(content) > row.size:
        raise PayloadTooLarge("The file is larger than was announced.")
    if len(content) < row.size:
        raise BadRequest("The file is smaller than was announced.")
    rows = await db.fetch(
        as_user(user_id),
        """
        update chat.chatkit_attachments
        set content = %s, attachment = attachment || '{"upload_descriptor": null}'
        where user_id = %s and id = %s and content is null returning id
        """,
        [content, user_id, file_id],
        row=_Id,
    )
    if not rows:
        raise BadRequest("The file is there already.")


async def read(db: Database, user_id: str, file_id: str) -> File:
    """Return a file whole. Raises `NotFound`, also before it is uploaded."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select attachment ->> 'name' as name, media_type, content
        from chat.chatkit_attachments where user_id = %s and id = %s and content is not null
        """,
        [user_id, file_id],
        row=File,
    )
    if not rows:
        raise NotFound
    return rows[0]


async def erase(db: Database, user_id: str, file_id: str) -> bool:
    """Erase a file; return whether there was one."""
    count = await db.execute(
        as_user(user_id),
        "delete from chat.chatkit_attachments where user_id = %s and id = %s",
        [user_id, file_id],
    )
    return count > 0


async def purge_unsent(db: Database) -> int:
    """Erase what was announced or uploaded more than a day ago and never sent."""
    return await db.execute(
        WORKER,
        "delete from chat.chatkit_attachments"
        " where conversation_id is null and created_at < now() - interval '24 hours'",
        [],
    )
