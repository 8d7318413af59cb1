"""Answers written for something else, as they are: agents of OpenAI's SDK, `ChatKitServer`s.

Neither package is imported before there is something of it: whoever has such an object has
imported it already.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from chatkeep.answering.responders import Responder


def adapted(found: object) -> Responder | None:
    """Return *found* as a responder; None when it is nothing that we adapt."""
    if _is_a(found, "agents", "Agent"):
        return cast("Responder", import_module("chatkeep.adapters.agents").AgentResponder(found))
    if _is_a(found, "chatkit.server", "ChatKitServer"):
        module = import_module("chatkeep.adapters.chatkit_servers")
        return cast("Responder", module.ChatKitServerResponder(found))
    return None


def _is_a(found: object, module: str, name: str) -> bool:
    """Whether *found* is of that class, or a subclass of it that makes one."""
    kind = getattr(sys.modules.get(module), name, None)
    if not isinstance(kind, type):
        return False
    return isinstance(found, kind) or (isinstance(found, type) and issubclass(found, kind))
