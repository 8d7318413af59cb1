"""The parts of an answer, while they grow and as they are kept.

They are kept in `chat.messages.parts` as the AI SDK shapes the parts of a message, so that
its client can be given them as they are. An answer of plain text has none: its content says
everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from chatkeep.events import Source, ToolCall, ToolResult
from chatkeep.storable import has_nul, is_too_deep

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["text", "reasoning", "tool", "source", "step"]
#: A part or more of its text: its number, where its text begins, and it as it is kept.
Graft = tuple[int, int, dict[str, Any]]


@dataclass(slots=True)
class Part:
    """A growing run of text of one kind, or one whole thing that is none.

    A tool has its *call*, and later its *result*; *approval_id* when it waits, or waited,
    for the person, and *approved* what they said. A "step" is where the model was asked
    again.
    """

    kind: Kind
    pieces: list[str] = field(default_factory=list)
    call: ToolCall | None = None
    approval_id: str | None = None
    approved: bool | None = None
    result: ToolResult | None = None
    source: Source | None = None

    @property
    def text(self) -> str:
        """Everything so far."""
        return "".join(self.pieces)

    @property
    def waits(self) -> bool:
        """Whether a tool was asked for and has not answered."""
        return self.call is not None and self.result is None


def stored(parts: Sequence[Part]) -> list[dict[str, Any]] | None:
    """Return *parts* as they are kept; None when there is text and nothing else."""
    if all(part.kind == "text" for part in parts) and len(parts) <= 1:
        return None
    return [_stored(part) for part in parts]


def unstored(content: str, parts: Sequence[dict[str, Any]] | None) -> list[Part]:
    """Return the parts that `stored` wrote, each whole."""
    if parts is None:
        return [Part("text", [content])] if content else []
    return [_unstored(part) for part in parts]


def with_results(results: Sequence[ToolResult], parts: Sequence[Part]) -> list[Part]:
    """Return *parts*, with *results* where they belong."""
    found = {one.call_id: one for one in results}
    return [
        replace(part, result=found[part.call.call_id])
        if part.call is not None and part.call.call_id in found
        else part
        for part in parts
    ]


class Growth:
    """The parts of an answer made elsewhere, seen through its checkpoints.

    A checkpoint is the whole answer so far; `take` keeps only what it has more than the
    one before, as one further piece, so that a reader can go on where it was.
    """

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.parts: list[Part] = []

    def take(self, seen: Sequence[Part]) -> None:
        """Add what *seen* has more."""
        for index, part in enumerate(seen):
            if index == len(self.parts):
                self.parts.append(Part(part.kind, call=part.call, source=part.source))
            known = self.parts[index]
            _note_tool(known, part)
            if len(new := part.text[len(known.text) :]):
                known.pieces.append(new)

    def graft(self, grafts: Sequence[Graft]) -> list[Graft]:
        """Add what *grafts* have more; return those that begin behind a gap, and all after."""
        for done, (index, at, shown) in enumerate(grafts):
            if index > len(self.parts) or (index == len(self.parts) and at > 0):
                return list(grafts[done:])
            part = _unstored(shown)
            if index == len(self.parts):
                self.parts.append(part)
                continue
            known = self.parts[index]
            has = len(known.text)
            if at > has:
                return list(grafts[done:])
            _note_tool(known, part)
            if new := part.text[has - at :]:
                known.pieces.append(new)
        return []


class Cut:
    """How much of a growing answer was told already, so that only the rest is told next."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._index = 0
        self._pieces = 0
        self._length = 0
        self._open: dict[int, dict[str, Any]] = {}

    def take(self, parts: Sequence[Part]) -> list[Graft]:
        """Return what *parts* have that was not told yet."""
        found: list[Graft] = []
        for index, told in list(self._open.items()):
            if (shown := _stored(parts[index])) != told:
                found.append((index, 0, shown))
                self._keep_open(index, parts[index], shown)
        while self._index < len(parts):
            part = parts[self._index]
            if part.kind in {"text", "reasoning"}:
                found += self._more_text(part)
            else:
                shown = _stored(part)
                found.append((self._index, 0, shown))
                self._keep_open(self._index, part, shown)
            if self._index == len(parts) - 1 and part.kind in {"text", "reasoning"}:
                break
            self._index, self._pieces, self._length = self._index + 1, 0, 0
        return found

    def _more_text(self, part: Part) -> list[Graft]:
        new = "".join(part.pieces[self._pieces :])
        at, self._pieces = self._length, len(part.pieces)
        self._length += len(new)
        return [(self._index, at, {"type": part.kind, "text": new})] if new else []

    def _keep_open(self, index: int, part: Part, shown: dict[str, Any]) -> None:
        if part.waits:
            self._open[index] = shown
        else:
            self._open.pop(index, None)


def _note_tool(known: Part, seen: Part) -> None:
    """Take over what a tool said since; what is known stays where *seen* is older."""
    known.approval_id = seen.approval_id or known.approval_id
    known.approved = known.approved if seen.approved is None else seen.approved
    known.result = seen.result or known.result


def _stored(part: Part) -> dict[str, Any]:
    if part.call is not None:
        return _stored_tool(part, part.call)
    if part.source is not None:
        shown = {"type": "source-url", "sourceId": part.source.source_id, "url": part.source.url}
        return shown if part.source.title is None else {**shown, "title": part.source.title}
    if part.kind == "step":
        return {"type": "step-start"}
    return {"type": part.kind, "text": part.text}


def _stored_tool(part: Part, call: ToolCall) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "dynamic-tool",
        "toolCallId": call.call_id,
        "toolName": call.name,
        "state": _state(part),
        "input": arguments_of(call),
    }
    if part.approval_id is not None:
        found["approval"] = {"id": part.approval_id}
        if part.approved is not None:
            found["approval"]["approved"] = part.approved
    if part.result is not None and not part.result.denied:
        if part.result.error is not None:
            found["errorText"] = part.result.error
        else:
            found["output"] = part.result.output
    return found


def _state(part: Part) -> str:
    if part.result is not None:
        if part.result.denied:
            return "output-denied"
        return "output-available" if part.result.error is None else "output-error"
    if part.approval_id is None:
        return "input-available"
    return "approval-requested" if part.approved is None else "approval-responded"


def arguments_of(call: ToolCall) -> Any:  # noqa: ANN401 -- JSON can be anything
    """Return what the model wrote for a tool, as JSON where it is an object or a list.

    What could not be kept like that is a text.
    """
    written = call.arguments.replace("\x00", "")
    try:
        found = msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return written
    is_kept = isinstance(found, dict | list) and not is_too_deep(found)
    return found if is_kept and not has_nul(written.encode()) else written


def _unstored(part: dict[str, Any]) -> Part:
    match part:
        case {"type": "dynamic-tool", "toolCallId": str(), "toolName": str()}:
            return _unstored_tool(part)
        case {"type": "source-url", "sourceId": str(known), "url": str(url)}:
            return Part("source", source=Source(source_id=known, url=url, title=part.get("title")))
        case {"type": "step-start"}:
            return Part("step")
        case {"type": "reasoning", "text": str(text)}:
            return Part("reasoning", [text])
        case _:
            return Part("text", [str(part.get("text", ""))])


def _unstored_tool(part: dict[str, Any]) -> Part:
    written = part.get("input", "")
    arguments = written if isinstance(written, str) else msgspec.json.encode(written).decode()
    approval = part.get("approval") or {}
    return Part(
        "tool",
        call=ToolCall(call_id=part["toolCallId"], name=part["toolName"], arguments=arguments),
        approval_id=approval.get("id"),
        approved=approval.get("approved"),
        result=_unstored_result(part),
    )


def _unstored_result(part: dict[str, Any]) -> ToolResult | None:
    call_id = part["toolCallId"]
    match part.get("state"):
        case "output-available":
            return ToolResult(call_id=call_id, output=part.get("output"))
        case "output-error":
            return ToolResult(call_id=call_id, error=str(part.get("errorText", "")))
        case "output-denied":
            return ToolResult(call_id=call_id, denied=True)
    return None
