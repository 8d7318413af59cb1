"""Accounts with an address and a password: signing up, signing in, changing them.

A password is checked before anything is said about the account it is for, and takes as
long when there is none. Nothing here knows HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from chatkeep import accounts, audit, one_time_tokens, passwords
from chatkeep.db import AUTH, ConstraintViolated, run_within
from chatkeep.errors import (
    CurrentPasswordInvalid,
    CurrentPasswordRequired,
    EmailAddressInvalid,
    EmailNotConfirmed,
    Invalid,
    InvalidCredentials,
    ReauthenticationNeeded,
    ReauthenticationNotValid,
    SamePassword,
    SessionNotFound,
    SignUpDisabled,
    UserAlreadyExists,
)
from chatkeep.factors.records import require_aal2
from chatkeep.ids import new_id
from chatkeep.mail import Mail, queued
from chatkeep.mailed_tokens import DIRECTLY
from chatkeep.sessions import own as own_sessions
from chatkeep.sessions import records as sessions
from chatkeep.sign_in import authorization_codes, email_changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import AsyncConnection

    from chatkeep.accounts import Change, Credential, User
    from chatkeep.db import Query
    from chatkeep.devices import Device
    from chatkeep.issuance import EmbeddedIssuer, Grant, Here
    from chatkeep.mailed_tokens import Way
    from chatkeep.one_time_tokens import Waiting

#: After so long a sign-in says little about who sits at the device now.
_RECENT: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants to be otherwise, as they typed it; None leaves it as it is.

    *current_password* and *nonce*, which was mailed, show that it is they who want it.
    """

    email: str | None = None
    password: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = None
    current_password: str | None = field(default=None, repr=False)
    nonce: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the operator asks of a change.

    *confirm_email*: a new address is good when its mailbox has confirmed it, and with
    *both_mailboxes* the old one too. *reauthentication* and *current_password* are asked
    for a change of the password.
    """

    confirm_email: bool = False
    both_mailboxes: bool = True
    reauthentication: bool = False
    current_password: bool = False


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
        user_id=issuer.user_id_of(user_id),
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
        EmailNotConfirmed: the password is right; nobody has confirmed the address.
        UserBanned: the password is right, and the account is suspended.
    """
    credential = await _credential(issuer, email)
    stored = credential.password_hash if credential else None
    matches = await issuer.passwords.matches(password, stored)
    if not matches or credential is None or stored is None:
        known = issuer.user_id_of(credential.id) if credential else None
        issuer.notices.note("session.begun", reason=InvalidCredentials.code, user_id=known)
        raise InvalidCredentials
    if not credential.confirmed:
        whose = issuer.user_id_of(credential.id)
        issuer.notices.note("session.begun", reason=EmailNotConfirmed.code, user_id=whose)
        raise EmailNotConfirmed
    outdated = issuer.passwords.is_outdated(stored)
    renewed = await issuer.passwords.hash(password) if outdated else None
    return await issuer.begin(
        credential.id,
        "password",
        device,
        first=[accounts.sign_in(credential, new_hash=renewed)],
        password_hash=renewed or stored,
    )


async def update(
    issuer: EmbeddedIssuer,
    here: Here,
    wish: Wish,
    *,
    rules: Rules = Rules(),
    way: Way = DIRECTLY,
) -> User:
    """Change the person's address, password or metadata; return them as they are now.

    A new password ends all their other sessions and makes everything that was mailed
    worthless. By *rules* a new address waits for its confirmation, which goes *way*.

    Raises:
        EmailAddressInvalid, EmailExists, WeakPassword, SamePassword, Invalid.
        InsufficientAal: address or password, and a second factor that was not shown.
        ReauthenticationNeeded, ReauthenticationNotValid: see `Rules.reauthentication`.
        CurrentPasswordRequired, CurrentPasswordInvalid: see `Rules.current_password`.
        SessionNotFound: the session was ended meanwhile.
    """
    change = await _change(issuer, here, wish, rules)
    nonce = await _shown_nonce(issuer, here, wish, rules)
    new_email = change.email if rules.confirm_email else None
    if new_email is not None:
        await email_changes.require_free(issuer, new_email)
        change = replace(change, email=None)
    ended: list[UUID] = []
    with accounts.address_must_be_free():
        async with issuer.db.acting_as(AUTH) as connection:
            await accounts.change_user(connection, here.user.id, change)
            # Asked under the lock on the account: whoever's session a change of the
            # password has just ended must not change it back.
            if not await sessions.still_active(connection, here.session):
                raise SessionNotFound
            if change.password_hash is not None:
                ended = await _password_changed(issuer, connection, here, nonce)
            if change.email is not None:
                await _address_changed(issuer, connection, here.user, change.email)
            if new_email is not None:
                both = rules.both_mailboxes
                asked = email_changes.asking(issuer, here.user, new_email, way, both=both)
                await run_within(connection, *asked)
            await audit.write(connection, _updated(here, change, new_email))
    issuer.revocations.ended(ended)
    return await accounts.get_user(issuer.db, here.user.id)


async def _password_changed(
    issuer: EmbeddedIssuer, connection: AsyncConnection, here: Here, nonce: Waiting | None
) -> list[UUID]:
    """Do what follows from a new password; return the sessions that it ended."""
    user = here.user
    if nonce is not None:
        (used,) = await run_within(connection, one_time_tokens.using(nonce))
        if not used:
            raise ReauthenticationNotValid
    # Before the sessions, see `one_time_tokens.dropping`.
    dropped = one_time_tokens.dropping(user.id), authorization_codes.dropping(user.id)
    await run_within(connection, *dropped)
    if user.email is not None:
        mail = Mail(kind="password_changed", to=user.email, user_id=here.session.user_id)
        await run_within(connection, queued(mail, issuer.outgoing))
    return await own_sessions.end_others(connection, here.session, reason="password_changed")


async def _address_changed(
    issuer: EmbeddedIssuer, connection: AsyncConnection, user: User, email: str
) -> None:
    """Do what follows from an address that is good at once: what was mailed went to another."""
    await run_within(
        connection,
        one_time_tokens.dropping(user.id),
        authorization_codes.dropping(user.id),
        *email_changes.notice(issuer, user.id, user.email, email),
    )


def _updated(here: Here, change: Change, new_email: str | None) -> Query[audit.Written]:
    """The entry that says what was changed, and nothing of what it is now."""
    changed = {
        "email": change.email,
        "new_email": new_email,
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


async def _change(issuer: EmbeddedIssuer, here: Here, wish: Wish, rules: Rules) -> Change:
    user = here.user
    email = accounts.normal_address(wish.email) if wish.email else None
    if wish.password or email not in {None, user.email}:
        require_aal2(here)
    if wish.password and user.is_anonymous and email is None:
        raise Invalid("Updating password of an anonymous user without an email is not allowed")
    new_hash = await _new_hash(issuer, here, wish, rules) if wish.password else None
    return accounts.Change(
        email=None if email == user.email else email,
        password_hash=new_hash,
        metadata=wish.metadata,
    )


async def _new_hash(issuer: EmbeddedIssuer, here: Here, wish: Wish, rules: Rules) -> str:
    password = wish.password or ""
    passwords.require_acceptable(password)
    credential = await accounts.get_credential(issuer.db, here.user.id)
    await _require_current(issuer, here, credential, wish, rules)
    if await issuer.passwords.matches(password, credential.password_hash):
        raise SamePassword
    return await issuer.passwords.hash(password)


async def _require_current(
    issuer: EmbeddedIssuer, here: Here, credential: Credential, wish: Wish, rules: Rules
) -> None:
    """Look at the password beside the new one; whoever comes by a recovery mail has lost it."""
    recovering = any(one.get("method") == "recovery" for one in here.session.amr)
    if credential.password_hash is None or recovering:
        return
    if wish.current_password:
        if not await issuer.passwords.matches(wish.current_password, credential.password_hash):
            raise CurrentPasswordInvalid
    elif rules.current_password:
        raise CurrentPasswordRequired


async def _shown_nonce(
    issuer: EmbeddedIssuer, here: Here, wish: Wish, rules: Rules
) -> Waiting | None:
    """Return the token whose nonce is shown, None where none is needed; it is not used yet."""
    recent = here.session.created_at > datetime.now(UTC) - _RECENT
    if not wish.password or here.user.email is None or (recent and not wish.nonce):
        return None
    if not rules.reauthentication:
        return None
    if not wish.nonce:
        raise ReauthenticationNeeded
    found = await issuer.one_time_tokens.guess(
        issuer.db, wish.nonce, email=here.user.email, kinds=["reauthentication"]
    )
    if found is None or found.user_id != here.user.id:
        raise ReauthenticationNotValid
    return found
