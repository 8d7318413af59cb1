"""Opens ChatKit's surface when the first request needs it, and not before.

Its SDK takes a second and a hundred megabytes to load, which nobody without ChatKit pays.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkeep.errors import SetupError
from chatkeep.import_paths import load_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.answering.replies import Replies
    from chatkeep.chatkit.surface import Surface
    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.files.stored import StoredFiles
    from chatkeep.offered_models import OfferedModels
    from chatkeep.preferences import Preferences
    from chatkeep.tools import Tools


class ChatKit:
    """ChatKit's surface, loaded with its first request. Share one per process."""

    def __init__(self, load: Callable[[], Surface]) -> None:
        """Load nothing yet."""
        self._load = load
        self._lock = asyncio.Lock()
        self._surface: Surface | None = None

    async def surface(self) -> Surface:
        """Return the surface; the first caller waits until it is loaded, and blocks nobody."""
        if self._surface is None:
            async with self._lock:
                if self._surface is None:
                    await asyncio.to_thread(importlib.import_module, "chatkeep.chatkit.surface")
                    self._surface = self._load()
        return self._surface

    async def close(self, *, drain_s: float) -> None:
        """Let its streams end."""
        if self._surface is not None:
            await self._surface.close(drain_s=drain_s)


async def open_chatkit(
    settings: Settings,
    db: Database,
    replies: Replies,
    *,
    stored: StoredFiles,
    preferences: Preferences,
    offered_models: OfferedModels,
    tools: Tools,
) -> ChatKit:
    """Return ChatKit's surface for *settings*.

    Raises:
        SetupError: CHATKIT_SERVER names no server of ChatKit.
    """
    load = partial(
        _load,
        settings,
        db,
        replies,
        stored=stored,
        preferences=preferences,
        offered_models=offered_models,
        tools=tools,
    )
    chatkit = ChatKit(load)
    if settings.chatkit_server is not None:
        await chatkit.surface()
    return chatkit


def _load(
    settings: Settings,
    db: Database,
    replies: Replies,
    *,
    stored: StoredFiles,
    **parts: Any,  # noqa: ANN401 -- handed through
) -> Surface:
    modules = {
        name: importlib.import_module(f"chatkeep.chatkit.{name}")
        for name in ("answering", "attachments", "store", "surface")
    }
    engine = modules["answering"].Engine(db, replies, **parts)
    attachments = modules["attachments"].KeptAttachments(stored, base_url=settings.base_url)
    store = modules["store"].ConversationStore(
        db, attachments, runs_in_client=engine.runs_in_client
    )
    if settings.chatkit_server is None:
        server = modules["answering"].EngineServer(store, attachments, engine)
    else:
        server = _server_of(settings.chatkit_server, store, attachments)
    goes_on = settings.chatkit_on_disconnect == "continue"
    surface: Surface = modules["surface"].Surface(server, engine, goes_on=goes_on)
    return surface


def _server_of(path: str, store: object, attachments: object) -> Any:  # noqa: ANN401 -- an application's class
    """Make the application's server, as it is, and let it keep everything where we do."""
    base = importlib.import_module("chatkit.server").ChatKitServer
    made = load_object("CHATKIT_SERVER", path)
    if callable(made):
        made = made(*(store, attachments)[: _positional(made)])
    if not isinstance(made, base):
        raise SetupError(f"CHATKIT_SERVER: {path} is, or makes, no ChatKitServer.")
    made.store, made.attachment_store = store, attachments
    return made


def _positional(made: Callable[..., Any]) -> int:
    """How many of store and attachment store it takes."""
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    parameters = inspect.signature(made).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):
        return 2
    return sum(one.kind in kinds for one in parameters)
