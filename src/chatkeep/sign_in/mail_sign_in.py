"""Proving who one is by a mailbox: confirming a sign-up, links and codes, a lost password.

Whoever asks for a mail learns nothing about who has an account: for an address that nobody
has, and for one that somebody has, the answer is the same and the work is alike, down to
one look and one write. Only the mail tells, and only the mailbox's reader sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from chatkeep import accounts, audit, one_time_tokens, passwords
from chatkeep.accounts import User
from chatkeep.db import AUTH, ConstraintViolated, Query, run_within
from chatkeep.errors import (
    EmailNotConfirmed,
    Invalid,
    OtpExpired,
    SignUpDisabled,
    UserNotFound,
)
from chatkeep.ids import new_id
from chatkeep.mailed_tokens import mailing
from chatkeep.sign_in import authorization_codes, email_changes, mailbox_proofs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.devices import Device
    from chatkeep.issuance import EmbeddedIssuer, Grant, Here
    from chatkeep.mailed_tokens import Way
    from chatkeep.one_time_tokens import Kind, Waiting
    from chatkeep.sign_in.password_accounts import Wish

#: What clients call a token when they show it, and the kinds that it may be then. Whoever
#: signs in by mail for the first time signs up by it, so these two are one.
KINDS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "signup": ("signup", "magiclink"),
    "magiclink": ("magiclink", "signup"),
    "email": ("magiclink", "signup"),
    "invite": ("invite",),
    "recovery": ("recovery",),
    "email_change": ("email_change_new", "email_change_current"),
}
#: How Supabase Auth names the proof in `amr`.
_PROOFS: Final[Mapping[Kind, str]] = {
    "signup": "otp",
    "magiclink": "otp",
    "invite": "invite",
    "recovery": "recovery",
    "email_change_new": "email_change",
    "email_change_current": "email_change",
}

Resendable = Literal["signup", "email_change"]


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


# --- asking for a mail ---------------------------------------------------------------------------


async def sign_up(issuer: EmbeddedIssuer, wish: Wish, way: Way) -> User:
    """Make an account that waits for its confirmation; return it, as it is shown.

    An address that somebody has gets the same answer, and its owner a mail to sign in with.
    A sign-up that nobody has confirmed yields to the next one: its password may be a
    stranger's. So may the next one's be while the first one's mail is still good: then the
    reader of the mailbox, who may follow either mail, begins with no password, unless both
    chose the same.

    Raises:
        SignUpDisabled, EmailAddressInvalid, WeakPassword, Invalid.
    """
    if not issuer.sign_up_open:
        raise SignUpDisabled
    passwords.require_acceptable(wish.password or "")
    email = accounts.normal_address(wish.email or "")
    metadata = accounts.storable(wish.metadata or {})
    # Hashed before anybody looks whether the address is taken: both take as long.
    stored = await issuer.passwords.hash(wish.password or "")
    found = await _find(issuer, email)
    earlier = await _credential_of(issuer, found)
    same = await issuer.passwords.matches(wish.password or "", earlier)
    user_id = UUID(new_id())
    if found is None or _may_yield(found):
        contested = found is not None and not same and _still_waits(issuer, found)
        statements = [
            *([_yielding(found.id)] if found else []),
            *_creation(
                issuer, user_id, email, metadata, password_hash=None if contested else stored
            ),
            *mailing(issuer, "signup", user_id, email, way=way),
        ]
    else:
        kind: Kind = "magiclink" if found.email_confirmed_at else "signup"
        statements = [*mailing(issuer, kind, found.id, email, way=way)]
        issuer.notices.note("user.created", reason="user_already_exists")
    await _unless_taken_meanwhile(issuer, statements)
    return _as_signed_up(user_id, email, metadata)


async def send_link(
    issuer: EmbeddedIssuer,
    email: str,
    way: Way,
    *,
    create: bool,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Mail a link and a code to sign in with; with *create* also to who has no account yet.

    Raises:
        EmailAddressInvalid.
        Invalid: the metadata would be too large.
    """
    address, kept = accounts.normal_address(email), accounts.storable(metadata or {})
    found = await _find(issuer, address)
    if found is not None:
        await issuer.db.fetch_all(AUTH, *mailing(issuer, "magiclink", found.id, address, way=way))
    elif create and issuer.sign_up_open:
        user_id = UUID(new_id())
        creation = _creation(issuer, user_id, address, kept, password_hash=None)
        sent = mailing(issuer, "signup", user_id, address, way=way)
        await _unless_taken_meanwhile(issuer, [*creation, *sent])
    else:
        await _nobody(issuer, "magiclink", address, way)


async def send_recovery(issuer: EmbeddedIssuer, email: str, way: Way) -> None:
    """Mail a link and a code to whoever has lost the password.

    Raises:
        EmailAddressInvalid.
    """
    address = accounts.normal_address(email)
    found = await _find(issuer, address)
    if found is None:
        await _nobody(issuer, "recovery", address, way)
    else:
        await issuer.db.fetch_all(AUTH, *mailing(issuer, "recovery", found.id, address, way=way))


async def send_again(
    issuer: EmbeddedIssuer, email: str, what: Resendable, way: Way, may_mail: email_changes.MayMail
) -> None:
    """Mail again what somebody waits for; *may_mail* is asked of other mailboxes than *email*.

    Raises:
        EmailAddressInvalid.
    """
    address = accounts.normal_address(email)
    found = await _find(issuer, address)
    statements: tuple[Query[Any], ...] = ()
    if found is not None and what == "signup" and found.email_confirmed_at is None:
        statements = mailing(issuer, "signup", found.id, address, way=way)
    elif found is not None and what == "email_change":
        statements = await email_changes.again(issuer, found, way, may_mail)
    if statements:
        await issuer.db.fetch_all(AUTH, *statements)
    else:
        kind: Kind = "signup" if what == "signup" else "email_change_new"
        await _nobody(issuer, kind, address, way)


async def send_nonce(issuer: EmbeddedIssuer, here: Here) -> None:
    """Mail who is signed in a code that they may show when they change their password.

    Raises:
        Invalid: they have no address.
        EmailNotConfirmed: nobody knows whether they read what goes there.
    """
    if not here.user.email:
        raise Invalid("Reauthentication requires the user to have an email or a phone number")
    if here.user.email_confirmed_at is None:
        raise EmailNotConfirmed
    sent = mailing(issuer, "reauthentication", here.user.id, here.user.email)
    await issuer.db.fetch_all(AUTH, *sent)


async def _find(issuer: EmbeddedIssuer, email: str) -> User | None:
    (found,) = await issuer.db.fetch_all(AUTH, accounts.by_email(email))
    return found[0] if found else None


async def _nobody(issuer: EmbeddedIssuer, kind: Kind, address: str, way: Way) -> None:
    """Write what takes as long as sending a mail, when there is nobody to send it to."""
    nobody = UUID(new_id())
    # Made and sealed like every other, and dropped; the first of its statements finds nobody.
    unsent, *_ = mailing(issuer, kind, nobody, address, way=way)
    entry = audit.entry(
        "one_time_token.sent",
        outcome="refused",
        reason=UserNotFound.code,
        issuer=issuer.issuer.name,
        details={"kind": kind},
    )
    await issuer.db.fetch_all(
        AUTH, unsent, one_time_tokens.dropping(nobody), authorization_codes.dropping(nobody), entry
    )


def _creation(
    issuer: EmbeddedIssuer,
    user_id: UUID,
    email: str,
    metadata: Mapping[str, Any],
    *,
    password_hash: str | None,
) -> tuple[Query[Any], ...]:
    method = "password" if password_hash else "otp"
    return (
        *accounts.creation(
            user_id, email=email, password_hash=password_hash, metadata=metadata, confirmed=False
        ),
        audit.entry(
            "user.created",
            user_id=issuer.user_id_of(user_id),
            issuer=issuer.issuer.name,
            details={"method": method},
        ),
    )


def _may_yield(user: User) -> bool:
    """Whether a sign-up made this account, nobody has ever come through it, and anybody may."""
    return (
        not user.is_banned
        and user.email_confirmed_at is None
        and user.last_sign_in_at is None
        and user.invited_at is None
        and user.confirmation_sent_at is not None
    )


def _still_waits(issuer: EmbeddedIssuer, user: User) -> bool:
    """Whether somebody who has just signed up may be about to open the mail."""
    sent = user.confirmation_sent_at
    return sent is not None and sent > datetime.now(UTC) - issuer.one_time_tokens.life


async def _credential_of(issuer: EmbeddedIssuer, user: User | None) -> str | None:
    """Return the hash of the password that a sign-up chose; looks it up also for nobody."""
    nobody = UUID(new_id())
    try:
        found = await accounts.get_credential(issuer.db, user.id if user else nobody)
    except UserNotFound:
        return None
    return found.password_hash


def _yielding(user_id: UUID) -> Query[Any]:
    return Query(
        "delete from chatkeep.users where id = %s and email_confirmed_at is null"
        " and last_sign_in_at is null and (banned_until is null or banned_until <= now())"
        " returning id",
        (user_id,),
        _Touched,
    )


async def _unless_taken_meanwhile(issuer: EmbeddedIssuer, statements: list[Query[Any]]) -> None:
    try:
        await issuer.db.fetch_all(AUTH, *statements)
    except ConstraintViolated as error:
        # Somebody signed up with the address a moment ago, and has the mail.
        if error.name != accounts.ADDRESS_TAKEN:
            raise


def _as_signed_up(user_id: UUID, email: str, metadata: Mapping[str, Any]) -> User:
    """Return what a sign-up shows, whether it made this account or found another."""
    now = datetime.now(UTC)
    said = {"sub": str(user_id), "email": email, "email_verified": False, "phone_verified": False}
    identity = {
        "id": new_id(),
        "user_id": user_id,
        "provider": "email",
        "provider_id": str(user_id),
        "identity_data": said,
        "last_sign_in_at": None,
        "created_at": now,
        "updated_at": now,
    }
    return User(
        id=user_id,
        email=email,
        email_confirmed_at=None,
        new_email=None,
        confirmation_sent_at=now,
        recovery_sent_at=None,
        email_change_sent_at=None,
        reauthentication_sent_at=None,
        user_metadata=dict(metadata),
        app_metadata=dict(accounts.BY_EMAIL),
        role="authenticated",
        aud="authenticated",
        is_anonymous=False,
        banned_until=None,
        last_sign_in_at=None,
        created_at=now,
        updated_at=now,
        invited_at=None,
        deleted_at=None,
        identities=[identity],
        factors=[],
    )


# --- showing what a mail held --------------------------------------------------------------------


async def get_shown(
    issuer: EmbeddedIssuer, kind: str, *, link: str | None = None, code: str = "", email: str = ""
) -> Waiting:
    """Return the token that is shown as one of *kind*: by its *link*, or its *code* and *email*.

    It is not used yet.

    Raises:
        OtpExpired: there is none, or not any more.
        Invalid: there is no such kind.
    """
    if kind not in KINDS:
        raise Invalid("Verify requires a verification type")
    if link is not None:
        found = await one_time_tokens.find_by_link(issuer.db, link, KINDS[kind])
    else:
        found = await issuer.one_time_tokens.guess(
            issuer.db, code, email=accounts.normal_address(email), kinds=KINDS[kind]
        )
    if found is None:
        issuer.notices.note("one_time_token.used", reason=OtpExpired.code, details={"kind": kind})
        raise OtpExpired
    return found


async def use(issuer: EmbeddedIssuer, token: Waiting, device: Device) -> Grant | User:
    """Use *token* up and begin a session; after one half of a change of address, return who.

    Raises:
        OtpExpired: it was used meanwhile, or the account has another address now.
        EmailExists: another account has got the new address meanwhile.
        UserBanned: the account is suspended.
    """
    beginning = issuer.beginning(token.user_id, _PROOFS[token.kind], device)
    with accounts.address_must_be_free():
        async with issuer.db.acting_as(AUTH) as connection:
            proved = await mailbox_proofs.prove(issuer, connection, token)
            rows = await run_within(connection, *beginning) if proved.done else []
    if proved.dropped:
        await issuer.revocations.catch_up()
    if not proved.done:
        return await accounts.get_user(issuer.db, token.user_id)
    return await issuer.begun(*rows)


async def use_for_code(issuer: EmbeddedIssuer, token: Waiting) -> str | User:
    """Use *token*, which has a challenge, up for a code of its PKCE flow; else like `use`."""
    if token.challenge is None:
        raise OtpExpired
    proof = _PROOFS[token.kind]
    code, kept = authorization_codes.issuing(issuer, token.user_id, proof, token.challenge)
    with accounts.address_must_be_free():
        async with issuer.db.acting_as(AUTH) as connection:
            proved = await mailbox_proofs.prove(issuer, connection, token)
            if proved.done:
                await run_within(connection, kept)
    if proved.dropped:
        await issuer.revocations.catch_up()
    return code if proved.done else await accounts.get_user(issuer.db, token.user_id)
