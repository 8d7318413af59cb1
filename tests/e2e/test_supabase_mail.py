"""Unmodified Supabase clients, for JavaScript and for Python, with everything a mailbox does."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import aiohttp
import httpx
import pytest
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from supabase_auth.errors import AuthApiError

from tests.gotrue_people import OURS_ALONE, PASSWORD
from tests.http.mailbox import landed, newest_to, open_and_press, secret_of
from tests.patience import PATIENCE_S
from tests.serving import Node, start_node
from tests.stories import told_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supabase_auth.types import AuthFlowType

    from tests.postgres_servers import MigratedDatabase

STORY = Path(__file__).with_name("supabase_mail_story.mjs")
APP = "http://localhost:3000/welcome"
STEPS = [
    "sign up and confirm by the link",
    "confirm by the code, sent again",
    "a taken address looks like a free one",
    "sign in by a link",
    "sign in by a code, with no account before",
    "sign in by the hash of a link",
    "nobody learns who has an account",
    "a lost password",
    "another address",
    "a nonce before a new password",
    "PKCE: sign-up, link and recovery come back as a code",
    "a guest becomes permanent",
    "an old link says why it fails",
]
_numbers = count()


@pytest.fixture(scope="module")
async def node(database: MigratedDatabase) -> AsyncIterator[Node]:
    """A node on which addresses have to be confirmed, and guests are welcome."""
    async with aiohttp.ClientSession() as session:
        started = await start_node(
            database.url,
            session,
            "",
            MAILER_AUTOCONFIRM="off",
            ANONYMOUS_SIGN_IN="on",
            PASSWORD_REAUTHENTICATION="on",
            **OURS_ALONE,
        )
        yield started
        await started.stop()


@pytest.fixture(scope="module")
async def told(node: Node) -> dict[str, str | None]:
    """What happened at each step in JavaScript: None, or what went wrong."""
    return await told_by(STORY, node.url, node.services.embedded.supabase_keys.publishable)


@pytest.mark.parametrize("step", STEPS)
async def test_step_of_the_story(told: dict[str, str | None], step: str) -> None:
    """The client in JavaScript sees what Supabase Auth would have shown it."""
    assert told[step] is None


async def test_every_step_is_looked_at(told: dict[str, str | None]) -> None:
    """The story and the list of its steps are the same."""
    assert list(told) == STEPS


# --- Python --------------------------------------------------------------------------------------


class NewClient(Protocol):
    """Makes one more client; it is closed with the test."""

    async def __call__(self, flow: AuthFlowType = "implicit") -> AsyncClient:
        """Return an unmodified client for Python that nobody has signed in with."""


@pytest.fixture
async def client(node: Node) -> AsyncIterator[NewClient]:
    """Make clients for one test."""
    made: list[AsyncClient] = []

    async def make(flow: AuthFlowType = "implicit") -> AsyncClient:
        options = AsyncClientOptions(
            flow_type=flow,
            auto_refresh_token=False,
            httpx_client=httpx.AsyncClient(timeout=PATIENCE_S),
        )
        key = node.services.embedded.supabase_keys.publishable
        made.append(await acreate_client(node.url, key, options))
        return made[-1]

    yield make
    for one in made:
        await one.auth.close()


def new_address() -> str:
    """Return an address that nobody has yet."""
    return f"pythonic-{next(_numbers)}@example.com"


async def confirmed(client: NewClient, node: Node, email: str) -> AsyncClient:
    """Sign up and confirm."""
    there = await client()
    await there.auth.sign_up({"email": email, "password": PASSWORD})
    code = str((await newest_to(node, email, "confirmation")).code)
    await there.auth.verify_otp({"email": email, "token": code, "type": "signup"})
    return there


async def test_python_signs_up_with_a_confirmation(node: Node, client: NewClient) -> None:
    """No session before the code from the mail, and one after it."""
    there, email = await client(), new_address()
    answer = await there.auth.sign_up({"email": email, "password": PASSWORD})
    assert answer.session is None
    assert answer.user is not None
    assert answer.user.email == email
    with pytest.raises(AuthApiError) as refused:
        await there.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert (refused.value.code, refused.value.status) == ("email_not_confirmed", 400)
    await there.auth.resend({"type": "signup", "email": email})
    code = str((await newest_to(node, email, "confirmation")).code)
    done = await there.auth.verify_otp({"email": email, "token": code, "type": "signup"})
    assert done.session is not None
    assert done.user is not None
    assert done.user.id == answer.user.id


async def test_python_signs_in_by_mail(node: Node, client: NewClient) -> None:
    """By the code, and by the hash of the link; a used one is refused by name."""
    there, email = await client(), new_address()
    await there.auth.sign_in_with_otp({"email": email})
    code = str((await newest_to(node, email, "confirmation")).code)
    first = await there.auth.verify_otp({"email": email, "token": code, "type": "email"})
    with pytest.raises(AuthApiError) as refused:
        await there.auth.verify_otp({"email": email, "token": code, "type": "email"})
    assert (refused.value.code, refused.value.status) == ("otp_expired", 403)
    await there.auth.sign_in_with_otp({"email": email})
    link = secret_of((await newest_to(node, email, "magic_link")).link)
    second = await there.auth.verify_otp({"token_hash": link, "type": "magiclink"})
    assert first.user is not None
    assert second.user is not None
    assert first.user.id == second.user.id


async def test_python_recovers_a_lost_password(node: Node, client: NewClient) -> None:
    """The code from the mail signs in, a new password is taken, the old one is none any more."""
    email = new_address()
    await confirmed(client, node, email)
    there = await client()
    await there.auth.reset_password_for_email(email, {"redirect_to": APP})
    code = str((await newest_to(node, email, "recovery")).code)
    await there.auth.verify_otp({"email": email, "token": code, "type": "recovery"})
    await there.auth.update_user({"password": "a new long one"})
    with pytest.raises(AuthApiError):
        await there.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    again = {"email": email, "password": "a new long one"}
    assert (await there.auth.sign_in_with_password(again)).session is not None  # type: ignore[arg-type]  # a TypedDict


async def test_python_changes_the_address(node: Node, client: NewClient) -> None:
    """The first half answers without a session, the second with one."""
    old, new = new_address(), new_address()
    there = await confirmed(client, node, old)
    await there.auth.update_user({"email": new})
    first = str((await newest_to(node, old, "email_change_current")).code)
    half = await there.auth.verify_otp({"email": old, "token": first, "type": "email_change"})
    assert half.session is None
    second = str((await newest_to(node, new, "email_change_new")).code)
    done = await there.auth.verify_otp({"email": new, "token": second, "type": "email_change"})
    assert done.user is not None
    assert done.user.email == new


async def test_python_in_a_pkce_flow(node: Node, client: NewClient) -> None:
    """The link leads back with a code that this client, and no other, can exchange."""
    there, email = await client("pkce"), new_address()
    await there.auth.sign_in_with_otp({"email": email, "options": {"email_redirect_to": APP}})
    mail = await newest_to(node, email, "confirmation")
    address, query, said = landed(await open_and_press(node.nobody(), mail.link))
    assert (address, said) == (APP, {})
    done = await there.auth.exchange_code_for_session({"auth_code": query["code"]})
    assert done.user is not None
    assert done.user.email == email


async def test_python_guest_and_the_scopes_of_signing_out(node: Node, client: NewClient) -> None:
    """A guest is one by name; others, local and global end what they say."""
    there = await client()
    guest = await there.auth.sign_in_anonymously()
    assert guest.user is not None
    assert guest.user.is_anonymous is True
    email = new_address()
    devices = [await confirmed(client, node, email)]
    for _ in range(2):
        devices.append(await client())
        await devices[-1].auth.sign_in_with_password({"email": email, "password": PASSWORD})
    await devices[0].auth.sign_out({"scope": "others"})
    for ended in devices[1:]:
        with pytest.raises(AuthApiError):
            await ended.auth.refresh_session()
    await devices[0].auth.refresh_session()
    await devices[0].auth.sign_out()
    assert await devices[0].auth.get_session() is None
