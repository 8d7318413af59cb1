"""What a personal key may do. A scope that was released keeps its meaning for ever."""

from __future__ import annotations

from typing import Final

#: By name, in the words in which somebody who makes a key reads it.
SCOPES: Final[dict[str, str]] = {
    "chat": "Ask questions and get answers, in new conversations and in yours.",
    "models:read": "List the models you may use.",
    "conversations:read": "List, read, search and export your conversations.",
    "conversations:write": "Rename, branch, import and delete your conversations.",
    "usage:read": "See what you have used and what is left.",
}
