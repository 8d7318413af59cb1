"""A client of ChatKit's protocol: its requests, and its answers checked with the SDK's types."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from chatkit.types import ChatKitReq, ThreadStreamEvent
from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.serving import Answer, Client, Event, Stream

ROUTE = "/support/chatkit"
_requests: TypeAdapter[ChatKitReq] = TypeAdapter(ChatKitReq)
_events: TypeAdapter[ThreadStreamEvent] = TypeAdapter(ThreadStreamEvent)


def said_by_user(text: str, *files: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- any member of the input
    """Return a user's input."""
    return {
        "content": [{"type": "input_text", "text": text}],
        "attachments": list(files),
        "inference_options": {},
        **more,
    }


def request(kind: str, /, **params: Any) -> dict[str, Any]:  # noqa: ANN401 -- any parameter
    """Return a sound request of ChatKit."""
    made = {"type": kind, "params": params}
    _requests.validate_python(made)
    return made


class Kit:
    """Somebody with a support chat open."""

    def __init__(self, client: Client) -> None:
        """Call as *client*."""
        self.client = client

    async def call(self, kind: str, /, **params: Any) -> Answer:  # noqa: ANN401 -- any parameter
        """Send a request and return the whole answer."""
        return await self.client.post(ROUTE, request(kind, **params))

    @asynccontextmanager
    async def open(self, kind: str, /, **params: Any) -> AsyncIterator[Stream]:  # noqa: ANN401 -- any parameter
        """Send a request and read its stream while it comes; leaving the block hangs up."""
        async with self.client.stream(ROUTE, request(kind, **params)) as stream:
            yield stream

    async def stream(self, kind: str, /, **params: Any) -> list[dict[str, Any]]:  # noqa: ANN401 -- any parameter
        """Send a request and return the events of its stream, all of them sound."""
        async with self.open(kind, **params) as stream:
            assert stream.status == 200, await stream.rest()
            return checked(await stream.rest())

    async def create(self, text: str = "Hi", **more: Any) -> tuple[str, list[dict[str, Any]]]:  # noqa: ANN401 -- any member of the input
        """Begin a thread; return its id and the events."""
        events = await self.stream("threads.create", input=said_by_user(text, **more))
        return events[0]["thread"]["id"], events

    async def items(self, thread: str, **more: Any) -> list[dict[str, Any]]:  # noqa: ANN401 -- any parameter
        """Return the items of a thread, oldest first."""
        answer = await self.call("items.list", thread_id=thread, order="asc", **more)
        assert answer.status == 200, answer.text
        found: list[dict[str, Any]] = answer.json["data"]
        return found


def checked(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return what *events* say, each of which the SDK understands."""
    for event in events:
        _events.validate_python(event.data)
    return [event.data for event in events]


def done_items(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items that were finished."""
    return [event["item"] for event in events if event["type"] == "thread.item.done"]


def text_of(item: dict[str, Any]) -> str:
    """Return the text of a message."""
    return "".join(part["text"] for part in item["content"])
