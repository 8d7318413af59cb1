"""Files in a message of the AI SDK: kept as files of the caller, and named by our address.

A client sends a file in the message itself, as a `data:` URL, or uploads it before and sends
the address that it was given. Any other address is refused: nothing here fetches what a
client names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from chatkeep import files
from chatkeep.errors import Invalid, PayloadTooLarge
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from chatkeep.web.ai_sdk.bodies import ChatRequest, UiMessage
    from chatkeep.web.services import Services

_AT_MOST: Final = 20
#: RFC 2397, as browsers write files.
_DATA: Final = re.compile(r"data:([^,;]{0,200})((?:;[^,;]{0,200}){0,5});base64,", re.IGNORECASE)
_UPLOADED: Final = re.compile(
    r"(?:/api/files/|/support/attachments/)(?P<id>[A-Za-z0-9_-]{1,100})(?:/content)?"
)


async def kept_parts(
    services: Services, user_id: str, body: ChatRequest, last: UiMessage
) -> list[dict[str, Any]]:
    """Keep the files of *last*; return the parts that name them.

    Raises:
        Invalid: there are too many, or one is neither held in the message nor uploaded here.
        PayloadTooLarge, BadRequest: one is too large, or of a type that is not taken.
        FileStorageUnavailable: they cannot be kept right now.
    """
    sent = last.files
    if len(sent) > _AT_MOST:
        raise Invalid.of("messages", f"must not end with more than {_AT_MOST} files")
    return [
        await _kept(services, user_id, part, place=(body.id, last.id, str(index)))
        for index, part in enumerate(sent)
    ]


async def _kept(
    services: Services, user_id: str, part: dict[str, Any], *, place: tuple[str, str | None, str]
) -> dict[str, Any]:
    url = part.get("url")
    if isinstance(url, str):
        if (found := _DATA.match(url)) is not None:
            return await _held(services, user_id, part, found, url[found.end() :], place)
        uploaded = _UPLOADED.fullmatch(url.removeprefix(services.settings.base_url))
        if uploaded is not None:
            return await _named(services, user_id, uploaded["id"])
    raise _neither()


async def _held(
    services: Services,
    user_id: str,
    part: dict[str, Any],
    found: re.Match[str],
    encoded: str,
    place: tuple[str, str | None, str],
) -> dict[str, Any]:
    if len(encoded) > services.files.limits.size * 4 // 3 + 4:
        raise PayloadTooLarge(f"A file may have {services.files.limits.size} bytes at most.")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid.of("messages", "must not end with a file that is no base64") from None
    said, name = part.get("mediaType"), part.get("filename")
    media_type = said if isinstance(said, str) else found.group(1)
    row = await services.files.keep(
        user_id,
        _id_at(place, content),
        name=name if isinstance(name, str) and name else "file",
        media_type=media_type,
        content=content,
    )
    return files.part_of(row.id, name=row.name, media_type=row.media_type)


async def _named(services: Services, user_id: str, file_id: str) -> dict[str, Any]:
    row = await files.find(services.db, user_id, file_id)
    if row is None or row.digest is None:
        raise _neither()  # what is somebody else's was never uploaded either
    return files.part_of(row.id, name=row.name, media_type=row.media_type)


def _id_at(place: tuple[str, str | None, str], content: bytes) -> str:
    """The same for the same file at the same place, so that a message sent twice keeps one."""
    if place[1] is None:
        return f"atc_{new_id().replace('-', '')}"
    said = "\x00".join(str(one) for one in place).encode("utf-8", "surrogatepass")
    return f"atc_{hashlib.sha256(said + hashlib.sha256(content).digest()).hexdigest()[:32]}"


def _neither() -> Invalid:
    return Invalid.of(
        "messages", "must not end with a file that is neither held in it nor uploaded here"
    )
