"""What a mail or a page hands out is good once, for a while, for one person and purpose."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from chatkeep import one_time_tokens
from chatkeep.db import AUTH
from chatkeep.errors import BadCodeVerifier, FlowStateExpired, FlowStateNotFound, UserBanned
from chatkeep.issuance import ProviderTokens
from chatkeep.one_time_tokens import Challenge, OneTimeTokens
from chatkeep.sign_in import authorization_codes
from tests.signing_in import DEVICE, SECRET, new_address, open_test_issuer, sign_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer, Grant
    from chatkeep.one_time_tokens import OneTimeToken, Waiting
    from tests.postgres_servers import MigratedDatabase

VERIFIER = "v" * 64
S256 = Challenge(
    text=urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
    method="s256",
)


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """The issuer of this module's database."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


async def sent(
    issuer: EmbeddedIssuer, user_id: UUID, kind: one_time_tokens.Kind, email: str
) -> OneTimeToken:
    """Keep a new token, as a mail does."""
    token, kept = issuer.one_time_tokens.issue(user_id, kind, email)
    await issuer.db.fetch_all(AUTH, kept)
    return token


async def use(issuer: EmbeddedIssuer, token: Waiting) -> bool:
    """Use a token up; return whether this was the first time."""
    (used,) = await issuer.db.fetch_all(AUTH, one_time_tokens.using(token))
    return bool(used)


# --- tokens of mails -----------------------------------------------------------------------------


async def test_token_is_found_by_its_link_and_by_its_code(issuer: EmbeddedIssuer) -> None:
    """Either shows the same token, for its own purpose and address, and for nothing else."""
    person, email = (await sign_up(issuer)).user.id, new_address()
    token = await sent(issuer, person, "recovery", email)
    by_link = await one_time_tokens.find_by_link(issuer.db, token.link, ["recovery"])
    guess = issuer.one_time_tokens.guess
    by_code = await guess(issuer.db, token.code, email=email, kinds=["recovery", "magiclink"])
    assert by_link is not None
    assert by_link == by_code
    assert (by_link.user_id, by_link.email, by_link.challenge) == (person, email, None)
    assert await one_time_tokens.find_by_link(issuer.db, token.link, ["magiclink"]) is None
    assert await one_time_tokens.find_by_link(issuer.db, token.link + "x", ["recovery"]) is None
    assert await guess(issuer.db, token.code, email=email, kinds=["magiclink"]) is None
    assert await guess(issuer.db, token.code, email=new_address(), kinds=["recovery"]) is None


async def test_database_holds_nothing_usable(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Neither text is in a row, and a code cannot be tried out without the server's secret."""
    person, email = (await sign_up(issuer)).user.id, new_address()
    token = await sent(issuer, person, "recovery", email)
    ((row,),) = database.operate(
        "select t::text from chatkeep.one_time_tokens t where user_id = %s",
        person,
    )
    assert token.link not in row
    assert token.code not in row.split(",")
    other = OneTimeTokens(b"another secret of 32 bytes: 0123456789", issuer.one_time_tokens.life)
    assert await other.guess(issuer.db, token.code, email=email, kinds=["recovery"]) is None
    same = OneTimeTokens(SECRET.encode(), issuer.one_time_tokens.life)
    assert await same.guess(issuer.db, token.code, email=email, kinds=["recovery"]) is not None


async def test_token_is_good_once_however_many_try(issuer: EmbeddedIssuer) -> None:
    """Of twenty uses at the same time one is the first."""
    person, email = (await sign_up(issuer)).user.id, new_address()
    token = await sent(issuer, person, "magiclink", email)
    found = await one_time_tokens.find_by_link(issuer.db, token.link, ["magiclink"])
    assert found is not None
    assert sum(await asyncio.gather(*(use(issuer, found) for _ in range(20)))) == 1
    assert await one_time_tokens.find_by_link(issuer.db, token.link, ["magiclink"]) is None


async def test_code_cannot_be_guessed_at_leisure(issuer: EmbeddedIssuer) -> None:
    """After five wrong ones, also all at once, the right one is worthless; the link is not."""
    person, email = (await sign_up(issuer)).user.id, new_address()
    token = await sent(issuer, person, "magiclink", email)
    wrong = f"{(int(token.code) + 1) % 10**6:06}"

    async def guess(code: str) -> Waiting | None:
        return await issuer.one_time_tokens.guess(issuer.db, code, email=email, kinds=["magiclink"])

    assert set(await asyncio.gather(*(guess(wrong) for _ in range(5)))) == {None}
    assert await guess(token.code) is None
    assert await one_time_tokens.find_by_link(issuer.db, token.link, ["magiclink"]) is not None
    renewed = await sent(issuer, person, "magiclink", email)
    assert await guess(renewed.code) is not None


async def test_new_token_takes_the_place_of_the_old(issuer: EmbeddedIssuer) -> None:
    """Only what was mailed last works; other purposes keep theirs."""
    person, email = (await sign_up(issuer)).user.id, new_address()
    old = await sent(issuer, person, "magiclink", email)
    other = await sent(issuer, person, "recovery", email)
    new = await sent(issuer, person, "magiclink", email)
    assert await one_time_tokens.find_by_link(issuer.db, old.link, ["magiclink"]) is None
    assert await one_time_tokens.find_by_link(issuer.db, new.link, ["magiclink"]) is not None
    await issuer.db.fetch_all(AUTH, one_time_tokens.dropping(person, ["magiclink"]))
    assert await one_time_tokens.find_by_link(issuer.db, new.link, ["magiclink"]) is None
    assert await one_time_tokens.find_by_link(issuer.db, other.link, ["recovery"]) is not None
    await issuer.db.fetch_all(AUTH, one_time_tokens.dropping(person))
    assert await one_time_tokens.find_by_link(issuer.db, other.link, ["recovery"]) is None


async def test_token_expires(issuer: EmbeddedIssuer, database: MigratedDatabase) -> None:
    """When its time is over neither text works, a use that had begun fails, and it is swept."""
    person, email = (await sign_up(issuer)).user.id, new_address()
    token = await sent(issuer, person, "magiclink", email)
    found = await one_time_tokens.find_by_link(issuer.db, token.link, ["magiclink"])
    assert found is not None
    database.operate("update chatkeep.one_time_tokens set expires_at = now()")
    assert await one_time_tokens.find_by_link(issuer.db, token.link, ["magiclink"]) is None
    guess = issuer.one_time_tokens.guess
    assert await guess(issuer.db, token.code, email=email, kinds=["magiclink"]) is None
    assert not await use(issuer, found)
    await one_time_tokens.sweep(issuer.db)
    assert database.operate("select from chatkeep.one_time_tokens") == []


# --- codes of PKCE flows -------------------------------------------------------------------------


async def code_for(issuer: EmbeddedIssuer, challenge: Challenge = S256) -> tuple[Grant, str]:
    """Return somebody new and a code for them."""
    grant = await sign_up(issuer)
    return grant, await authorization_codes.issue(issuer, grant.user.id, "otp", challenge)


async def test_code_becomes_a_session_of_its_person(issuer: EmbeddedIssuer) -> None:
    """With its verifier, whichever kind of challenge it began with, and says how they came."""
    for challenge in (S256, Challenge(text=VERIFIER, method="plain")):
        person, code = await code_for(issuer, challenge)
        grant = await authorization_codes.redeem(issuer, code, VERIFIER, DEVICE)
        assert grant.user.id == person.user.id
        assert grant.session_id != person.session_id
        assert grant.provider_tokens is None


async def test_code_is_good_once_however_many_try(issuer: EmbeddedIssuer) -> None:
    """Of ten exchanges at the same time one gets a session."""
    _, code = await code_for(issuer)
    answers = await asyncio.gather(
        *(authorization_codes.redeem(issuer, code, VERIFIER, DEVICE) for _ in range(10)),
        return_exceptions=True,
    )
    refused = [one for one in answers if isinstance(one, FlowStateNotFound)]
    assert len(refused) == 9


@pytest.mark.parametrize("verifier", ["", "w" * 64, VERIFIER + "v", S256.text, "é" * 43, "\ud800"])
async def test_stolen_code_is_worthless_and_then_gone(
    issuer: EmbeddedIssuer, verifier: str
) -> None:
    """Whoever lacks the verifier gets nothing, and nobody gets a second try."""
    _, code = await code_for(issuer)
    with pytest.raises(BadCodeVerifier):
        await authorization_codes.redeem(issuer, code, verifier, DEVICE)
    with pytest.raises(FlowStateNotFound):
        await authorization_codes.redeem(issuer, code, VERIFIER, DEVICE)


async def test_code_expires_and_dies_with_a_change_of_password(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """After five minutes it is too late, and a code that was dropped never was."""
    _, code = await code_for(issuer)
    database.operate("update chatkeep.authorization_codes set expires_at = now()")
    with pytest.raises(FlowStateExpired):
        await authorization_codes.redeem(issuer, code, VERIFIER, DEVICE)
    person, code = await code_for(issuer)
    await issuer.db.fetch_all(AUTH, authorization_codes.dropping(person.user.id))
    with pytest.raises(FlowStateNotFound):
        await authorization_codes.redeem(issuer, code, VERIFIER, DEVICE)
    await code_for(issuer)
    database.operate("update chatkeep.authorization_codes set expires_at = now()")
    await authorization_codes.sweep(issuer.db)
    assert database.operate("select from chatkeep.authorization_codes") == []


async def test_code_of_a_suspended_person_opens_nothing(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """A ban between the mail and the exchange counts."""
    person, code = await code_for(issuer)
    database.operate(
        "update chatkeep.users set banned_until = 'infinity' where id = %s",
        person.user.id,
    )
    with pytest.raises(UserBanned):
        await authorization_codes.redeem(issuer, code, VERIFIER, DEVICE)


async def test_tokens_of_a_provider_travel_sealed(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """They come out with the code, and the row shows nothing of them."""
    person = await sign_up(issuer)
    theirs = ProviderTokens(access=f"access-{uuid4()}", refresh="refresh")
    code = await authorization_codes.issue(
        issuer, person.user.id, "oauth", S256, provider_tokens=theirs
    )
    ((kept, row),) = database.operate(
        "select provider_tokens, c::text from chatkeep.authorization_codes c"
    )
    assert str(theirs.access).encode() not in bytes(kept)
    assert code not in row
    grant = await authorization_codes.redeem(issuer, code, VERIFIER, DEVICE)
    assert grant.provider_tokens == theirs
