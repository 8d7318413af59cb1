"""Cursors of lists: opaque to the caller, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import math
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

import msgspec

from chatkeep.errors import Invalid

if TYPE_CHECKING:
    from chatkeep.conversations import Conversation
    from chatkeep.conversations.search import Found

_decoder = msgspec.json.Decoder(tuple[datetime, str])
_find_decoder = msgspec.json.Decoder(tuple[float | None, datetime, str])


def cursor_after(conversation: Conversation) -> str:
    """Return where the page after *conversation* begins."""
    return cursor_at(conversation.updated_at, conversation.id)


def cursor_at(moment: datetime, named: str) -> str:
    """Return where the page begins after what has this *moment* and is *named* so."""
    return _written(moment, named)


def read_cursor(cursor: str) -> tuple[str, str]:
    """Return the (time, id) that *cursor* names.

    Raises:
        Invalid: it is none of ours.
    """
    refusal = Invalid.of("cursor", "is not a cursor of this list")
    try:
        moment, named = _decoder.decode(_raw(cursor))
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise refusal from error
    if moment.tzinfo is None or "\x00" in named:
        raise refusal
    return moment.isoformat(), named


class FindPosition(TypedDict):
    """The members of `search.Position`."""

    rank: float | None
    said_at: str
    message_id: str


def find_cursor(found: Found) -> str:
    """Return where the page of a search after *found* begins."""
    return _written(found.rank, found.said_at, found.message_id)


def read_find_cursor(cursor: str) -> FindPosition:
    """Return the position that *cursor* of a search names.

    Raises:
        Invalid: it is none of ours.
    """
    refusal = Invalid.of("cursor", "is not a cursor of this search")
    try:
        rank, moment, message_id = _find_decoder.decode(_raw(cursor))
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise refusal from error
    if moment.tzinfo is None or "\x00" in message_id or not math.isfinite(rank or 0):
        raise refusal
    return FindPosition(rank=rank, said_at=moment.isoformat(), message_id=message_id)


def _written(*place: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _raw(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
