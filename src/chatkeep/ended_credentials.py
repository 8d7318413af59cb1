"""What the database is told and asked of credentials that have ended.

What of it a process keeps in memory is in `revocations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from chatkeep.db import Query

if TYPE_CHECKING:
    from chatkeep.principal import Principal

#: Kind, issuer and subject of a revocation, as in the table.
Key = tuple[str, str, str]

#: What ended because its issuer says so, and goes on renewing nothing of it, for so long.
_RENEWED_FOR: Final = timedelta(days=30)
#: Longer than any access token of another issuer lives (`Rules.max_lifetime_s`).
_ALL_EXPIRED: Final = timedelta(days=8)
#: Everything of a person or issuer that was issued before has ended for so long.
REMEMBERED: Final = timedelta(days=400)
_BEGINNING: Final = datetime.fromtimestamp(0, UTC)
#: Tokens tell when they were issued in whole seconds.
_ALMOST_A_SECOND: Final = timedelta(microseconds=999_999)


@dataclass(frozen=True, slots=True)
class Revoked:
    """That it is written down; there is no more to say."""

    done: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a credential has ended."""

    revoked: bool


def everything_of(user_id: str) -> Query[Revoked]:
    """Return the statement that ends every token of a person that was issued before now.

    By whomever it was issued. It belongs into the transaction that ends their sessions here,
    whose tokens of this very second it leaves, and at its end: it takes the one row of numbers.
    """
    return Query(
        "select chatkeep.revoke('user', '', %s, now(), now() + %s)::text as done",
        (user_id, REMEMBERED),
        Revoked,
    )


def everything_by(issuer: str) -> Query[Revoked]:
    """Return the statement that ends every token that *issuer* issued before now.

    The database's now: with that of a machine that is ahead nobody could sign in again until
    then, and that of one behind would leave what was issued last.
    """
    return Query(
        "select chatkeep.revoke('issuer', %s, '', now(), now() + %s)::text as done",
        (issuer, REMEMBERED),
        Revoked,
    )


def session_at(issuer: str, reference: str) -> Query[Revoked]:
    """Return the statement that ends the session that *issuer* calls *reference*, also unseen."""
    return Query(
        "select chatkeep.revoke('session', %s, %s, null, now() + %s)::text as done",
        (issuer, reference, _RENEWED_FOR),
        Revoked,
    )


def everything_at(
    issuer: str, subject: str, *, before: datetime, with_sessions: bool
) -> Query[Revoked]:
    """Return the statement that ends what *issuer* issued to its *subject* before a moment.

    Without *with_sessions* only tokens that name no session there. API keys are not ended.
    """
    return Query(
        "select chatkeep.revoke(%s, %s, %s, %s, now() + %s)::text as done",
        ("subject" if with_sessions else "sessionless", issuer, subject, before, _ALL_EXPIRED),
        Revoked,
    )


def everything_until(user_id: str, length: timedelta) -> tuple[Query[Revoked], Query[Revoked]]:
    """Return the statements that end every token of a person that is issued until *length* on.

    They replace what was said before of tokens to come: with no *length* those are good again,
    and only what was issued before now has ended. They belong together, at the end of their
    transaction, as `everything_of` does.
    """
    return (
        Query(
            "select chatkeep.revoke('user', '', %s, now() + %s, now() + %s)::text as done",
            (user_id, length, length + REMEMBERED),
            Revoked,
        ),
        # That one never takes back what was said before.
        Query(
            "update chatkeep.revocations set not_before = now() + %s"
            " where kind = 'user' and issuer = '' and subject = %s returning subject as done",
            (length, user_id),
            Revoked,
        ),
    )


def holds_no_more(principal: Principal) -> Query[Verdict]:
    """Return the statement whether the table says that the credential of *principal* has ended."""
    issuer, session = principal.issuer, principal.session_id or principal.token_id
    issued = counted_as_issued(principal)
    at_issuer = {kind: subject for kind, _, subject in keys_at_issuer(principal)}
    return Query(
        "select exists (select from chatkeep.revocations where until > now() and ("
        " (kind = 'session' and issuer = %s and subject = %s)"
        " or (kind = 'token' and issuer = %s and subject = %s)"
        " or (kind = 'user' and issuer = '' and subject = %s and not_before > %s)"
        " or (kind = 'issuer' and issuer = %s and subject = '' and not_before > %s)"
        " or (kind = 'subject' and issuer = %s and subject = %s and not_before > %s)"
        " or (kind = 'sessionless' and issuer = %s and subject = %s and not_before > %s)"
        ")) as revoked",
        (
            *(issuer, session, issuer, principal.token_id),
            *(principal.user_id, issued, issuer, issued),
            *(issuer, at_issuer.get("subject"), issued),
            *(issuer, at_issuer.get("sessionless"), issued),
        ),
        Verdict,
    )


def keys_at_issuer(principal: Principal) -> tuple[Key, ...]:
    """Return by which words of its issuer a credential of *principal* may have ended.

    They count for its tokens alone: cookies made of them end with the rows of their sessions,
    and API keys with everything of a person.
    """
    issuer, subject = principal.issuer, principal.subject
    if principal.credential != "bearer":
        return ()
    if principal.session_id is not None:
        return (("subject", issuer, subject),)
    return ("subject", issuer, subject), ("sessionless", issuer, subject)


def has_no_session(principal: Principal) -> Query[Verdict]:
    """Return the statement whether a person of our own issuer has no such session, or is banned."""
    ours = principal.issuer == "embedded" and principal.session_id is not None
    return Query(
        "select %s and not exists (select from public.user_sessions s"
        " join chatkeep.users u on u.id = right(s.user_id, 36)::uuid"
        " where s.user_id = %s and s.id = %s and s.issuer = 'embedded' and s.is_active"
        " and s.expires_at > now() and (u.banned_until is null or u.banned_until <= now())"
        ") as revoked",
        (ours, principal.user_id if ours else "", _uuid(principal.session_id)),
        Verdict,
    )


def everything_has_ended(user_id: str, issuer: str, *, since: datetime) -> Query[Verdict]:
    """Return the statement whether everything of a person has ended *since*, or of their *issuer*.

    For what goes on without them, so that no credential is shown again: what they began.
    """
    return Query(
        "select exists (select from chatkeep.revocations where"
        " kind = 'user' and issuer = '' and subject = %s and not_before > %s)"
        " or exists (select from chatkeep.revocations where"
        " kind = 'issuer' and issuer = %s and subject = '' and not_before > %s) as revoked",
        (user_id, since, issuer, since),
        Verdict,
    )


def counted_as_issued(principal: Principal) -> datetime:
    """Return when the credential of *principal* was issued, for what ended everything of many.

    The earliest moment that it may have been, but for those of our own sessions the latest:
    they are ended with their sessions anyhow, so whoever signs in again within the second in
    which everything was ended holds a token that works.
    """
    said = principal.issued_at or _BEGINNING
    ours = principal.issuer == "embedded" and principal.session_id is not None
    return said + _ALMOST_A_SECOND if ours else said


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None
