"""Which models answer: those of the providers that are set up, else the built-in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.config.upstreams import upstreams_of
from chatkeep.llm.breaker import Breaker
from chatkeep.llm.eliza import Eliza
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from chatkeep.llm.response import Timeouts
from chatkeep.llm.routing import Provider, RoutedModel

if TYPE_CHECKING:
    from chatkeep.config import Settings
    from chatkeep.config.upstreams import Upstream
    from chatkeep.llm.model import Model

BUILT_IN = "chatkeep/eliza"
_OPENROUTER_DEFAULT = "openrouter/auto"
_OPENAI_DEFAULT = "gpt-4o-mini"


def choose_model(settings: Settings) -> Model:
    """Return the model, or models, that *settings* name; the built-in one where they name none."""
    upstreams = upstreams_of(settings)
    if not upstreams:
        return Eliza()
    return RoutedModel([_provider(one, settings) for one in upstreams], dict(settings.model_routes))


def is_built_in(model: Model) -> bool:
    """Whether *model* is the built-in program, by whichever id it is asked."""
    return isinstance(model, Eliza)


def _provider(upstream: Upstream, settings: Settings) -> Provider:
    adapter = OpenAICompatibleModel(
        base_url=upstream.url,
        api_key=upstream.api_key,
        kind=upstream.kind,
        timeouts=Timeouts(
            connect_s=upstream.connect_timeout_s,
            first_byte_s=upstream.first_byte_timeout_s,
            between_chunks_s=upstream.between_chunks_timeout_s,
            total_s=upstream.total_timeout_s,
        ),
        app_title="Chatkeep",
        app_url=settings.public_url,
    )
    breaker = Breaker(
        upstream.name, failures=settings.model_failures, pause_s=settings.model_pause_s
    )
    return Provider(upstream.name, adapter, breaker, models=upstream.models)


def default_model_id(settings: Settings) -> str:
    """Return the id that is asked when nobody chooses one."""
    if settings.default_model:
        return settings.default_model
    if settings.models:
        return settings.models[0]
    upstreams = upstreams_of(settings)
    if not upstreams:
        return BUILT_IN
    first = upstreams[0]
    if first.models:
        return first.models[0]
    return _OPENROUTER_DEFAULT if first.kind == "openrouter" else _OPENAI_DEFAULT
