"""A function of the operator's has the last word on claims, but not on who, whom and how long."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from chatkeep import token_hook
from chatkeep.errors import SetupError
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Node

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "add-claims-to-access-tokens.md"
PASSWORD = "Correct-Horse-42-battery"
_numbers = count()

Json = dict[str, Any]


def blocks(language: str) -> list[str]:
    """Return the code of the how-to."""
    return re.findall(rf"```{language}\n(.*?)```", HOW_TO.read_text(), re.DOTALL)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """A module of the operator's, importable as `shop_hooks`."""
    made = ModuleType("shop_hooks")
    sys.modules["shop_hooks"] = made
    yield made
    del sys.modules["shop_hooks"]


@pytest.fixture
async def hooked(start: StartNode, module: ModuleType) -> Node:
    """A node that asks whatever `customize` in that module is now."""

    def customize(event: Json) -> object:
        answer: object = module.now(event)
        return answer

    module.customize = customize  # type: ignore[attr-defined]
    module.now = lambda event: event  # type: ignore[attr-defined]
    return await start(ACCESS_TOKEN_HOOK="shop_hooks:customize")


def claims_of(answer: Answer) -> Json:
    """Return what the access token in *answer* says."""
    assert answer.status == 200, answer.text
    payload = answer.json["access_token"].split(".")[1]
    read: Json = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return read


async def post(node: Node, path: str, **body: object) -> Answer:
    """Call the issuer as a client that is not signed in."""
    key = node.services.embedded.supabase_keys.publishable
    return await node.nobody(apikey=key).post(f"/auth/v1/{path}", body)


async def sign_up(node: Node, host: str = "example.com") -> Answer:
    """Make somebody new."""
    email = f"hooked-{next(_numbers)}@{host}"
    return await post(node, "signup", email=email, password=PASSWORD)


async def test_the_python_of_the_how_to_works(start: StartNode, module: ModuleType) -> None:
    """At sign-in and at each refresh; what it did not add is as without it."""
    asynchronous, refusing = blocks("python")
    exec(asynchronous, module.__dict__)  # noqa: S102 -- our own page
    node = await start(ACCESS_TOKEN_HOOK="shop_hooks:customize")
    signed_up = await sign_up(node, "staff.example")
    assert claims_of(signed_up)["department"] == "support"
    assert "department" not in claims_of(await sign_up(node))
    refreshed = await post(
        node, "token?grant_type=refresh_token", refresh_token=signed_up.json["refresh_token"]
    )
    assert claims_of(refreshed)["department"] == "support"
    bearer = node.nobody(authorization=f"Bearer {refreshed.json['access_token']}")
    assert (await bearer.get("/auth/v1/user")).status == 200
    exec(refusing, module.__dict__)  # noqa: S102 -- our own page
    node = await start(ACCESS_TOKEN_HOOK="shop_hooks:customize")
    turned_away = await sign_up(node, "left.example")
    assert (turned_away.status, turned_away.json["msg"]) == (403, "Your company has left.")
    assert "access_token" not in turned_away.json
    assert (await sign_up(node)).status == 200


async def test_no_hook_lets_anybody_off_their_second_factor(
    start: StartNode, module: ModuleType
) -> None:
    """Whatever it returns, the token says what is owed."""
    module.customize = lambda event: {  # type: ignore[attr-defined]
        "claims": {name: event["claims"][name] for name in event["claims"].keys() - {"next_aal"}}
    }
    node = await start(ACCESS_TOKEN_HOOK="shop_hooks:customize", MFA_REQUIRED="everybody")
    assert claims_of(await sign_up(node))["next_aal"] == "aal2"


async def test_the_sql_of_the_how_to_works(start: StartNode, database: MigratedDatabase) -> None:
    """And its grants are all that it needs; without them the server does not start."""
    (script,) = blocks("sql")
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(script.encode())
        node = await start(ACCESS_TOKEN_HOOK="pg:hooks.customize")
        said = claims_of(await sign_up(node))
        assert (said["plan"], said["role"]) == ("free", "authenticated")
        connection.execute("revoke execute on function hooks.customize from chatkeep_auth")
        assert (await sign_up(node)).status == 500
        with pytest.raises(SetupError, match="ACCESS_TOKEN_HOOK"):
            await token_hook.open_hook(
                node.services.db, node.services.settings, refused_roles=frozenset()
            )


@pytest.mark.parametrize(
    "name", ["pg:hooks.none", "pg:nowhere.customize", "pg:chatkeep.revoke", "shop_hooks:none"]
)
async def test_a_function_that_is_not_there_stops_the_start(
    node: Node, module: ModuleType, name: str
) -> None:
    """Rather than every sign-in."""
    assert not hasattr(module, "none")
    settings = replace(node.services.settings, access_token_hook=name)
    with pytest.raises(SetupError, match="ACCESS_TOKEN_HOOK"):
        await token_hook.open_hook(node.services.db, settings, refused_roles=frozenset())


async def test_the_input_is_that_of_supabase_auth(hooked: Node, module: ModuleType) -> None:
    """Who, which claims, how they proved themselves, and where the call comes from."""
    seen: list[Json] = []

    def customize(event: Json) -> Json:
        seen.append(json.loads(json.dumps(event)))
        return event

    module.now = customize  # type: ignore[attr-defined]
    answer = await sign_up(hooked)
    body = {"refresh_token": answer.json["refresh_token"]}
    await post(hooked, "token?grant_type=refresh_token", **body)
    first, second = seen
    assert set(first) == {"metadata", "user_id", "claims", "authentication_method"}
    assert first["user_id"] == answer.json["user"]["id"]
    assert first["claims"] == claims_of(answer)
    assert [one["authentication_method"] for one in seen] == ["password", "token_refresh"]
    assert set(first["metadata"]) == {"uuid", "time", "name", "ip_address"}
    assert second["metadata"]["ip_address"] == "127.0.0.1"


BENT: dict[str, Callable[[Json], object]] = {
    **{
        f"{name} changed": (lambda event, name=name: _with(event, **{name: "other"}))  # type: ignore[misc]
        for name in token_hook.PROTECTED
    },
    **{
        f"{name} missing": (lambda event, name=name: _without(event, name))  # type: ignore[misc]
        for name in (*token_hook.PROTECTED, "email", "phone", "role")
    },
    "exp as a fraction": lambda event: _with(event, exp=float(event["claims"]["exp"])),
    "is_anonymous as a number": lambda event: _with(event, is_anonymous=0),
    "role of the system": lambda event: _with(event, role="service_role"),
    "role as a list": lambda event: _with(event, role=["admin"]),
    "no claims": lambda _: {},
    "claims that are none": lambda _: {"claims": "all"},
    "nothing": lambda _: None,
    "a text": lambda _: "claims",
    "what JSON cannot hold": lambda event: _with(event, extra=object()),
    "too much": lambda event: _with(event, extra="x" * 20_000),
    "an exception": lambda _: 1 / 0,
    "an exit": lambda _: sys.exit(1),
}


def _with(event: Json, **claims: object) -> Json:
    return {"claims": {**event["claims"], **claims}}


def _without(event: Json, name: str) -> Json:
    return {"claims": {one: value for one, value in event["claims"].items() if one != name}}


async def test_what_a_hook_may_not_do_makes_no_token(hooked: Node, module: ModuleType) -> None:
    """Each is a 500 in the words of the surface, and nobody gets anything; then all is well."""
    for how, bent in BENT.items():
        module.now = bent  # type: ignore[attr-defined]
        answer = await sign_up(hooked)
        assert (answer.status, answer.json.get("error_code")) == (
            500,
            "access_token_hook_failed",
        ), how
        assert answer.json.keys() == {"code", "error_code", "msg"}
    module.now = lambda event: event  # type: ignore[attr-defined]
    assert (await sign_up(hooked)).status == 200


async def test_who_is_turned_away_leaves_no_session(
    hooked: Node, module: ModuleType, database: MigratedDatabase
) -> None:
    """The account is there; the session that got no token has ended, and the log says why."""
    email = f"hooked-{next(_numbers)}@example.com"
    module.now = lambda _: {"error": {"message": "Not today."}}  # type: ignore[attr-defined]
    assert (await post(hooked, "signup", email=email, password=PASSWORD)).status == 403
    with psycopg.connect(database.admin_url) as connection:
        found = connection.execute(
            "select s.is_active, s.reason from public.user_sessions s join chatkeep.users u"
            " on right(s.user_id, 36) = u.id::text where u.email = %s",
            (email,),
        ).fetchall()
        logged = connection.execute(
            "select action, reason from chatkeep.audit_log order by number desc limit 1"
        ).fetchall()
    assert found == [(False, "access_token_hook_refused")]
    assert logged == [("session.ended", "access_token_hook_refused")]


async def test_a_broken_hook_signs_nobody_out(hooked: Node, module: ModuleType) -> None:
    """A refresh is told to come again, and the same refresh token works when it is mended."""
    token = (await sign_up(hooked)).json["refresh_token"]
    module.now = lambda _: None  # type: ignore[attr-defined]
    for _ in range(3):
        answer = await post(hooked, "token?grant_type=refresh_token", refresh_token=token)
        assert answer.status == 503
        assert "retry-after" in answer.headers
    module.now = lambda event: event  # type: ignore[attr-defined]
    assert (await post(hooked, "token?grant_type=refresh_token", refresh_token=token)).status == 200


@pytest.mark.parametrize("waits_in", ["the loop", "a thread"])
async def test_a_slow_hook_is_given_up_and_holds_up_nobody(
    start: StartNode, module: ModuleType, monkeypatch: pytest.MonkeyPatch, waits_in: str
) -> None:
    """Wherever it waits, others are answered meanwhile, and its time ends."""
    go_on, entered = threading.Event(), threading.Event()

    async def waiting(event: Json) -> Json:
        entered.set()
        await until(go_on.is_set)
        return event

    def blocking(event: Json) -> Json:
        entered.set()
        go_on.wait(60)
        return event

    module.customize = waiting if waits_in == "the loop" else blocking  # type: ignore[attr-defined]
    node = await start(ACCESS_TOKEN_HOOK="shop_hooks:customize")
    monkeypatch.setattr(token_hook, "TIME_LIMIT_S", 60)
    slow = asyncio.create_task(sign_up(node))
    await until(entered.is_set)
    assert (await node.nobody().get("/healthz")).status == 200
    assert not slow.done()
    go_on.set()
    assert (await slow).status == 200
    go_on.clear()
    monkeypatch.setattr(token_hook, "TIME_LIMIT_S", 0.05)
    assert (await sign_up(node)).status == 503
    go_on.set()


async def test_two_at_once_get_their_own_claims(hooked: Node, module: ModuleType) -> None:
    """What a hook keeps of one call reaches no other one's token."""
    kept: Json = {}

    def careless(event: Json) -> Json:
        kept.update({f"seen_{event['user_id']}": True})
        event["claims"]["app_metadata"]["mine"] = event["user_id"]
        return event

    module.now = careless  # type: ignore[attr-defined]
    answers = await asyncio.gather(*(sign_up(hooked) for _ in range(5)))
    for answer in answers:
        said = claims_of(answer)
        assert said["app_metadata"]["mine"] == said["sub"] == answer.json["user"]["id"]
        assert "mine" not in answer.json["user"]["app_metadata"]
