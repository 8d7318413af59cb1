"""Changing the address of an account: whoever reads the new mailbox shows it, and the old.

Until then the new address is only wished for (`new_email`). With both to confirm, whoever
has taken over a session cannot take the account along by an address of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkeep import accounts, audit, one_time_tokens
from chatkeep.accounts import Change
from chatkeep.db import AUTH, Query, run_within
from chatkeep.errors import EmailExists, OtpExpired, UserBanned
from chatkeep.mail import Mail, queued
from chatkeep.mailed_tokens import mailing
from chatkeep.sign_in import authorization_codes

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.accounts import User
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.mailed_tokens import Way
    from chatkeep.one_time_tokens import Kind, Waiting

#: Counts a mail to an address, and says whether it may be sent.
MayMail = Callable[[str], Awaitable[bool]]

_HALVES: Final[tuple[Kind, ...]] = ("email_change_new", "email_change_current")


@dataclass(frozen=True, slots=True)
class _Addresses:
    id: UUID
    email: str | None
    new_email: str | None
    is_banned: bool


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


async def require_free(issuer: EmbeddedIssuer, email: str) -> None:
    """Refuse an address that an account has.

    Raises:
        EmailExists: see above. Two may wish for the same one; the first to confirm has it.
    """
    (taken,) = await issuer.db.fetch_all(AUTH, accounts.by_email(email))
    if taken:
        raise EmailExists


def asking(
    issuer: EmbeddedIssuer, user: User, new_email: str, way: Way, *, both: bool
) -> tuple[Query[Any], ...]:
    """Return the statements that ask for the confirmation of *new_email*.

    With *both* the mailbox that the account has now is asked too, if it has one.
    """
    return (
        one_time_tokens.dropping(user.id, _HALVES),
        Query(
            "update chatkeep.users set new_email = %s, updated_at = now() where id = %s"
            " returning id",
            (new_email, user.id),
            _Touched,
        ),
        *_mails(issuer, user, new_email, way, _HALVES if both and user.email else _HALVES[:1]),
    )


async def again(
    issuer: EmbeddedIssuer, user: User, way: Way, may_mail: MayMail
) -> tuple[Query[Any], ...]:
    """Return the statements that ask again for what has not been confirmed; none: nothing is.

    *may_mail* is asked of the new mailbox, which may be a stranger's.
    """
    if user.new_email is None:
        return ()
    (waiting,) = await issuer.db.fetch_all(AUTH, one_time_tokens.remaining(user.id, _HALVES))
    kinds = {one.kind for one in waiting}
    if "email_change_new" in kinds and not await may_mail(user.new_email):
        kinds.remove("email_change_new")
    return _mails(issuer, user, user.new_email, way, tuple(kinds))


def _mails(
    issuer: EmbeddedIssuer, user: User, new_email: str, way: Way, kinds: tuple[Kind, ...]
) -> tuple[Query[Any], ...]:
    return tuple(
        statement
        for kind in kinds
        for statement in mailing(
            issuer,
            kind,
            user.id,
            new_email if kind == "email_change_new" else user.email or new_email,
            way=way,
            new_email=new_email,
        )
    )


async def half_confirmed(
    issuer: EmbeddedIssuer, connection: AsyncConnection, token: Waiting
) -> bool:
    """Take note that *token* was used; change the address if it was the last that is needed.

    Everything else that was mailed is worthless then, because it went to the old address.

    Raises:
        UserBanned: the account is suspended, and stays as it is.
        OtpExpired: the account has, or wishes for, another address by now.
        EmailExists: another account has got the new address meanwhile.
    """
    found, waiting, taken = await run_within(
        connection,
        Query(
            "select id, email, new_email, coalesce(banned_until > now(), false) as is_banned"
            " from chatkeep.users where id = %s for update",
            (token.user_id,),
            _Addresses,
        ),
        one_time_tokens.remaining(token.user_id, _HALVES),
        Query(
            "select o.id from chatkeep.users u join chatkeep.users o on o.email = u.new_email"
            " and o.id <> u.id where u.id = %s",
            (token.user_id,),
            _Touched,
        ),
    )
    person: _Addresses = found[0]
    if person.is_banned:
        whose = issuer.user_id_of(person.id)
        issuer.notices.note("one_time_token.used", reason=UserBanned.code, user_id=whose)
        raise UserBanned
    expected = person.new_email if token.kind == "email_change_new" else person.email
    if expected != token.email or person.new_email is None:
        raise OtpExpired
    if waiting:
        return False
    if taken:
        raise EmailExists
    await _change(issuer, connection, person, person.new_email)
    return True


async def _change(
    issuer: EmbeddedIssuer, connection: AsyncConnection, person: _Addresses, new_email: str
) -> None:
    await accounts.change_user(connection, person.id, Change(email=new_email, email_proved=True))
    await run_within(
        connection,
        one_time_tokens.dropping(person.id),
        authorization_codes.dropping(person.id),
        *notice(issuer, person.id, person.email, new_email),
        audit.entry(
            "user.updated",
            user_id=issuer.user_id_of(person.id),
            issuer=issuer.issuer.name,
            details={"changed": ["email"]},
        ),
    )


def notice(
    issuer: EmbeddedIssuer, user_id: UUID, old_email: str | None, new_email: str
) -> tuple[Query[Any], ...]:
    """Return the statement that tells the old mailbox, if there is one."""
    if not old_email:
        return ()
    mail = Mail(
        kind="email_changed",
        to=old_email,
        user_id=issuer.user_id_of(user_id),
        old_email=old_email,
        new_email=new_email,
    )
    return (queued(mail, issuer.outgoing),)
