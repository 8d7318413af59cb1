"""Cursors: what was given out comes back the same, anything else is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.conversations import Conversation
from chatkeep.errors import Invalid
from chatkeep.web.cursors import cursor_after, read_cursor

STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
MOMENTS = st.timedeltas(timedelta(), timedelta(days=365 * 7000)).map(
    lambda since: datetime(1970, 1, 1, tzinfo=UTC) + since
)


def conversation(moment: datetime, conversation_id: str) -> Conversation:
    """Return the conversation after which a page begins."""
    return Conversation(id=conversation_id, title=None, created_at=moment, updated_at=moment)


@given(MOMENTS, STORABLE)
def test_cursor_comes_back_as_it_was(moment: datetime, conversation_id: str) -> None:
    """To the microsecond, whatever the id, and fit for a URL."""
    cursor = cursor_after(conversation(moment, conversation_id))
    assert cursor.replace("-", "").replace("_", "").isalnum()
    read, read_id = read_cursor(cursor)
    assert (datetime.fromisoformat(read), read_id) == (moment, conversation_id)


def test_zone_makes_no_difference() -> None:
    """The same moment in another zone is the same place in the list."""
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    read, _ = read_cursor(cursor_after(conversation(moment, "x")))
    assert datetime.fromisoformat(read) == moment


@given(st.one_of(st.text(max_size=80), st.binary(max_size=40).map(lambda raw: raw.hex())))
def test_anything_else_is_refused(text: str) -> None:
    """A text that is no cursor of ours is `Invalid`, and nothing else is raised."""
    with pytest.raises(Invalid) as refused:
        read_cursor(text)
    assert refused.value.members["errors"] == [
        {"field": "cursor", "message": "is not a cursor of this list"}
    ]
