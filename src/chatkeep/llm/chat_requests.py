"""The body of a chat-completions request, for each kind of provider.

Settings that nobody made are left out: a provider's own default is not ours to repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from chatkeep.llm.model import Prompt

#: `compatible` is every server that speaks the chat-completions API without the
#: particulars of the two named ones (vLLM, LiteLLM, Ollama, ...).
Kind = Literal["openrouter", "openai", "compatible"]

_MAX_SESSION_ID = 256
_MAX_IDENTIFIER = 64


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str


class _Request(msgspec.Struct, omit_defaults=True, gc=False):
    model: str
    messages: list[_Message]
    stream: bool
    stream_options: dict[str, bool] | None = None
    usage: dict[str, bool] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    session_id: str | None = None
    prompt_cache_key: str | None = None


_encoder = msgspec.json.Encoder()


def find_kind(base_url: str) -> Kind:
    """Say which particulars the provider at *base_url* understands."""
    host = urlsplit(base_url).hostname or ""
    if host == "openrouter.ai" or host.endswith(".openrouter.ai"):
        return "openrouter"
    return "openai" if host == "openai.com" or host.endswith(".openai.com") else "compatible"


def encode_request(prompt: Prompt, *, kind: Kind) -> bytes:
    """Return the JSON body that asks a provider of *kind* to stream an answer to *prompt*."""
    settings = prompt.settings
    request = _Request(
        model=settings.model,
        messages=[_Message(role=message.role, content=message.text) for message in prompt.messages],
        stream=True,
        stream_options={"include_usage": True},
        temperature=settings.temperature,
        top_p=settings.top_p,
        # OpenAI's reasoning models refuse the old name; the others know no other.
        max_tokens=None if kind == "openai" else settings.max_tokens,
        max_completion_tokens=settings.max_tokens if kind == "openai" else None,
        **_particulars(prompt, kind),
    )
    try:
        return _encoder.encode(request)
    except UnicodeEncodeError:
        return _encoder.encode(_mended(request))


def _mended(request: _Request) -> _Request:
    """Replace lone surrogates, which a caller can smuggle in but UTF-8 cannot carry."""
    for message in request.messages:
        message.content = message.content.encode("utf-8", "replace").decode()
    return request


def _particulars(prompt: Prompt, kind: Kind) -> dict[str, Any]:
    """What only this kind knows; a stranger may refuse a request for an unknown member."""
    user = (prompt.user_key or "")[:_MAX_IDENTIFIER] or None
    session = prompt.conversation_id or ""
    if kind == "openrouter":
        session_id = session[:_MAX_SESSION_ID] or None
        return {"user": user, "session_id": session_id, "usage": {"include": True}}
    if kind == "openai":
        # What replaced `user` there (API reference, "Create chat completion").
        cache_key = session[:_MAX_IDENTIFIER] or None
        return {"safety_identifier": user, "prompt_cache_key": cache_key}
    return {}
