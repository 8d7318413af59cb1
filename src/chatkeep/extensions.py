"""What an application puts in place of our own parts: its model, tools, answers and claims."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from chatkeep.adapters import adapted
from chatkeep.answering.checks import CheckedAfter, CheckedBefore
from chatkeep.answering.responders import ModelResponder
from chatkeep.answering.retrieval import Grounded
from chatkeep.errors import CheckFailed, RetrievalFailed, SetupError
from chatkeep.hooks import Hook, load_function
from chatkeep.import_paths import load_object
from chatkeep.llm.choice import is_built_in
from chatkeep.tools import Tools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from chatkeep.answering.responders import Asked, Responder, Responding
    from chatkeep.claims import ClaimVersions
    from chatkeep.config import Settings
    from chatkeep.errors import ChatkeepError
    from chatkeep.events import ReplyEvent
    from chatkeep.llm.model import Model
    from chatkeep.principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """What replaces or joins our own; None leaves ours as it is, or what the settings name."""

    model: Model | None = None
    claims: ClaimVersions | None = None
    tools: Tools | None = None
    responder: Responder | Responding | None = None


def build_responder(
    extensions: Extensions,
    settings: Settings,
    *,
    model: Model,
    tools: Tools,
    still_stands: Callable[[Principal], Awaitable[None]],
) -> Responder:
    """Return who answers every turn: the application's responder, or *model* with *tools*.

    *still_stands* as `ModelResponder`.

    Around it stand what the settings name, the outermost first: the check before, the check
    after, retrieval.

    Raises:
        SetupError: a setting names something else, or nothing.
    """
    found = responder_of(extensions, settings) or ModelResponder(
        model, tools, still_stands=still_stands
    )
    if (retrieve := _hook(settings, "retriever", RetrievalFailed)) is not None:
        found = Grounded(found, retrieve)
    if (after := _hook(settings, "after", CheckFailed)) is not None:
        found = CheckedAfter(found, after, sentences=settings.after_sees == "sentence")
    if (before := _hook(settings, "before", CheckFailed)) is not None:
        found = CheckedBefore(found, before)
    return found


def answered_by_built_in(extensions: Extensions, settings: Settings, *, model: Model) -> bool:
    """Whether nobody but the built-in program answers: *model* is it, and there is no responder."""
    has_responder = extensions.responder is not None or settings.responder is not None
    return is_built_in(model) and not has_responder


def check_hooks(settings: Settings) -> None:
    """Import the checks and the retriever that *settings* name.

    Raises:
        SetupError: with a sentence for each that cannot be used.
    """
    problems: list[str] = []
    for name in ("before", "after", "retriever"):
        try:
            _hook(settings, name, CheckFailed)
        except SetupError as error:
            problems.extend(error.problems)
    if problems:
        raise SetupError(*problems)


def _hook(settings: Settings, name: str, failure: type[ChatkeepError]) -> Hook[Any] | None:
    path: str | None = getattr(settings, name)
    if path is None:
        return None
    function: Callable[..., Awaitable[object]] = load_function(name.upper(), path)
    refuses = getattr(settings, f"{name}_on_failure") == "refuse"
    return Hook(
        setting=name.upper(),
        function=function,
        timeout_s=getattr(settings, f"{name}_timeout_s"),
        failure=failure if refuses else None,
    )


def tools_of(extensions: Extensions, settings: Settings) -> Tools:
    """Return the application's tools; none where it has none.

    Raises:
        SetupError: they are something else, or TOOLS names nothing.
    """
    if extensions.tools is not None:
        return _tools(f"create_app: {_named(extensions.tools)}", extensions.tools)
    if settings.tools is not None:
        return _tools(f"TOOLS: {settings.tools}", load_object("TOOLS", settings.tools))
    return Tools()


def _tools(given: str, found: object) -> Tools:
    if not isinstance(found, Tools):
        raise SetupError(f"{given} is no Tools.")
    return found


def responder_of(extensions: Extensions, settings: Settings) -> Responder | None:
    """Return who answers in place of the model, if anybody.

    Raises:
        SetupError: it is something else, or RESPONDER names nothing.
    """
    if extensions.responder is not None:
        given = f"create_app: {_named(extensions.responder)}"
        return _responder(given, extensions.responder)
    if settings.responder is not None:
        given = f"RESPONDER: {settings.responder}"
        return _responder(given, load_object("RESPONDER", settings.responder))
    return None


def _responder(given: str, found: object) -> Responder:
    if (ours := adapted(found)) is not None:
        return ours
    if inspect.isasyncgenfunction(found):
        return _FunctionResponder(found)
    respond = getattr(found, "respond", None)
    # One that is no generator itself may return one, as those of ours do that pass on.
    if callable(respond) and not inspect.iscoroutinefunction(respond):
        if not isinstance(found, type):
            return cast("Responder", found)
        raise SetupError(f"{given} is a class: name an object of it.")
    raise SetupError(
        f"{given} is neither an async generator function nor an object with a `respond` that"
        " is one, nor an agent, nor a ChatKitServer."
    )


def _named(given: object) -> str:
    """Return what a person calls it: a function by its name, an object by that of its class."""
    return str(getattr(given, "__qualname__", type(given).__qualname__))


class _FunctionResponder:
    """An async generator function as a `Responder`."""

    def __init__(self, function: object) -> None:
        self.inner = function

    def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Let the function answer."""
        found: AsyncGenerator[ReplyEvent, None] = self.inner(asked)  # type: ignore[operator]  # an async generator function, as was checked
        return found
