"""Files in requests of OpenAI clients: held in a message, or uploaded before.

What is kept with a conversation is kept as a file of the caller's; where nothing is kept the
model is given it as it came. Nothing here fetches what a client names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from chatkeep import files
from chatkeep.errors import Invalid

if TYPE_CHECKING:
    from chatkeep.openai_api.conversation_items import NewMessage
    from chatkeep.web.openai.inputs import Given
    from chatkeep.web.services import Services

_AT_MOST: Final = 20
_DATA: Final = re.compile(r"data:([a-zA-Z0-9.+/-]{3,100})(?:;[^,;]{0,200}){0,5};base64,")


def held(url: str) -> str:
    """Refuse what is no `data:` address with a type and base64 (RFC 2397)."""
    if _DATA.match(url) is None:
        raise ValueError("must be a data: address with the type of the file, in base64")
    return url


def media_type_of(url: str) -> str:
    """Return the type that a `data:` address says; of what is kept elsewhere nothing yet."""
    found = _DATA.match(url)
    return found[1].lower() if found is not None else "application/octet-stream"


async def keep_files(
    services: Services, user_id: str, given: Given, *, keeps: bool
) -> tuple[Given, list[str]]:
    """Return *given* with its files where they are kept, and the ids of these.

    Unless it *keeps*, what a message holds stays in it.

    Raises:
        Invalid: there are too many, one is no base64, or was not uploaded by the caller.
        PayloadTooLarge, BadRequest: one is too large, or of a type that is not taken.
        FileStorageUnavailable: they cannot be kept right now.
    """
    named = [part for one in given.messages for part in one.parts or () if _is_file(part)]
    if len(named) > _AT_MOST:
        raise Invalid.of("input", f"must not have more than {_AT_MOST} files")
    if not named:
        return given, []
    messages = [await _message(services, user_id, one, keeps=keeps) for one in given.messages]
    ids = [found for one in messages for found in files.in_parts(one.parts)]
    return replace(given, messages=messages), ids


def _is_file(part: dict[str, Any]) -> bool:
    """Whether *part* is a file that is ours to keep: an image is, once it was uploaded."""
    if part.get("type") != "file":
        return False
    held_image = str(part.get("mediaType")).startswith("image/")
    return files.file_of(part) is not None or not held_image


async def _message(
    services: Services, user_id: str, message: NewMessage, *, keeps: bool
) -> NewMessage:
    if message.parts is None:
        return message
    shown = [
        await _part(services, user_id, part, keeps=keeps) if _is_file(part) else part
        for part in message.parts
    ]
    return replace(message, parts=shown)


async def _part(
    services: Services, user_id: str, part: dict[str, Any], *, keeps: bool
) -> dict[str, Any]:
    file_id = files.file_of(part)
    if file_id is not None:
        row = await files.find(services.db, user_id, file_id)
        if row is None or row.digest is None:
            raise Invalid.of("input", "must not name a file that was not uploaded")
        return files.part_of(row.id, name=row.name, media_type=row.media_type)
    content = _content(part["url"])
    services.files.require_allowed(part["mediaType"], len(content))
    if not keeps:
        return part
    row = await services.files.keep(
        user_id,
        _id_of(user_id, part, content),
        name=part["filename"],
        media_type=part["mediaType"],
        content=content,
    )
    return files.part_of(row.id, name=row.name, media_type=row.media_type)


def _content(url: str) -> bytes:
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise Invalid.of("input", "must not have a file that is no base64") from None


def _id_of(user_id: str, part: dict[str, Any], content: bytes) -> str:
    """The same for the same file of the same person, so that a question sent twice keeps one."""
    said = "\x00".join([user_id, part["filename"], part["mediaType"]])
    digest = hashlib.sha256(said.encode("utf-8", "surrogatepass") + b"\x00" + content)
    return f"atc_{digest.hexdigest()[:32]}"
