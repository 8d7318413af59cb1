"""Tools: Python functions that a model may ask for, run as the person who asked the model.

    tools = Tools()

    @tools.tool
    async def order_status(context: ToolContext, order: int) -> str:
        "Say where an order is."
        return await shop.status(order, of=context.who.user_id)

What the model writes is checked against the function's annotations before it is called. A
tool has as long as its `timeout_s`; what it raises is told to nobody, but for `ToolFailed`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_type_hints, overload

import msgspec

from chatkeep.blocking import NoThread, Threads
from chatkeep.cancelling import cancels_us
from chatkeep.errors import SetupError
from chatkeep.events import ToolResult
from chatkeep.llm.model import Tool
from chatkeep.storable import is_too_deep, without_nul

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chatkeep.events import ToolCall
    from chatkeep.principal import Principal

_log = logging.getLogger(__name__)

#: A longer output would fill the model's memory with one answer.
OUTPUT_AT_MOST: Final = 64 * 1024

#: What every provider takes; one of another name fails each question that offers it.
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BY_NAME: Final = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}

_threads: Final = Threads()

_Function = TypeVar("_Function", bound="Callable[..., Any]")


class ToolFailed(Exception):
    """A tool has no answer; its text is told to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """For whom, and in which conversation, a tool runs.

    *who* is the caller of the request that began the answer. Nothing that the model or a
    message says is in here.
    """

    who: Principal
    conversation_id: str
    run_id: str
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredTool:
    """One tool: how the model sees it, and how it is run.

    *function* None: the client runs it, and sends what it said with the next request.
    *takes_all*: it is given everything the model wrote as one dictionary, `arguments`.
    """

    offered: Tool
    arguments: type[msgspec.Struct] | None
    function: Callable[..., Any] | None
    takes_context: bool
    needs_approval: bool
    timeout_s: float
    takes_all: bool = False

    @property
    def waits(self) -> bool:
        """Whether somebody else must do something first: say yes, or run it."""
        return self.needs_approval or self.function is None


class Tools:
    """The tools that models may ask for. Fill it before the server starts."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[str, RegisteredTool] = {}
        self._elsewhere: dict[str, dict[str, RegisteredTool]] = {}
        self._away: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether there never was a tool: then what a model asks for is not ours to answer."""
        return not self._known and not self._elsewhere

    def copy(self) -> Tools:
        """Return the same tools, to which others can be added."""
        copied = Tools()
        copied._known = dict(self._known)
        return copied

    def put(self, source: str, tools: Sequence[RegisteredTool]) -> None:
        """Let *tools* be those of *source*, in place of what it had. Ours keep their names."""
        self._elsewhere[source] = {one.offered.name: one for one in tools}
        self._away.discard(source)

    def withdraw(self, source: str) -> None:
        """Offer the tools of *source* no more. What was asked for of them is still known."""
        self._away.add(source)

    @overload
    def tool(self, function: _Function) -> _Function: ...

    @overload
    def tool(
        self, *, name: str | None = None, needs_approval: bool = False, timeout_s: float = 30.0
    ) -> Callable[[_Function], _Function]: ...

    def tool(
        self,
        function: _Function | None = None,
        *,
        name: str | None = None,
        needs_approval: bool = False,
        timeout_s: float = 30.0,
    ) -> _Function | Callable[[_Function], _Function]:
        """Register a function, async or not; a first parameter `ToolContext` is handed in.

        Its docstring tells the model what it is for. With *needs_approval* it is run only
        after the person has said yes. A function that is not async runs in a thread of its
        own, which goes on after the time is up.

        Raises:
            SetupError: the name is taken or no name for a tool, a parameter has no type or
                cannot be given by its name, or the `ToolContext` is not the first one.
        """

        def register(one: _Function) -> _Function:
            self._add(_registered(one, name, needs_approval=needs_approval, timeout_s=timeout_s))
            return one

        return register if function is None else register(function)

    def client_tool(self, name: str, description: str, parameters: Mapping[str, Any]) -> None:
        """Register a tool that the client runs; *parameters* is a JSON Schema."""
        offered = Tool(name=name, description=description, parameters=dict(parameters))
        self._add(
            RegisteredTool(
                offered=offered,
                arguments=None,
                function=None,
                takes_context=False,
                needs_approval=False,
                timeout_s=0.0,
            )
        )

    def offered(self, *, waiting: bool = True) -> Sequence[Tool]:
        """Return the tools as a model is offered them, or those alone that are not *waiting*."""
        found = dict(self._known)
        for source, tools in self._elsewhere.items():
            if source not in self._away:
                found = {**tools, **found}
        return [one.offered for one in found.values() if waiting or not one.waits]

    def find(self, name: str) -> RegisteredTool | None:
        """Find a tool by its name."""
        own = self._known.get(name)
        if own is not None:
            return own
        return next((one[name] for one in self._elsewhere.values() if name in one), None)

    async def run(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run what *call* asks for; whatever goes wrong is a result that says so."""
        known = self.find(call.name)
        if known is None or known.function is None:
            return ToolResult(call_id=call.call_id, error=f"There is no tool {call.name!r}.")
        try:
            given = _arguments(known, call)
            async with asyncio.timeout(known.timeout_s):
                output = _written_out(call.name, await _called(known, given, context))
        except ToolFailed as failed:
            return ToolResult(call_id=call.call_id, error=_storable(str(failed)))
        except TimeoutError:
            return ToolResult(call_id=call.call_id, error="The tool took too long.")
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            # A tool's bug, or `sys.exit` in what it uses, ends that tool, said and logged.
            if cancels_us(error):
                raise
            _log.exception("the tool %s failed", call.name)
            return ToolResult(call_id=call.call_id, error="The tool failed.")
        return ToolResult(call_id=call.call_id, output=output)

    def _add(self, one: RegisteredTool) -> None:
        if not _NAME.fullmatch(one.offered.name):
            raise SetupError(
                f"A tool cannot be called {one.offered.name!r}: providers take up to 64 letters,"
                " digits, `_` and `-`."
            )
        if one.offered.name in self._known:
            raise SetupError(f"There are two tools with the name {one.offered.name}.")
        self._known[one.offered.name] = one


def _registered(
    function: Callable[..., Any], name: str | None, *, needs_approval: bool, timeout_s: float
) -> RegisteredTool:
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and hints.get(parameters[0].name) is ToolContext
    called = name or function.__name__
    fields: list[Any] = []
    for one in parameters[takes_context:]:
        if one.name not in hints:
            raise SetupError(f"The parameter {one.name} of the tool {called} needs a type.")
        if one.kind not in _BY_NAME:
            raise SetupError(
                f"The parameter {one.name} of the tool {called} cannot be given by name."
            )
        if ToolContext in (hints[one.name], *get_args(hints[one.name])):
            raise SetupError(
                f"The ToolContext of the tool {called} must be its first parameter, and only that."
            )
        has_default = one.default is not inspect.Parameter.empty
        field = (one.name, hints[one.name], one.default) if has_default else None
        fields.append(field or (one.name, hints[one.name]))
    arguments = msgspec.defstruct(called, fields, kw_only=True, forbid_unknown_fields=True)
    offered = Tool(
        name=called,
        description=inspect.getdoc(function),
        parameters=_schema(arguments),
    )
    return RegisteredTool(
        offered=offered,
        arguments=arguments,
        function=function,
        takes_context=takes_context,
        needs_approval=needs_approval,
        timeout_s=timeout_s,
    )


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of an object, with the types it refers to beside it."""
    found = msgspec.json.schema(arguments)
    others = dict(found["$defs"])
    own: dict[str, Any] = dict(others.pop(found["$ref"].rpartition("/")[2]))
    own.pop("title", None)
    return {**own, "$defs": others} if others else own


def _arguments(known: RegisteredTool, call: ToolCall) -> dict[str, Any]:
    try:
        if known.takes_all:
            return {"arguments": msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])}
        if known.arguments is None:
            return {}
        given = msgspec.json.decode(call.arguments or "{}", type=known.arguments)
    except msgspec.DecodeError as error:  # its text names types and places, and no values
        raise ToolFailed(f"The arguments do not fit: {error}") from error
    except RecursionError as error:
        raise ToolFailed("The arguments are nested too deep.") from error
    return {name: getattr(given, name) for name in known.arguments.__struct_fields__}


def _storable(said: str) -> str:
    """Return why a tool failed as it can be kept and sent: it may quote anything."""
    whole = said[:OUTPUT_AT_MOST].replace("\x00", "")
    return whole.encode("utf-8", "replace").decode()


async def _called(known: RegisteredTool, given: dict[str, Any], context: ToolContext) -> object:
    assert known.function is not None  # noqa: S101 -- the caller has looked
    before = (context,) if known.takes_context else ()
    if inspect.iscoroutinefunction(known.function):
        return await known.function(*before, **given)
    try:
        return await _threads.call(known.function, *before, **given)
    except NoThread as error:
        _log.error("%s is not run: too many tools have not come back", known.offered.name)
        raise ToolFailed("Too many tools are running. Try again later.") from error


def _written_out(name: str, output: object) -> object:
    """Return *output* as JSON can hold it, if it is of a sensible size."""
    try:
        written = msgspec.json.encode(output)
        if len(written) > OUTPUT_AT_MOST:
            raise ToolFailed(f"The tool's answer has more than {OUTPUT_AT_MOST} bytes.")
        found: object = msgspec.json.decode(without_nul(written))
    except (TypeError, ValueError, RecursionError) as error:
        # Its bug, and not for the model alone to hear of; nothing of the answer is in here.
        _log.warning("the tool %s answered what cannot be written as JSON", name)
        raise ToolFailed("The tool's answer cannot be written as JSON.") from error
    if is_too_deep(found):
        raise ToolFailed("The tool's answer is nested too deep.")
    return found
