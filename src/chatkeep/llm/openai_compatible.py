"""The adapter for every provider that speaks the OpenAI chat-completions API.

OpenRouter, OpenAI, vLLM, LiteLLM, Ollama and the like: what differs between them is in
`chat_requests`. This module only puts the parts together: one request, one stream, our
events. It has no opinion on what to ask or what to do with the answer.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from chatkeep.errors import ChatkeepError, ModelBroken, SetupError
from chatkeep.llm.chat_requests import Kind, encode_request, find_kind
from chatkeep.llm.chunks import AnswerReader
from chatkeep.llm.model import ModelInfo
from chatkeep.llm.response import Timeouts
from chatkeep.llm.sse import EventParser
from chatkeep.llm.upstream import TRIES, NotTaken, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from chatkeep.events import Answering, ModelEvent
    from chatkeep.llm.model import Prompt
    from chatkeep.llm.response import Stream

    #: An answer to be read, and who gives it where that is not who was asked.
    Opened = tuple[Stream, Answering | None]

_LIST_TIMEOUT_S = 10.0
_MAX_LIST_BYTES = 8 << 20
_MAX_MODEL_ID = 200
_PRICE_PLACES = 18
_NAMES: dict[Kind, str] = {"openrouter": "OpenRouter", "openai": "OpenAI"}


class _Listed(msgspec.Struct):
    id: str
    name: str | None = None
    # OpenRouter's `{"prompt": "0.0000025", "completion": ...}`; others may put anything here.
    pricing: Any = None


class _List(msgspec.Struct):
    data: list[_Listed]


class OpenAICompatibleModel:
    """A `Model` behind an OpenAI-compatible address."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        kind: Kind | None = None,
        timeouts: Timeouts | None = None,
        app_title: str | None = None,
        app_url: str | None = None,
    ) -> None:
        """Connect to nothing yet.

        *base_url* ends before `/chat/completions`; *kind* is found from it when not given.
        *app_title* and *app_url* tell OpenRouter which app is calling.

        Raises:
            SetupError: the address or the key cannot be used.
        """
        _refuse_unusable(base_url, api_key)
        self._kind = kind or find_kind(base_url)
        self._host = urlsplit(base_url).hostname or ""
        headers = {"User-Agent": "chatkeep"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        if self._kind == "openrouter":
            headers |= _attribution(app_title, app_url)
        self._upstream = Upstream(
            base_url, headers=headers, kind=self._kind, timeouts=timeouts or Timeouts()
        )

    @property
    def name(self) -> str:
        """The provider's name, or its host where it is nobody we know."""
        return _NAMES.get(self._kind, self._host)

    def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Answer *prompt*; see `Model.stream`.

        Take the events to their end to let the connection be used again. The usage is
        yielded also before an error, when the provider has said it.
        """
        return read_answer(partial(self._open_alone, prompt))

    async def open(self, prompt: Prompt, *, tries: int = TRIES) -> Stream:
        """Ask for an answer to *prompt*, for `read_answer` to read; see `Upstream.open_stream`."""
        request = encode_request(prompt, kind=self._kind)
        return await self._upstream.open_stream("/chat/completions", request, tries=tries)

    async def _open_alone(self, prompt: Prompt) -> Opened:
        return await self.open(prompt), None

    async def list_models(self) -> Sequence[ModelInfo]:
        """List what the provider offers, in its order; empty if it has no list."""
        body = await self._upstream.read_json(
            "/models", max_bytes=_MAX_LIST_BYTES, timeout_s=_LIST_TIMEOUT_S
        )
        if body is None:
            return ()
        try:
            listed = msgspec.json.decode(body, type=_List).data
        except (ValueError, RecursionError) as error:
            raise ModelBroken from error
        found = {one.id: one for one in listed if _is_model_id(one.id)}
        return [_info(one) for one in found.values()]

    async def aclose(self) -> None:
        """Close every connection."""
        await self._upstream.aclose()


async def read_answer(
    opening: Callable[[], Awaitable[Opened]],
) -> AsyncGenerator[ModelEvent, None]:
    """Read what *opening* has opened: everything between a provider's bytes and our events."""
    try:
        stream, answering = await opening()
    except NotTaken as refused:
        raise refused.error from None
    parser, reader = EventParser(), AnswerReader()
    try:
        if answering is not None:
            yield answering
        while not reader.ended:
            hurried = reader.finished or not reader.has_said
            if not (data := await stream.read(finished=reader.finished, hurried=hurried)):
                break
            for event in reader.read(parser.feed(data)):
                yield event
        for event in reader.read_last(parser.rest()):
            yield event
        for event in reader.end():
            yield event
        await stream.drain()
    except ChatkeepError as error:
        stream.report(error, reader.failure)
        for usage in reader.usage():
            yield usage
        raise
    finally:
        stream.close()


def _refuse_unusable(base_url: str, api_key: str | None) -> None:
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise SetupError("The model's address must be like https://openrouter.ai/api/v1.")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise SetupError("The model's API key has characters that no API key has.")


def _attribution(title: str | None, url: str | None) -> dict[str, str]:
    """OpenRouter's headers for whose app it is (API reference, "App attribution")."""
    headers = {"X-OpenRouter-Title": title, "HTTP-Referer": url}
    return {name: text for name, text in headers.items() if text and text.isprintable()}


def _info(one: _Listed) -> ModelInfo:
    pricing = one.pricing if isinstance(one.pricing, dict) else {}
    return ModelInfo(
        id=one.id,
        name=(one.name or one.id)[:_MAX_MODEL_ID],
        prompt_price=_price(pricing.get("prompt")),
        output_price=_price(pricing.get("completion")),
    )


def _price(said: object) -> Decimal | None:
    """Read dollars a token; None for what is no price (OpenRouter's router says -1)."""
    if not isinstance(said, str | int | float):
        return None
    try:
        price = Decimal(str(said))
        return round(price, _PRICE_PLACES) if 0 <= price <= 1 else None
    except InvalidOperation:  # no number, or not one that compares
        return None


def _is_model_id(text: str) -> bool:
    return 0 < len(text) <= _MAX_MODEL_ID and text.isprintable()
