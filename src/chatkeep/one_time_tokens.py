"""One-time tokens: what a mail holds so that its reader can show whose mailbox it is.

Each is a link's text and a code of six digits, good once and for a while, for one person,
one purpose and one address. The database keeps a hash of either: of the link a plain one,
because it cannot be guessed, of the code one under the server's key, because a copy of the
database could try all of them. A person has one token of a kind; a new one takes its
place, and a change of the password takes all of them away. Nothing here sends a mail.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, LiteralString

from chatkeep.batches import in_turns
from chatkeep.db import AUTH, Query
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import timedelta
    from uuid import UUID

    from chatkeep.db import Database

Kind = Literal[
    "signup",
    "invite",
    "magiclink",
    "recovery",
    "email_change_current",
    "email_change_new",
    "reauthentication",
]
ChallengeMethod = Literal["s256", "plain"]

CODE_DIGITS: Final = 6
#: As often a code may be guessed; the link stays good, so that nobody is locked out.
TRIES: Final = 5
#: How Supabase marks the links of PKCE flows.
PKCE_PREFIX: Final = "pkce_"
_LINK_BYTES: Final = 32
_LONGEST: Final = 200

_COLUMNS: LiteralString = (
    " t.user_id, t.kind, t.email, t.link_hash, t.code_hash, t.code_challenge,"
    " t.code_challenge_method"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A PKCE challenge (RFC 7636 section 4.2): whoever began the flow knows its verifier."""

    text: str
    method: ChallengeMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeToken:
    """What is mailed: *link* is the secret of an address to open, *code* is typed."""

    link: str = field(repr=False)
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A token that was sent and neither used nor expired."""

    user_id: UUID
    kind: Kind
    email: str
    link_hash: bytes = field(repr=False)
    code_hash: bytes = field(repr=False)
    code_challenge: str | None
    code_challenge_method: ChallengeMethod | None

    @property
    def challenge(self) -> Challenge | None:
        """The challenge of the PKCE flow it belongs to."""
        if self.code_challenge is None or self.code_challenge_method is None:
            return None
        return Challenge(text=self.code_challenge, method=self.code_challenge_method)


@dataclass(frozen=True, slots=True)
class _Touched:
    user_id: UUID


class OneTimeTokens:
    """Makes tokens and tells right codes, under the server's secret. *life* is theirs."""

    def __init__(self, secret: bytes, life: timedelta) -> None:
        self._key = derived_key(secret, "one-time tokens")
        self.life = life

    def issue(
        self, user_id: UUID, kind: Kind, email: str, *, challenge: Challenge | None = None
    ) -> tuple[OneTimeToken, Query[Any]]:
        """Return a new token, and the statement that keeps it in the place of any older one.

        *email* is the address that it is sent to, as kept; nobody else may show it. With
        *challenge*, using it gives a code for that PKCE flow instead of a session.
        """
        prefix = PKCE_PREFIX if challenge else ""
        token = OneTimeToken(
            link=prefix + secrets.token_urlsafe(_LINK_BYTES),
            code=f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}",
        )
        method = challenge.method if challenge else None
        hashes = hash_of(token.link), self._code_hash(user_id, kind, email, token.code)
        return token, Query(
            "insert into chatkeep.one_time_tokens (user_id, kind, email, link_hash, code_hash,"
            " code_challenge, code_challenge_method, expires_at)"
            " values (%s, %s, %s, %s, %s, %s, %s, now() + %s)"
            " on conflict (user_id, kind) do update set email = excluded.email,"
            " link_hash = excluded.link_hash, code_hash = excluded.code_hash, tries = 0,"
            " code_challenge = excluded.code_challenge,"
            " code_challenge_method = excluded.code_challenge_method,"
            " created_at = now(), expires_at = excluded.expires_at returning user_id",
            (
                *(user_id, kind, email, *hashes),
                *(challenge.text if challenge else None, method, self.life),
            ),
            _Touched,
        )

    async def guess(
        self, db: Database, code: str, *, email: str, kinds: Collection[Kind]
    ) -> Waiting | None:
        """Return the token of one of *kinds* for *email* whose code this is; it is not used yet.

        A guess is counted before it is looked at, so that parallel ones gain nothing.
        """
        candidates = await db.fetch(
            AUTH,
            "update chatkeep.one_time_tokens t set tries = tries + 1 where email = %s"  # noqa: S608 -- of literals of this file
            " and kind = any(%s) and expires_at > now() and tries < %s returning" + _COLUMNS,
            (email, list(kinds), TRIES),
            row=Waiting,
        )
        right = [one for one in candidates if self._is_code_of(one, code)]
        return right[0] if right else None

    def _is_code_of(self, token: Waiting, code: str) -> bool:
        expected = self._code_hash(token.user_id, token.kind, token.email, code)
        return hmac.compare_digest(token.code_hash, expected)

    def _code_hash(self, user_id: UUID, kind: Kind, email: str, code: str) -> bytes:
        # No member can hold the separator: an id, a kind, an address, digits.
        said = "\0".join((str(user_id), kind, email, code[:_LONGEST]))
        return hmac.digest(self._key, said.encode("utf-8", "surrogatepass"), "sha256")


def hash_of(link: str) -> bytes:
    """Return what is kept of a link's secret."""
    return hashlib.sha256(link[:_LONGEST].encode("utf-8", "surrogatepass")).digest()


async def find_by_link(db: Database, link: str, kinds: Collection[Kind]) -> Waiting | None:
    """Return the token of one of *kinds* whose link this is; it is not used yet."""
    found = await db.fetch(
        AUTH,
        "select" + _COLUMNS + " from chatkeep.one_time_tokens t"
        " where link_hash = %s and kind = any(%s) and expires_at > now()",
        (hash_of(link), list(kinds)),
        row=Waiting,
    )
    return found[0] if found else None


# --- statements that others put into one transaction with their own -----------------------


def using(token: Waiting) -> Query[Any]:
    """Return the statement that uses *token* up: a row if this was the first use, else none."""
    return Query(
        "delete from chatkeep.one_time_tokens where user_id = %s and kind = %s"
        " and link_hash = %s and expires_at > now() returning user_id",
        (token.user_id, token.kind, token.link_hash),
        _Touched,
    )


def remaining(user_id: UUID, kinds: Sequence[Kind]) -> Query[Any]:
    """Return the query for the tokens of *kinds* that a person has, expired ones too."""
    return Query(
        "select" + _COLUMNS + " from chatkeep.one_time_tokens t"
        " where user_id = %s and kind = any(%s)",
        (user_id, list(kinds)),
        Waiting,
    )


def dropping(user_id: UUID, kinds: Sequence[Kind] | None = None) -> Query[Any]:
    """Return the statement that makes a person's tokens of *kinds* worthless, or all of them.

    In a change of the password it comes before other sessions are ended: whoever uses one
    meanwhile either is done and loses the session, or waits and finds the token gone.
    """
    return Query(
        "delete from chatkeep.one_time_tokens where user_id = %s"
        " and (%s::text[] is null or kind = any(%s)) returning user_id",
        (user_id, kinds and list(kinds), kinds and list(kinds)),
        _Touched,
    )


async def sweep(db: Database) -> None:
    """Forget what has expired."""
    await in_turns(
        lambda at_most: db.execute(
            AUTH,
            "with few as materialized (select user_id, kind from chatkeep.one_time_tokens"
            "  where expires_at <= now() limit %s for update skip locked)"
            " delete from chatkeep.one_time_tokens t using few"
            " where (t.user_id, t.kind) = (few.user_id, few.kind)",
            (at_most,),
        )
    )
