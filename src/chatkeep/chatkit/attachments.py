"""ChatKit's `AttachmentStore`: files uploaded in two phases, within the operator's limits."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkit.store import AttachmentStore, NotFoundError
from chatkit.types import (
    Attachment,
    AttachmentUploadDescriptor,
    FileAttachment,
    ImageAttachment,
)
from pydantic import AnyUrl, TypeAdapter

from chatkeep.chatkit import files
from chatkeep.chatkit.context import ChatKitContext
from chatkeep.chatkit.files import FileRow
from chatkeep.errors import BadRequest, NotFound, PayloadTooLarge
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from chatkit.types import AttachmentCreateParams

    from chatkeep.db import Database

_any_attachment: Final[TypeAdapter[Attachment]] = TypeAdapter(Attachment)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What may be uploaded: *types* are media types, of which some end with `/*`."""

    size: int
    types: tuple[str, ...]


class KeptAttachments(AttachmentStore[ChatKitContext]):
    """Files in PostgreSQL."""

    def __init__(self, db: Database, *, limits: FileLimits, base_url: str) -> None:
        """Keep files in *db*; *base_url* is where this server is reached."""
        self._db = db
        self._limits = limits
        self._base_url = base_url

    def generate_attachment_id(self, mime_type: str, context: ChatKitContext) -> str:
        """Return an id that no two files share."""
        del mime_type, context
        return f"atc_{new_id().replace('-', '')}"

    async def create_attachment(
        self,
        input: AttachmentCreateParams,  # noqa: A002 -- the name that ChatKit's interface gives it
        context: ChatKitContext,
    ) -> Attachment:
        """Announce a file, and say where to upload it.

        Raises:
            PayloadTooLarge, BadRequest: such a file is not taken here.
        """
        media_type = input.mime_type.partition(";")[0].strip().lower()
        if not 0 < input.size <= self._limits.size:
            raise PayloadTooLarge(f"A file may have from 1 to {self._limits.size} bytes.")
        if not files.is_media_type(media_type, self._limits.types):
            raise BadRequest("Files of this type are not taken here.")
        attachment_id = self.generate_attachment_id(media_type, context)
        address = f"{self._base_url}/support/attachments/{attachment_id}"
        known: dict[str, Any] = {
            "id": attachment_id,
            "name": files.safe_name(input.name),
            "mime_type": media_type,
            "upload_descriptor": AttachmentUploadDescriptor(
                url=AnyUrl(f"{address}/upload"), method="POST"
            ),
        }
        made: Attachment = (
            ImageAttachment(**known, preview_url=AnyUrl(f"{address}/content"))
            if media_type.startswith("image/")
            else FileAttachment(**known)
        )
        row = FileRow(
            id=attachment_id,
            attachment=made.model_dump(mode="json"),
            media_type=media_type,
            size=input.size,
            uploaded=False,
        )
        await files.announce(self._db, context.who.user_id, row)
        return made

    async def delete_attachment(self, attachment_id: str, context: ChatKitContext) -> None:
        """Erase a file of the caller; one that is gone is gone."""
        await files.erase(self._db, context.who.user_id, attachment_id)

    async def save(self, attachment: Attachment, context: ChatKitContext) -> None:
        """Keep what is known of a file."""
        await files.save(
            self._db,
            context.who.user_id,
            attachment.id,
            attachment=attachment.model_dump(mode="json"),
            media_type=attachment.mime_type,
            thread_id=attachment.thread_id,
        )

    async def load(self, attachment_id: str, context: ChatKitContext) -> Attachment:
        """Return what is known of a file of the caller. Raises `NotFoundError`."""
        row = await files.find(self._db, context.who.user_id, attachment_id)
        if row is None:
            raise NotFoundError(attachment_id)
        return _any_attachment.validate_python(row.attachment)

    async def part(self, attachment: Attachment, context: ChatKitContext) -> dict[str, Any]:
        """Return a file as part of a message: an image with its bytes, others by name."""
        shown = {"type": "file", "mediaType": attachment.mime_type, "filename": attachment.name}
        if not isinstance(attachment, ImageAttachment):
            return shown
        try:
            found = await files.read(self._db, context.who.user_id, attachment.id)
        except NotFound:  # announced, and never uploaded
            return shown
        encoded = base64.b64encode(found.content).decode()
        return {**shown, "url": f"data:{found.media_type};base64,{encoded}"}
