"""The list of models that a provider says it has, kept for `_FRESH_S`.

While it is fetched again, or the provider is away, the one before is good, and nobody waits:
only the very first question is waited for, and it serves everybody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from chatkeep.errors import ChatkeepError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from chatkeep.llm.model import ModelInfo

_log = logging.getLogger(__name__)

_FRESH_S: Final = 300.0
_AFTER_FAILURE_S: Final = 15.0


class ModelList:
    """What one provider has. Share one per process, and close it."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Sequence[ModelInfo]]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet."""
        self._fetch = fetch
        self._clock = clock
        self._by_id: dict[str, ModelInfo] = {}
        self._due = float("-inf")
        self._was_asked = False
        self._asking: asyncio.Task[None] | None = None

    @property
    def known(self) -> Sequence[ModelInfo]:
        """The list as it was fetched last, without asking anybody; empty before that."""
        return list(self._by_id.values())

    def find(self, model: str) -> ModelInfo | None:
        """Find *model*, exactly as spelt, in what is known."""
        return self._by_id.get(model)

    async def listed(self) -> Sequence[ModelInfo]:
        """Return the list; who has an older one, be it none, does not wait for the newer."""
        if self._clock() >= self._due:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
                self._asking.add_done_callback(self._asked)
            if not self._was_asked:
                await asyncio.shield(self._asking)
        return self.known

    async def keep_known(self) -> None:
        """Keep it fresh until cancelled, for who needs `find`."""
        while True:
            await self.listed()
            await asyncio.sleep(max(1.0, self._due - self._clock()))

    async def aclose(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            listed = await self._fetch()
        except ChatkeepError as error:
            _log.warning("a provider's list of models cannot be had: %s", error.code)
            self._due = self._clock() + _AFTER_FAILURE_S
        else:
            self._by_id = {one.id: one for one in listed}
            self._due = self._clock() + _FRESH_S

    def _asked(self, _: asyncio.Task[None]) -> None:
        self._asking, self._was_asked = None, True
