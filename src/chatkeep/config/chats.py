"""Settings: models, who answers, and how people may be answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.config import values as read
from chatkeep.config.reading import setting

if TYPE_CHECKING:
    from chatkeep.config.values import Secret


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """Models, who answers, and how people may be answered."""

    openrouter_api_key: Secret | None = setting("OPENROUTER_API_KEY", read.secret)
    openrouter_base_url: str = setting(
        "OPENROUTER_BASE_URL", read.web_address, default="https://openrouter.ai/api/v1"
    )
    openai_api_key: Secret | None = setting("OPENAI_API_KEY", read.secret)
    openai_base_url: str = setting(
        "OPENAI_BASE_URL", read.web_address, default="https://api.openai.com/v1"
    )
    default_model: str | None = setting("OPENAI_CHAT_MODEL", read.plain_text, "DEFAULT_MODEL")
    title_model: str | None = setting("TITLE_MODEL", read.plain_text)
    model_connect_timeout_s: float = setting(
        "MODEL_CONNECT_TIMEOUT", read.number(0.1, 60), default=5.0
    )
    model_first_byte_timeout_s: float = setting(
        "MODEL_FIRST_BYTE_TIMEOUT", read.number(0.1, 600), default=60.0
    )
    model_between_chunks_timeout_s: float = setting(
        "MODEL_CHUNK_TIMEOUT", read.number(0.1, 600), default=60.0
    )
    model_total_timeout_s: float = setting("MODEL_TIMEOUT", read.number(1, 3600), default=600.0)
    tools: str | None = setting("TOOLS", read.import_path)
    responder: str | None = setting("RESPONDER", read.import_path)

    models: tuple[str, ...] = setting("MODELS", read.words, default=())
    system_prompt: str | None = setting("SYSTEM_PROMPT", read.plain_text)
    temperature: float | None = setting("TEMPERATURE", read.number(0, 2))
    top_p: float | None = setting("TOP_P", read.number(0.001, 1))
    max_tokens: int | None = setting("MAX_TOKENS", read.whole(1, 1_000_000))
    temperature_ceiling: float = setting("TEMPERATURE_CEILING", read.number(0, 2), default=2.0)
    max_tokens_ceiling: int = setting(
        "MAX_TOKENS_CEILING", read.whole(1, 1_000_000), default=32_768
    )
    locked_settings: tuple[str, ...] = setting("LOCKED_SETTINGS", read.words, default=())
    greeting: str = setting(
        "CHAT_GREETING", read.plain_text, default="Hello! How can I help you today?"
    )
    anonymous_chat: bool = setting("ANONYMOUS_CHAT", read.flag, default=False)
