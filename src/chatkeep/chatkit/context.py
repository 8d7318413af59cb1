"""What goes with one ChatKit request through the SDK: who calls, and how the turn goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from chatkeep.answering.answers import Answer
    from chatkeep.principal import Principal


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far the turn of one request has come.

    *answer* is being begun by our engine, which keeps the messages in *kept* itself.
    *retrying*: what is taken out of the thread is only hidden, and listed in *hidden*.
    *thread_id* is what a thread will be called that the request makes.
    *added*: something was kept that is no answer of our engine.
    *titles*: by thread, what it was called whenever the request read it, or when it wrote it.
    """

    answer: asyncio.Task[Answer] | None = None
    thread_id: str | None = None
    kept: set[str] = field(default_factory=set)
    retrying: bool = False
    hidden: list[str] = field(default_factory=list)
    added: bool = False
    titles: dict[str, set[str | None]] = field(default_factory=dict)


class ChatKitContext(dict[str, Any]):
    """The context of one request: `context["request"]` as in ChatKit's samples, and ours.

    It also has "user_id", "principal", "locale" (of Accept-Language, or None) and
    "metadata" (what the client sent beside the request; it can be forged).
    """

    def __init__(
        self,
        *,
        who: Principal,
        request: object = None,
        locale: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Keep who calls; *request* is handed through."""
        super().__init__(
            request=request,
            user_id=who.user_id,
            principal=who,
            locale=locale,
            metadata=metadata or {},
        )
        self.who = who
        self.locale = locale
        self.progress = Progress()
