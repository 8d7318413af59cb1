"""Our own issuer, opened for a test, and people who use it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from chatkeep.config import Settings
from chatkeep.devices import Device
from chatkeep.issuance import EmbeddedIssuer, Grant, Here, open_issuer
from chatkeep.issuers import Issuers
from chatkeep.passwords.argon2_hashes import Costs, hash_password
from chatkeep.principal import Principal
from chatkeep.sign_in import password_accounts
from chatkeep.sign_in.password_accounts import Wish

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.db import Database

SECRET = "a secret for tests: 0123456789abcdef"
PASSWORD = "Correct-Horse-42-battery"
DEVICE = Device(name="Firefox on Linux", address="192.0.2.7")
_numbers = count()


def new_address() -> str:
    """Return an e-mail address that nobody has yet."""
    return f"person-{next(_numbers)}@example.com"


async def open_test_issuer(
    db: Database, *, primary: bool = True, **settings: object
) -> EmbeddedIssuer:
    """Open the issuer as a server does at start; the caller closes it.

    But for one thing: its passwords are quick to check, so that races are about the database.
    """
    chosen = Settings.from_env({}, **settings)
    opened = await open_issuer(db, chosen, SECRET.encode(), primary=primary)
    opened.passwords._costs = Costs(memory=64, passes=1)
    opened.passwords._nobodys_hash = hash_password("nobody's", opened.passwords._costs)
    return opened


async def sign_up(issuer: EmbeddedIssuer, email: str | None = None) -> Grant:
    """Make somebody new and sign them in."""
    wish = Wish(email=email or new_address(), password=PASSWORD)
    return await password_accounts.sign_up(issuer, wish, DEVICE)


def shown(
    session_id: object, *, issuer: str = "embedded", issued_at: datetime | None = None
) -> Principal:
    """Return the caller that a token of this session makes."""
    return Principal(
        user_id="ana",
        subject="ana",
        issuer=issuer,
        session_id=str(session_id),
        issued_at=issued_at,
    )


async def locate(issuer: EmbeddedIssuer, grant: Grant) -> Here:
    """Return who and where the bearer of *grant*'s access token is, as a route does."""
    principal = await Issuers([issuer.issuer]).authenticate(grant.access_token)
    return await issuer.locate(principal)
