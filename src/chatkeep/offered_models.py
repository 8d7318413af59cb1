"""Which models can be chosen: those that the operator names, else all that the provider has.

The provider's list is kept for `_FRESH_S`. While it is fetched again, or the provider is
away, the one before is good; one question serves everybody who waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from chatkeep.errors import ChatkeepError
from chatkeep.llm.model import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatkeep.llm.model import Model
    from chatkeep.policies import Policy

_log = logging.getLogger(__name__)

_FRESH_S = 300.0
_AFTER_FAILURE_S = 15.0


class OfferedModels:
    """The list of models. Share one per process."""

    def __init__(
        self, model: Model, policy: Policy, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask nothing yet."""
        self._model = model
        self._policy = policy
        self._clock = clock
        self._listed: Sequence[ModelInfo] = ()
        self._by_id: dict[str, ModelInfo] = {}
        self._due = float("-inf")
        self._lock = asyncio.Lock()

    async def listed(self) -> Sequence[ModelInfo]:
        """Return what may be asked, the default at least."""
        if self._policy.models:
            return [ModelInfo(id=name, name=name) for name in self._policy.models]
        found = await self._of_the_provider()
        default = self._policy.default_model
        if any(one.id == default for one in found):
            return found
        return [ModelInfo(id=default, name=default), *found]

    async def knows(self, model: str) -> bool:
        """Whether *model*, exactly as spelt, is offered; when nobody has a list, it may be."""
        if self._policy.models:
            return self._policy.allows(model)
        found = await self._of_the_provider()
        if not found:
            return self._policy.allows(model)
        return model == self._policy.default_model or any(one.id == model for one in found)

    def find(self, model: str) -> ModelInfo | None:
        """Find *model* in the list as it was fetched last, without asking anybody."""
        return self._by_id.get(model)

    async def keep_known(self) -> None:
        """Keep the provider's list fresh until cancelled, for who needs `find`."""
        while True:
            await self._of_the_provider()
            await asyncio.sleep(max(1.0, self._due - self._clock()))

    async def _of_the_provider(self) -> Sequence[ModelInfo]:
        if self._clock() < self._due:
            return self._listed
        async with self._lock:
            if self._clock() >= self._due:
                await self._fetch()
        return self._listed

    async def _fetch(self) -> None:
        try:
            self._listed = await self._model.list_models()
        except ChatkeepError as error:
            _log.warning("the provider's list of models cannot be had: %s", error.code)
            self._due = self._clock() + _AFTER_FAILURE_S
        else:
            self._by_id = {one.id: one for one in self._listed}
            self._due = self._clock() + _FRESH_S
