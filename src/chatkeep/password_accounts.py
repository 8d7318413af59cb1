"""Accounts with an address and a password: signing up, signing in, changing them.

A password is checked before anything is said about the account it is for, and takes as
long when there is none. Nothing here knows HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chatkeep import accounts, audit, passwords, sessions
from chatkeep.db import AUTH, ConstraintViolated
from chatkeep.errors import (
    EmailAddressInvalid,
    EmailExists,
    InvalidCredentials,
    SamePassword,
    SessionNotFound,
    SignUpDisabled,
    UserAlreadyExists,
)
from chatkeep.factors.records import require_aal2
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.accounts import Change, Credential, User
    from chatkeep.db import Query
    from chatkeep.devices import Device
    from chatkeep.issuance import EmbeddedIssuer, Grant, Here


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants to be otherwise, as they typed it; None leaves it as it is."""

    email: str | None = None
    password: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = None


async def sign_up(issuer: EmbeddedIssuer, wish: Wish, device: Device) -> Grant:
    """Make an account and sign in; the address counts as confirmed, no mail is sent.

    Raises:
        SignUpDisabled, EmailAddressInvalid, WeakPassword, Invalid, UserAlreadyExists.
    """
    if not issuer.sign_up_open:
        raise SignUpDisabled
    passwords.require_acceptable(wish.password or "")
    email = accounts.normal_address(wish.email or "")
    metadata = accounts.storable(wish.metadata or {})
    # Hashed before anybody looks whether the address is taken: both take as long.
    stored = await issuer.passwords.hash(wish.password or "")
    user_id = UUID(new_id())
    creation = accounts.creation(user_id, email=email, password_hash=stored, metadata=metadata)
    created = audit.entry(
        "user.created",
        user_id=issuer.issuer.user_id(str(user_id)),
        issuer=issuer.issuer.name,
        details={"method": "password"},
    )
    try:
        return await issuer.begin(
            user_id, "password", device, first=[*creation, created], password_hash=stored
        )
    except ConstraintViolated as error:
        if error.name == accounts.ADDRESS_TAKEN:
            issuer.notices.note("user.created", reason=UserAlreadyExists.code)
            raise UserAlreadyExists from error
        raise


async def sign_in(issuer: EmbeddedIssuer, email: str, password: str, device: Device) -> Grant:
    """Begin a session.

    Raises:
        InvalidCredentials: no such person, or another password, or none.
        UserBanned: the password is right, and the account is suspended.
    """
    credential = await _credential(issuer, email)
    stored = credential.password_hash if credential else None
    matches = await issuer.passwords.matches(password, stored)
    if not matches or credential is None or stored is None:
        known = issuer.issuer.user_id(str(credential.id)) if credential else None
        issuer.notices.note("session.begun", reason=InvalidCredentials.code, user_id=known)
        raise InvalidCredentials
    outdated = issuer.passwords.is_outdated(stored)
    renewed = await issuer.passwords.hash(password) if outdated else None
    return await issuer.begin(
        credential.id,
        "password",
        device,
        first=[accounts.sign_in(credential, new_hash=renewed)],
        password_hash=renewed or stored,
    )


async def update(issuer: EmbeddedIssuer, here: Here, wish: Wish) -> User:
    """Change the person's address, password or metadata; return them as they are now.

    A new password ends all their other sessions.

    Raises:
        EmailAddressInvalid, EmailExists, WeakPassword, SamePassword, Invalid.
        InsufficientAal: address or password, and a second factor that was not shown.
        SessionNotFound: the session was ended meanwhile.
    """
    change = await _change(issuer, here, wish)
    ended: list[UUID] = []
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            await accounts.change_user(connection, here.user.id, change)
            # Asked under the lock on the account: whoever's session a change of the
            # password has just ended must not change it back.
            if not await sessions.still_active(connection, here.session):
                raise SessionNotFound
            if change.password_hash is not None:
                ended = await sessions.end_others(
                    connection, here.session, reason="password_changed"
                )
            await audit.write(connection, _updated(here, change))
    except ConstraintViolated as error:
        if error.name == accounts.ADDRESS_TAKEN:
            raise EmailExists from error
        raise
    issuer.revocations.ended(ended)
    return await accounts.get_user(issuer.db, here.user.id)


def _updated(here: Here, change: Change) -> Query[audit.Written]:
    """The entry that says what was changed, and nothing of what it is now."""
    changed = {
        "email": change.email,
        "password": change.password_hash,
        "metadata": change.metadata,
    }
    return audit.entry(
        "user.updated",
        user_id=here.session.user_id,
        issuer="embedded",
        session_id=here.session.id,
        details={"changed": [name for name, value in changed.items() if value is not None]},
    )


async def _credential(issuer: EmbeddedIssuer, email: str) -> Credential | None:
    try:
        return await accounts.find_credential(issuer.db, accounts.normal_address(email))
    except EmailAddressInvalid:
        return None  # nobody has an address that is none


async def _change(issuer: EmbeddedIssuer, here: Here, wish: Wish) -> Change:
    user = here.user
    email = accounts.normal_address(wish.email) if wish.email else None
    if wish.password or email not in {None, user.email}:
        require_aal2(here)
    return accounts.Change(
        email=None if email == user.email else email,
        password_hash=await _new_hash(issuer, user, wish.password) if wish.password else None,
        metadata=wish.metadata,
    )


async def _new_hash(issuer: EmbeddedIssuer, user: User, password: str) -> str:
    passwords.require_acceptable(password)
    credential = await accounts.get_credential(issuer.db, user.id)
    if await issuer.passwords.matches(password, credential.password_hash):
        raise SamePassword
    return await issuer.passwords.hash(password)
