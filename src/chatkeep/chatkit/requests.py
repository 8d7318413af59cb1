"""ChatKit's requests, read and checked before anything is answered.

The SDK looks for a thread after its stream has begun, where only a broken connection can
say no; it asks nobody whose items are rated, and lets a closed thread be written to. So
everything that can be refused is refused here, with a status of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError
from chatkit.types import (
    AttachmentsDeleteReq,
    ChatKitReq,
    ClientToolCallItem,
    InputTranscribeReq,
    ItemsFeedbackReq,
    ItemsListReq,
    StructuredInputItem,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsListReq,
    ThreadsRetryAfterItemReq,
    ThreadsSyncCustomActionReq,
    ThreadsUpdateReq,
    UserMessageItem,
    WidgetItem,
)
from pydantic import TypeAdapter, ValidationError

from chatkeep.chatkit.store import PAGE_AT_MOST
from chatkeep.errors import BadRequest, Conflict, NotFound
from chatkeep.storable import is_too_deep

if TYPE_CHECKING:
    from chatkit.types import ThreadMetadata, UserMessageInput

    from chatkeep.chatkit.answering import Engine
    from chatkeep.chatkit.context import ChatKitContext

_MESSAGE_AT_MOST: Final = 200_000
_FILES_AT_MOST: Final = 20
_TITLE_AT_MOST: Final = 200
_ERRORS_AT_MOST: Final = 20
_requests: Final[TypeAdapter[ChatKitReq]] = TypeAdapter(ChatKitReq)

#: What changes a thread, and so waits for whoever is changing it.
CHANGES: Final = (
    ThreadsAddUserMessageReq,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsRetryAfterItemReq,
    ThreadsCustomActionReq,
    ThreadsSyncCustomActionReq,
)


def read_request(body: bytes) -> ChatKitReq:
    """Return the request that *body* is, its limits within bounds.

    Raises:
        BadRequest: it is none; `errors` names the fields, and no values.
    """
    try:
        request = _requests.validate_json(body)
    except ValidationError as error:
        problems = [_problem(one) for one in error.errors()[:_ERRORS_AT_MOST]]
        raise BadRequest("This is no request of ChatKit.", errors=problems) from error
    if isinstance(request, ThreadsListReq | ItemsListReq) and request.params.limit is not None:
        request.params.limit = max(1, min(request.params.limit, PAGE_AT_MOST))
    said = request.model_dump()
    if is_too_deep(said):
        raise BadRequest("The request is nested too deep.")
    if not _is_storable(said):
        raise BadRequest("The request holds a character that cannot be stored.")
    return request


def thread_of(request: ChatKitReq) -> str | None:
    """Return the thread that *request* names."""
    found = getattr(request.params, "thread_id", None)
    return None if found is None else str(found)


class Checks:
    """What must hold before a request is answered."""

    def __init__(self, server: ChatKitServer[ChatKitContext], engine: Engine, *, own: bool) -> None:
        """Check for *server*; it is our *own*, or an application's."""
        self._server = server
        self._engine = engine
        self._own = own

    async def check(self, request: ChatKitReq, context: ChatKitContext) -> None:
        """Refuse what *server* would fail at after it has begun to answer.

        Raises:
            NotFound: a thread, item or file is not there, or not the caller's.
            Conflict: the thread is locked or closed, or what is answered does not wait.
            BadRequest: the request contradicts itself, or nobody here serves it.
            Invalid: a model or tool that is not offered.
        """
        try:
            await self._check(request, context)
        except NotFoundError as error:
            raise NotFound from error

    async def _check(self, request: ChatKitReq, context: ChatKitContext) -> None:
        thread_id = thread_of(request)
        if thread_id is not None:
            thread = await self._server.store.load_thread(thread_id, context)
            if isinstance(request, CHANGES):
                _require_open(thread)
        match request:
            case ThreadsCreateReq() | ThreadsAddUserMessageReq():
                await self._check_input(request.params.input, context)
            case ThreadsUpdateReq():
                _require_title(request.params.title)
            case AttachmentsDeleteReq():
                await self._server.store.load_attachment(request.params.attachment_id, context)
            case InputTranscribeReq():
                self._require("transcribe", "This server writes down no speech.")
            case ThreadsCustomActionReq() | ThreadsSyncCustomActionReq():
                await self._check_action(request, context)
            case ItemsFeedbackReq():
                await self._check_rated(request, context)
            case _:
                await self._check_answered(request, context)

    async def _check_answered(self, request: ChatKitReq, context: ChatKitContext) -> None:
        store = self._server.store
        match request:
            case ThreadsRetryAfterItemReq(params=params):
                item = await store.load_item(params.thread_id, params.item_id, context)
                if not isinstance(item, UserMessageItem):
                    raise BadRequest("Only a message of the user can be answered again.")
                await self._engine.choices(context, item.inference_options)
            case ThreadsAddStructuredInputReq(params=params):
                item = await store.load_item(params.thread_id, params.item_id, context)
                if not isinstance(item, StructuredInputItem):
                    raise BadRequest("This item asks for nothing.")
                if item.status != "pending":
                    raise Conflict("This was answered before.")
            case ThreadsAddClientToolOutputReq(params=params):
                page = await store.load_thread_items(params.thread_id, None, 1, "desc", context)
                last = page.data[0] if page.data else None
                if not isinstance(last, ClientToolCallItem) or last.status != "pending":
                    raise Conflict("The thread waits for no tool.")

    async def _check_action(
        self,
        request: ThreadsCustomActionReq | ThreadsSyncCustomActionReq,
        context: ChatKitContext,
    ) -> None:
        params = request.params
        if params.item_id is not None:
            item = await self._server.store.load_item(params.thread_id, params.item_id, context)
            if not isinstance(item, WidgetItem):
                raise BadRequest("Only a widget has actions.")
        streams = isinstance(request, ThreadsCustomActionReq)
        name = "action" if streams else "sync_action"
        self._require(name, "This server knows no such action.")

    async def _check_rated(self, request: ItemsFeedbackReq, context: ChatKitContext) -> None:
        params = request.params
        if len(params.item_ids) > PAGE_AT_MOST:
            raise BadRequest(f"At most {PAGE_AT_MOST} items can be rated at once.")
        for item_id in params.item_ids:
            await self._server.store.load_item(params.thread_id, item_id, context)

    async def _check_input(self, said: UserMessageInput, context: ChatKitContext) -> None:
        text = "".join(one.text for one in said.content) + (said.quoted_text or "")
        if len(text) > _MESSAGE_AT_MOST or len(said.attachments) > _FILES_AT_MOST:
            raise BadRequest(
                f"A message has at most {_MESSAGE_AT_MOST} characters and {_FILES_AT_MOST} files."
            )
        if not text.strip() and not said.attachments:
            raise BadRequest("The message is empty.")
        for attachment_id in said.attachments:
            await self._server.store.load_attachment(attachment_id, context)
        chosen = said.inference_options.tool_choice
        if self._own and chosen and self._engine.tools.find(chosen.id) is None:
            raise BadRequest("This tool is not offered here.")
        await self._engine.choices(context, said.inference_options)

    def _require(self, method: str, refusal: str) -> None:
        """Refuse where the server has not its own *method*."""
        if getattr(type(self._server), method) is getattr(ChatKitServer, method):
            raise BadRequest(refusal)


def _require_open(thread: ThreadMetadata) -> None:
    if thread.status.type != "active":
        reason = f": {thread.status.reason}" if thread.status.reason else "."
        raise Conflict(f"This thread is {thread.status.type}{reason}")


def _require_title(title: str) -> None:
    if not 0 < len(title.strip()) <= _TITLE_AT_MOST:
        raise BadRequest(f"A title has from 1 to {_TITLE_AT_MOST} characters.")


def _problem(one: Any) -> dict[str, str]:  # noqa: ANN401 -- pydantic's own record
    path = ".".join(str(step) for step in one["loc"]) or "body"
    return {"field": path[:100], "message": str(one["msg"])[:200]}


def _is_storable(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" not in value
    if isinstance(value, dict):
        return all(_is_storable(one) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return all(_is_storable(one) for one in value)
    return True
