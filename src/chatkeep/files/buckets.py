"""A bucket of S3-compatible storage, in which the bytes of files may be kept.

Its objects are private: nobody is ever given an address of one. Whatever goes wrong there is
one error for callers, `FileStorageUnavailable`; the log says what it was. `obstore` is loaded
with the first bucket that is opened.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from chatkeep.errors import FileStorageUnavailable
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from datetime import datetime

    from chatkeep.config import Settings

_log = logging.getLogger(__name__)

_CONNECT_WITHIN: Final = "3s"
_ANSWER_WITHIN: Final = "20s"
_WITHIN_S: Final = 30.0
_RETRIES: Final = 2
_LISTED_AT_ONCE: Final = 1000
_PROBE: Final = "doctor"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAddress:
    """Where a bucket is, and who we are there. Objects of ours begin with *prefix*."""

    name: str
    endpoint: str | None
    region: str
    access_key_id: str | None
    secret_access_key: str | None = field(repr=False)
    prefix: str


class Bucket:
    """One bucket. Share one per process."""

    def __init__(self, address: BucketAddress, *, within_s: float = _WITHIN_S) -> None:
        """Prepare; nothing is asked of the storage yet. *within_s* bounds each request."""
        self._obstore = importlib.import_module("obstore")
        self._prefix = address.prefix
        self._within_s = within_s
        self._store = self._opened(address)

    def new_key(self) -> str:
        """Return the name of a new object, which says nothing of what is in it."""
        return f"{self._prefix}{new_id()}"

    async def put(self, key: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        with _our_errors("write to"):
            async with asyncio.timeout(self._within_s):
                await self._obstore.put_async(self._store, key, content)

    async def get(self, key: str) -> bytes:
        """Return an object whole."""
        with _our_errors("read from"):
            async with asyncio.timeout(self._within_s):
                found = await self._obstore.get_async(self._store, key)
                return bytes(await found.bytes_async())

    async def delete(self, keys: Sequence[str]) -> None:
        """Erase objects; one that is gone is gone."""
        with _our_errors("delete from"):
            for key in keys:
                async with asyncio.timeout(self._within_s):
                    await self._delete(key)

    async def older_than(self, moment: datetime) -> AsyncIterator[list[str]]:
        """List our objects that were written before *moment*, some at a time."""
        with _our_errors("list"):
            pages = self._obstore.list(self._store, prefix=self._prefix, chunk_size=_LISTED_AT_ONCE)
            async for page in pages:
                yield [str(one["path"]) for one in page if one["last_modified"] < moment]

    async def problem(self) -> str | None:
        """Write, read and erase an object; return what went wrong, in words without secrets."""
        key = f"{self._prefix}{_PROBE}-{new_id()}"
        for doing, work in (
            ("write to", lambda: self.put(key, b"probe")),
            ("read from", lambda: self.get(key)),
            ("delete from", lambda: self.delete([key])),
        ):
            try:
                await work()
            except FileStorageUnavailable as error:
                return f"It was not possible to {doing} the bucket: {_reason(error.__cause__)}."
        return None

    async def _delete(self, key: str) -> None:
        try:
            await self._obstore.delete_async(self._store, key)
        except FileNotFoundError:
            _log.debug("an object was gone before it was to be erased")

    def _opened(self, address: BucketAddress) -> Any:  # noqa: ANN401 -- obstore is loaded late
        store = importlib.import_module("obstore.store")
        options: dict[str, Any] = {
            "timeout": _ANSWER_WITHIN,
            "connect_timeout": _CONNECT_WITHIN,
            "user_agent": "chatkeep",
        }
        config: dict[str, Any] = {"region": address.region}
        if address.endpoint is not None:
            config["endpoint"] = address.endpoint
            options["allow_http"] = address.endpoint.startswith("http://")
        if address.access_key_id is not None:
            config["access_key_id"] = address.access_key_id
            config["secret_access_key"] = address.secret_access_key
        retries = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=self._within_s)}
        return store.S3Store(
            address.name, config=config, client_options=options, retry_config=retries
        )


def bucket_of(settings: Settings) -> Bucket | None:
    """Return the bucket that *settings* name, None where files stay in the database."""
    if settings.files_s3_bucket is None:
        return None
    secret = settings.files_s3_secret_access_key
    address = BucketAddress(
        name=settings.files_s3_bucket,
        endpoint=settings.files_s3_endpoint,
        region=settings.files_s3_region,
        access_key_id=settings.files_s3_access_key_id,
        secret_access_key=None if secret is None else str(secret),
        prefix=settings.files_s3_prefix,
    )
    return Bucket(address)


@contextmanager
def _our_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except FileStorageUnavailable:
        raise
    except Exception as error:
        # obstore's errors quote addresses and answers of the storage, so only the kind is told.
        _log.error("it was not possible to %s the bucket: %s", doing, _reason(error))
        raise FileStorageUnavailable from error


def _reason(error: BaseException | None) -> str:
    match type(error).__name__:
        case "UnauthenticatedError" | "PermissionDeniedError":
            return "the storage refuses the keys"
        case "NotFoundError" | "FileNotFoundError":
            return "there is no such bucket or object"
        case "TimeoutError":
            return "the storage did not answer in time"
        case name:
            text = str(error)
            if "InvalidAccessKeyId" in text or "SignatureDoesNotMatch" in text or "403" in text:
                return "the storage refuses the keys"
            if "NoSuchBucket" in text:
                return "there is no such bucket"
            return f"the storage cannot be reached or answers oddly ({name})"
