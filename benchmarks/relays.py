"""Two relays to compare with, in one file each could be: nobody signs in, nothing is kept.

`relay` is the floor: bare ASGI and aiohttp, each chunk parsed and encoded again. `sdk` is
what most people write: FastAPI and the openai package. Both find their upstream in UPSTREAM.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from openai import AsyncOpenAI

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_UPSTREAM = os.environ.get("UPSTREAM", "")


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Chunk).decode
_encode = msgspec.json.Encoder().encode


class _Relay:
    """The floor."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
        if scope["type"] == "lifespan":
            return
        if scope["path"] == "/healthz":
            await _whole(send, b'{"status":"ok"}')
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        headers = {"content-type": "application/json", "authorization": "Bearer bench"}
        url = f"{_UPSTREAM}/chat/completions"
        async with self._session.post(url, data=body, headers=headers) as answer:
            if answer.content_type == "application/json":
                await _whole(send, await answer.read())
            else:
                begin = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": 200, "headers": begin})
                await self._relay(answer, send)

    async def _relay(self, answer: aiohttp.ClientResponse, send: Any) -> None:  # noqa: ANN401
        rest = b""
        while data := await answer.content.readany():
            *events, rest = (rest + data).split(b"\n\n")
            frames = b"".join(_again(event) for event in events)
            await send({"type": "http.response.body", "body": frames, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _again(event: bytes) -> bytes:
    payload = event[6:]
    if payload == b"[DONE]":
        return b"data: [DONE]\n\n"
    chunk = _decode(payload)
    text = chunk.choices[0].delta.content if chunk.choices else None
    return b"data: %s\n\n" % _encode({"type": "text-delta", "id": "p0", "delta": text or ""})


async def _whole(send: Any, body: bytes) -> None:  # noqa: ANN401 -- ASGI's
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


relay = _Relay()

sdk = FastAPI()
_openai = AsyncOpenAI(base_url=_UPSTREAM or None, api_key="bench")


@sdk.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that it is there."""
    return {"status": "ok"}


@sdk.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    """Relay one answer."""
    body = await request.json()
    if not body.get("stream"):
        return JSONResponse((await _openai.chat.completions.create(**body)).model_dump())
    return StreamingResponse(_chunks(body), media_type="text/event-stream")


async def _chunks(body: dict[str, Any]) -> AsyncGenerator[str, None]:
    async for chunk in await _openai.chat.completions.create(**body):
        yield f"data: {chunk.model_dump_json()}\n\n"
    yield "data: [DONE]\n\n"
