"""Identifiers: RFC 9562's version 7, and nothing else."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

from chatkeep.ids import new_id

_MANY = 2000


def test_id_is_a_uuid_of_version_7_in_its_canonical_text() -> None:
    """Its version and variant are where RFC 9562 section 5.7 has them, and all else is chance."""
    ids = [new_id() for _ in range(_MANY)]
    assert all(str(UUID(one)) == one for one in ids)
    assert {UUID(one).version for one in ids} == {7}
    assert {UUID(one).variant for one in ids} == {RFC_4122}
    assert len(set(ids)) == _MANY
    for place in (*range(15, 18), *range(20, 23), *range(24, 36)):
        assert {one[place] for one in ids} == set("0123456789abcdef")
    assert {one[19] for one in ids} == set("89ab")


def test_id_begins_with_the_milliseconds() -> None:
    """So ids that are made later sort later."""
    before = time.time_ns() // 1_000_000
    made = UUID(new_id()).int >> 80
    assert before <= made <= time.time_ns() // 1_000_000
