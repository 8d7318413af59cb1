"""What a request of the Responses API brings: messages, and what functions have answered.

A client sends new items, or all it knows: its messages, our answers with their calls, and
what came of those. It becomes messages of our kind; what belongs to a call that was made
before is kept apart, because the answer that made the call is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, assert_never

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from chatkeep.answering.parts import Part, stored
from chatkeep.errors import Invalid
from chatkeep.events import ToolCall, ToolResult
from chatkeep.files import ADDRESS
from chatkeep.ids import new_id
from chatkeep.openai_api.conversation_items import NewMessage
from chatkeep.tools import OUTPUT_AT_MOST
from chatkeep.web.openai.bodies import Name, Text, address_of_an_image, storable
from chatkeep.web.openai.held_files import held, media_type_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_TEXT_KINDS = frozenset({"input_text", "output_text", "text", "refusal"})


StoredText = Annotated[Text, AfterValidator(storable)]
CallId = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(storable)]


class _Item(BaseModel):
    # Clients send back what they were given, with members that say nothing new.
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class InputContent(_Item):
    """A part of a message: text, an image by its address, or a file.

    A file is held in its part (`file_data`, a `data:` address), or was uploaded before.
    """

    type: Literal["input_text", "output_text", "text", "refusal", "input_image", "input_file"]
    text: StoredText | None = None
    refusal: StoredText | None = None
    image_url: (
        Annotated[str, Field(max_length=1_000_000), AfterValidator(address_of_an_image)] | None
    ) = None
    file_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")] | None = None
    file_data: Annotated[str, AfterValidator(held)] | None = None
    filename: Annotated[StoredText, Field(max_length=300)] | None = None

    @property
    def as_file(self) -> dict[str, Any] | None:
        """The file as a part of a message of ours; None where there is none.

        Raises:
            Invalid: it is said to be one, and is nowhere.
        """
        url = self.file_data if self.file_id is None else f"{ADDRESS}{self.file_id}"
        if self.type == "input_file" and url is None:
            raise Invalid.of("input", "must have a `file_id` or `file_data` in an input_file")
        if url is None or self.type not in {"input_file", "input_image"}:
            return None
        name = self.filename or "file"
        return {"type": "file", "mediaType": media_type_of(url), "filename": name, "url": url}


Contents = Annotated[list[InputContent], Field(max_length=1000)]


class InputMessage(_Item):
    """A message, of the person or of an answer that the client keeps itself."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: StoredText | Contents

    @property
    def text(self) -> str:
        """Everything that it says in words."""
        if isinstance(self.content, str):
            return self.content
        said = (one.text or one.refusal for one in self.content if one.type in _TEXT_KINDS)
        return "\n\n".join(text for text in said if text)

    @property
    def files(self) -> list[dict[str, Any]]:
        """Its files, as parts of a message of ours."""
        parts = () if isinstance(self.content, str) else self.content
        return [found for one in parts if (found := one.as_file) is not None]

    @property
    def images(self) -> list[str]:
        """The addresses of its images."""
        parts = () if isinstance(self.content, str) else self.content
        return [one.image_url for one in parts if one.image_url is not None]


class InputSummary(_Item):
    """A part of what a model thought."""

    text: StoredText = ""


class InputReasoning(_Item):
    """What a model thought in an earlier answer."""

    type: Literal["reasoning"]
    summary: Annotated[list[InputSummary], Field(max_length=1000)] = Field(default_factory=list)


class InputCall(_Item):
    """A function that an earlier answer asked for."""

    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: StoredText


class InputOutput(_Item):
    """What a function of the client's has answered."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: StoredText | Contents

    @property
    def text(self) -> str:
        """The answer in words.

        Raises:
            Invalid: it has something else, or too much.
        """
        if isinstance(self.output, str):
            text = self.output
        elif all(one.text is not None for one in self.output):
            text = "\n\n".join(one.text or "" for one in self.output)
        else:
            raise Invalid.of("input", "may have only text in the output of a function")
        if len(text.encode()) > OUTPUT_AT_MOST:
            limit = f"must not have a function's output of more than {OUTPUT_AT_MOST} bytes"
            raise Invalid.of("input", limit)
        return text


class InputRan(_Item):
    """A tool that has run here, in an earlier answer."""

    type: Literal["mcp_call"]
    id: CallId
    name: Name
    arguments: StoredText
    output: StoredText | None = None
    error: StoredText | None = None


class InputAsked(_Item):
    """The question whether a tool may run, sent back: it is known here."""

    type: Literal["mcp_approval_request"]
    id: CallId


class InputReference(_Item):
    """An item that is kept here, by its id; `references.resolved` puts it in its place."""

    type: Literal["item_reference"] | None = None
    id: CallId


class InputApproval(_Item):
    """Whether a tool may be run here."""

    type: Literal["mcp_approval_response"]
    approval_request_id: CallId
    approve: bool


def _kind_of(sent: object) -> str:
    if isinstance(sent, dict) and sent.get("type") is None:  # both may leave it out
        return "message" if "role" in sent else "item_reference"
    kind = sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", "")
    return kind if isinstance(kind, str) else ""


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputReasoning, Tag("reasoning")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputOutput, Tag("function_call_output")]
    | Annotated[InputRan, Tag("mcp_call")]
    | Annotated[InputAsked, Tag("mcp_approval_request")]
    | Annotated[InputApproval, Tag("mcp_approval_response")]
    | Annotated[InputReference, Tag("item_reference")],
    Discriminator(
        _kind_of,
        custom_error_type="item_type",
        custom_error_message=(
            "is of a type that is not taken here: messages, reasoning, function_call,"
            " function_call_output, mcp_call, mcp_approval_request, mcp_approval_response and"
            " item_reference are"
        ),
    ),
]


@dataclass(slots=True)
class Given:
    """What a request brings, in our words.

    *messages* are new. *outputs* and *approvals* belong to calls and questions that an answer
    of ours made; *begun* are the parts of an answer that the model is to go on with.
    """

    messages: list[NewMessage] = field(default_factory=list)
    outputs: dict[str, ToolResult] = field(default_factory=dict)
    approvals: dict[str, bool] = field(default_factory=dict)
    begun: list[Part] = field(default_factory=list)


def read(
    items: str | Sequence[InputItem] | None, *, known: Collection[str] = (), is_whole: bool = False
) -> Given:
    """Return what *items* bring; *known* are the calls that an answer of ours waits for.

    When it *is_whole*, no model goes on with it: an answer at the end is a message too.

    Raises:
        Invalid: they contradict each other, or there is nothing to answer.
    """
    if isinstance(items, str):
        items = [InputMessage(role="user", content=items)]
    reading = _Reading(known)
    for item in items or ():
        reading.take(item)
    return reading.end(is_whole=is_whole)


class _Reading:
    """Items on their way to messages."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._given = Given()
        self._answer: list[Part] = []

    def take(self, item: InputItem) -> None:
        """Take the next item."""
        match item:
            case InputMessage(role="assistant"):
                self._say("text", item.text)
            case InputMessage():
                self._close()
                self._given.messages.append(_message(item))
            case InputReasoning():
                self._say("reasoning", "\n\n".join(one.text for one in item.summary))
            case InputCall():
                self._call(item)
            case InputOutput():
                self._output(item)
            case InputRan():
                self._ran(item)
            case InputAsked():
                pass
            case InputReference():
                raise Invalid.of("input", "must not have an item_reference here")
            case InputApproval():
                self._given.approvals[item.approval_request_id] = item.approve
            case _:
                assert_never(item)

    def end(self, *, is_whole: bool) -> Given:
        """Return everything; an answer at the end is one to go on with, or a message too."""
        if not is_whole and any(part.call is not None for part in self._answer):
            _refuse_unanswered(self._answer)
            self._given.begun, self._answer = self._answer, []
        self._close()
        return self._given

    def _say(self, kind: Literal["text", "reasoning"], text: str) -> None:
        if text:
            self._next_step()
            self._answer.append(Part(kind, [text]))

    def _call(self, item: InputCall) -> None:
        if item.call_id in self._known and not self._given.messages:
            return  # ours, sent back
        if not (self._answer and self._answer[-1].call and self._answer[-1].result is None):
            self._next_step()
        call = ToolCall(call_id=item.call_id, name=item.name, arguments=item.arguments)
        self._answer.append(Part("tool", call=call))

    def _ran(self, item: InputRan) -> None:
        self._next_step()
        call = ToolCall(call_id=item.id, name=item.name, arguments=item.arguments)
        result = ToolResult(call_id=item.id, output=item.output, error=item.error)
        self._answer.append(Part("tool", call=call, result=result))

    def _output(self, item: InputOutput) -> None:
        result = ToolResult(call_id=item.call_id, output=item.text)
        for part in reversed(self._answer):
            if part.call is not None and part.call.call_id == item.call_id:
                part.result = result
                return
        if self._given.messages or self._answer:
            raise no_call()
        self._given.outputs[item.call_id] = result

    def _next_step(self) -> None:
        """After what tools have answered, the model was asked again."""
        if self._answer and self._answer[-1].result is not None:
            self._answer.append(Part("step"))

    def _close(self) -> None:
        if self._answer:
            _refuse_unanswered(self._answer)
            text = "".join(part.text for part in self._answer if part.kind == "text")
            kept = stored(self._answer)
            self._given.messages.append(
                NewMessage(id=new_id(), role="assistant", content=text, parts=kept)
            )
            self._answer = []


def no_call() -> Invalid:
    """Return the refusal of an output that nothing was asked for."""
    return Invalid.of("input", "has the output of a function call that was not made")


def no_output() -> Invalid:
    """Return the refusal of an answer that waits for a function which has not answered."""
    return Invalid.of("input", "must have the output of every function call that waits for one")


def _refuse_unanswered(parts: Iterable[Part]) -> None:
    if any(part.waits for part in parts):
        raise no_output()


def _message(item: InputMessage) -> NewMessage:
    role: Literal["system", "user"] = "user" if item.role == "user" else "system"
    images, files = item.images, item.files
    if (images or files) and role != "user":
        raise Invalid.of("input", "may have images and files only in messages of the user")
    if not item.text.strip() and not images and not files:
        raise Invalid.of("input", "must not have a message without text")
    return NewMessage(
        id=new_id(), role=role, content=item.text, parts=_shown(item.text, images, files)
    )


def _shown(
    text: str, images: Sequence[str], files: Sequence[dict[str, Any]]
) -> list[dict[str, Any]] | None:
    """Return a user's text, images and files as a message has them; None with text alone."""
    if not images and not files:
        return None
    said = [{"type": "text", "text": text}] if text else []
    return [*said, *(_file(url) for url in images), *files]


def _file(url: str) -> dict[str, Any]:
    media_type = url[5 : url.find(";")] if url.startswith("data:image/") else "image/*"
    return {"type": "file", "mediaType": media_type[:100], "url": url}
