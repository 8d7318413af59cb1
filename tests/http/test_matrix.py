"""Every route and every kind of caller: generated from the application, so none is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from chatkeep.config import Settings
from chatkeep.web.administrators import administrator, fresh_administrator
from chatkeep.web.api_document import TakesBearer
from chatkeep.web.app import create_app
from chatkeep.web.auth import (
    anybody,
    identify,
    signed_in,
    signed_in_by_bearer,
    signed_in_on_rest,
    signed_in_on_support,
    signed_in_strictly,
)
from chatkeep.web.gotrue.administrators import secret_key
from chatkeep.web.gotrue.callers import here_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi.dependencies.models import Dependant

    from tests.serving import Answer, Client, Node, Person

#: The dependencies that say who may call, and nothing else.
ACCESS: Final = {
    signed_in: "signed in",
    signed_in_by_bearer: "signed in",
    signed_in_strictly: "signed in",
    signed_in_on_rest: "signed in",
    signed_in_on_support: "signed in",
    here_of: "signed in",
    secret_key: "secret key",
    administrator: "administrator",
    fresh_administrator: "administrator, lately signed in",
    identify: "signed in or anonymous",
    anybody: "anybody",
}
#: Routes that FastAPI makes itself.
#: It says nothing while all is well; `test_sessions.py` listens to it.
ENDLESS: Final = "/api/sessions/watch"
#: Whatever is open to everybody is listed here by name.
PUBLIC: Final = {
    *("/api/config", "/healthz", "/readyz", "/openapi.json"),
    *("/api/outbox", "/outbox", "/outbox/{number}"),
    *("/", "/c/{_rest:path}", "/sign-in", "/sign-up", "/new-password"),
    *("/settings", "/settings/{_rest:path}"),
    *("/admin", "/admin/{_rest:path}"),
    *("/api/v1/shared/{token}", "/s/{token}"),
    "/support/health",
    *("/docs", "/docs/", "/docs/{name:path}", "/assets/{name:path}", "/{name}.{suffix}"),
    *(f"/auth/v1/{name}" for name in ("health", "settings", ".well-known/jwks.json")),
    *(f"/auth/v1/{name}" for name in ("signup", "token")),
    *(f"/auth/v1/{name}" for name in ("otp", "magiclink", "recover", "resend", "verify")),
    "/auth/v1/verify.css",
    *(f"/auth/v1/{name}" for name in ("authorize", "callback", "sso")),
    "/auth/v1/sso/saml/{rest:path}",
    *(f"/auth/v1/passkeys/authentication/{name}" for name in ("options", "verify")),
    "/auth/v1/{rest:path}",
    "/auth/backchannel-logout",
    *(f"{prefix}/sign-in" for prefix in ("/auth", "/api/auth", "")),
    *(
        f"{prefix}/token/{name}"
        for prefix in ("/auth", "/api/auth", "")
        for name in (*("validate", "check-expiry", "refresh"),)
    ),
}
TEXT: Final = {"role": "user", "parts": [{"type": "text", "text": "x"}]}
#: A sound body for each route that takes one.
BODIES: Final[dict[tuple[str, str], Any]] = {
    ("POST", "/api/v1/chat/start"): {},
    ("POST", "/api/v1/chat/message"): {"conversation_id": "{id}", "message": "x"},
    ("PATCH", "/api/v1/chat/{conversation_id}"): {"title": "Another"},
    ("POST", "/api/v1/chat/{conversation_id}/shares"): {},
    ("POST", "/api/v1/chat/{conversation_id}/fork"): {},
    ("POST", "/api/v1/chat/{conversation_id}/continue"): {},
    ("POST", "/api/v1/chat/import"): [],
    ("POST", "/api/chat"): {"id": "{id}", "message": TEXT},
    ("PATCH", "/api/settings"): {"theme": "dark"},
    ("POST", "/api/keys"): {"name": "x", "scopes": ["chat"]},
    ("POST", "/v1/chat/completions"): {
        "model": "fake/model",
        "messages": [{"role": "user", "content": "x"}],
    },
    ("POST", "/v1/responses"): {
        "model": "fake/model",
        "input": "x",
        "conversation": "conv_{id}",
    },
    ("POST", "/v1/conversations"): {},
    ("POST", "/v1/conversations/{conversation_id}"): {"metadata": {"x": "y"}},
    ("POST", "/v1/conversations/{conversation_id}/items"): {
        "items": [{"role": "user", "content": "x"}]
    },
    ("PUT", "/auth/v1/user"): {"data": {"x": 1}},
    ("POST", "/auth/v1/callback"): {},
    ("POST", "/auth/backchannel-logout"): {},
    ("POST", "/auth/v1/otp"): {"email": "otp@matrix.example.com"},
    ("POST", "/auth/v1/magiclink"): {"email": "magiclink@matrix.example.com"},
    ("POST", "/auth/v1/recover"): {"email": "recover@matrix.example.com"},
    ("POST", "/auth/v1/resend"): {"type": "signup", "email": "resend@matrix.example.com"},
    ("POST", "/auth/v1/verify"): {"type": "email", "token_hash": "x"},
    ("POST", "/api/admin/users/{user_id:path}/ban"): {},
    ("POST", "/api/admin/users/{user_id:path}/unban"): {},
    ("POST", "/api/admin/users/{user_id:path}/sign-out"): {},
    ("POST", "/api/admin/sign-out-everybody"): {},
    ("POST", "/auth/v1/admin/users"): {},
    ("POST", "/auth/v1/admin/generate_link"): {},
    ("POST", "/auth/v1/invite"): {},
    ("PUT", "/auth/v1/admin/users/{user_id}"): {},
    ("DELETE", "/auth/v1/admin/users/{user_id}"): {},
    ("POST", "/auth/v1/factors"): {"factor_type": "totp"},
    ("POST", "/auth/v1/factors/{factor_id}/verify"): {"challenge_id": "x", "code": "000000"},
    ("POST", "/auth/v1/factors/recovery-codes"): {},
    ("POST", "/auth/v1/factors/recovery-codes/verify"): {"code": "x"},
    **{
        ("POST", f"/auth/v1/passkeys/{name}/verify"): {"challenge_id": "x", "credential": {}}
        for name in ("registration", "authentication")
    },
    ("PATCH", "/auth/v1/passkeys/{passkey_id}"): {"friendly_name": "x"},
    ("POST", "/support/chatkit"): {
        "type": "threads.get_by_id",
        "params": {"thread_id": "{id}"},
    },
    **{(method, "/support/attachments/{attachment_id}/upload"): {} for method in ("POST", "PUT")},
    ("POST", "/api/files"): {},
    ("POST", "/auth/v1/signup"): {"email": "", "password": ""},
    ("POST", "/auth/v1/token"): {},
    **{
        ("POST", f"{prefix}/{name}"): body
        for prefix in ("/auth", "/api/auth", "")
        for name, body in (
            ("token/refresh", {"refresh_token": "x"}),
            ("logout", {}),
            ("sign-in", {"email": "ana@example.com", "password": "x"}),
            ("session/revoke", {"session_id": "x"}),
        )
    },
    **{
        ("POST", f"{prefix}/token/{name}"): {"token": "x"}
        for prefix in ("/auth", "/api/auth", "")
        for name in ("validate", "check-expiry")
    },
}


#: What a route cannot do without in its address.
QUERIES: Final = {"/api/v1/search": "?q=secret", "/api/account/data": "?confirm=erase"}


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path, and what says who may call it."""

    method: str
    path: str
    access: tuple[str, ...]
    takes_body: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    async def call(self, client: Client, conversation: str) -> Answer:
        """Call it for *conversation*, with a sound body where it takes one."""
        prefix = "conv_" if self.path.startswith("/v1/conversations/") else ""
        path = self.path.replace("{conversation_id}", prefix + conversation)
        path = path.replace("{model:path}", "fake/model")
        for name in ("{conversation_id:path}", "{rest:path}", "{_rest:path}", "{name:path}"):
            path = path.replace(name, conversation)
        path = path.replace("{name}", conversation) + QUERIES.get(self.path, "")
        body = BODIES.get((self.method, self.path))
        return await client.call(self.method, path, json=_filled(body, conversation))


def _filled(body: Any, conversation: str) -> Any:  # noqa: ANN401 -- JSON can be anything
    if isinstance(body, dict):
        return {name: _filled(value, conversation) for name, value in body.items()}
    return body.replace("{id}", conversation) if isinstance(body, str) else body


def _depends_on(dependant: Dependant) -> Iterator[object]:
    for one in dependant.dependencies:
        yield one.call.reads if isinstance(one.call, TakesBearer) else one.call
        yield from _depends_on(one)


def _routes() -> Iterator[Route]:
    for route in iter_route_contexts(create_app(Settings.from_env({})).routes):
        assert route.path is not None
        declared = isinstance(route.original_route, APIRoute)
        calls = set(_depends_on(route.dependant)) if declared else set()
        access = tuple(sorted(ACCESS[one] for one in ACCESS.keys() & calls))
        body = declared and (
            route.dependant.body_params or "requestBody" in (route.openapi_extra or {})
        )
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield Route(method, route.path, access, bool(body))


ROUTES: Final = list(_routes())
PERSONAL: Final = [one for one in ROUTES if "anybody" not in one.access and one.access]
WITH_ID: Final = [
    one
    for one in PERSONAL
    if "conversation_id" in one.path or "{id}" in str(BODIES.get((one.method, one.path)))
]


def masked(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """Return everything about an answer but what differs between any two."""
    request_id = answer.headers["x-request-id"]
    same = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date"}}
    return answer.status, same, answer.body.replace(request_id.encode(), b"-")


# --- who may call -------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_every_route_says_who_may_call(route: Route) -> None:
    """Exactly one typed dependency says it; what is open to everybody is on the list."""
    assert len(route.access) == 1
    assert ("anybody" in route.access) == (route.path in PUBLIC)


def test_questions_are_found_soon_and_depend_on_little() -> None:
    """Each route that is tried before it, and each dependency, takes time from every question."""
    routes = [one for one in create_app(Settings.from_env({})).routes if isinstance(one, APIRoute)]
    paths = [one.path for one in routes]
    for path, soon in (("/api/chat", 1), ("/v1/chat/completions", 15)):
        assert paths.index(path) < soon
        assert len(list(_depends_on(routes[paths.index(path)].dependant))) == 1


def test_lists_name_nothing_that_is_gone() -> None:
    """Each name on the lists is a route's."""
    assert {one.path for one in ROUTES} >= PUBLIC
    assert {(one.method, one.path) for one in ROUTES} >= BODIES.keys()
    assert {one.path for one in ROUTES} >= QUERIES.keys()


@pytest.mark.parametrize("route", [one for one in ROUTES if one.takes_body], ids=str)
def test_every_body_has_an_example(route: Route) -> None:
    """A route that takes a body is in the matrix with a sound one."""
    assert (route.method, route.path) in BODIES


# --- who gets what ------------------------------------------------------------------------------


async def conversation_of(person: Person) -> str:
    """Return a new conversation with an exchange in it."""
    started = await person.client.post("/api/v1/chat/start", {})
    conversation = str(started.json["conversation_id"])
    await person.client.post(
        "/api/v1/chat/message", {"conversation_id": conversation, "message": "Secret"}
    )
    return conversation


@pytest.mark.parametrize("route", PERSONAL, ids=str)
@pytest.mark.parametrize("bearer", [None, "garbage", "a.b.c"], ids=str)
async def test_nobody_in_particular_gets_nothing(
    node: Node, ana: Person, route: Route, bearer: str | None
) -> None:
    """Without a token, or with a bad one, each is refused before anything is looked at."""
    headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
    answers = [
        await route.call(node.nobody(**headers), one)
        for one in (await conversation_of(ana), str(uuid4()))
    ]
    assert answers[0].status in {401, 403}
    assert masked(answers[0]) == masked(answers[1])


@pytest.mark.parametrize(("route", "deleted"), list(product(WITH_ID, [False, True])), ids=str)
async def test_stranger_learns_nothing(
    ana: Person, bo: Person, route: Route, deleted: bool
) -> None:
    """Somebody else's conversation and one that never was are answered alike, and unharmed."""
    conversation = await conversation_of(ana)
    before = (await ana.client.get(f"/api/v1/chat/{conversation}/export")).body
    if deleted:
        await ana.client.delete(f"/api/v1/chat/{conversation}")
    foreign = await route.call(bo.client, conversation)
    if str(route) != "POST /api/chat":  # there a new id begins a conversation
        assert masked(foreign) == masked(await route.call(bo.client, str(uuid4())))
    assert foreign.status in {200, 204, 403, 404}
    assert b"Secret" not in foreign.body
    if foreign.status == 200:
        assert foreign.json == {"stopped": None}
    if deleted:
        await ana.client.post(f"/api/v1/chat/{conversation}/restore")
    assert (await ana.client.get(f"/api/v1/chat/{conversation}/export")).body == before


# Our own issuer serves its own people, and this one's token is Supabase's.
@pytest.mark.parametrize(
    "route",
    [
        one
        for one in PERSONAL
        if not one.path.startswith(("/auth/v1/", "/api/sessions/{", "/api/admin/", ENDLESS))
        and "{key_id}" not in one.path  # nor a key
        and not one.path.startswith(("/support/attachments/", "/api/files"))  # nor a file
        and not one.path.endswith(("/continue", "/queue/{run_id}"))  # nothing is cut off, or waits
        and not one.path.endswith("/session/revoke")  # a conversation's id names no session
        and "{response_id}" not in one.path  # nor a response, nor an item
        and "{item_id}" not in one.path
        and not one.path.endswith("/session")  # for pages of this server's own alone
    ],
    ids=str,
)
async def test_owner_is_served(ana: Person, route: Route) -> None:
    """Whoever is signed in gets through to what is theirs."""
    conversation = await conversation_of(ana)
    if route.path.endswith("/restore"):
        await ana.client.delete(f"/api/v1/chat/{conversation}")
    answer = await route.call(ana.client, conversation)
    assert answer.status in {200, 204}, answer.text


@pytest.mark.parametrize("route", PERSONAL, ids=str)
async def test_signed_out_is_out(node: Node, route: Route) -> None:
    """A token whose session has ended opens nothing, although it has not expired."""
    address = f"{uuid4()}@example.com"
    signed_up = await node.nobody().post(
        "/auth/v1/signup", {"email": address, "password": "Correct-Horse-42-battery"}
    )
    person = node.nobody(authorization=f"Bearer {signed_up.json['access_token']}")
    assert (await person.get("/api/v1/chat")).status == 200
    assert (await person.post("/auth/v1/logout")).status == 204
    answer = await route.call(person, str(uuid4()))
    assert answer.status in {401, 403}
    if route.path.startswith("/v1/"):
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    elif not route.path.startswith("/auth/v1/"):
        assert (answer.status, answer.json["code"]) == (401, "token_revoked")


@pytest.mark.parametrize("route", [one for one in ROUTES if one.path != ENDLESS], ids=str)
async def test_nothing_breaks(node: Node, ana: Person, route: Route) -> None:
    """No route answers a stranger, or an odd id, with a 5xx."""
    for client, conversation in product((node.nobody(), ana.client), ("x", "%00", "%F0%9F%92%A9")):
        answer = await route.call(client, conversation)
        assert answer.status < 500, answer.text
