"""People of our own issuer over HTTP: signing up, in and out as Supabase clients do."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.serving import Answer, Client, Node

PASSWORD: Final = "Correct-Horse-42-battery"
OURS_ALONE: Final[dict[str, Any]] = {"SUPABASE_PROJECT_URL": "", "SUPABASE_JWT_SECRET": ""}
_numbers = count()


def nobody(node: Node) -> Client:
    """Return a Supabase client that is not signed in."""
    key = node.services.embedded.supabase_keys.publishable
    return node.nobody(apikey=key, authorization=f"Bearer {key}")


def new_address() -> str:
    """Return an e-mail address that nobody has yet."""
    return f"someone-{next(_numbers)}@example.com"


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says, unverified."""
    payload = token.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return read


async def sign_up(caller: Client, email: str | None = None, **more: object) -> dict[str, Any]:
    """Make somebody new; return the session."""
    answer = await caller.post(
        "/auth/v1/signup", {"email": email or new_address(), "password": PASSWORD, **more}
    )
    assert answer.status == 200, answer.text
    session: dict[str, Any] = answer.json
    return session


async def sign_in(caller: Client, email: str, password: str = PASSWORD) -> Answer:
    """Try a password."""
    body = {"email": email, "password": password}
    return await caller.post("/auth/v1/token?grant_type=password", body)


async def refresh(caller: Client, token: object) -> Answer:
    """Show a refresh token."""
    return await caller.post("/auth/v1/token?grant_type=refresh_token", {"refresh_token": token})


def signed_in(caller: Client, session: dict[str, Any]) -> Client:
    """Return the caller with the session's access token."""
    return caller.but(authorization=f"Bearer {session['access_token']}")


def code_of(answer: Answer) -> tuple[int, str]:
    """Return status and error code, from the older envelope."""
    return answer.status, answer.json["error_code"]
