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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkeep import files
from chatkeep.errors import Invalid, PayloadTooLarge
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.web.ai_sdk.bodies import ChatRequest, UiMessage
    from chatkeep.web.services import Services

_AT_MOST: Final = 20
#: RFC 2397, as browsers write files.
_DATA: Final = re.compile(r"data:([^,;]{0,200})((?:;[^,;]{0,200}){0,5});base64,", re.IGNORECASE)
_UPLOADED: Final = re.compile(
    r"(?:/api/files/|/support/attachments/)(?P<id>[A-Za-z0-9_-]{1,100})(?:/content)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """A file of a message: held in its *url*, from *start* on, or uploaded before."""

    id: str
    name: str
    media_type: str
    url: str = ""
    start: int | None = None


async def read(
    services: Services, user_id: str, body: ChatRequest, last: UiMessage
) -> list[SentFile]:
    """Return the files of *last*; nothing is kept yet.

    Raises:
        Invalid: there are too many, or one is neither held in the message nor uploaded here.
        PayloadTooLarge: one is too large.
    """
    sent = last.files
    if len(sent) > _AT_MOST:
        raise Invalid.of("messages", f"must not end with more than {_AT_MOST} files")
    return [
        await _read(services, user_id, part, place=(body.id, last.id, str(index)))
        for index, part in enumerate(sent)
    ]


async def kept_parts(
    services: Services, user_id: str, sent: Sequence[SentFile]
) -> list[dict[str, Any]]:
    """Keep what was *sent*; return the parts that name it.

    Raises:
        PayloadTooLarge, BadRequest: a file is one too many, or of a type that is not taken.
        FileStorageUnavailable: they cannot be kept right now.
    """
    parts = []
    for one in sent:
        name, media_type = one.name, one.media_type
        if one.start is not None:
            content = _decoded(one.url, one.start)
            row = await services.files.keep(
                user_id, one.id, name=name, media_type=media_type, content=content
            )
            name, media_type = row.name, row.media_type
        parts.append(files.part_of(one.id, name=name, media_type=media_type))
    return parts


async def _read(
    services: Services, user_id: str, part: dict[str, Any], *, place: tuple[str, str | None, str]
) -> SentFile:
    url = part.get("url")
    if isinstance(url, str):
        if (found := _DATA.match(url)) is not None:
            return _held(services, part, found, place)
        uploaded = _UPLOADED.fullmatch(url.removeprefix(services.settings.base_url))
        if uploaded is not None:
            return await _named(services, user_id, uploaded["id"])
    raise _neither()


def _held(
    services: Services,
    part: dict[str, Any],
    found: re.Match[str],
    place: tuple[str, str | None, str],
) -> SentFile:
    url, start, size = found.string, found.end(), services.files.limits.size
    if len(url) - start > size * 4 // 3 + 4:
        raise PayloadTooLarge(f"A file may have {size} bytes at most.")
    said, name = part.get("mediaType"), part.get("filename")
    return SentFile(
        id=_id_at(place, _decoded(url, start)),
        name=name if isinstance(name, str) and name else "file",
        media_type=said if isinstance(said, str) else found.group(1),
        url=url,
        start=start,
    )


def _decoded(url: str, start: int) -> bytes:
    # Each time anew: of many files one is in memory at a time, beside the message.
    try:
        return base64.b64decode(url[start:], validate=True)
    except (binascii.Error, ValueError):
        raise Invalid.of("messages", "must not end with a file that is no base64") from None


async def _named(services: Services, user_id: str, file_id: str) -> SentFile:
    row = await files.find(services.db, user_id, file_id)
    if row is None or row.digest is None:
        raise _neither()  # what is somebody else's was never uploaded either
    return SentFile(id=row.id, name=row.name, media_type=row.media_type)


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
