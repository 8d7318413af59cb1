"""Sending a one-time token: the token, the mail that holds it, and that it was sent.

All of it are statements of one transaction, so that nobody gets a mail whose token was
never kept. Who is sent one is decided by the flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString
from urllib.parse import quote, urlencode

from chatkeep import audit
from chatkeep.db import Query
from chatkeep.mail import Mail, queued

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.mail import Kind as MailKind
    from chatkeep.one_time_tokens import Challenge, Kind, OneTimeToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a flow goes on in the browser that opens the link.

    *redirect_to* is where it is sent afterwards, as the client asked for it; whether it may
    be is decided then. With *challenge* it carries a code there instead of tokens.
    """

    redirect_to: str | None = None
    challenge: Challenge | None = None


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


DIRECTLY: Final = Way()
#: What clients call the kinds; both halves of a change have one name.
TYPES: Final[Mapping[Kind, str]] = {
    "signup": "signup",
    "invite": "invite",
    "magiclink": "magiclink",
    "recovery": "recovery",
    "email_change_current": "email_change",
    "email_change_new": "email_change",
}
_MAILS: Final[Mapping[Kind, MailKind]] = {
    "signup": "confirmation",
    "invite": "invitation",
    "magiclink": "magic_link",
    "recovery": "recovery",
    "email_change_current": "email_change_current",
    "email_change_new": "email_change_new",
    "reauthentication": "reauthentication",
}
#: One statement for all kinds: the column that says when this one was sent last.
_NOTE_SENT: Final[LiteralString] = (
    "update chatkeep.users set"
    " confirmation_sent_at = case when %(kind)s = 'signup' then now()"
    "  else confirmation_sent_at end,"
    " invited_at = case when %(kind)s = 'invite' then now() else invited_at end,"
    " recovery_sent_at = case when %(kind)s in ('magiclink', 'recovery') then now()"
    "  else recovery_sent_at end,"
    " email_change_sent_at = case when %(kind)s in ('email_change_current', 'email_change_new')"
    "  then now() else email_change_sent_at end,"
    " reauthentication_sent_at = case when %(kind)s = 'reauthentication' then now()"
    "  else reauthentication_sent_at end"
    " where id = %(id)s returning id"
)


def mailing(
    issuer: EmbeddedIssuer,
    kind: Kind,
    user_id: UUID,
    to: str,
    *,
    way: Way = DIRECTLY,
    new_email: str | None = None,
) -> tuple[Query[Any], ...]:
    """Return the statements that send *user_id* a new token of *kind* to the address *to*.

    *new_email* is named in the mail: the address that an account is about to have.
    """
    token, kept = issuer.one_time_tokens.issue(user_id, kind, to, challenge=way.challenge)
    whose = issuer.user_id_of(user_id)
    mail = Mail(
        kind=_MAILS[kind],
        to=to,
        link=link_of(issuer, kind, token, way) if kind in TYPES else None,
        code=token.code,
        user_id=whose,
        new_email=new_email,
    )
    return (
        # The account first, see `accounts.holding`.
        Query(_NOTE_SENT, {"kind": kind, "id": user_id}, _Touched),
        kept,
        queued(mail, issuer.outgoing),
        audit.entry(
            "one_time_token.sent",
            user_id=whose,
            issuer=issuer.issuer.name,
            details={"kind": kind},
        ),
    )


def link_of(issuer: EmbeddedIssuer, kind: Kind, token: OneTimeToken, way: Way) -> str:
    """Return the address that its reader opens."""
    said = {"token": token.link, "type": TYPES[kind]}
    if way.redirect_to:
        said["redirect_to"] = way.redirect_to
    return f"{issuer.issuer.rules.iss}/verify?{urlencode(said, quote_via=quote)}"
