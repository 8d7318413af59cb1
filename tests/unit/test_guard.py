"""The guard of other people's applications: what it opens and closes, and what it is given."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection, Request

from chatkeep import ChatkeepMiddleware, SignedIn, require
from chatkeep.config import Settings
from chatkeep.errors import CrossSiteRequest, DatabaseUnavailable
from chatkeep.opening import open_gate
from chatkeep.web.clients import TrustedProxies
from chatkeep.web.guard import Guard
from chatkeep.web.same_origin import require_same_origin
from chatkeep.web.services import services_of
from tests import forge

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from chatkeep.opening import Gate

SETTINGS = Settings.from_env(
    {
        "SUPABASE_PROJECT_URL": "https://project.example",
        "SUPABASE_JWT_SECRET": forge.SECRET.decode(),
    }
)
DENIAL: dict[str, Any] = {"websocket.http.response": {}}


def bearer(sub: str = "ana") -> tuple[bytes, bytes]:
    """Return the header of somebody who is signed in."""
    now = int(time.time())
    payload = forge.claims(sub=sub, iat=now, exp=now + 3600)
    return b"authorization", f"Bearer {forge.forge(payload=payload)}".encode()


class Inner:
    """An application that only notes what reaches it."""

    def __init__(self) -> None:
        self.reached: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
        """Note it."""
        self.reached.append(scope)


async def sent_by(app: Any, kind: str, *headers: tuple[bytes, bytes], **more: Any) -> list[Any]:  # noqa: ANN401 -- ASGI's
    """Return what *app* sends to a request or WebSocket with *headers*."""
    sent: list[Any] = []
    scope: dict[str, Any] = {
        "type": kind,
        "scheme": "ws" if kind == "websocket" else "http",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"app.example"), *headers],
        "client": ("127.0.0.1", 1),
        **({} if kind == "websocket" else {"method": "GET"}),
        **more,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect" if kind == "websocket" else "http.request"}

    async def send(message: Any) -> None:  # noqa: ANN401 -- ASGI's
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_web_socket_needs_what_a_request_needs() -> None:
    """Nobody gets in without a token, and nobody with a bad one, whatever the server can say."""
    inner = Inner()
    app = ChatkeepMiddleware(inner, settings=SETTINGS, required=True)
    for shown in ([], [(b"authorization", b"Bearer a.b.c")]):
        answered = await sent_by(app, "websocket", *shown, extensions=DENIAL)
        assert (answered[0]["type"], answered[0]["status"]) == (
            "websocket.http.response.start",
            401,
        )
        for older in ({}, {"extensions": None}):
            closed = await sent_by(app, "websocket", *shown, **older)
            assert closed == [{"type": "websocket.close", "code": 1008}]
    assert inner.reached == []
    assert await sent_by(app, "websocket", bearer()) == []
    assert inner.reached[0]["state"]["chatkeep_principal"].user_id == "ana"


@pytest.mark.parametrize("root", ["", "/api"])
async def test_path_is_public_wherever_the_application_is(root: str) -> None:
    """Under a prefix the path of a request begins with it, and the list has none."""
    app = ChatkeepMiddleware(Inner(), settings=SETTINGS, required=True, public=["/health"])
    assert await sent_by(app, "http", path=f"{root}/health", root_path=root) == []
    for other in (f"{root}/healthy", f"{root}/", f"{root}/api/health", f"{root}//health"):
        assert (await sent_by(app, "http", path=other, root_path=root))[0]["status"] == 401


@pytest.mark.parametrize("name", ["roles", "scopes"])
def test_text_is_no_list_of_names(name: str) -> None:
    """Its letters would be the names, which nobody has."""
    given: dict[str, Any] = {name: "editor"}
    with pytest.raises(TypeError, match=rf"{name}=\['editor'\]"):
        require(**given)


def test_require_is_no_dependency_itself() -> None:
    """It makes one; in its place, it would make one for each request and let everybody in."""
    app = FastAPI()
    with pytest.raises(TypeError, match=r"Depends\(require\(\)\)"):
        app.get("/", dependencies=[Depends(require)])(Inner)


def test_server_that_was_mounted_and_not_started_says_so() -> None:
    """An application does not start what is mounted in it."""
    with pytest.raises(RuntimeError, match="lifespan_context"):
        services_of(Request({"type": "http", "app": FastAPI()}))


def test_text_is_no_list_of_public_paths() -> None:
    """Its letters would be paths, of which "/" is one that there is."""
    with pytest.raises(TypeError, match="public="):
        ChatkeepMiddleware(Inner(), required=True, public="/health")


@pytest.mark.parametrize("level", ["AAL2", "2", "mfa", "aal3", ""])
def test_level_that_there_is_not_is_refused(level: Any) -> None:  # noqa: ANN401 -- what is no level
    """Compared with it, a password alone could be enough."""
    with pytest.raises(ValueError, match="aal"):
        require(aal=level)


async def test_guard_is_opened_again_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As each test that enters a client of the same application begins and ends it."""
    ended: list[int] = []

    async def opened(stack: AsyncExitStack, settings: Settings) -> Gate:
        stack.callback(ended.append, len(ended))
        return await open_gate(stack, settings)

    monkeypatch.setattr("chatkeep.web.guard.open_gate", opened)
    guard = Guard(SETTINGS)
    first = await guard.open()
    assert await guard.open() is first
    await guard.close()
    assert ended == [0]
    second = await guard.open()
    assert second is not first
    await guard.close()
    assert ended == [0, 1]


async def test_nothing_is_left_of_an_opening_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is away each request tries, and would leave its connections behind."""
    opened: list[str] = []

    async def away(stack: AsyncExitStack, _: Settings) -> Gate:
        opened.append("connections")
        stack.callback(opened.remove, "connections")
        raise DatabaseUnavailable

    monkeypatch.setattr("chatkeep.web.guard.open_gate", away)
    app = ChatkeepMiddleware(Inner(), settings=SETTINGS)
    for _ in range(3):
        assert (await sent_by(app, "http", bearer()))[0]["status"] == 503
    assert opened == []


async def test_state_of_the_application_is_left_alone() -> None:
    """Its start may have put a client of its own there, for all requests."""
    theirs, inner = object(), Inner()
    app = ChatkeepMiddleware(inner, settings=SETTINGS)
    assert await sent_by(app, "http", bearer(), state={"client": theirs}) == []
    assert inner.reached[0]["state"]["client"] is theirs


async def test_what_is_wrong_with_the_settings_is_for_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever calls is told that it is not them."""
    app = FastAPI()
    app.state.chatkeep_guard = Guard(Settings.from_env({}))

    @app.get("/")
    async def me(who: SignedIn) -> str:
        return who.user_id

    start, body = await sent_by(app, "http", bearer())
    assert start["status"] == 500
    assert b"SUPABASE" not in body["body"]
    assert "set SUPABASE_PROJECT_URL" in caplog.text


async def test_guard_is_closed_with_an_application_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody tells it of an end."""
    closed: list[str] = []

    async def opened(stack: AsyncExitStack, settings: Settings) -> Gate:
        stack.callback(closed.append, "gate")
        return await open_gate(stack, settings)

    async def broken(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.failed", "message": scope["type"]})

    monkeypatch.setattr("chatkeep.web.guard.open_gate", opened)

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    sent: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401 -- ASGI's
        sent.append(message)

    app = ChatkeepMiddleware(broken, settings=SETTINGS)
    await app({"type": "lifespan"}, receive, send)
    assert (sent[0]["type"], closed) == ("lifespan.startup.failed", ["gate"])


@pytest.mark.parametrize(
    ("origin", "is_own"),
    [
        (b"https://app.example", True),
        (b"https://evil.example", False),
        (b"http://app.example", False),
        (b"null", False),
        (None, False),
    ],
)
def test_page_of_another_site_opens_no_web_socket(origin: bytes | None, *, is_own: bool) -> None:
    """With the cookie of somebody else's browser it would read all that comes."""
    headers = [(b"host", b"app.example"), *([(b"origin", origin)] if origin else [])]
    scope: dict[str, Any] = {
        "type": "websocket",
        "scheme": "wss",
        "path": "/",
        "headers": headers,
        "client": ("192.0.2.1", 1),
    }
    scope["state"] = {"chatkeep_client": TrustedProxies(()).client_of(scope)}
    try:
        require_same_origin(HTTPConnection(scope), own=None, allowed=())
    except CrossSiteRequest:
        assert not is_own
    else:
        assert is_own


@pytest.mark.parametrize("said", [b"https", b"wss", b"http, WSS"])
def test_proxy_may_name_a_web_socket_s_scheme(said: bytes) -> None:
    """Some say `wss` where others say `https`."""
    scope: dict[str, Any] = {
        "type": "websocket",
        "scheme": "ws",
        "headers": [(b"x-forwarded-proto", said)],
        "client": ("10.0.0.1", 1),
    }
    assert TrustedProxies(["10.0.0.0/8"]).client_of(scope).scheme == "https"
    assert TrustedProxies(()).client_of(scope).scheme == "http"
