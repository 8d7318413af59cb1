"""The body of a chat-completions request, for each kind of provider.

Settings that nobody made are left out: a provider's own default is not ours to repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chatkeep.llm.model import Prompt, PromptMessage, Tool

#: `compatible` is every server that speaks the chat-completions API without the
#: particulars of the two named ones (vLLM, LiteLLM, Ollama, ...).
Kind = Literal["openrouter", "openai", "compatible"]

_MAX_SESSION_ID = 256
_MAX_IDENTIFIER = 64


class _Function(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    arguments: str | None = None
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


class _Call(msgspec.Struct, gc=False):
    id: str
    function: _Function
    type: str = "function"


class _Tool(msgspec.Struct, gc=False):
    function: _Function
    type: str = "function"


class _Message(msgspec.Struct, omit_defaults=True, gc=False):
    role: str
    content: str | list[dict[str, Any]] | None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


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
    stop: Sequence[str] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    response_format: Mapping[str, Any] | None = None
    tools: Sequence[_Tool] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
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
        messages=[_message(one) for one in prompt.messages],
        stream=True,
        stream_options={"include_usage": True},
        temperature=settings.temperature,
        top_p=settings.top_p,
        # OpenAI's reasoning models refuse the old name; the others know no other.
        max_tokens=None if kind == "openai" else settings.max_tokens,
        max_completion_tokens=settings.max_tokens if kind == "openai" else None,
        stop=settings.stop,
        seed=settings.seed,
        frequency_penalty=settings.frequency_penalty,
        presence_penalty=settings.presence_penalty,
        reasoning_effort=settings.reasoning_effort,
        response_format=settings.response_format,
        tools=[_tool(one) for one in prompt.tools] or (),
        tool_choice=settings.tool_choice,
        parallel_tool_calls=settings.parallel_tool_calls,
        **_particulars(prompt, kind),
    )
    try:
        return _encoder.encode(request)
    except UnicodeEncodeError:
        return _encoder.encode(_mended(msgspec.to_builtins(request)))


def _message(one: PromptMessage) -> _Message:
    calls = [
        _Call(id=call.call_id, function=_Function(name=call.name, arguments=call.arguments))
        for call in one.calls
    ]
    return _Message(
        role=one.role,
        # An assistant that only asked for tools said nothing.
        content=_content(one) if one.text or not calls else None,
        tool_calls=calls or None,
        tool_call_id=one.call_id,
    )


def _content(one: PromptMessage) -> str | list[dict[str, Any]]:
    if not one.images and not one.files:
        return one.text
    shown: list[dict[str, Any]] = [{"type": "text", "text": one.text}] if one.text else []
    shown += [{"type": "image_url", "image_url": {"url": url}} for url in one.images]
    shown += [
        {"type": "file", "file": {"filename": file.name, "file_data": file.url}}
        for file in one.files
    ]
    return shown


def _tool(one: Tool) -> _Tool:
    return _Tool(
        function=_Function(
            name=one.name,
            description=one.description,
            parameters=one.parameters or None,
            strict=one.strict,
        )
    )


def _mended(value: Any) -> Any:  # noqa: ANN401 -- whatever JSON can hold
    """Replace lone surrogates, which a caller can smuggle in but UTF-8 cannot carry."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(name): _mended(one) for name, one in value.items()}
    return [_mended(one) for one in value] if isinstance(value, list) else value


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
