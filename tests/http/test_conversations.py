"""Conversations over plain REST."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.serving import Node, Person, Stage


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
async def test_every_kind_of_supabase_key_signs_in(node: Node, algorithm: str) -> None:
    """The shared secret and the published keys work side by side, and the `sub` is the user."""
    person = node.person(algorithm)
    answer = await person.client.get("/api/v1/chat")
    assert answer.status == 200
    assert answer.json == {"user_id": person.id, "conversations": [], "next_cursor": None}
