"""Settings: the support chat that speaks ChatKit."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.config import values as read
from chatkeep.config.reading import setting


@dataclass(frozen=True, kw_only=True)
class ChatKitSettings:
    """The support chat that speaks ChatKit."""

    chatkit_server: str | None = setting("CHATKIT_SERVER", read.import_path)
    chatkit_on_disconnect: str = setting(
        "CHATKIT_ON_DISCONNECT", read.choice("stop", "continue"), default="stop"
    )
    chatkit_attachment_bytes: int = setting(
        "CHATKIT_ATTACHMENT_BYTES", read.whole(1, 64 << 20), default=5 << 20
    )
    chatkit_attachment_types: tuple[str, ...] = setting(
        "CHATKIT_ATTACHMENT_TYPES",
        read.words,
        default=(
            *("image/png", "image/jpeg", "image/gif", "image/webp"),
            *("application/pdf", "text/plain", "text/markdown", "text/csv"),
        ),
    )
