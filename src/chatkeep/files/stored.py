"""The bytes of files: in the row of each, or in a bucket where one is configured.

What was written before a bucket was configured stays in its row and is read from there. An
object that no row names is erased by a sweep, but not before it is a day old.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from chatkeep.errors import (
    BadRequest,
    FileStorageUnavailable,
    NotFound,
    PayloadTooLarge,
)
from chatkeep.files import names, records
from chatkeep.files.records import FileRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from chatkeep.db import Database
    from chatkeep.files.buckets import Bucket
    from chatkeep.files.records import FileLimits

_log = logging.getLogger(__name__)

_FORGOTTEN_AFTER: Final = timedelta(days=1)
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
        if not records.is_media_type(bare, self.limits.types):
            raise BadRequest("Files of this type are not taken here.")
        return bare

    async def upload(self, user_id: str, file_id: str, content: bytes) -> None:
        """Keep the bytes of a file that was announced; the same ones again change nothing.

        Raises:
            NotFound: no such file of this user.
            PayloadTooLarge, BadRequest: it is not as long as was announced, or there already.
            FileStorageUnavailable: the bucket does not take it.
        """
        row = await records.find(self.db, user_id, file_id)
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
        safe = records.safe_name(name)
        kind = "image" if bare.startswith("image/") else "file"
        known = {"id": file_id, "name": safe, "mime_type": bare, "type": kind}
        if kind == "image":
            known["preview_url"] = f"{names.ADDRESS}{file_id}"
        row = FileRow(id=file_id, attachment=known, media_type=bare, size=len(content), digest=None)
        await records.announce(self.db, user_id, row, total=self.limits.total)
        found = await records.find(self.db, user_id, file_id)
        await self._fill(user_id, found or row, content)
        return found or row

    async def read(self, user_id: str, file_id: str) -> File:
        """Return a file whole.

        Raises:
            NotFound: no such file of this user, or its bytes were never sent.
            FileStorageUnavailable: the bucket does not give it, or not as it was written.
        """
        found = await records.read(self.db, user_id, file_id)
        content = found.content
        if content is None:
            content = await self._read_object(found.object_key or "", found.digest)
        return File(name=found.name, media_type=found.media_type, content=content)

    async def erase(self, user_id: str, file_id: str) -> None:
        """Erase a file of the caller; one that is gone is gone."""
        await self.forget(await records.erase(self.db, user_id, file_id))

    async def forget(self, object_keys: Sequence[str]) -> None:
        """Erase objects that no row names any more; what cannot be erased now, the sweep does."""
        if self.bucket is not None and object_keys:
            with suppress(FileStorageUnavailable):
                await self.bucket.delete(object_keys)

    async def purge(self) -> None:
        """Erase files that were never sent, or whose conversations are gone."""
        await self.forget(await records.purge_unsent(self.db))

    async def sweep(self, *, forgotten_after: timedelta = _FORGOTTEN_AFTER) -> int:
        """Erase objects that no row names; return how many. Lists the whole bucket."""
        if self.bucket is None:
            return 0
        count = 0
        async with aclosing(self.bucket.older_than(datetime.now(UTC) - forgotten_after)) as pages:  # type: ignore[type-var]  # it is a generator
            async for page in pages:
                used = await records.still_used(self.db, page)
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
        file_id = names.file_of(part)
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
        filled = await records.fill(
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
        now = await records.find(self.db, user_id, row.id)
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
