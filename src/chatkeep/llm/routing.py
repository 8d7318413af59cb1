"""Several providers as one model: who serves which id, and who answers when one cannot.

A name may stand for a list of models. The next of it is asked only when nobody works on the
question any more and none of the answer has come, so that there is one answer and one bill.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from chatkeep import tracing
from chatkeep.config.upstreams import split_target
from chatkeep.errors import (
    ChatkeepError,
    ModelNotOffered,
    ModelRateLimited,
    ModelUnavailable,
)
from chatkeep.events import Answering
from chatkeep.llm.model import ModelInfo
from chatkeep.llm.model_lists import ModelList
from chatkeep.llm.openai_compatible import read_answer
from chatkeep.llm.upstream import TRIES, NotTaken
from chatkeep.metrics import Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from chatkeep.events import ModelEvent
    from chatkeep.llm.breaker import Breaker, State
    from chatkeep.llm.model import Prompt
    from chatkeep.llm.openai_compatible import OpenAICompatibleModel, Opened
    from chatkeep.llm.response import Stream

_log = logging.getLogger(__name__)

_ASKED = Counter(
    "chatkeep_upstream_requests_total",
    "Questions to a provider of models, and how each began: ok, or the error's code.",
    "name",
    "outcome",
)
_OPENED = Histogram(
    "chatkeep_upstream_response_seconds", "Until a provider began to answer.", "name"
)


class Provider:
    """One provider: how it is asked, what it has, and how it fares."""

    def __init__(
        self,
        name: str,
        adapter: OpenAICompatibleModel,
        breaker: Breaker,
        *,
        models: Sequence[str] = (),
    ) -> None:
        """Name the parts. *models* are all that it serves; without them it is asked."""
        self.name = name
        self.adapter = adapter
        self.breaker = breaker
        self.declared = frozenset(models)
        self._shown = [ModelInfo(id=one, name=one) for one in models]
        self.listing = ModelList(adapter.list_models)

    async def list_models(self) -> Sequence[ModelInfo]:
        """List what it serves; what it said last while it is away."""
        return self._shown or await self.listing.listed()

    def find(self, model: str) -> ModelInfo | None:
        """Find *model* in what is known of it, without asking anybody."""
        if model in self.declared:
            return next(one for one in self._shown if one.id == model)
        return self.listing.find(model)

    async def open(self, prompt: Prompt, *, tries: int) -> Stream:
        """Ask it for an answer. Raises as `Upstream.open_stream`."""
        trial = self.breaker.admit()
        if trial is None:
            raise NotTaken(ModelUnavailable(retry_after_s=self.breaker.wait_s()))
        began = time.perf_counter()
        try:
            with tracing.span(f"ask {self.name}", kind=tracing.SpanKind.CLIENT):
                stream = await self.adapter.open(prompt, tries=tries)
        except NotTaken as refused:
            _ASKED.add(self.name, refused.error.code)
            trial.failed(refused.error)
            raise
        except ChatkeepError as error:
            _ASKED.add(self.name, error.code)
            trial.failed(error)
            raise
        except BaseException:
            _ASKED.add(self.name, "called_off")
            trial.called_off()
            raise
        _ASKED.add(self.name, "ok")
        _OPENED.observe(time.perf_counter() - began, self.name)
        stream.tell(trial)
        return stream

    async def aclose(self) -> None:
        """Release its connections."""
        await self.listing.aclose()
        await self.adapter.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One model at one provider."""

    provider: Provider
    model: str


class RoutedModel:
    """A `Model` in front of several providers."""

    def __init__(
        self, providers: Sequence[Provider], routes: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Ask *providers*, of whom there is at least one; *routes*: what names stand for.

        What a name stands for is written `model`, or `model@provider`.
        """
        self.providers = list(providers)
        self._by_name = {one.name: one for one in providers}
        self._routes = {name: tuple(targets) for name, targets in (routes or {}).items()}
        #: Until when a model of the routes wished not to be asked, on the event loop's clock.
        self._limited: dict[Target, float] = {}

    @property
    def name(self) -> str:
        """The names of all who may answer."""
        return ", ".join(one.adapter.name for one in self.providers)

    @property
    def names(self) -> Collection[str]:
        """The names that stand for models."""
        return self._routes.keys()

    @property
    def has_lists(self) -> bool:
        """Whether any provider has said, or was said, to have what."""
        return any(one.declared or one.listing.known for one in self.providers)

    def states(self) -> dict[str, State]:
        """Say how each provider fares."""
        return {one.name: one.breaker.state for one in self.providers}

    def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Answer *prompt*; see `Model.stream`.

        Begins with `Answering` where another model than the one that was asked answers.
        """
        return read_answer(partial(self._open, prompt))

    def targets(self, model: str) -> list[Target]:
        """Return who is asked for *model*, in this order; nobody, when nobody serves it.

        A name of the routes stands for what they say. Any other id belongs to the provider
        that declares it, else to the first that lists it, else to the first that is asked for
        its list: providers have more than they list.
        """
        said = self._routes.get(model)
        if said is None:  # and an `@` in it is the caller's, not the operator's
            provider = self._serving(model)
            return [] if provider is None else [Target(provider=provider, model=model)]
        found = (self._target(one) for one in said)
        return [one for one in found if one is not None]

    def find(self, model: str) -> ModelInfo | None:
        """Find what is known of *model* (`id` or `id@provider`), without asking anybody."""
        target = self._target(model)
        return None if target is None else target.provider.find(target.model)

    def bare(self, model: str) -> str:
        """Return *model* without a provider behind it."""
        return split_target(model, self._by_name)[0]

    def refusal(self, model: str) -> ChatkeepError | None:
        """Return why *model* cannot be asked now, where that is known beforehand."""
        waits = [one.provider.breaker.wait_s() for one in self.targets(model)]
        known = [wait for wait in waits if wait is not None]
        if not known or len(known) < len(waits):
            return None
        return ModelUnavailable(retry_after_s=min(known))

    async def list_models(self) -> Sequence[ModelInfo]:
        """List the names of the routes, then what every provider has."""
        lists = await asyncio.gather(*(one.list_models() for one in self.providers))
        found = {name: ModelInfo(id=name, name=name) for name in self._routes}
        for listed in lists:
            for one in listed:
                found.setdefault(one.id, one)
        return list(found.values())

    async def keep_known(self) -> None:
        """Keep every list fresh until cancelled, for who needs `find`."""
        asked = [one.listing.keep_known() for one in self.providers if not one.declared]
        await asyncio.gather(*asked)

    async def aclose(self) -> None:
        """Close every connection."""
        for one in self.providers:
            await one.aclose()

    async def _open(self, prompt: Prompt) -> Opened:
        model = prompt.settings.model
        await self._know_enough()
        targets = self.targets(model)
        problems: list[ChatkeepError] = []
        for one in targets:
            is_last = one is targets[-1]
            if not is_last and (wait_s := self._wait_s(one)):
                problems.append(ModelRateLimited(retry_after_s=wait_s))
                continue
            asked = prompt
            if one.model != model:
                asked = replace(prompt, settings=replace(prompt.settings, model=one.model))
            try:
                stream = await one.provider.open(asked, tries=TRIES if is_last else 1)
            except NotTaken as refused:
                problems.append(refused.error)
                self._note(one, refused.error, is_last=is_last)
                continue
            if model not in self._routes:
                return stream, None
            return stream, Answering(model=one.model, upstream=one.provider.name)
        raise _most_telling(problems)

    def _note(self, one: Target, error: ChatkeepError, *, is_last: bool) -> None:
        _log.warning("%s at %s: %s", one.model, one.provider.name, error.code)
        if isinstance(error, ModelRateLimited) and not is_last:
            self._limited[one] = asyncio.get_running_loop().time() + (error.retry_after_s or 0)

    def _wait_s(self, one: Target) -> int:
        """Return how many seconds *one* still wishes not to be asked."""
        left_s = self._limited.get(one, 0.0) - asyncio.get_running_loop().time()
        return max(0, math.ceil(left_s))

    async def _know_enough(self) -> None:
        """Where several may serve an id, wait for their lists before the first answer."""
        asked = [one for one in self.providers if not one.declared]
        if len(asked) > 1:
            await asyncio.gather(*(one.listing.listed() for one in asked))

    def _target(self, said: str) -> Target | None:
        model, upstream = split_target(said, self._by_name)
        if upstream is not None:
            return Target(provider=self._by_name[upstream], model=model)
        provider = self._serving(said)
        return None if provider is None else Target(provider=provider, model=said)

    def _serving(self, model: str) -> Provider | None:
        listing = asked = None
        for one in self.providers:
            if model in one.declared:
                return one
            if not one.declared:
                asked = asked or one
                if listing is None and one.listing.find(model) is not None:
                    listing = one
        return listing or asked


def _most_telling(problems: Sequence[ChatkeepError]) -> ChatkeepError:
    """Return which of *problems* to show: when to come back helps most, then the first."""
    if not problems:
        return ModelNotOffered()
    waits = [one for one in problems if one.retry_after_s is not None]
    return min(waits, key=lambda one: one.retry_after_s or 0) if waits else problems[0]
