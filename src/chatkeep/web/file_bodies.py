"""Files in requests and answers: bare or as the one file of a form; safe for a browser to get."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from starlette.responses import Response

from chatkeep.errors import BadRequest, PayloadTooLarge, TokenRevoked, UnsupportedMediaType
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from chatkeep.files.stored import File

#: What a form has beside its file: boundaries and headers.
_FORM_OVERHEAD: Final = 16 * 1024
_ONE_FILE_ONLY: Final = "Send the file as the body, or as the one file of a form."
#: What a browser shows without running anything in it.
_SHOWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_FILENAME: Final = re.compile(rb'filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_TYPE: Final = re.compile(rb"^content-type:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """A file as it was sent; *name* and *media_type* where that was said."""

    name: str | None
    media_type: str | None
    content: bytes


async def file_sent(request: Request, *, at_most: int) -> SentFile:
    """Return the file in *request*, of *at_most* so many bytes, which can take its time.

    Raises:
        TokenRevoked: whoever sends it has been signed out meanwhile.
        PayloadTooLarge: it is larger; no more of it was read.
        BadRequest, UnsupportedMediaType: it is a form with anything but one file.
    """
    said = request.headers.get("content-type", "")
    media_type = said.partition(";")[0].strip().lower()
    is_form = media_type == "multipart/form-data"
    content = await _bounded(request, at_most + (_FORM_OVERHEAD if is_form else 0))
    if await services_of(request).embedded.revocations.is_revoked(request.state.principal):
        raise TokenRevoked
    if is_form:
        return _file_of_form(said, content)
    return SentFile(name=None, media_type=media_type or None, content=content)


def file_answer(file: File) -> Response:
    """Return *file*; what a browser could run in it, it is told to keep instead."""
    shown = file.media_type in _SHOWN
    disposition = "inline" if shown else "attachment"
    headers = {
        "content-disposition": f"{disposition}; filename*=UTF-8''{quote(file.name, safe='')}",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, no-store",
        "x-content-type-options": "nosniff",
    }
    media_type = file.media_type if shown else "application/octet-stream"
    return Response(file.content, headers=headers, media_type=media_type)


async def _bounded(request: Request, most: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most:
        raise PayloadTooLarge
    pieces, length = [], 0
    async for piece in request.stream():
        length += len(piece)
        if length > most:
            raise PayloadTooLarge
        pieces.append(piece)
    return b"".join(pieces)


def _file_of_form(content_type: str, body: bytes) -> SentFile:
    """The one file of a form (RFC 7578). It has one part, so nothing else is looked for."""
    found = re.search(r'boundary="?([^";,]{1,70})"?', content_type)
    if found is None:
        raise UnsupportedMediaType
    delimiter = b"--" + found.group(1).encode("latin-1")
    one_part = 3  # before the first boundary, the part, and the closing dashes
    pieces = (b"\r\n" + body).split(b"\r\n" + delimiter, one_part)
    if len(pieces) != one_part or not pieces[2].startswith(b"--"):
        raise BadRequest(_ONE_FILE_ONLY)
    head, separator, content = pieces[1].partition(b"\r\n\r\n")
    # The expressions below keep a note of each character that they try: of megabytes, gigabytes.
    if not separator or len(head) > _FORM_OVERHEAD:
        raise BadRequest(_ONE_FILE_ONLY)
    name, media_type = _FILENAME.search(head), _TYPE.search(head)
    return SentFile(
        name=name and name.group(1).decode("utf-8", "replace"),
        media_type=media_type and media_type.group(1).decode("latin-1").strip().lower(),
        content=content,
    )
