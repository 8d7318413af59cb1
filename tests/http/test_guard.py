"""Other people's applications: the examples of the how-to page, served for real."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from aiohttp import WSServerHandshakeError
from fastapi import Depends, FastAPI

from chatkeep import require
from chatkeep.config import Settings
from chatkeep.web.guard import Guard
from tests.serving import SERVER_SECRET, Client, listening_socket, quiet_server, token, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node, Person

PAGE = Path(__file__).parents[2] / "docs/how-to/protect-your-own-app.md"
FIRST = "import SignedIn\n"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def example(containing: str) -> Any:  # noqa: ANN401 -- some ASGI application
    """Return the application of the page's example that has *containing* in it."""
    (code,) = [one for one in EXAMPLES if containing in one]
    return run(code)["app"]


def run(code: str) -> dict[str, Any]:
    """Run *code* of the page; return its names."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 -- our own page
    return names


@pytest.fixture(autouse=True)
def issuers(project: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment names one Supabase project, and there is no `.env.local`."""
    monkeypatch.setenv("SUPABASE_PROJECT_URL", project)
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def served(app: Any, session: aiohttp.ClientSession) -> AsyncIterator[Client]:  # noqa: ANN401
    """Serve *app* on a free port; yield somebody who calls it. Its guard is closed, too."""
    opened = listening_socket()
    server = quiet_server(uvicorn.Config(app, ws="websockets-sansio", log_config=None))
    task = asyncio.create_task(server.serve([opened]))
    await until(lambda: server.started or task.done())
    try:
        yield Client(f"http://127.0.0.1:{opened.getsockname()[1]}", session)
    finally:
        server.should_exit = True
        await task
        guard = getattr(getattr(app, "state", None), "chatkeep_guard", None)
        if guard is not None:
            await guard.close()


def signed(project: str, sub: str, **claims: object) -> dict[str, str]:
    """Return the header of somebody with a token of *project*."""
    return {"authorization": f"Bearer {token(project, sub, 'ES256', **claims)}"}


async def test_route_knows_who_is_signed_in(session: aiohttp.ClientSession, project: str) -> None:
    """Five lines are enough: the caller's id for a token, 401 without and with a bad one."""
    async with served(example(FIRST), session) as client:
        found = await client.get("/me", headers=signed(project, "ana"))
        missing = await client.get("/me")
        bad = await client.get("/me", headers={"authorization": "Bearer a.b.c"})
    assert (found.status, found.json) == (200, {"id": "ana"})
    assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert (bad.status, bad.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


async def test_stranger_is_let_in_where_nobody_needs_to_sign_in(
    session: aiohttp.ClientSession, project: str
) -> None:
    """No token is nobody, and a bad one is still refused."""
    async with served(example("stranger"), session) as client:
        assert (await client.get("/greeting")).json == {"hello": "stranger"}
        known = await client.get("/greeting", headers=signed(project, "ana"))
        assert known.json == {"hello": "ana"}
        bad = await client.get("/greeting", headers={"authorization": "Bearer x"})
        assert bad.status == 401


async def test_role_comes_from_what_a_user_cannot_write(
    session: aiohttp.ClientSession, project: str
) -> None:
    """`app_metadata` grants; the same words anywhere a user can write them do not."""
    async with served(example("Editor"), session) as client:
        granted = signed(project, "ana", app_metadata={"roles": ["editor"]})
        assert (await client.call("PUT", "/page", headers=granted)).status == 200
        forged: list[dict[str, object]] = [
            {"user_metadata": {"roles": ["editor"]}},
            {"role": "authenticated", "roles": ["editor"]},
            {"app_metadata.roles": ["editor"]},
            {"app_metadata": {"roles": {"editor": True}}},
        ]
        for claims in forged:
            headers = signed(project, "bo", **claims)
            assert (await client.call("PUT", "/page", headers=headers)).status == 403, claims


async def test_old_or_weak_sign_in_is_asked_to_step_up(
    session: aiohttp.ClientSession, project: str
) -> None:
    """A second factor a moment ago does; a week ago, or no second factor, does not."""
    now = int(time.time())
    fresh = [{"method": "totp", "timestamp": now}]
    stale = [{"method": "totp", "timestamp": now - 7 * 86_400}]
    refreshed = [{"method": "token_refresh", "timestamp": now}, *stale]
    async with served(example("JustNow"), session) as client:
        strong = signed(project, "ana", aal="aal2", amr=fresh)
        assert (await client.call("DELETE", "/account", headers=strong)).status == 200
        weak_claims: list[dict[str, object]] = [
            {"aal": "aal1", "amr": fresh},
            {"aal": "aal2", "amr": stale},
            {"aal": "aal2", "amr": refreshed},
            {"aal": "aal2", "amr": "x"},
        ]
        for claims in weak_claims:
            weak = signed(project, "ana", **claims)
            answer = await client.call("DELETE", "/account", headers=weak)
            assert answer.status == 401, claims
            assert "insufficient_user_authentication" in answer.headers["www-authenticate"]


async def test_who_owes_a_second_factor_is_asked_for_it(
    session: aiohttp.ClientSession, project: str
) -> None:
    """Wherever somebody has to be signed in, or may be; but where a route says otherwise."""
    half = signed(project, "ana", aal="aal1", next_aal="aal2")
    whole = signed(project, "ana", aal="aal2", next_aal="aal2")
    for one, path in ((FIRST, "/me"), ("stranger", "/greeting")):
        async with served(example(one), session) as client:
            for _ in range(2):
                asked = await client.get(path, headers=half)
                assert asked.status == 401
                assert 'acr_values="aal2"' in asked.headers["www-authenticate"]
            assert (await client.get(path, headers=whole)).status == 200
    async with served(example("ChatkeepMiddleware"), session) as client:
        for path, status in (("/me", 401), ("/nowhere", 401), ("/health", 200)):
            assert (await client.get(path, headers=half)).status == status
    app = FastAPI()

    @app.get("/recovery", dependencies=[Depends(require(aal="aal1"))])
    async def recovery() -> None: ...

    async with served(app, session) as client:
        assert (await client.get("/recovery", headers=half)).status == 200
        assert (await client.get("/recovery")).status == 401


async def test_middleware_decides_before_any_route(
    session: aiohttp.ClientSession, project: str
) -> None:
    """Nobody gets in without a token, but to what is public; a bad one gets in nowhere."""
    async with served(example("ChatkeepMiddleware"), session) as client:
        assert (await client.get("/health")).status == 200
        assert (await client.get("/me")).status == 401
        assert (await client.get("/nowhere")).status == 401
        bad = {"authorization": "Bearer a.b.c"}
        assert (await client.get("/health", headers=bad)).status == 401
        found = await client.get("/me", headers=signed(project, "ana"))
        assert found.json == {"id": "ana"}


@pytest.mark.parametrize("by", [FIRST, "import ChatkeepMiddleware"])
async def test_log_out_at_the_server_is_heard(
    session: aiohttp.ClientSession,
    database: MigratedDatabase,
    bo: Person,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    """Beside a server the application is told of what ends there, and need not look for it."""
    for pause in ("_LOOK_EVERY_S", "TRUSTED_S"):
        monkeypatch.setattr(f"chatkeep.revocations.{pause}", 3600.0)
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("CHATKEEP_SECRET", SERVER_SECRET)
    shown = {"authorization": bo.client.headers["authorization"]}
    async with served(example(by), session) as client:

        async def status() -> int:
            return (await client.get("/me", headers=shown)).status

        async def is_refused() -> bool:
            return await status() == 401

        assert await status() == 200
        assert (await bo.client.post("/auth/logout")).status == 200
        await until(is_refused)


@pytest.mark.parametrize("listens", [True, False])
async def test_behind_a_pooler_it_listens_only_at_an_address_for_that(
    session: aiohttp.ClientSession,
    database: MigratedDatabase,
    bo: Person,
    monkeypatch: pytest.MonkeyPatch,
    listens: bool,
) -> None:
    """A pooler would take `LISTEN` and never tell; without that address the table is looked at."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("CHATKEEP_SECRET", SERVER_SECRET)
    monkeypatch.setenv("DATABASE_POOLER", "on")
    if listens:
        monkeypatch.setenv("DATABASE_LISTEN_URL", database.url)
    shown = {"authorization": bo.client.headers["authorization"]}
    await until(lambda: bool(listening(database)))  # the node of `bo`
    before = listening(database)
    async with served(example(FIRST), session) as client:

        async def is_refused() -> bool:
            return (await client.get("/me", headers=shown)).status == 401

        assert not await is_refused()
        assert (await bo.client.post("/auth/logout")).status == 200
        await until(is_refused)
        # Of those that listened before, one of an earlier test may be on its way out.
        await until(lambda: bool(listening(database) - before) == listens)


def listening(database: MigratedDatabase) -> set[int]:
    """Return the processes of connections to *database* that listen for notifications."""
    found = database.operate(
        "select pid from pg_stat_activity where query like 'listen %'"
        " and datname = current_database()"
    )
    return {pid for (pid,) in found}


async def test_the_whole_server_is_served_within_an_application(
    session: aiohttp.ClientSession,
    database: MigratedDatabase,
    bo: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is started and ended with the application, beside whose routes its own are."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("CHATKEEP_SECRET", SERVER_SECRET)
    shown = {"authorization": bo.client.headers["authorization"]}
    async with served(example("create_app"), session) as client:
        assert (await client.get("/prices")).json == {"tea": 3}
        assert (await client.get("/readyz")).status == 200
        assert (await client.get("/api/v1/chat")).status == 401
        begun = await client.post("/api/v1/chat/start", {}, headers=shown)
        body = {"conversation_id": begun.json["conversation_id"], "message": "Hello"}
        answer = await client.post("/api/v1/chat/message", body, headers=shown)
        assert (answer.status, answer.json["status"]) == (200, "done")


async def test_web_socket_is_opened_by_whom_a_route_would_let_in(
    session: aiohttp.ClientSession, project: str
) -> None:
    """Who is not is told so by HTTP; whose token ends meanwhile is heard no more."""
    app = example("WebSocket")
    async with served(app, session) as client:
        for shown in ({}, {"authorization": "Bearer a.b.c"}):
            with pytest.raises(WSServerHandshakeError) as refused:
                await session.ws_connect(f"{client.url}/echo", headers=shown)
            assert refused.value.status == 401
        shown = signed(project, "ana")
        async with session.ws_connect(f"{client.url}/echo", headers=shown) as socket:
            await socket.send_str("Hello.")
            assert await socket.receive_str(timeout=10) == "ana: Hello."
            await app.state.chatkeep_guard.close()  # which forgets what it has verified
            app.state.chatkeep_guard = Guard(
                Settings.from_env({"SUPABASE_PROJECT_URL": "https://another.example"})
            )
            await socket.send_str("Hello?")
            assert (await socket.receive(timeout=10)).data == 1008


def test_tests_of_an_application_need_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own test of its first example passes."""
    monkeypatch.setitem(sys.modules, "app", cast("Any", SimpleNamespace(app=example(FIRST))))
    (code,) = [one for one in EXAMPLES if "dependency_overrides" in one]
    run(code)["test_me"]()


async def test_wrong_secret_leaves_no_connections_behind(
    session: aiohttp.ClientSession,
    database: MigratedDatabase,
    node: Node,
    bo: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often somebody asks meanwhile."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("CHATKEEP_SECRET", SERVER_SECRET[::-1])
    pool = node.services.db.state
    await until(lambda: pool().size == pool().most)

    def connections() -> set[int]:
        return {
            pid
            for (pid,) in database.operate(
                "select pid from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid()"
            )
        }

    async with served(example(FIRST), session) as client:
        before = connections()  # those of the server
        for _ in range(3):
            assert (await client.get("/me", headers=bo.client.headers)).status == 500
        await until(lambda: connections() <= before)


async def test_configuration_that_names_no_issuer_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The application does not start, and the log names the settings."""
    monkeypatch.delenv("SUPABASE_PROJECT_URL")
    server = quiet_server(uvicorn.Config(example("ChatkeepMiddleware"), log_config=None))
    with pytest.raises(SystemExit):
        await server.serve([])
    assert not server.started
    assert "SUPABASE_PROJECT_URL" in caplog.text
