"""ChatKit's `AttachmentStore`: files uploaded in two phases, within the operator's limits.

A message names its files by our own address of each; no bytes are in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chatkit.store import AttachmentStore, NotFoundError
from chatkit.types import (
    Attachment,
    AttachmentUploadDescriptor,
    FileAttachment,
    ImageAttachment,
)
from pydantic import AnyUrl, TypeAdapter

from chatkeep import files
from chatkeep.chatkit.context import ChatKitContext
from chatkeep.files import FileRow
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkit.types import AttachmentCreateParams

    from chatkeep.files.stored import StoredFiles

_any_attachment: Final[TypeAdapter[Attachment]] = TypeAdapter(Attachment)


class KeptAttachments(AttachmentStore[ChatKitContext]):
    """Files, wherever this server keeps them."""

    def __init__(self, stored: StoredFiles, *, base_url: str) -> None:
        """Keep files in *stored*; *base_url* is where this server is reached."""
        self._stored = stored
        self._db = stored.db
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
        media_type = self._stored.require_allowed(input.mime_type, input.size)
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
            digest=None,
        )
        total = self._stored.limits.total
        await files.announce(self._db, context.who.user_id, row, total=total)
        return made

    async def delete_attachment(self, attachment_id: str, context: ChatKitContext) -> None:
        """Erase a file of the caller; one that is gone is gone."""
        await self._stored.erase(context.who.user_id, attachment_id)

    async def forget(self, object_keys: Sequence[str]) -> None:
        """Erase the bytes of files whose rows are gone."""
        await self._stored.forget(object_keys)

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

    def part(self, attachment: Attachment) -> dict[str, Any]:
        """Return a file as part of a message."""
        return files.part_of(attachment.id, name=attachment.name, media_type=attachment.mime_type)
