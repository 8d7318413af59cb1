"""An unmodified supabase-py enrolls, verifies, lists and removes a second factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supabase_auth import AsyncGoTrueClient

from tests.second_factors import PASSWORD, App, join

if TYPE_CHECKING:
    from tests.serving import Node


async def test_supabase_py_raises_its_session(node: Node) -> None:
    """The same calls as in its documentation, from enrolment to removal."""
    ana = await join(node)
    key = node.services.embedded.supabase_keys.publishable
    async with AsyncGoTrueClient(
        url=f"{node.url}/auth/v1", headers={"apikey": key}, auto_refresh_token=False
    ) as auth:
        await auth.sign_in_with_password({"email": ana.email, "password": PASSWORD})
        made = await auth.mfa.enroll(
            {"factor_type": "totp", "friendly_name": "Phone", "issuer": "Chat"}
        )
        assert made.totp is not None
        app = App(factor_id=made.id, secret=made.totp.secret)
        challenge = await auth.mfa.challenge({"factor_id": made.id})
        raised = await auth.mfa.verify(
            {"factor_id": made.id, "challenge_id": challenge.id, "code": app.code()}
        )
        assert raised.user.id == ana.id
        level = await auth.mfa.get_authenticator_assurance_level()
        assert (level.current_level, level.next_level) == ("aal2", "aal2")
        listed = await auth.mfa.list_factors()
        assert [one.friendly_name for one in listed.totp] == ["Phone"]
        assert (await auth.mfa.unenroll({"factor_id": made.id})).id == made.id
