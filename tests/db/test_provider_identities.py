"""Identities at other providers, in the database: who is found, who is told, who comes first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.config import SignInProvider
from chatkeep.db import ADMIN, AUTH
from chatkeep.errors import BadOAuthState, EmailExists, FlowStateAlreadyUsed, Unavailable
from chatkeep.providers import flows, identities, linking
from chatkeep.providers.flows import Flow
from chatkeep.providers.proofs import proof_of
from tests.signing_in import new_address, open_test_issuer, sign_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.providers import Proof
    from chatkeep.providers.identities import Held

GOOGLE = "https://accounts.google.com"
ACME = "https://login.acme.example"


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """Our own issuer."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


def proof(sub: str, issuer: str = ACME, **claims: Any) -> Proof:  # noqa: ANN401 -- claims
    """Return what a provider says of *sub*."""
    name = "google" if issuer == GOOGLE else "acme"
    named = SignInProvider(name=name, title=name.capitalize(), issuer=issuer)
    return proof_of(named, {"sub": sub, **claims})


async def bring_along(db: Database, user_id: object, provider: str, sub: str) -> None:
    """Write an identity as an import from another server does: without the issuer's name."""
    await db.execute(
        AUTH,
        "insert into chatkeep.identities (user_id, id, provider, provider_id)"
        " values (%s, gen_random_uuid(), %s, %s)",
        (user_id, provider, sub),
    )


async def test_identity_that_was_brought_along_is_found(
    db: Database, issuer: EmbeddedIssuer
) -> None:
    """Google's subjects mean the same everywhere; of any other provider nobody knows that."""
    grant = await sign_up(issuer)
    sub = str(uuid4())
    await bring_along(db, grant.user.id, "google", sub)
    await bring_along(db, grant.user.id, "acme", sub)
    assert await linking.account_of(issuer, proof(sub, GOOGLE)) == grant.user.id
    assert await linking.account_of(issuer, proof(sub, GOOGLE)) == grant.user.id
    assert await linking.account_of(issuer, proof(sub, ACME)) != grant.user.id


async def test_proof_of_an_address_is_an_identity_and_not_that_it_counts_as_confirmed(
    db: Database, issuer: EmbeddedIssuer
) -> None:
    """Where no mail is sent, every account counts as confirmed."""
    email = new_address()
    grant = await sign_up(issuer, email)
    assert grant.user.email_confirmed_at is not None
    said: dict[str, Any] = {"email": email, "email_verified": True}
    with pytest.raises(EmailExists):
        await linking.account_of(issuer, proof(str(uuid4()), **said))
    await db.execute(
        AUTH,
        "update chatkeep.identities set identity_data ="
        " identity_data || jsonb_build_object('email_verified', true) where user_id = %s",
        (grant.user.id,),
    )
    assert await linking.account_of(issuer, proof(str(uuid4()), **said)) == grant.user.id


async def test_linking_is_in_the_audit_log_and_its_owner_is_told(
    db: Database, issuer: EmbeddedIssuer
) -> None:
    """In the same transaction, by mail to the account's address."""
    email = new_address()
    sub, other = str(uuid4()), str(uuid4())
    said: dict[str, Any] = {"email": email, "email_verified": True}
    user_id = await linking.account_of(issuer, proof(sub, **said))
    assert await linking.account_of(issuer, proof(other, GOOGLE, **said)) == user_id
    rows = await db.fetch(
        ADMIN,
        "select action || ' ' || coalesce(reason, '') || ' ' || (details ->> 'provider') as text"
        " from chatkeep.audit_log where user_id = %s order by number",
        (str(user_id),),
        row=_Text,
    )
    assert [one.text for one in rows] == [
        "user.created  acme",
        "identity.linked verified_email google",
    ]


async def test_fifty_sign_ins_of_one_identity_at_once_never_wait_for_each_other(
    issuer: EmbeddedIssuer,
) -> None:
    """One account, and no deadlock: the account's row comes before its identities."""
    sub, email = str(uuid4()), new_address()
    said: dict[str, Any] = {"email": email, "email_verified": True}
    proofs = [proof(sub, issuer=one, **said) for one in (ACME, GOOGLE) for _ in range(25)]
    found = await asyncio.gather(*(linking.account_of(issuer, one) for one in proofs))
    assert len(set(found)) == 1


async def test_identity_that_is_unlinked_while_it_signs_in_opens_nothing(
    db: Database, issuer: EmbeddedIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever took it away did so to keep it out; the next try finds that it is nobody's."""
    shown = proof(str(uuid4()))
    owner, hold = await linking.account_of(issuer, shown), identities.hold

    async def later(connection: AsyncConnection, user_id: UUID) -> Held:
        await db.execute(AUTH, "delete from chatkeep.identities where user_id = %s", (owner,))
        return await hold(connection, user_id)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(identities, "hold", later)
        with pytest.raises(Unavailable):
            await linking.account_of(issuer, shown)
    assert await linking.account_of(issuer, shown) != owner


async def test_state_is_taken_by_one_of_two_at_once(db: Database) -> None:
    """And by nobody in another browser."""
    flow = Flow(provider="acme", redirect_to="https://app.example")
    browser = flows.new_text()
    state = await flows.begin(db, flow, browser=browser)
    with pytest.raises(BadOAuthState):
        await flows.take(db, state, browser=flows.new_text())
    tries = await asyncio.gather(
        *(flows.take(db, state, browser=browser) for _ in range(10)), return_exceptions=True
    )
    assert [one for one in tries if not isinstance(one, Exception)] == [flow]
    assert {type(one) for one in tries if one != flow} <= {BadOAuthState, FlowStateAlreadyUsed}


async def linking_flow(db: Database, issuer: EmbeddedIssuer) -> Flow:
    """Return a flow by which somebody wants to link a provider."""
    grant = await sign_up(issuer, new_address())
    asked = flows.Linking(user_id=grant.user.id, session_id=grant.session_id)
    return Flow(provider="acme", redirect_to="https://app.example", linking=asked)


async def test_flow_to_link_is_opened_by_the_first_browser_alone(
    db: Database, issuer: EmbeddedIssuer
) -> None:
    """Whoever comes second finds nothing, and so does who never opened it."""
    flow = await linking_flow(db, issuer)
    state = await flows.begin(db, flow, browser=None)
    first, second = flows.new_text(), flows.new_text()
    with pytest.raises(BadOAuthState):
        await flows.take(db, state, browser=first)
    assert await flows.open_in(db, state, browser=first, may_begin=_anywhere) == flow
    with pytest.raises(BadOAuthState):
        await flows.open_in(db, state, browser=second, may_begin=_anywhere)
    with pytest.raises(BadOAuthState):
        await flows.take(db, state, browser=second)
    assert await flows.take(db, state, browser=first) == flow


async def test_flow_to_link_is_opened_where_it_was_begun(
    db: Database, issuer: EmbeddedIssuer
) -> None:
    """In that browser from whatever page, and in no other."""
    flow, own = await linking_flow(db, issuer), flows.new_text()
    state = await flows.begin(db, flow, browser=own)
    with pytest.raises(BadOAuthState):
        await flows.open_in(db, state, browser=flows.new_text(), may_begin=_anywhere)
    assert await flows.open_in(db, state, browser=own, may_begin=_nowhere) == flow
    assert await flows.take(db, state, browser=own) == flow


async def test_flow_to_link_that_was_opened_elsewhere_is_lost(
    db: Database, issuer: EmbeddedIssuer
) -> None:
    """Whoever was sent its address opens it no other way either, in the same browser or not."""
    state = await flows.begin(db, await linking_flow(db, issuer), browser=None)
    browser = flows.new_text()
    for may_begin in (_nowhere, _anywhere):
        with pytest.raises(BadOAuthState):
            await flows.open_in(db, state, browser=browser, may_begin=may_begin)
    with pytest.raises(FlowStateAlreadyUsed):
        await flows.take(db, state, browser=browser)


def _anywhere(_redirect_to: str) -> bool:
    return True


def _nowhere(_redirect_to: str) -> bool:
    return False


async def test_what_has_ended_is_swept_by_those_that_begin(db: Database) -> None:
    """An hour after its end, a few at a time."""
    flow = Flow(provider="acme", redirect_to="https://app.example")
    await flows.begin(db, flow, browser=flows.new_text())
    await db.execute(
        AUTH, "update chatkeep.sign_in_flows set expires_at = now() - interval '2 hours'", ()
    )
    await flows.begin(db, flow, browser=flows.new_text())
    rows = await db.fetch(
        AUTH, "select provider as text from chatkeep.sign_in_flows", (), row=_Text
    )
    assert len(rows) == 1
