"""What an application puts in place of our own parts: its model, tools, answers and claims."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from chatkeep.errors import SetupError
from chatkeep.importing import load_object
from chatkeep.tools import Tools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.claims import ClaimVersions
    from chatkeep.config import Settings
    from chatkeep.events import ReplyEvent
    from chatkeep.llm.model import Model
    from chatkeep.responders import Asked, Responder


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """What replaces or joins our own; None leaves ours as it is, or what the settings name."""

    model: Model | None = None
    claims: ClaimVersions | None = None
    tools: Tools | None = None
    responder: Responder | None = None


def tools_of(extensions: Extensions, settings: Settings) -> Tools:
    """Return the application's tools; none where it has none.

    Raises:
        SetupError: TOOLS names something else, or nothing.
    """
    if extensions.tools is not None:
        return extensions.tools
    if settings.tools is None:
        return Tools()
    found = load_object("TOOLS", settings.tools)
    if not isinstance(found, Tools):
        raise SetupError(f"TOOLS: {settings.tools} is no Tools.")
    return found


def responder_of(extensions: Extensions, settings: Settings) -> Responder | None:
    """Return who answers in place of the model, if anybody.

    Raises:
        SetupError: RESPONDER names something else, or nothing.
    """
    if extensions.responder is not None or settings.responder is None:
        return extensions.responder
    found = load_object("RESPONDER", settings.responder)
    if inspect.isasyncgenfunction(found):
        return _FunctionResponder(found)
    if inspect.isasyncgenfunction(getattr(found, "respond", None)):
        return cast("Responder", found)
    raise SetupError(
        f"RESPONDER: {settings.responder} is neither an async generator function nor an"
        " object with a `respond` that is one."
    )


class _FunctionResponder:
    """An async generator function as a `Responder`."""

    def __init__(self, function: object) -> None:
        self._function = function

    def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Let the function answer."""
        found: AsyncGenerator[ReplyEvent, None] = self._function(asked)  # type: ignore[operator]  # an async generator function, as was checked
        return found
