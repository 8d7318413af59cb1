"""The rows of files: what is known of each.

Where the bytes are, here or in a bucket, is the business of `stored`, and where a file was sent
that of `sent`. Knows nothing of ChatKit's own types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from chatkeep.db import WORKER, ConstraintViolated, Query, as_user
from chatkeep.errors import NotFound, PayloadTooLarge
from chatkeep.files.sent import using

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chatkeep.db import Database

_NAME_AT_MOST: Final = 200
#: What a browser, a shell or a file system could take for more than a name.
_UNSAFE: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069<>:"|?*\\/]'
)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9*][a-z0-9.+-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What may be uploaded: *types* are media types, of which some end with `/*`.

    *size* is that of one file, *total* that of all that a person has, in bytes.
    """

    size: int
    types: tuple[str, ...]
    total: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """What is known of a file, without its bytes; *digest* (SHA-256) once those are there."""

    id: str
    attachment: dict[str, Any]
    media_type: str
    size: int
    digest: bytes | None

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.attachment.get("name", "file"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """The bytes of a file, *content*, or *object_key*: where they are."""

    name: str
    media_type: str
    content: bytes | None
    object_key: str | None
    digest: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file as its owner is shown it."""

    id: str
    name: str
    media_type: str
    size: int
    conversation_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    id: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    object_key: str | None


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


async def announce(db: Database, user_id: str, row: FileRow, *, total: int) -> None:
    """Keep that a file will be uploaded; one with this id that is there stays as it is.

    Raises:
        PayloadTooLarge: the person's files would have more than *total* bytes.
    """
    announcing = Query(
        """
        insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size)
        select %(user)s, %(id)s, %(attachment)s, %(type)s, %(size)s
        where %(size)s + (
          select coalesce(sum(size), 0) from chat.chatkit_attachments where user_id = %(user)s
        ) <= %(total)s
        on conflict (user_id, id) do nothing
        returning id
        """,
        {
            "user": user_id,
            "id": row.id,
            "attachment": Jsonb(row.attachment),
            "type": row.media_type,
            "size": row.size,
            "total": total,
        },
        _Id,
    )
    _, made = await db.fetch_all(as_user(user_id), _one_at_a_time(user_id), announcing)
    if not made and await find(db, user_id, row.id) is None:
        raise PayloadTooLarge(
            f"Your files may have {total} bytes altogether: erase some, or the conversations"
            " that they were sent in."
        )


def _one_at_a_time(user_id: str) -> Query[_Id]:
    """Let others who announce a file of the same person wait, so that all are counted."""
    return Query(
        "select pg_advisory_xact_lock(hashtextextended('files of ' || %s, 0))::text as id",
        [user_id],
        _Id,
    )


async def find(db: Database, user_id: str, file_id: str) -> FileRow | None:
    """Find what is known of a file."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select id, attachment, media_type, size, digest
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
    sent = [] if thread_id is None else using(user_id, thread_id, [file_id])
    try:
        await db.fetch_all(
            as_user(user_id),
            Query(
                """
                insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size)
                values (%s, %s, %s, %s, 0)
                on conflict (user_id, id) do update set attachment = excluded.attachment
                returning id
                """,
                [user_id, file_id, Jsonb(attachment), media_type],
                _Id,
            ),
            *sent,
        )
    except ConstraintViolated as violated:
        raise NotFound from violated


async def fill(
    db: Database,
    user_id: str,
    file_id: str,
    *,
    digest: bytes,
    content: bytes | None,
    object_key: str | None,
) -> bool:
    """Keep where the bytes of a file are; return whether it had none before."""
    rows = await db.fetch(
        as_user(user_id),
        """
        update chat.chatkit_attachments
        set content = %s, object_key = %s, digest = %s,
          attachment = attachment || '{"upload_descriptor": null}'
        where user_id = %s and id = %s and content is null and object_key is null returning id
        """,
        [content, object_key, digest, user_id, file_id],
        row=_Id,
    )
    return bool(rows)


async def read(db: Database, user_id: str, file_id: str) -> Bytes:
    """Return the bytes of a file, or where they are. Raises `NotFound`, also before they are."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select attachment ->> 'name' as name, media_type, content, object_key, digest
        from chat.chatkit_attachments
        where user_id = %s and id = %s and (content is not null or object_key is not null)
        """,
        [user_id, file_id],
        row=Bytes,
    )
    if not rows:
        raise NotFound
    return rows[0]


async def list_files(
    db: Database, user_id: str, *, limit: int, after: str = "", unsent: bool = False
) -> list[ListedFile]:
    """List the files of a person whose bytes are there, by id; *unsent*: those in no message."""
    return await db.fetch(
        as_user(user_id),
        """
        select id, coalesce(attachment ->> 'name', 'file') as name, media_type, size,
          conversation_id, created_at
        from chat.chatkit_attachments
        where user_id = %s and id > %s and digest is not null
          and not (%s and conversation_id is not null)
        order by id limit %s
        """,
        [user_id, after, unsent, limit],
        row=ListedFile,
    )


async def sizes(db: Database, user_id: str, file_ids: Sequence[str]) -> dict[str, int]:
    """Return how many bytes those of *file_ids* have whose bytes are there."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select f.id, f.size from (select distinct unnest(%(files)s::text[]) as id) wanted
        -- `offset 0`: before version 17 PostgreSQL may else read all that the person has.
        cross join lateral (
          select id, size from chat.chatkit_attachments
          where user_id = %(user)s and id = wanted.id and digest is not null offset 0
        ) f
        """,
        {"user": user_id, "files": list(file_ids)},
        row=_Size,
    )
    return {row.id: row.size for row in rows}


async def erase(db: Database, user_id: str, file_id: str) -> list[str]:
    """Erase a file; return where its bytes were, if elsewhere."""
    rows = await db.fetch(
        as_user(user_id),
        """
        delete from chat.chatkit_attachments where user_id = %s and id = %s
        returning object_key
        """,
        [user_id, file_id],
        row=_Object,
    )
    return _keys(rows)


async def objects_of(db: Database, user_id: str) -> list[str]:
    """Return where the bytes of all files of a person are, if elsewhere."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select object_key from chat.chatkit_attachments
        where user_id = %s and object_key is not null
        """,
        [user_id],
        row=_Object,
    )
    return _keys(rows)


async def purge_unsent(db: Database) -> list[str]:
    """Erase what is older than a day and in no conversation; return where its bytes were."""
    rows = await db.fetch(
        WORKER,
        """
        delete from chat.chatkit_attachments
        where conversation_id is null and created_at < now() - interval '24 hours'
        returning object_key
        """,
        [],
        row=_Object,
    )
    return _keys(rows)


async def still_used(db: Database, object_keys: Sequence[str]) -> set[str]:
    """Return those of *object_keys* that some file has."""
    rows = await db.fetch(
        WORKER,
        "select object_key from chat.chatkit_attachments where object_key = any(%s)",
        [list(object_keys)],
        row=_Object,
    )
    return set(_keys(rows))


def _keys(rows: Sequence[_Object]) -> list[str]:
    return [row.object_key for row in rows if row.object_key is not None]
