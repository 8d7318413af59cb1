"""What a path offers is told to whoever used another method."""

from __future__ import annotations

from fastapi import APIRouter

from chatkeep.web.problems import methods_in


async def answered() -> None:
    """Answer anything."""


def router() -> APIRouter:
    """Return a few routes: the same path twice, one that is documented, one that is a page."""
    made = APIRouter()
    made.add_api_route("/chats/{id}", answered, methods=["GET"])
    made.add_api_route("/chats/{id}", answered, methods=["DELETE"])
    made.add_api_route("/chats/start", answered, methods=["POST"])
    made.add_api_route("/people/{id:path}", answered, methods=["GET"])
    made.add_api_route("/people/{id}/ban", answered, methods=["POST"])
    made.add_api_route("/{name}.{suffix}", answered, methods=["GET"], include_in_schema=False)
    return made


def test_exact_path_goes_before_a_template() -> None:
    """`start` is no id."""
    methods_of = methods_in(router().routes)
    assert methods_of("/chats/start") == {"POST"}
    assert methods_of("/chats/17") == {"GET", "DELETE"}
    assert methods_of("/elsewhere") == set()


def test_paths_are_those_of_the_document() -> None:
    """It knows no id with slashes in it, and no page."""
    methods_of = methods_in(router().routes)
    assert methods_of("/people/7/ban") == {"POST"}
    assert methods_of("/people/7") == {"GET"}
    assert methods_of("/robots.txt") == set()
