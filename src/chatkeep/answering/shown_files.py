"""Files in what a model is asked: those that the messages name, as far as there is room.

A message only names a file; its bytes are read for the answer and stay in no history.
"""

from __future__ import annotations

import base64
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from chatkeep import files
from chatkeep.errors import NotFound
from chatkeep.files.stored import File
from chatkeep.llm.model import PromptFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from chatkeep.answering.responders import Asked, Responder
    from chatkeep.events import ReplyEvent
    from chatkeep.files.stored import StoredFiles
    from chatkeep.llm.model import PromptMessage

#: So much of the files of a conversation is sent to a model, the newest first.
_SHOWN_AT_MOST: Final = 32 << 20


class ShowsFiles:
    """Puts the files that a conversation names into what *inner* is asked."""

    def __init__(self, inner: Responder, stored: StoredFiles) -> None:
        """Read them from *stored*."""
        self.inner = inner
        self._stored = stored

    def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer; see `Responder`. A file that is gone is left out."""
        if asked.who is None or not any(one.files for one in asked.prompt.messages):
            return self.inner.respond(asked)  # nothing for each event to pass through
        return self._with_files(asked, asked.who.user_id)

    async def _with_files(self, asked: Asked, user_id: str) -> AsyncGenerator[ReplyEvent, None]:
        messages = await self._shown(user_id, asked.prompt.messages)
        asked = replace(asked, prompt=replace(asked.prompt, messages=messages))
        async with aclosing(self.inner.respond(asked)) as events:
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
