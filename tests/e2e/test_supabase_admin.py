"""`auth.admin` of unmodified Supabase clients, for JavaScript and for Python, on a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import aiohttp
import httpx
import pytest
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from supabase_auth.errors import AuthApiError

from tests.gotrue_people import OURS_ALONE, PASSWORD
from tests.patience import PATIENCE_S
from tests.serving import Node, start_node
from tests.stories import told_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supabase_auth.types import SignInWithEmailAndPasswordCredentials

    from tests.postgres_servers import MigratedDatabase

STORY = Path(__file__).with_name("supabase_admin_story.mjs")
STEPS = [
    "create",
    "the person signs in",
    "list",
    "get",
    "update",
    "ban",
    "sign somebody out",
    "delete",
    "invite",
    "links to hand on",
    "the publishable key administers nothing",
]


@pytest.fixture(scope="module")
async def node(database: MigratedDatabase) -> AsyncIterator[Node]:
    """A node whose only issuer is its own."""
    async with aiohttp.ClientSession() as session:
        started = await start_node(database.url, session, "", **OURS_ALONE)
        yield started
        await started.stop()


@pytest.fixture(scope="module")
async def told(node: Node) -> dict[str, str | None]:
    """What happened at each step: None, or what went wrong."""
    keys = node.services.embedded.supabase_keys
    return await told_by(STORY, node.url, keys.publishable, keys.secret)


@pytest.mark.parametrize("step", STEPS)
async def test_step_of_the_story(told: dict[str, str | None], step: str) -> None:
    """The client in JavaScript sees what Supabase Auth would have shown it."""
    assert told[step] is None


async def test_every_step_is_looked_at(told: dict[str, str | None]) -> None:
    """The story and the list of its steps are the same."""
    assert list(told) == STEPS


class Client(Protocol):
    """Makes a client with a key; it is closed with the test."""

    async def __call__(self, key: str, /) -> AsyncClient:
        """Make one with *key*."""


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    """Make clients in Python."""
    made: list[AsyncClient] = []

    async def make(key: str, /) -> AsyncClient:
        options = AsyncClientOptions(httpx_client=httpx.AsyncClient(timeout=PATIENCE_S))
        made.append(await acreate_client(node.url, key, options))
        return made[-1]

    yield make
    for one in made:
        await one.auth.close()


async def _refused(work: object) -> tuple[str | None, int]:
    with pytest.raises(AuthApiError) as caught:
        await work  # type: ignore[misc]  # a coroutine of the client's
    return caught.value.code, caught.value.status


async def test_python_client_administers(node: Node, client: Client) -> None:
    """Create, list, get, change, ban, sign out and delete, each as the client expects it."""
    keys = node.services.embedded.supabase_keys
    server, person = await client(keys.secret), await client(keys.publishable)
    admin, email = server.auth.admin, f"{uuid4().hex}@example.com"
    credentials: SignInWithEmailAndPasswordCredentials = {"email": email, "password": PASSWORD}
    made = await admin.create_user(
        {
            "email": email,
            "password": PASSWORD,
            "email_confirm": True,
            "app_metadata": {"tier": "gold"},
        }
    )
    assert made.user.app_metadata["tier"] == "gold"
    assert await _refused(admin.create_user({"email": email})) == ("email_exists", 422)
    signed_in = await person.auth.sign_in_with_password(credentials)
    assert signed_in.session is not None
    assert made.user.id in [one.id for one in await admin.list_users(page=1, per_page=1000)]
    assert (await admin.get_user_by_id(made.user.id)).user.email == email
    changed = await admin.update_user_by_id(made.user.id, {"user_metadata": {"a": 1}})
    assert changed.user.user_metadata == {"a": 1}
    await admin.update_user_by_id(made.user.id, {"ban_duration": "24h"})
    assert await _refused(person.auth.get_user(signed_in.session.access_token)) == (
        "user_banned",
        400,
    )
    await admin.update_user_by_id(made.user.id, {"ban_duration": "none"})
    again = await person.auth.sign_in_with_password(credentials)
    assert again.session is not None
    await admin.sign_out(again.session.access_token)
    assert await _refused(person.auth.refresh_session(again.session.refresh_token)) == (
        "refresh_token_not_found",
        400,
    )
    await admin.delete_user(made.user.id)
    assert await _refused(admin.get_user_by_id(made.user.id)) == ("user_not_found", 404)


async def test_python_client_invites_and_hands_links_on(node: Node, client: Client) -> None:
    """Both give what the client makes of it, and the link signs its person in."""
    keys = node.services.embedded.supabase_keys
    server, person = await client(keys.secret), await client(keys.publishable)
    invited = await server.auth.admin.invite_user_by_email(f"{uuid4().hex}@example.com")
    assert invited.user is not None
    assert invited.user.invited_at is not None
    email = f"{uuid4().hex}@example.com"
    made = await server.auth.admin.generate_link({"type": "magiclink", "email": email})
    shown = await person.auth.verify_otp(
        {"type": "magiclink", "token_hash": made.properties.hashed_token}
    )
    assert shown.user is not None
    assert shown.user.email == email
