"""Links for other people, for servers with the secret key: invitations, and links to hand on.

A link that is handed out here is as good as the mailbox it stands for, so each is in the
audit log, without itself. A password that somebody chose before the mailbox was shown to
be theirs never survives an invitation: it may be a stranger's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from chatkeep import accounts, audit, one_time_tokens, passwords
from chatkeep.db import AUTH, Query
from chatkeep.errors import EmailExists, Invalid, UserNotFound
from chatkeep.ids import new_id
from chatkeep.mailed_tokens import TYPES, Way, link_of, mailing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.accounts import User
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.one_time_tokens import Kind, OneTimeToken

LinkKind = Literal[
    "signup", "invite", "magiclink", "recovery", "email_change_current", "email_change_new"
]
_CHANGES: Final[tuple[Kind, ...]] = ("email_change_new", "email_change_current")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkWish:
    """A link of *kind* for who has the address *email*, or is to have an account with it."""

    kind: LinkKind
    email: str
    new_email: str | None = None
    password: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    redirect_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLink:
    """A link that nobody was sent. *token* is good for whoever has it."""

    user: User
    kind: Kind
    token: OneTimeToken
    address: str = field(repr=False)

    @property
    def type(self) -> str:
        """What clients call its kind when they show it."""
        return TYPES[self.kind]


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


async def invite(
    issuer: EmbeddedIssuer, email: str, metadata: Mapping[str, Any], way: Way, *, actor: str
) -> User:
    """Mail an invitation to *email*, with an account for it if there is none yet.

    Raises:
        EmailExists: somebody has the address, and has shown it.
        EmailAddressInvalid, Invalid.
    """
    address = accounts.normal_address(email)
    user_id, statements = await _unconfirmed(issuer, address, metadata, None, actor=actor)
    sent = mailing(issuer, "invite", user_id, address, way=way)
    noted = _entry(issuer, "user.invited", user_id, actor)
    await _run(issuer, *statements, *sent, noted)
    return await accounts.get_user(issuer.db, user_id)


async def make_link(
    issuer: EmbeddedIssuer, wish: LinkWish, *, actor: str, both_mailboxes: bool
) -> MadeLink:
    """Make a link to hand on; no mail is sent. *both_mailboxes*: see SECURE_EMAIL_CHANGE.

    Raises:
        EmailExists: to sign up or invite, and somebody has the address and has shown it; or
            to change to it.
        UserNotFound: to recover or change, and nobody has the address.
        EmailAddressInvalid, WeakPassword, Invalid.
    """
    address = accounts.normal_address(wish.email)
    if wish.kind in _CHANGES:
        return await _make_change(issuer, wish, address, actor=actor, both=both_mailboxes)
    kind: Kind = wish.kind
    found = await _find(issuer, address)
    statements: tuple[Query[Any], ...] = ()
    if kind in {"signup", "invite"}:
        stored = await _hashed(issuer, wish.password) if kind == "signup" else None
        user_id, statements = await _unconfirmed(
            issuer, address, wish.metadata, stored, actor=actor
        )
    elif found is not None:
        user_id = found.id
    elif kind == "magiclink":  # whoever signs in by a link for the first time signs up by it
        kind = "signup"
        user_id, statements = await _unconfirmed(issuer, address, wish.metadata, None, actor=actor)
    else:
        raise UserNotFound
    if kind == "invite":
        statements = (*statements, _invited(user_id))
    return await _made(issuer, wish, kind, user_id, address, statements, actor=actor)


async def _make_change(
    issuer: EmbeddedIssuer, wish: LinkWish, address: str, *, actor: str, both: bool
) -> MadeLink:
    """Make one half of a change of address; the other one waits until its link is made too."""
    if wish.kind == "email_change_current" and not both:
        raise Invalid("email_change_current needs SECURE_EMAIL_CHANGE to be on")
    new_email = accounts.normal_address(wish.new_email or "")
    user = await _find(issuer, address)
    if user is None:
        raise UserNotFound
    if await _find(issuer, new_email) is not None:
        raise EmailExists
    (waiting,) = await issuer.db.fetch_all(AUTH, one_time_tokens.remaining(user.id, _CHANGES))
    kept = {one.kind for one in waiting} if user.new_email == new_email else set()
    statements = [
        *([] if kept else [one_time_tokens.dropping(user.id, _CHANGES)]),
        Query(
            "update chatkeep.users set new_email = %s, updated_at = now() where id = %s"
            " returning id",
            (new_email, user.id),
            _Touched,
        ),
    ]
    addresses: dict[Kind, str] = {"email_change_new": new_email, "email_change_current": address}
    # What is not waiting any more in a change that has begun was confirmed.
    other = [half for half in _CHANGES if half != wish.kind and both and not kept]
    statements += [issuer.one_time_tokens.issue(user.id, one, addresses[one])[1] for one in other]
    to = addresses[wish.kind]
    return await _made(issuer, wish, wish.kind, user.id, to, tuple(statements), actor=actor)


async def _made(
    issuer: EmbeddedIssuer,
    wish: LinkWish,
    kind: Kind,
    user_id: UUID,
    to: str,
    statements: tuple[Query[Any], ...],
    *,
    actor: str,
) -> MadeLink:
    token, kept = issuer.one_time_tokens.issue(user_id, kind, to)
    noted = _entry(issuer, "link.made", user_id, actor, details={"kind": kind})
    await _run(issuer, *statements, kept, noted)
    return MadeLink(
        user=await accounts.get_user(issuer.db, user_id),
        kind=kind,
        token=token,
        address=link_of(issuer, kind, token, Way(redirect_to=wish.redirect_to)),
    )


async def _unconfirmed(
    issuer: EmbeddedIssuer,
    address: str,
    metadata: Mapping[str, Any],
    stored: str | None,
    *,
    actor: str,
) -> tuple[UUID, tuple[Query[Any], ...]]:
    """Return the account that waits for the address, and what makes it so with that password."""
    kept = accounts.storable(metadata)
    found = await _find(issuer, address)
    if found is None:
        user_id = UUID(new_id())
        return user_id, (
            *accounts.creation(
                user_id, email=address, password_hash=stored, metadata=kept, confirmed=False
            ),
            _entry(issuer, "user.created", user_id, actor),
        )
    if found.email_confirmed_at is not None:
        raise EmailExists
    return found.id, (
        Query(
            "update chatkeep.users set password_hash = %s, updated_at = now()"
            " where id = %s and email_confirmed_at is null returning id",
            (stored, found.id),
            _Touched,
        ),
        one_time_tokens.dropping(found.id),
    )


async def _hashed(issuer: EmbeddedIssuer, password: str | None) -> str:
    if not password:
        raise Invalid("Signup requires a valid password")
    passwords.require_acceptable(password)
    return await issuer.passwords.hash(password)


async def _find(issuer: EmbeddedIssuer, address: str) -> User | None:
    (found,) = await issuer.db.fetch_all(AUTH, accounts.by_email(address))
    return found[0] if found else None


def _invited(user_id: UUID) -> Query[Any]:
    return Query(
        "update chatkeep.users set invited_at = now() where id = %s returning id",
        (user_id,),
        _Touched,
    )


def _entry(
    issuer: EmbeddedIssuer,
    action: str,
    user_id: UUID,
    actor: str,
    details: Mapping[str, Any] | None = None,
) -> Query[Any]:
    return audit.entry(
        action,
        user_id=issuer.user_id_of(user_id),
        actor=actor,
        issuer=issuer.issuer.name,
        details=details,
    )


async def _run(issuer: EmbeddedIssuer, *statements: Query[Any]) -> None:
    with accounts.address_must_be_free():
        await issuer.db.fetch_all(AUTH, *statements)
