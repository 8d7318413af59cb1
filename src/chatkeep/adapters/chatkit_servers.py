"""An application's `ChatKitServer` as a responder: its `respond`, on every surface.

Its store shows it the conversation of the turn, as it is kept here, and keeps nothing: what
it says is kept with the answer. What only ChatKit has a form for (widgets, forms, progress)
is shown on the surface of ChatKit alone; for that there is the setting CHATKIT_SERVER.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import aclosing
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
from chatkit.errors import CustomStreamError, StreamError
from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError, Store
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ClientToolCallItem,
    ErrorEvent,
    InferenceOptions,
    Page,
    SearchTask,
    ThoughtTask,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    URLSource,
    UserMessageItem,
    UserMessageTextContent,
    WidgetItem,
    WorkflowItem,
)

from chatkeep.answering.prompts import answer_messages
from chatkeep.errors import ModelBroken, ModelRefused, ModelUnavailable, SetupError
from chatkeep.events import (
    Done,
    NextStep,
    ReasoningDelta,
    Source,
    TextDelta,
    ToolCall,
    is_web_address,
)
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from chatkit.types import Attachment, ThreadItem, ThreadStreamEvent

    from chatkeep.answering.responders import Asked
    from chatkeep.events import ReplyEvent
    from chatkeep.llm.model import PromptMessage

_log = logging.getLogger(__name__)

#: The conversation of the turn that the present task answers.
_shown: ContextVar[list[ThreadItem]] = ContextVar("shown_to_a_chatkit_server")


class ChatKitServerResponder:
    """Lets *server*, one or what makes one, answer every turn.

    Its `respond` gets as its context what *context* makes of the turn; by default a
    dictionary as `CHATKIT_SERVER` gives it, without a request.
    """

    def __init__(
        self,
        server: ChatKitServer[Any] | type[ChatKitServer[Any]],
        *,
        context: Callable[[Asked], Any] | None = None,
    ) -> None:
        """Make the server, if it is not made, and let it see our conversations.

        Raises:
            SetupError: it cannot be made with a store, and perhaps a place for files.
        """
        store = _Conversation()
        self._server = server if isinstance(server, ChatKitServer) else _made(server, store)
        self._server.store = store
        self._context = context or _context

    async def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer; see `Responder`."""
        thread = ThreadMetadata(id=asked.run.conversation_id or new_id(), created_at=_now())
        messages = [*asked.prompt.messages, *answer_messages(asked.begun)]
        items = list(_items(messages, thread.id, asked.prompt.settings.model))
        question = None if asked.begun or not items else items[-1]
        _shown.set(items)
        heard = _Heard(items)
        if asked.begun:
            yield NextStep()
        given = question if isinstance(question, UserMessageItem) else None
        events = cast(
            "AsyncGenerator[ThreadStreamEvent, None]",
            self._server.respond(thread, given, self._context(asked)),
        )
        try:
            async with aclosing(events):
                async for event in events:
                    for one in heard.translated(event):
                        yield one
        except (CustomStreamError, StreamError) as error:
            _log.warning("the ChatKit server refused: %s", type(error).__name__)
            raise (ModelUnavailable if error.allow_retry else ModelRefused) from error
        yield Done(finish_reason="tool-calls" if heard.asks_client else "stop")


class _Heard:
    """What one `respond` has told so far."""

    def __init__(self, items: list[ThreadItem]) -> None:
        self._items = items
        self._said: set[str] = set()
        self.asks_client = False

    def translated(self, event: ThreadStreamEvent) -> Iterator[ReplyEvent]:
        """Yield what *event* is in our words.

        Raises:
            ModelBroken: it says that it failed.
        """
        match event:
            case ThreadItemUpdatedEvent(
                item_id=item_id, update=AssistantMessageContentPartTextDelta(delta=delta)
            ):
                self._said.add(item_id)
                yield TextDelta(text=delta)
            case ThreadItemDoneEvent(item=item):
                self._items.append(item)
                yield from self._whole(item)
            case ErrorEvent():
                raise ModelBroken

    def _message(self, item: AssistantMessageItem) -> Iterator[ReplyEvent]:
        for part in item.content:
            if item.id not in self._said:
                yield TextDelta(text=part.text)
            yield from _sources([one.source for one in part.annotations])

    def _whole(self, item: ThreadItem) -> Iterator[ReplyEvent]:
        match item:
            case AssistantMessageItem():
                yield from self._message(item)
            case WorkflowItem(workflow=workflow):
                yield from _steps(workflow.tasks)
            case ClientToolCallItem(call_id=call_id, name=name, arguments=arguments):
                self.asks_client = True
                written = msgspec.json.encode(arguments).decode()
                yield ToolCall(call_id=call_id, name=name, arguments=written)
            case WidgetItem(copy_text=str(text)):
                yield TextDelta(text=text)


def _steps(tasks: Sequence[object]) -> Iterator[ReplyEvent]:
    for task in tasks:
        if isinstance(task, ThoughtTask):
            yield ReasoningDelta(text=task.content)
        if isinstance(task, SearchTask):
            yield from _sources(task.sources)


def _sources(found: Sequence[object]) -> Iterator[Source]:
    for one in found:
        if isinstance(one, URLSource) and is_web_address(one.url):
            yield Source(source_id=one.url, url=one.url, title=one.title)


class _Conversation(Store[Any]):
    """The conversation of the present turn, to read; there is no other."""

    async def load_thread(self, thread_id: str, context: Any) -> ThreadMetadata:  # noqa: ANN401, ARG002 -- ChatKit's signature
        return ThreadMetadata(id=thread_id, created_at=_now())

    async def load_thread_items(
        self,
        thread_id: str,  # noqa: ARG002 -- ChatKit's signature
        after: str | None,
        limit: int,
        order: str,
        context: Any,  # noqa: ANN401, ARG002 -- as above
    ) -> Page[ThreadItem]:
        items = _shown.get([])
        items = list(reversed(items)) if order == "desc" else list(items)
        ids = [one.id for one in items]
        begin = ids.index(after) + 1 if after in ids else 0
        page = items[begin : begin + limit]
        more = begin + limit < len(items)
        return Page(data=page, has_more=more, after=page[-1].id if more and page else None)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> ThreadItem:  # noqa: ANN401, ARG002 -- as above
        found = next((one for one in _shown.get([]) if one.id == item_id), None)
        if found is None:
            raise NotFoundError(f"no item {item_id}")
        return found

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:  # noqa: ANN401, ARG002 -- as above
        _shown.get([]).append(item)

    async def save_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:  # noqa: ANN401, ARG002 -- as above
        items = _shown.get([])
        place = next((n for n, one in enumerate(items) if one.id == item.id), len(items))
        items[place : place + 1] = [item]

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:  # noqa: ANN401, ARG002 -- as above
        return Page(data=[], has_more=False, after=None)

    async def save_thread(self, thread: ThreadMetadata, context: Any) -> None:  # noqa: ANN401 -- as above
        """Keep nothing."""

    async def save_attachment(self, attachment: Attachment, context: Any) -> None:  # noqa: ANN401 -- as above
        """Keep nothing."""

    async def load_attachment(self, attachment_id: str, context: Any) -> Attachment:  # noqa: ANN401, ARG002 -- as above
        raise NotFoundError(f"no attachment {attachment_id}")

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:  # noqa: ANN401 -- as above
        """Keep nothing."""

    async def delete_thread(self, thread_id: str, context: Any) -> None:  # noqa: ANN401 -- as above
        """Keep nothing."""

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:  # noqa: ANN401 -- as above
        """Keep nothing."""


def _items(messages: Sequence[PromptMessage], thread_id: str, model: str) -> Iterator[ThreadItem]:
    """The conversation in ChatKit's words. Its own orders are the server's business."""
    outputs = {one.call_id: one.text for one in messages if one.role == "tool"}
    for number, one in enumerate(messages):
        known: dict[str, Any] = {
            "id": f"msg_{number}",
            "thread_id": thread_id,
            "created_at": _now(),
        }
        if one.role == "user":
            yield UserMessageItem(
                **known,
                content=[UserMessageTextContent(text=one.text)],
                inference_options=InferenceOptions(model=model),
            )
        elif one.role == "assistant" and one.text:
            yield AssistantMessageItem(**known, content=[AssistantMessageContent(text=one.text)])
        for call in one.calls:
            yield ClientToolCallItem(
                **{**known, "id": f"msg_{number}_{call.call_id}"},
                status="completed",
                call_id=call.call_id,
                name=call.name,
                arguments=_object(call.arguments),
                output=outputs.get(call.call_id),
            )


def _object(written: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(written, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _made(server: type[ChatKitServer[Any]], store: Store[Any]) -> ChatKitServer[Any]:
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    takes = [one for one in inspect.signature(server).parameters.values() if one.kind in kinds]
    given: tuple[Any, ...] = (store, None)
    try:
        return server(*given[: len(takes)])
    except TypeError as error:
        raise SetupError(f"RESPONDER: {server.__name__} is not made with a store alone.") from error


def _context(asked: Asked) -> dict[str, Any]:
    return {
        "request": None,
        "user_id": None if asked.who is None else asked.who.user_id,
        "principal": asked.who,
        "locale": None,
        "metadata": {},
    }


def _now() -> datetime:
    return datetime.now(UTC)
