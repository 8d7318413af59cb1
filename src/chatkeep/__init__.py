"""Chatkeep: the signed-in back end of a chat application.

For your own application: `signed_in`, `optional_user`, `require` (dependencies for FastAPI
and Starlette), their annotated forms `SignedIn` and `OptionalUser`, `ChatkeepMiddleware`
(plain ASGI), and `create_app` for the whole server; for its answers `Tools` (with
`ToolContext` and `ToolFailed`), what a responder is `Asked`, what a check has `Heard` and says
`Instead`, and a retriever's `Passage`. Importing the package starts
nothing, reads no setting and imports no framework; using one of these names does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatkeep.answering.checks import Heard, Instead
    from chatkeep.answering.responders import Asked
    from chatkeep.answering.retrieval import Passage
    from chatkeep.principal import Principal
    from chatkeep.tools import ToolContext, ToolFailed, Tools
    from chatkeep.web.app import create_app
    from chatkeep.web.guard import (
        ChatkeepMiddleware,
        OptionalUser,
        SignedIn,
        optional_user,
        require,
        signed_in,
    )

__version__ = "0.1.0"
__all__ = [
    "Asked",
    "ChatkeepMiddleware",
    "Heard",
    "Instead",
    "OptionalUser",
    "Passage",
    "Principal",
    "SignedIn",
    "ToolContext",
    "ToolFailed",
    "Tools",
    "__version__",
    "create_app",
    "optional_user",
    "require",
    "signed_in",
]

_HOMES = {
    "Asked": "chatkeep.answering.responders",
    "Heard": "chatkeep.answering.checks",
    "Instead": "chatkeep.answering.checks",
    "Passage": "chatkeep.answering.retrieval",
    "Principal": "chatkeep.principal",
    "ToolContext": "chatkeep.tools",
    "ToolFailed": "chatkeep.tools",
    "Tools": "chatkeep.tools",
    "create_app": "chatkeep.web.app",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "chatkeep.web.guard")), name)
