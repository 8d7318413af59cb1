"""Whether a model may be asked now: who could answer is not down, and its own limits have room.

Asked before anything of the question is kept, so that what is refused costs nobody anything.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from chatkeep.errors import RateLimited
from chatkeep.limits.rates import Rate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from chatkeep.config.upstreams import ModelLimit
    from chatkeep.errors import ChatkeepError
    from chatkeep.limits import Limits

_PERIOD_S: Final = 60.0
_TOO_MANY: Final = {
    "model_per_user": "You have asked {model} as often as one person may in a minute.",
    "model_total": "{model} is asked as often as it may be in a minute.",
}


class Admission:
    """Lets answers begin. Share one per process."""

    def __init__(
        self,
        limits: Limits | None = None,
        model_limits: Mapping[str, ModelLimit] | None = None,
        *,
        refusal: Callable[[str], ChatkeepError | None] = lambda _: None,
    ) -> None:
        """Count with *limits*; *refusal* says why a model cannot be asked, where that is known."""
        self._limits = limits
        self._model_limits = model_limits or {}
        self._refusal = refusal

    @asynccontextmanager
    async def of(self, user_id: str, model: str) -> AsyncIterator[None]:
        """Count an answer of *model* that the block begins for *user_id*; not where it fails.

        Raises:
            RateLimited: this would be one too many, and when the next may come.
            ModelUnavailable: all who could answer are down, and when to come back.
        """
        if (refused := self._refusal(model)) is not None:
            raise refused
        counted: list[tuple[str, str, Rate]] = []
        try:
            for kind, key, rate in self._counts(user_id, model):
                await self._spend(kind, key, rate, model)
                counted.append((kind, key, rate))
            yield
        except BaseException:
            for one in counted:
                await self._give_back(*one)
            raise

    def _counts(self, user_id: str, model: str) -> list[tuple[str, str, Rate]]:
        limit = self._model_limits.get(model)
        if limit is None:
            return []
        counts = []
        if limit.per_user is not None:
            rate = Rate(limit.per_user, _PERIOD_S)
            counts.append(("model_per_user", f"{model} {user_id}", rate))
        if limit.total is not None:
            counts.append(("model_total", model, Rate(limit.total, _PERIOD_S)))
        return counts

    async def _spend(self, kind: str, key: str, rate: Rate, model: str) -> None:
        if self._limits is None:
            return
        try:
            await self._limits.spend_at(kind, key, rate)
        except RateLimited as refused:
            detail = _TOO_MANY[kind].format(model=model)
            raise RateLimited(detail, retry_after_s=refused.retry_after_s) from None

    async def _give_back(self, kind: str, key: str, rate: Rate) -> None:
        if self._limits is not None:
            await self._limits.give_back_at(kind, key, rate)
