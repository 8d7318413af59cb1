"""Which model answers: OpenRouter, OpenAI, or the built-in one when no key is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.llm.eliza import Eliza
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from chatkeep.llm.response import Timeouts

if TYPE_CHECKING:
    from chatkeep.config import Settings
    from chatkeep.llm.model import Model

BUILT_IN = "chatkeep/eliza"
_OPENROUTER_DEFAULT = "openrouter/auto"
_OPENAI_DEFAULT = "gpt-4o-mini"


def choose_model(settings: Settings) -> Model:
    """Return the model that *settings* name; OpenRouter goes before OpenAI."""
    if settings.openrouter_api_key is None and settings.openai_api_key is None:
        return Eliza()
    timeouts = Timeouts(
        connect_s=settings.model_connect_timeout_s,
        first_byte_s=settings.model_first_byte_timeout_s,
        between_chunks_s=settings.model_between_chunks_timeout_s,
        total_s=settings.model_total_timeout_s,
    )
    if settings.openrouter_api_key is not None:
        return OpenAICompatibleModel(
            base_url=settings.openrouter_base_url,
            api_key=settings.openrouter_api_key,
            kind="openrouter",
            timeouts=timeouts,
            app_title="Chatkeep",
            app_url=settings.public_url,
        )
    return OpenAICompatibleModel(
        base_url=settings.openai_base_url, api_key=settings.openai_api_key, timeouts=timeouts
    )


def default_model_id(settings: Settings) -> str:
    """Return the id that is asked when nobody chooses one."""
    if settings.default_model:
        return settings.default_model
    if settings.models:
        return settings.models[0]
    if settings.openrouter_api_key is not None:
        return _OPENROUTER_DEFAULT
    return _OPENAI_DEFAULT if settings.openai_api_key is not None else BUILT_IN
