"""Chat-completion chunks: the payloads of a provider's stream, turned into our events.

Pure: no I/O. Whatever a provider sends, the outcome is events or one error of
`chatkeep.errors`; nothing else gets out. Text leaves here fit for PostgreSQL: no lone
surrogates, no NUL.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal  # noqa: TC003 -- msgspec reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from chatkeep.errors import ChatkeepError, ModelBroken
from chatkeep.events import (
    COST_BELOW,
    TOKENS_AT_MOST,
    Done,
    FinishReason,
    ModelEvent,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from chatkeep.llm.failures import Failure, understand
from chatkeep.llm.said import Halves, Said, storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_ANSWER_CHARACTERS = 8 << 20

_DONE = b"[DONE]"
_MAX_TOOL_CALLS = 128
_MAX_MODEL_CHARACTERS = 200
_COST_PLACES = 12

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "error": "error",
}

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _ReasoningDetail(msgspec.Struct, gc=False):
    text: str | None = None
    summary: str | None = None


class _ContentPart(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | list[_ReasoningDetail] | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCallPiece(msgspec.Struct, gc=False):
    index: _Count | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    """What one chunk adds. Providers name reasoning in three ways, some in two at once.

    Mistral's models that reason say all of it in parts of the content.
    """

    content: str | list[_ContentPart] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[_ReasoningDetail] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCallPiece] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None
    error: Any = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    cost: Decimal | None = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class AnswerReader:
    """Reads the payloads of one answer, in order.

    `ended` is set by `[DONE]`, after which nothing counts; `finished` as soon as the
    provider has said why the model stopped; `failure` is the error it reported, if any.
    """

    def __init__(self) -> None:
        """Start before the first payload."""
        self.ended = False
        self._finish_reason: str | None = None
        self._model: str | None = None
        self._usage: _Usage | None = None
        self._tools = _ToolCalls()
        self._characters = 0
        self._halves = Halves()
        self.failure: Failure | None = None

    @property
    def finished(self) -> bool:
        """Whether the answer is complete; only the usage may still come."""
        return self.ended or self._finish_reason is not None

    def read(self, payloads: Iterable[bytes]) -> Iterator[ModelEvent]:
        """Yield the text and reasoning of *payloads*, neighbours of a kind joined.

        Joining costs no time, because the pieces arrived together, and saves every step
        behind us from handling each token of a fast model by itself.

        Raises:
            ModelBroken: a payload that cannot be understood; what came before is yielded.
            ChatkeepError: the provider reported an error inside the stream.
        """
        said, failure = Said(), None
        try:
            for payload in payloads:
                self._read_payload(payload, said)
                if self.ended:
                    break
        except ChatkeepError as error:
            failure = error
        yield from said.events(self._halves)
        if failure is not None:
            raise failure

    def read_last(self, payload: bytes | None) -> Iterator[ModelEvent]:
        """Yield what an event says that no blank line ended before the stream did.

        The standard drops it, and some providers send none behind their last. Half of one says
        nothing here either: an object that was cut off anywhere is no JSON.

        Raises as `read`.
        """
        if payload is not None and _is_whole(payload.strip()):
            yield from self.read([payload])

    def end(self) -> Iterator[ModelEvent]:
        """Yield what can only be said at the end: tool calls, usage, `Done`.

        Raises:
            ModelBroken: the stream ended without a word that the answer is complete.
        """
        if self._finish_reason is None and not (self.ended and self.has_said):
            raise ModelBroken
        yield from self._tools.assembled()
        yield from self.usage()
        reason = _FINISH_REASONS.get(self._finish_reason or "", "other")
        yield Done(finish_reason=reason, model=self._model)

    def usage(self) -> Iterator[Usage]:
        """Yield the usage if the provider has said it, also for an answer that broke off."""
        if (used := self._usage) is not None:
            yield Usage(
                prompt_tokens=used.prompt_tokens or 0,
                completion_tokens=used.completion_tokens or 0,
                cost=_plausible(used.cost),
                cached_tokens=_detail(used.prompt_tokens_details, "cached_tokens"),
                reasoning_tokens=_detail(used.completion_tokens_details, "reasoning_tokens"),
            )

    @property
    def has_said(self) -> bool:
        """Whether anything of the answer has come, text or a call."""
        return bool(self._characters or self._tools.calls)

    def _read_payload(self, payload: bytes, said: Said) -> None:
        stripped = payload.strip()
        if self.ended or stripped == _DONE:
            self.ended = True
        elif stripped:
            self._read_chunk(self._decode(stripped), said)

    def _decode(self, payload: bytes) -> _Chunk:
        try:
            return _decoder.decode(payload)
        except msgspec.ValidationError as error:
            raise ModelBroken from error
        except (ValueError, RecursionError):
            self._halves.may_come = True
            return _decode_odd(payload)

    def _read_chunk(self, chunk: _Chunk, said: Said) -> None:
        if chunk.model and chunk.model != self._model:
            self._model = storable(chunk.model)[:_MAX_MODEL_CHARACTERS]
        if chunk.usage is not None:
            self._usage = chunk.usage
        error = chunk.error
        for choice in chunk.choices or ():
            if not choice.index:  # we never ask for more than one choice
                if choice.delta is not None:
                    self._read_delta(choice.delta, said)
                self._finish_reason = choice.finish_reason or self._finish_reason
                error = error or choice.error
        if error or self._finish_reason == "error":
            self.failure = understand(error)
            raise self.failure.as_error_in_stream()

    def _read_delta(self, delta: _Delta, said: Said) -> None:
        if reasoning := _reasoning(delta):
            said.add(ReasoningDelta, self._counted(reasoning))
        if isinstance(delta.content, list):
            self._read_parts(delta.content, said)
        elif text := delta.content or delta.refusal:
            said.add(TextDelta, self._counted(text))
        for piece in delta.tool_calls or ():
            self._counted(self._tools.add(piece))

    def _read_parts(self, parts: list[_ContentPart], said: Said) -> None:
        for part in parts:
            thought = part.thinking or ""
            if isinstance(thought, list):
                thought = "".join(detail.text or "" for detail in thought)
            if thought:
                said.add(ReasoningDelta, self._counted(thought))
            if part.text:
                said.add(TextDelta, self._counted(part.text))

    def _counted(self, text: str) -> str:
        """Refuse an answer that would fill our memory; *text* is returned as it came."""
        self._characters += len(text)
        if self._characters > MAX_ANSWER_CHARACTERS:
            raise ModelBroken
        return text


@dataclass(slots=True)
class _Call:
    """A tool call in the making."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class _ToolCalls:
    """Puts the pieces of tool calls together."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def add(self, piece: _ToolCallPiece) -> str:
        """Add *piece* to its call and return the text it brought."""
        function = piece.function or _Function()
        call = self._find(piece) or self._begin(piece)
        call.id = call.id or piece.id or ""
        call.name = call.name or function.name or ""
        call.arguments.append(function.arguments or "")
        return call.arguments[-1]

    def assembled(self) -> list[ToolCall]:
        """Return the whole calls, in the order they began."""
        if not all(call.name for call in self.calls):
            raise ModelBroken
        return [
            ToolCall(
                call_id=storable(call.id) or f"call_{number}",
                name=storable(call.name),
                arguments=storable("".join(call.arguments)) or "{}",
            )
            for number, call in enumerate(self.calls)
        ]

    def _find(self, piece: _ToolCallPiece) -> _Call | None:
        if piece.index is None:
            call = None if _name(piece) or not self.calls else self.calls[-1]
        else:
            call = self._by_index.get(piece.index)
        # Some providers number every parallel call 0; their ids tell them apart, or their names.
        if call is not None and (_differ(piece.id, call.id) or _differ(_name(piece), call.name)):
            return None
        return call

    def _begin(self, piece: _ToolCallPiece) -> _Call:
        if len(self.calls) >= _MAX_TOOL_CALLS:
            raise ModelBroken
        self.calls.append(_Call())
        if piece.index is not None:
            self._by_index[piece.index] = self.calls[-1]
        return self.calls[-1]


def _name(piece: _ToolCallPiece) -> str | None:
    return piece.function.name if piece.function is not None else None


def _differ(said: str | None, known: str) -> bool:
    return bool(said and known) and said != known


def _reasoning(delta: _Delta) -> str:
    if plain := delta.reasoning or delta.reasoning_content:
        return plain
    if not delta.reasoning_details:  # as of nearly every chunk
        return ""
    return "".join(detail.text or detail.summary or "" for detail in delta.reasoning_details)


def _detail(told: object, name: str) -> int:
    """Return a count that nothing depends on: what makes no sense is none."""
    count = told.get(name) if isinstance(told, dict) else None
    return count if type(count) is int and 0 <= count <= TOKENS_AT_MOST else 0


def _plausible(cost: Decimal | None) -> Decimal | None:
    """Take a cost that can be booked; the answer does not fail for one that cannot."""
    if cost is None or not cost.is_finite() or not 0 <= cost < COST_BELOW:
        return None
    return round(cost, _COST_PLACES)


def _is_whole(payload: bytes) -> bool:
    if payload == _DONE:
        return True
    try:
        return isinstance(json.loads(payload.decode("utf-8", "replace")), dict)
    except (ValueError, RecursionError):
        return False


def _decode_odd(payload: bytes) -> _Chunk:
    """Decode what the strict decoder refuses for its text: bad UTF-8, lone surrogates.

    The first becomes U+FFFD, the second stay, for what is on their other side may come yet;
    everything else that is not JSON stays refused.
    """
    try:
        value = json.loads(payload.decode("utf-8", "replace"))
        json.dumps(value, allow_nan=False)
        return msgspec.convert(value, _Chunk)
    except (ValueError, RecursionError) as error:
        raise ModelBroken from error
