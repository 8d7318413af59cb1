"""People with a second factor, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyotp

from chatkeep.db import AUTH

if TYPE_CHECKING:
    from tests.serving import Answer, Client, Node

PASSWORD = "Correct-Horse-42-battery"


@dataclass(slots=True, kw_only=True)
class Member:
    """Somebody with an account of our own issuer; *client* sends their newest token."""

    node: Node
    client: Client
    email: str
    session: dict[str, Any]

    @property
    def id(self) -> str:
        """Their id."""
        return str(self.session["user"]["id"])

    def holds(self, session: dict[str, Any]) -> None:
        """Use another session from now on."""
        self.session = session
        self.client = self.node.nobody(authorization=f"Bearer {session['access_token']}")

    async def again(self) -> Member:
        """Sign in with the password once more, as another device would."""
        answer = await self.node.nobody().post(
            "/auth/v1/token?grant_type=password", {"email": self.email, "password": PASSWORD}
        )
        assert answer.status == 200, answer.text
        return _member(self.node, self.email, answer.json)

    async def refresh(self, token: str | None = None) -> Answer:
        """Exchange a refresh token, their newest unless said."""
        return await self.node.nobody().post(
            "/auth/v1/token?grant_type=refresh_token",
            {"refresh_token": token or self.session["refresh_token"]},
        )

    async def factors(self) -> list[dict[str, Any]]:
        """Return their factors as the server lists them."""
        answer = await self.client.get("/auth/v1/user")
        return list(answer.json.get("factors", []))


@dataclass(slots=True, kw_only=True)
class App:
    """An authenticator app that has scanned a member's code."""

    factor_id: str
    secret: str

    def code(self, steps: int = 0) -> str:
        """Return what it shows now, or so many steps later."""
        totp = pyotp.TOTP(self.secret)
        return str(totp.generate_otp(totp.timecode(_now()) + steps))


def _now() -> Any:  # noqa: ANN401 -- pyotp takes any datetime
    from datetime import UTC, datetime  # noqa: PLC0415 -- beside its only use

    return datetime.now(UTC)


async def join(node: Node) -> Member:
    """Sign somebody up."""
    email = f"{uuid4()}@example.com"
    answer = await node.nobody().post("/auth/v1/signup", {"email": email, "password": PASSWORD})
    assert answer.status == 200, answer.text
    return _member(node, email, answer.json)


def _member(node: Node, email: str, session: dict[str, Any]) -> Member:
    client = node.nobody(authorization=f"Bearer {session['access_token']}")
    return Member(node=node, client=client, email=email, session=session)


async def enroll(member: Member, name: str | None = None) -> App:
    """Scan the code of a new factor."""
    answer = await member.client.post(
        "/auth/v1/factors", {"factor_type": "totp", "friendly_name": name}
    )
    assert answer.status == 200, answer.text
    return App(factor_id=answer.json["id"], secret=answer.json["totp"]["secret"])


async def challenge(member: Member, factor_id: str) -> str:
    """Return a challenge of a factor."""
    answer = await member.client.post(f"/auth/v1/factors/{factor_id}/challenge")
    assert answer.status == 200, answer.text
    return str(answer.json["id"])


async def verify(member: Member, app: App, code: str | None = None) -> Answer:
    """Challenge a factor and answer with *code*, or with what *app* shows now."""
    asked = {"challenge_id": await challenge(member, app.factor_id), "code": code or app.code()}
    return await member.client.post(f"/auth/v1/factors/{app.factor_id}/verify", asked)


async def stepped_up(member: Member, name: str | None = None) -> App:
    """Give *member* an authenticator app and a session at AAL2; its codes are unused."""
    app = await enroll(member, name)
    answer = await verify(member, app)
    assert answer.status == 200, answer.text
    member.holds(answer.json)
    await forget_codes(member)
    return app


async def forget_codes(member: Member) -> None:
    """Let the codes of the running half minute be good once more, and forget wrong ones."""
    await member.node.services.db.execute(
        AUTH,
        "update chatkeep.factors set last_step = 0, failures = 0, locked_until = null"
        " where user_id = %s",
        (member.id,),
    )
