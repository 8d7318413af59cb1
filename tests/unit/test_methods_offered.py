"""What a path offers is told to whoever used another method, and found at little cost."""

from __future__ import annotations

from typing import Any

from chatkeep.web.problems import methods_in

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/chats/{id}": {"get": {}, "delete": {}},
        "/chats/start": {"post": {}},
    }
}


def test_exact_path_goes_before_a_template() -> None:
    """`start` is no id."""
    methods_of = methods_in(lambda: DOCUMENT)
    assert methods_of("/chats/start") == {"POST"}
    assert methods_of("/chats/17") == {"GET", "DELETE"}
    assert methods_of("/elsewhere") == set()


def test_document_is_asked_for_once() -> None:
    """However often somebody is refused: making it takes longer than most requests."""
    asked = 0

    def document() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return DOCUMENT

    methods_of = methods_in(document)
    assert asked == 0
    for _ in range(3):
        methods_of("/chats/17")
    assert asked == 1
