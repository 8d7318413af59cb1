"""The bytes of files: in the row of each, or in a bucket where one is configured.

What was written before a bucket was configured stays in its row and is read from there. An
object that no row names is erased by a sweep, but not before it is a day old.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chatkeep import files
from chatkeep.errors import (
    BadRequest,
    FileStorageUnavailable,
    NotFound,
    PayloadTooLarge,
)
from chatkeep.files import FileRow
from chatkeep.llm.model import PromptFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from chatkeep.answering.responders import Asked, Responder
    from chatkeep.buckets import Bucket
    from chatkeep.db import Database
    from chatkeep.events import ReplyEvent
    from chatkeep.files import FileLimits
    from chatkeep.llm.model import PromptMessage

_log = logging.getLogger(__name__)

_FORGOTTEN_AFTER: Final = timedelta(days=1)
#: So much of the files of a conversation is sent to a model, the newest first.
_SHOWN_AT_MOST: Final = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file with its bytes."""

    name: str
    media_type: str
    content: bytes

    @property
    def data_url(self) -> str:
        """The file in an address of its own (RFC 2397)."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


class StoredFiles:
    """Files of all people. Share one per process."""

    def __init__(self, db: Database, limits: FileLimits, bucket: Bucket | None = None) -> None:
        """Keep rows in *db*, and new bytes in *bucket* if there is one."""
        self.db = db
        self.limits = limits
        self.bucket = bucket

    def require_allowed(self, media_type: str, size: int) -> str:
        """Return the bare media type of a file that may be uploaded.

        Raises:
            PayloadTooLarge: it is too large.
            BadRequest: it is empty, or files of its type are not taken.
        """
        bare = media_type.partition(";")[0].strip().lower()
        if size > self.limits.size:
            raise PayloadTooLarge(f"A file may have {self.limits.size} bytes at most.")
        if size <= 0:
            raise BadRequest("The file is empty.")
        if not files.is_media_type(bare, self.limits.types):
            raise BadRequest("Files of this type are not taken here.")
        return bare

    async def upload(self, user_id: str, file_id: str, content: bytes) -> None:
        """Keep the bytes of a file that was announced; the same ones again change nothing.

        Raises:
            NotFound: no such file of this user.
            PayloadTooLarge, BadRequest: it is not as long as was announced, or there already.
            FileStorageUnavailable: the bucket does not take it.
        """
        row = await files.find(self.db, user_id, file_id)
        if row is None:
            raise NotFound
        if len(content) > row.size:
            raise PayloadTooLarge("The file is larger than was announced.")
        if len(content) < row.size:
            raise BadRequest("The file is smaller than was announced.")
        await self._fill(user_id, row, content)

    async def keep(
        self, user_id: str, file_id: str, *, name: str, media_type: str, content: bytes
    ) -> FileRow:
        """Keep a file that came whole; with an id that is there already, change nothing.

        Raises:
            PayloadTooLarge, BadRequest: such a file is not taken, or the id is another's.
            FileStorageUnavailable: the bucket does not take it.
        """
        bare = self.require_allowed(media_type, len(content))
        safe = files.safe_name(name)
        kind = "image" if bare.startswith("image/") else "file"
        known = {"id": file_id, "name": safe, "mime_type": bare, "type": kind}
        if kind == "image":
            known["preview_url"] = f"{files.ADDRESS}{file_id}"
        row = FileRow(id=file_id, attachment=known, media_type=bare, size=len(content), digest=None)
        await files.announce(self.db, user_id, row, total=self.limits.total)
        found = await files.find(self.db, user_id, file_id)
        await self._fill(user_id, found or row, content)
        return found or row

    async def read(self, user_id: str, file_id: str) -> File:
        """Return a file whole.

        Raises:
            NotFound: no such file of this user, or its bytes were never sent.
            FileStorageUnavailable: the bucket does not give it, or not as it was written.
        """
        found = await files.read(self.db, user_id, file_id)
        content = found.content
        if content is None:
            content = await self._read_object(found.object_key or "", found.digest)
        return File(name=found.name, media_type=found.media_type, content=content)

    async def erase(self, user_id: str, file_id: str) -> None:
        """Erase a file of the caller; one that is gone is gone."""
        await self.forget(await files.erase(self.db, user_id, file_id))

    async def forget(self, object_keys: Sequence[str]) -> None:
        """Erase objects that no row names any more; what cannot be erased now, the sweep does."""
        if self.bucket is not None and object_keys:
            with suppress(FileStorageUnavailable):
                await self.bucket.delete(object_keys)

    async def purge(self) -> None:
        """Erase files that were never sent, or whose conversations are gone."""
        await self.forget(await files.purge_unsent(self.db))

    async def sweep(self, *, forgotten_after: timedelta = _FORGOTTEN_AFTER) -> int:
        """Erase objects that no row names; return how many. Lists the whole bucket."""
        if self.bucket is None:
            return 0
        count = 0
        async with aclosing(self.bucket.older_than(datetime.now(UTC) - forgotten_after)) as pages:  # type: ignore[type-var]  # it is a generator
            async for page in pages:
                used = await files.still_used(self.db, page)
                orphans = [key for key in page if key not in used]
                await self.bucket.delete(orphans)
                count += len(orphans)
        return count

    async def inlined(
        self, user_id: str, parts: Sequence[dict[str, Any]] | None
    ) -> list[dict[str, Any]] | None:
        """Return the parts of a message with its files in them, for whoever takes them away."""
        if parts is None:
            return None
        return [await self._inlined(user_id, part) for part in parts]

    async def _inlined(self, user_id: str, part: dict[str, Any]) -> dict[str, Any]:
        file_id = files.file_of(part)
        if file_id is None:
            return part
        try:
            return {**part, "url": (await self.read(user_id, file_id)).data_url}
        except NotFound:  # it was erased since
            return part

    async def _fill(self, user_id: str, row: FileRow, content: bytes) -> None:
        digest = hashlib.sha256(content).digest()
        if row.digest is not None:
            if row.digest == digest:
                return
            raise BadRequest("The file is there already.")
        key = None
        if self.bucket is not None:
            key = self.bucket.new_key()
            await self.bucket.put(key, content)
        filled = await files.fill(
            self.db,
            user_id,
            row.id,
            digest=digest,
            content=content if key is None else None,
            object_key=key,
        )
        if filled:
            return
        await self.forget([key] if key is not None else [])
        now = await files.find(self.db, user_id, row.id)
        if now is None or now.digest != digest:
            raise BadRequest("The file is there already.")

    async def _read_object(self, key: str, digest: bytes | None) -> bytes:
        if self.bucket is None:
            _log.error("a file is in a bucket, and FILES_S3_BUCKET is not set")
            raise FileStorageUnavailable
        content = await self.bucket.get(key)
        if hashlib.sha256(content).digest() != digest:
            _log.error("an object of the bucket is not as it was written: %s", key)
            raise FileStorageUnavailable
        return content


class ShowsFiles:
    """Puts the files that a conversation names into what *inner* is asked."""

    def __init__(self, inner: Responder, stored: StoredFiles) -> None:
        """Read them from *stored*."""
        self._inner = inner
        self._stored = stored

    async def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer; see `Responder`. A file that is gone is left out."""
        if asked.who is not None and any(one.files for one in asked.prompt.messages):
            messages = await self._shown(asked.who.user_id, asked.prompt.messages)
            asked = replace(asked, prompt=replace(asked.prompt, messages=messages))
        async with aclosing(self._inner.respond(asked)) as events:
            async for event in events:
                yield event

    async def _shown(self, user_id: str, messages: Sequence[PromptMessage]) -> list[PromptMessage]:
        left, shown = _SHOWN_AT_MOST, []
        for one in reversed(messages):
            read = []
            for name in one.files:
                file = await self._read(user_id, name)
                if file is not None and len(file.content) <= left:
                    left -= len(file.content)
                    read.append(file)
            shown.append(_with(one, read) if one.files else one)
        return shown[::-1]

    async def _read(self, user_id: str, named: PromptFile) -> File | None:
        if named.url.startswith("data:"):  # in the message itself, of which nothing is kept
            return _held(named)
        file_id = named.url.removeprefix(files.ADDRESS)
        try:
            return await self._stored.read(user_id, file_id)
        except NotFound:
            return None


def _held(named: PromptFile) -> File | None:
    """Return a file that is in its own address (RFC 2397); None where that is broken."""
    said, _, encoded = named.url.removeprefix("data:").partition(",")
    try:
        content = base64.b64decode(encoded)
    except ValueError:
        return None
    return File(name=named.name, media_type=said.partition(";")[0], content=content)


def _with(message: PromptMessage, read: Sequence[File]) -> PromptMessage:
    """Images as images, text as text, and anything else as a file, if its model takes one."""
    images = [one.data_url for one in read if one.media_type.startswith("image/")]
    texts = [_quoted(one) for one in read if one.media_type.startswith("text/")]
    others = [
        PromptFile(name=one.name, url=one.data_url)
        for one in read
        if not one.media_type.startswith(("image/", "text/"))
    ]
    return replace(
        message,
        text="\n\n".join([*texts, message.text] if message.text else texts),
        images=(*message.images, *images),
        files=tuple(others),
    )


def _quoted(file: File) -> str:
    return f"{file.name}:\n```\n{file.content.decode('utf-8', 'replace')}\n```"
