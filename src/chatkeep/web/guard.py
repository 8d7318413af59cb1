"""For other people's applications: who calls, as a dependency or as ASGI middleware.

    from chatkeep import SignedIn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/me")
    async def me(who: SignedIn) -> dict[str, str]:
        return {"id": who.user_id}

The issuers come from the environment (or `.env.local`), read when the first request comes.
With `ChatkeepMiddleware` they are opened when the application starts, closed when it ends,
and every request is looked at once, before any route. A WebSocket is looked at when it is
opened, as the request that it begins as; `signed_in` looks again whenever it is called.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from chatkeep.config import Settings, read_environment
from chatkeep.errors import (
    ChatkeepError,
    Forbidden,
    SetupError,
    StepUpRequired,
    Unauthenticated,
)
from chatkeep.ids import new_id
from chatkeep.opening import Gate, open_gate
from chatkeep.principal import Principal
from chatkeep.request_origin import NOWHERE, RequestOrigin, request_origin
from chatkeep.web.clients import TrustedProxies
from chatkeep.web.presented import authorization_alone, presented_by
from chatkeep.web.same_origin import require_same_origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

_STATE = "chatkeep_guard"
_LEVELS: Final = frozenset({"aal1", "aal2"})
#: What a WebSocket is closed with before it is opened, where no answer of HTTP can be sent.
_POLICY_VIOLATION: Final = 1008


class _Chosen:
    """Marks what an application says when it makes a dependency, and no request ever does.

    FastAPI would take `Depends(require)` for a dependency that reads its parameters from the
    query, and that lets everybody in: it only returns another one.
    """

    def __get_pydantic_core_schema__(self, *_: object) -> NoReturn:
        raise TypeError("require makes a dependency: write Depends(require()), with parentheses")


class Guard:
    """Decides who calls one application. Opened by its first request, or before."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Use *settings*, or those of the environment when they are first needed."""
        self._settings = settings
        self._opened: Gate | None = None
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()

    @cached_property
    def _proxies(self) -> TrustedProxies:
        return TrustedProxies(self.settings.trusted_proxies)

    async def open(self) -> Gate:
        """Open the issuers, once. Raises `SetupError` naming what is wrong."""
        if self._opened is None:
            async with self._lock:
                if self._opened is None:
                    self._opened = await self._open()
        return self._opened

    async def _open(self) -> Gate:
        async with AsyncExitStack() as stack:
            gate = await open_gate(stack, self.settings)
            self._stack = stack.pop_all()
            return gate

    async def close(self) -> None:
        """Let go of what was opened. Whoever asks afterwards opens it again."""
        self._opened = None
        await self._stack.aclose()

    @property
    def settings(self) -> Settings:
        """What this guard goes by."""
        if self._settings is None:
            self._settings = Settings.from_env(read_environment())
        return self._settings

    def recognise(self, scope: Scope) -> Principal | None:
        """Return who calls if memory alone can say it; None says nothing: `identify`."""
        if self._opened is None:
            return None
        shown = authorization_alone(scope["headers"])
        return None if shown is None else self._opened.authenticator.remembered(shown)

    async def identify(self, connection: HTTPConnection) -> Principal | None:
        """Return who calls, None when nobody is signed in; raises `ChatkeepError`s."""
        gate = await self.open()
        self.place(connection)
        principal = await gate.authenticator.identify(presented_by(connection))
        if principal is not None and principal.credential == "cookie":
            self._require_same_origin(connection)
        return principal

    def place(self, connection: HTTPConnection) -> None:
        """Note where the request comes from, and that further looks at it are of the same one."""
        # By names of ours: the application keeps there what it likes.
        state = connection.scope.setdefault("state", {})
        if "chatkeep_client" not in state:
            state["chatkeep_client"] = self._proxies.client_of(connection.scope)
        if request_origin.get() is NOWHERE:
            request_origin.set(RequestOrigin(request_id=new_id()))

    def _require_same_origin(self, connection: HTTPConnection) -> None:
        require_same_origin(
            connection,
            own=self.settings.public_url,
            allowed=self.settings.cors_origins,
        )


async def optional_user(request: HTTPConnection) -> Principal | None:
    """Return who calls, None when nobody is signed in. A bad credential is a 401.

    So is a session whose person has a second factor, or must have one, and has not shown it
    (RFC 9470); `require(aal="aal1")` lets it in.
    """
    principal = await _caller(request)
    if principal is not None and principal.owed_aal is not None:
        await _ask_for_more(request, principal, acr_values=principal.owed_aal)
    return principal


async def _caller(request: HTTPConnection) -> Principal | None:
    state = request.scope.get("state", {})
    # A WebSocket outlives what the middleware found when it was opened.
    looks_again = request.scope["type"] == "websocket" and _STATE in state
    if "chatkeep_principal" in state and not looks_again:
        found: Principal | None = state["chatkeep_principal"]
        return found
    guard = _guard_of(request)
    if guard is None:
        guard = Guard()
        setattr(request.app.state, _STATE, guard)
    try:
        return guard.recognise(request.scope) or await guard.identify(request)
    except ChatkeepError as error:
        raise _refused(error) from error


async def signed_in(request: HTTPConnection) -> Principal:
    """Return who calls; 401 when nobody is signed in."""
    principal = await optional_user(request)
    if principal is None:
        raise _refused(Unauthenticated())
    return principal


def require(
    *,
    roles: Annotated[Collection[str], _Chosen()] = (),
    scopes: Collection[str] = (),
    aal: Literal["aal1", "aal2"] | None = None,
    max_age: timedelta | None = None,
    strict: bool = False,
) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """Return a dependency that lets in who is signed in and has all that is asked.

    One of *roles*, all of *scopes*, at least the assurance level *aal* ("aal2": a second
    factor; "aal1": none, even of who has one), and a sign-in not longer ago than *max_age*.
    403 for a missing right, 401 with `insufficient_user_authentication` for what another
    sign-in would mend (RFC 9470).

    With *strict* the session is confirmed in the server's database for this very request
    (one round trip), so that the route is not a moment behind a log-out, whatever this
    process was told. It needs DATABASE_URL and CHATKEEP_SECRET of the server.

    Raises:
        TypeError: *roles* or *scopes* is a text, whose letters would be taken for names.
        ValueError: there is no such *aal*, which everybody would have.
    """
    _refuse_text(roles=roles, scopes=scopes)
    if aal is not None and aal not in _LEVELS:
        raise ValueError(f'aal can be "aal1" or "aal2", and not {aal!r}')
    wanted_roles, wanted_scopes = frozenset(roles), frozenset(scopes)
    enough: dict[str, Any] = {} if aal is None else {"acr_values": aal}
    if max_age is not None:
        enough["max_age"] = int(max_age.total_seconds())

    async def required(request: HTTPConnection) -> Principal:
        who = await (_caller if aal is not None else optional_user)(request)
        if who is None:
            raise _refused(Unauthenticated())
        if wanted_roles and wanted_roles.isdisjoint(who.roles):
            raise _refused(Forbidden())
        if not wanted_scopes <= who.scopes:
            raise _refused(Forbidden())
        is_weak = aal is not None and who.aal < aal
        if is_weak or (max_age is not None and not _is_fresh(who, max_age)):
            await _ask_for_more(request, who, **enough)
        if strict:
            await _confirm(request, who)
        return who

    return required


SignedIn = Annotated[Principal, Depends(signed_in)]
OptionalUser = Annotated[Principal | None, Depends(optional_user)]


class ChatkeepMiddleware:
    """ASGI middleware: every request is looked at once, and a bad credential goes no further.

    So is every WebSocket, when it is opened.

    The caller is `scope["state"]["chatkeep_principal"]` (None: nobody is signed in), which
    `signed_in` and the others read. With *required*, nobody unsigned gets in but to the
    paths of *public*.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings | None = None,
        required: bool = False,
        public: Collection[str] = (),
    ) -> None:
        """Wrap *app*. Raises TypeError when *public* is a text and no collection of them."""
        _refuse_text(public=public)
        self._app = app
        self._guard = Guard(settings)
        self._required = required
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket, or the application's start and end."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        try:
            principal = self._guard.recognise(scope) or await self._identified(scope)
        except ChatkeepError as error:
            await _answer(_refused(error), scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["chatkeep_principal"], state[_STATE] = principal, self._guard
        await self._app(scope, receive, send)

    async def _identified(self, scope: Scope) -> Principal | None:
        principal = await self._guard.identify(HTTPConnection(scope))
        if self._required and _path_within(scope) not in self._public:
            if principal is None:
                raise Unauthenticated
            if principal.owed_aal is not None:
                raise StepUpRequired(acr_values=principal.owed_aal)
        return principal

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open before the application starts, so that a wrong setting stops the start."""
        startup = await receive()
        try:
            await self._guard.open()
        except ChatkeepError as error:
            await send({"type": "lifespan.startup.failed", "message": error.detail})
            return
        pending = [startup]

        async def receive_again() -> Message:
            return pending.pop() if pending else await receive()

        async def send_after_closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self._guard.close()
            await send(message)

        try:
            await self._app(scope, receive_again, send_after_closing)
        finally:
            await self._guard.close()  # also where it did not start, or does not tell of its end


async def _ask_for_more(request: HTTPConnection, who: Principal, **enough: Any) -> NoReturn:  # noqa: ANN401 -- members of the error
    """Refuse *who*, and say what is *enough*.

    In the audit log, too, where this application has one: it shares a server's database.
    """
    guard = _guard_of(request)
    embedded = None if guard is None else (await guard.open()).embedded
    if guard is not None and embedded is not None:
        guard.place(request)
        embedded.notices.note(
            "step_up.refused",
            reason=StepUpRequired.code,
            user_id=who.user_id,
            issuer=who.issuer,
            session_id=who.session_id,
        )
    raise _refused(StepUpRequired(**enough))


async def _confirm(request: HTTPConnection, who: Principal) -> None:
    guard = _guard_of(request)
    try:
        if guard is None:  # another middleware decided who calls: there is nobody to ask
            raise Unauthenticated
        await (await guard.open()).authenticator.confirm(who)
    except ChatkeepError as error:
        raise _refused(error) from error


def _guard_of(request: HTTPConnection) -> Guard | None:
    """Return who decided who calls: the middleware's, or the application's own."""
    of_middleware: Guard | None = request.scope.get("state", {}).get(_STATE)
    found: Guard | None = of_middleware or getattr(request.app.state, _STATE, None)
    return found


def _is_fresh(who: Principal, max_age: timedelta) -> bool:
    since = who.authenticated_at
    return since is not None and datetime.now(UTC) - since <= max_age


def _refuse_text(**given: Collection[str]) -> None:
    for name, names in given.items():
        if isinstance(names, str):
            raise TypeError(f"{name} has several: write {name}=[{names!r}]")


def _path_within(scope: Scope) -> str:
    """Return the path as the application's routes have it, wherever the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def _answer(refused: HTTPException, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in (
        scope.get("extensions") or {}
    ):
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    body = {"detail": refused.detail}
    await JSONResponse(body, refused.status_code, refused.headers)(scope, receive, send)


def _refused(error: ChatkeepError) -> HTTPException:
    """The framework's own exception, so that the application's handlers see what they know.

    What is wrong with the settings is for the log, and for no caller.
    """
    if isinstance(error, SetupError):
        _log.error("Nobody can be let in: %s", error.detail)
        error = ChatkeepError()
    headers: dict[str, Any] = {"cache-control": "no-store"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.challenge is not None:
        headers["www-authenticate"] = error.challenge
    return HTTPException(error.status, error.detail, headers)
