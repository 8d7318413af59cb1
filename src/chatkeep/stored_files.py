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

import msgspec

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
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence

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
#: A multiple of three: pieces of base64 (RFC 4648 section 4) that fit together.
_WRITTEN_AT_ONCE: Final = 3 << 17


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


def with_file(members: dict[str, Any], file: File) -> Iterator[bytes]:
    """Yield the JSON of *members* with the file as their `url`, a piece at a time."""
    known = {name: value for name, value in members.items() if name != "url"}
    yield msgspec.json.encode(known).removesuffix(b"}") + b',"url":"'
    # Nothing in such an address needs to be escaped: a type is of letters, digits, `.+-/`.
    yield f"data:{file.media_type};base64,".encode()
    content = memoryview(file.content)
    for begin in range(0, len(content), _WRITTEN_AT_ONCE):
        yield base64.b64encode(content[begin : begin + _WRITTEN_AT_ONCE])
    yield b'"}'


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

    async def written_out(
        self, user_id: str, parts: Sequence[dict[str, Any]]
    ) -> AsyncIterator[bytes]:
        """Yield the JSON of the parts of a message, for whoever takes its files away with it.

        One file is held at a time, however many there are. One that is gone is left named.
        """
        yield b"["
        for index, part in enumerate(parts):
            if index:
                yield b","
            file = await self._named_by(user_id, part)
            if file is None:
                yield msgspec.json.encode(part)
                continue
            for piece in with_file(part, file):
                yield piece
        yield b"]"

    async def _named_by(self, user_id: str, part: dict[str, Any]) -> File | None:
        file_id = files.file_of(part)
        if file_id is None:
            return None
        try:
            return await self.read(user_id, file_id)
        except NotFound:  # it was erased since
            return None

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

    def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer; see `Responder`. A file that is gone is left out."""
        if asked.who is None or not any(one.files for one in asked.prompt.messages):
            return self._inner.respond(asked)  # nothing for each event to pass through
        return self._with_files(asked, asked.who.user_id)

    async def _with_files(self, asked: Asked, user_id: str) -> AsyncGenerator[ReplyEvent, None]:
        messages = await self._shown(user_id, asked.prompt.messages)
        asked = replace(asked, prompt=replace(asked.prompt, messages=messages))
        async with aclosing(self._inner.respond(asked)) as events:
            async for event in events:
                yield event

    async def _shown(self, user_id: str, messages: Sequence[PromptMessage]) -> list[PromptMessage]:
        fitting = _Fitting(self._stored, user_id)
        await fitting.look_up(named for one in messages for named in one.files)
        shown = []
        for one in reversed(messages):
            read = [file for named in one.files if (file := await fitting.read(named)) is not None]
            shown.append(_with(one, read) if one.files else one)
        return shown[::-1]


class _Fitting:
    """Files as far as there is room for them; of what does not fit nothing is read."""

    def __init__(self, stored: StoredFiles, user_id: str) -> None:
        self._stored = stored
        self._user_id = user_id
        self._left = _SHOWN_AT_MOST
        self._sizes: dict[str, int] = {}
        self._read: dict[str, File | None] = {}

    async def look_up(self, named: Iterable[PromptFile]) -> None:
        """Learn how large all of these are."""
        ids = {file_id for one in named if (file_id := _stored_as(one)) is not None}
        if ids:
            self._sizes = await files.sizes(self._stored.db, self._user_id, sorted(ids))

    async def read(self, named: PromptFile) -> File | None:
        """Return a file, None where it is gone, broken or too large for the room that is left."""
        file_id = _stored_as(named)
        file = _held(named) if file_id is None else await self._kept(file_id)
        if file is None or len(file.content) > self._left:
            return None
        self._left -= len(file.content)
        return file

    async def _kept(self, file_id: str) -> File | None:
        if self._sizes.get(file_id, self._left + 1) > self._left:
            return None
        if file_id not in self._read:
            try:
                self._read[file_id] = await self._stored.read(self._user_id, file_id)
            except NotFound:
                self._read[file_id] = None
        return self._read[file_id]


def _stored_as(named: PromptFile) -> str | None:
    """The id of a file; None where it is in the message itself, of which nothing is kept."""
    return None if named.url.startswith("data:") else named.url.removeprefix(files.ADDRESS)


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
