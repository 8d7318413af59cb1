"""Sessions whose people have signed out at the provider where they signed in.

Which of the sessions here that ends, and that each logout token is taken once. Every statement
can be repeated: what began after the token was issued is left alone, by the issuer's own clock.
Nothing is verified here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, LiteralString

from chatkeep import audit
from chatkeep.db import AUTH, Query
from chatkeep.ended_credentials import everything_at, session_at
from chatkeep.errors import LogoutTokenUsed
from chatkeep.sessions.ending import end_in_turns
from chatkeep.sessions.records import ENDED_AT_ONCE, Ended
from chatkeep.shown_tokens import note_shown, was_shown

if TYPE_CHECKING:
    from uuid import UUID

    from chatkeep.db import Database
    from chatkeep.ended_credentials import Revoked
    from chatkeep.issuers import Issuer, LogoutToken

#: Why, in the row and in the audit log, and who said so. The migration knows the reason too.
REASON: Final = "signed_out_elsewhere"
ACTOR: Final = "issuer"


async def require_unused(db: Database, token: LogoutToken) -> None:
    """Refuse a token that was taken before, on whatever server.

    Raises:
        LogoutTokenUsed: it was.
    """
    if await was_shown(db, _hash_of(token)):
        raise LogoutTokenUsed


async def note_used(db: Database, token: LogoutToken, *, issuer: str, user_id: str | None) -> None:
    """Remember *token* for as long as it is good, and write down that it was taken.

    Raises:
        LogoutTokenUsed: another request was faster.
    """
    written = audit.entry(
        "logout_token.used",
        user_id=user_id,
        actor=ACTOR,
        issuer=issuer,
        session_id=token.session,
    )
    if not await note_shown(db, _hash_of(token), token.expires_at, written):
        raise LogoutTokenUsed


def revoking(issuer: Issuer, token: LogoutToken) -> tuple[Query[Revoked], ...]:
    """Return the statements that end the tokens *token* is about, those never seen here too.

    A token that names no session may belong to the one that ended, so it ends with it.
    """
    ended = []
    if token.session is not None:
        ended.append(session_at(issuer.name, token.session))
    if token.subject is not None:
        ended.append(
            everything_at(
                issuer.name,
                token.subject,
                before=token.ends_before,
                with_sessions=token.session is None,
            )
        )
    return tuple(ended)


async def end_sessions_of(db: Database, issuer: Issuer, token: LogoutToken) -> None:
    """End the sessions that *issuer* began, with the cookies that were made of them."""
    if token.session is not None:
        await _end(
            db,
            "update public.user_sessions set is_active = false, reason = %s where is_active"
            " and issuer = %s and reference = %s returning id, user_id, issuer",
            (REASON, issuer.name, token.session),
        )
    if token.subject is not None:
        await _end(
            db,
            "update public.user_sessions set is_active = false, reason = %s where is_active"
            " and (user_id, id) in (select user_id, id from public.user_sessions"
            "  where user_id = %s and issuer = %s and is_active"
            "  and (%s or names_session is not true) and coalesce(issued_at, created_at) < %s"
            "  order by last_activity_at desc, id desc limit %s) returning id, user_id, issuer",
            (
                *(REASON, issuer.user_id(token.subject), issuer.name, token.session is None),
                *(token.ends_before, ENDED_AT_ONCE),
            ),
        )


async def end_sessions_begun_with(db: Database, token: LogoutToken, *, people: str) -> list[UUID]:
    """End the sessions of ours that began at the issuer of *token*; return which.

    Sign-ins that wait for their code end first: one that was exchanged meanwhile is a session by
    then. *people* is what the ids of our own issuer's people begin with. Without a subject nobody
    here is found.
    """
    whose = (token.iss, token.subject, token.iss, token.subject)
    which = (token.session, token.session, token.ends_before)
    await db.execute(
        AUTH,
        "delete from chatkeep.authorization_codes c using chatkeep.identities i"
        " where i.issuer = %s and i.provider_id = %s and c.user_id = i.user_id"
        " and c.provider_issuer = %s and c.provider_subject = %s"
        " and (c.provider_session = %s or ((%s::text is null or c.provider_session is null)"
        "  and c.provider_issued_at < %s))",
        (*whose, *which),
    )
    return await _end(
        db,
        "update public.user_sessions set is_active = false, reason = %s where is_active"
        " and (user_id, id) in (select s.user_id, s.id from chatkeep.identities i"
        "  join public.user_sessions s on s.user_id = %s || i.user_id::text"
        "  where i.issuer = %s and i.provider_id = %s and s.is_active"
        "  and s.provider_issuer = %s and s.provider_subject = %s"
        "  and (s.provider_session = %s or ((%s::text is null or s.provider_session is null)"
        "   and s.issued_at < %s))"
        "  order by s.last_activity_at desc, s.id desc limit %s)"
        " returning id, user_id, issuer",
        (*(REASON, people, *whose, *which, ENDED_AT_ONCE),),
    )


async def _end(db: Database, text: LiteralString, params: tuple[object, ...]) -> list[UUID]:
    return await end_in_turns(db, Query(text, params, Ended), REASON, actor=ACTOR)


def _hash_of(token: LogoutToken) -> bytes:
    # Nothing else that is remembered there is a hash of this form: those are of whole tokens.
    return hashlib.sha256(f"logout_token\n{token.iss}\n{token.token_id}".encode()).digest()
