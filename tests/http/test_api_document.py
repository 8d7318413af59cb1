"""How the OpenAPI document is handed out: nobody else waits while it is made."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from typing import Any

import pytest
from starlette.requests import Request

from chatkeep.config import Settings
from chatkeep.web.api_document import ApiDocument
from chatkeep.web.app import create_app
from tests.api_document import DOCUMENT
from tests.serving import until


def asked(*, encodings: str = "identity", root_path: str = "") -> Request:
    """Return a request from somebody who takes *encodings*."""
    headers = [(b"accept-encoding", encodings.encode())]
    return Request({"type": "http", "headers": headers, "root_path": root_path})


async def test_it_is_made_once_and_beside_the_requests() -> None:
    """It is a second of work, in which this thread goes on answering."""
    made_in = []

    def generate() -> dict[str, Any]:
        made_in.append(threading.get_ident())
        return {"openapi": "3.1.0"}

    document = ApiDocument(generate)
    answers = await asyncio.gather(*(document.answer(asked()) for _ in range(3)))
    assert {bytes(one.body) for one in answers} == {b'{"openapi":"3.1.0"}'}
    (thread,) = made_in
    assert thread != threading.get_ident()


async def test_whoever_hangs_up_does_not_have_it_made_again() -> None:
    """A stranger who comes and goes would have a second of work begun each time."""
    made, go_on = [], threading.Event()

    def generate() -> dict[str, Any]:
        made.append(1)
        assert go_on.wait(10)
        return {"openapi": "3.1.0"}

    document = ApiDocument(generate)
    for _ in range(3):
        gone = asyncio.create_task(document.answer(asked()))
        await asyncio.sleep(0)
        await until(lambda: bool(made))
        gone.cancel()
        await asyncio.wait([gone])
    waiting = asyncio.create_task(document.answer(asked()))
    await asyncio.sleep(0)
    go_on.set()
    assert (await waiting).status_code == 200
    assert made == [1]


async def test_fault_while_it_is_made_is_not_kept() -> None:
    """The next one who asks has it made anew."""
    faults = [MemoryError()]

    def generate() -> dict[str, Any]:
        if faults:
            raise faults.pop()
        return {"openapi": "3.1.0"}

    document = ApiDocument(generate)
    with pytest.raises(MemoryError):
        await document.answer(asked())
    assert (await document.answer(asked())).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/chat/any", "/api/sessions/revoke-others"])
def test_wrong_method_is_told_without_it(path: str) -> None:
    """Anybody can send one: it costs as little as other requests."""
    app = create_app(Settings.from_env({}))
    assert app.state.documented_methods(path)
    assert app.openapi.cache_info().misses == 0  # type: ignore[attr-defined]  # it is a cache


@pytest.mark.parametrize(
    ("encodings", "is_packed"),
    [("gzip, deflate", True), ("br;q=1, GZIP;q=0.5", True), ("gzip;q=0", False), ("br", False)],
)
async def test_it_is_packed_for_who_takes_that(encodings: str, is_packed: bool) -> None:
    """A 25th of its size; the whole one for everybody else."""
    answer = await ApiDocument(lambda: DOCUMENT).answer(asked(encodings=encodings))
    assert ("content-encoding" in answer.headers) == is_packed
    assert answer.headers["vary"] == "accept-encoding"
    plain = gzip.decompress(answer.body) if is_packed else answer.body
    assert json.loads(bytes(plain)) == DOCUMENT
    if is_packed:
        assert len(answer.body) < len(plain) / 20


async def test_where_it_is_mounted_it_says_where() -> None:
    """Clients that are generated from it reach the operations below another application's path."""
    answer = await ApiDocument(lambda: DOCUMENT).answer(asked(encodings="gzip", root_path="/chat"))
    assert json.loads(bytes(answer.body)) == {**DOCUMENT, "servers": [{"url": "/chat"}]}
