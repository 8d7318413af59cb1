"""Who calls with what Better Auth gave them: looked up in its own tables at each look.

Its JWT names no session and is good for minutes after its person signed out or was banned,
so a verified one is only the beginning: its address leads to the user, and the user must
have a session. Its session tokens are opaque and lead to a session straight away.

The tables `public."user"` and `public.session` are Better Auth's and only ever read. What
was found is believed for a second; that something was not found is never remembered.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from chatkeep.db import AUTH, OWN_LOGIN
from chatkeep.errors import (
    AccountNotFound,
    ChatkeepError,
    DatabaseUnavailable,
    NoActiveSession,
    NotFound,
    TokenInvalid,
    TokenRevoked,
)
from chatkeep.issuers import shown_text
from chatkeep.principal import Principal
from chatkeep.tokens import is_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkeep.db import Database
    from chatkeep.issuers import Issuer

_log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

#: How long what was found is believed: signing out takes effect within this.
BELIEVED_FOR_S: Final = 1.0
_MOST_REMEMBERED: Final = 8192

COOKIE: Final = "better-auth.session_token"
#: Better Auth names its cookies so when it is reached by https.
SECURE_COOKIE: Final = f"__Secure-{COOKIE}"

_TOKEN = re.compile(r"[A-Za-z0-9]{16,64}")
_SIGNED = re.compile(r"([A-Za-z0-9]{16,64})\.([A-Za-z0-9+/]{43}=)")
#: The same as JavaScript's encodeURIComponent writes it, and no other spelling.
_ESCAPED = re.compile(r"([A-Za-z0-9]{16,64})\.((?:[A-Za-z0-9]|%2B|%2F){43}%3D)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """What a row of `user` says of a ban.

    *banned* is "true", "false", None or, without the admin plugin, "absent".
    """

    banned: str | None
    ban_ends_at: float | None

    @property
    def is_banned(self) -> bool:
        return self.banned == "true" and (
            self.ban_ends_at is None or time.time() < self.ban_ends_at
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _User(_Account):
    """A row of `user`, and how many sessions go with it that have not ended."""

    id: str
    name: str | None
    email: str
    email_verified: bool | None
    image: str | None
    role: str | None
    sessions: int = 1

    @property
    def roles(self) -> frozenset[str]:
        """The admin plugin keeps several with commas between.

        Without it, `role` is a column that people may be able to write themselves.
        """
        said = "" if self.banned == "absent" else self.role or ""
        return frozenset(role.strip() for role in said.split(",") if role.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session(_User):
    """A row of `session` that has not ended, and its user."""

    session_id: str
    created_at: float | None
    expires_at: float
    impersonated_by: str | None


class BetterAuth:
    """Looks up who calls at one Better Auth server. Share one per process.

    *db* is the database that has its tables, ours if *is_ours*: then they are read as our
    narrow role. Without *secret* only raw session tokens and verified JWTs can be told.
    """

    def __init__(
        self,
        db: Database,
        issuer: Issuer,
        *,
        is_ours: bool,
        secret: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put the parts together; nothing is asked yet."""
        self._db = db
        self._issuer = issuer
        self._caller = AUTH if is_ours else OWN_LOGIN
        self._secret = None if secret is None else secret.encode()
        self._users = _Recent[_User](clock)
        self._sessions = _Recent[_Session](clock)

    async def admit(self, principal: Principal) -> Principal:
        """Return *principal*, of a JWT that verified, as its issuer knows them now.

        Raises:
            TokenInvalid: it has no address, or its subject is not the user with that one.
            AccountNotFound: nobody has the address.
            NoActiveSession: they have signed out everywhere, or are banned.
            DatabaseUnavailable: the tables cannot be read.
        """
        with _attempt("token") as steps:
            steps.append("token verified")
            if principal.email is None:
                raise TokenInvalid
            steps.append("e-mail found")
            user = await self._user(principal.email)
            if user is None:
                raise AccountNotFound
            if user.id != principal.subject:
                # The address belongs to somebody else by now, who is another person.
                raise TokenInvalid
            steps += ["user found", f"sessions: {user.sessions}"]
            if user.is_banned or not user.sessions:
                raise NoActiveSession
            steps.append(f"user id {principal.user_id}")
            return replace(
                principal,
                email=shown_text(user.email),
                email_verified=user.email_verified is True,
                name=shown_text(user.name),
                picture=shown_text(user.image),
                roles=user.roles,
                # All its other claims are columns that the person may be able to write.
                scopes=frozenset(),
                aal="aal1",
                authenticated_at=None,
            )

    async def by_token(self, token: str) -> Principal:
        """Return whose session *token* is: raw, or signed and then perhaps escaped.

        Raises:
            TokenInvalid: it is no session token, its signature is not right, or its session
                is not there (any more).
            TokenRevoked: its person is banned.
            DatabaseUnavailable: the tables cannot be read.
        """
        with _attempt("session token") as steps:
            plain = token if _TOKEN.fullmatch(token) else self._verified(token)
            return await self._by_session(plain, steps)

    async def by_cookie(self, value: str) -> Principal:
        """Return whose session the *value* of the session cookie is; raises as `by_token`.

        Only the form that Better Auth writes is taken: signed, and escaped in one way.
        """
        with _attempt("cookie") as steps:
            if not _ESCAPED.fullmatch(value):
                raise TokenInvalid
            return await self._by_session(self._verified(value), steps)

    async def is_barred(self, subject: str) -> bool:
        """Whether the person whom Better Auth calls *subject* is banned there, or gone.

        For what they hold that Better Auth did not give them; asked each time.

        Raises:
            DatabaseUnavailable: the tables cannot be read.
        """
        with _rights_are_ours_to_have():
            rows = await self._db.fetch(
                self._caller,
                """
                select found.banned::text as banned,
                  extract(epoch from found."banExpires")::float8 as ban_ends_at
                from (select 'absent' as banned, null::timestamptz as "banExpires") as absent
                cross join lateral (
                  select banned, "banExpires" from public."user" where id = %s
                ) as found
                """,
                [subject],
                row=_Account,
            )
        return not rows or rows[0].is_banned

    def _verified(self, signed: str) -> str:
        """Return the token that *signed* holds, if its signature is right."""
        match = _SIGNED.fullmatch(signed) or _ESCAPED.fullmatch(signed)
        if match is None or self._secret is None:
            raise TokenInvalid
        token, signature = match.groups()
        right = base64.b64encode(hmac.digest(self._secret, token.encode(), "sha256")).decode()
        plain = signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
        if not hmac.compare_digest(plain, right):
            raise TokenInvalid
        return token

    async def _by_session(self, token: str, steps: list[str]) -> Principal:
        steps.append("token verified")
        session = await self._session(token)
        if session is None or not is_identifier(session.id):
            raise TokenInvalid
        steps += ["session found", "user found"]
        if session.impersonated_by is not None:
            steps.append(f"impersonated by {session.impersonated_by!r}")
        if session.is_banned:
            raise TokenRevoked
        user_id = self._issuer.user_id(session.id)
        steps.append(f"user id {user_id}")
        began = _moment(session.created_at)
        return Principal(
            user_id=user_id,
            issuer=self._issuer.name,
            subject=session.id,
            session_id=session.session_id,
            email=shown_text(session.email),
            email_verified=session.email_verified is True,
            name=shown_text(session.name),
            picture=shown_text(session.image),
            roles=session.roles,
            # Whoever acts as somebody else has proved nothing about that person.
            authenticated_at=None if session.impersonated_by else began,
            issued_at=began,
            expires_at=_moment(session.expires_at),
        )

    # In both statements: a column that a plugin brings may be missing. Its name then means the
    # one of `absent`, which stands further out. Some schemas keep times without a zone, in
    # UTC; `extract` reads both kinds alike.

    async def _user(self, email: str) -> _User | None:
        found = self._users.find(email.encode())
        if found is not None:
            return found
        with _rights_are_ours_to_have():
            rows = await self._db.fetch(
                self._caller,
                """
                select found.id::text as id, found.name, found.email, found.image, found.role,
                  found."emailVerified" as email_verified, found.banned::text as banned,
                  extract(epoch from found."banExpires")::float8 as ban_ends_at,
                  (select count(*) from public.session where "userId" = found.id
                    and extract(epoch from "expiresAt") > extract(epoch from now())) as sessions
                from (
                  select null::text as role, 'absent' as banned, null::timestamptz as "banExpires"
                ) as absent
                cross join lateral (
                  select id, name, email, "emailVerified", image, role, banned, "banExpires"
                  from public."user" where email = %s
                ) as found
                """,
                [email],
                row=_User,
            )
        # An address that two users have does not say which of them it is.
        user = rows[0] if len(rows) == 1 else None
        if user is not None and user.sessions and not user.is_banned:
            self._users.keep(email.encode(), user, BELIEVED_FOR_S)
        return user

    async def _session(self, token: str) -> _Session | None:
        key = hashlib.sha256(token.encode()).digest()
        found = self._sessions.find(key)
        if found is not None:
            return found
        with _rights_are_ours_to_have():
            rows = await self._db.fetch(
                self._caller,
                """
                select found.id::text as id, found.name, found.email, found.image, found.role,
                  found."emailVerified" as email_verified, found.banned::text as banned,
                  extract(epoch from found."banExpires")::float8 as ban_ends_at,
                  held.id::text as session_id, held."impersonatedBy"::text as impersonated_by,
                  extract(epoch from held."createdAt")::float8 as created_at,
                  extract(epoch from held."expiresAt")::float8 as expires_at
                from (
                  select null::text as role, 'absent' as banned, null::timestamptz as "banExpires",
                    null::timestamptz as "createdAt", null::text as "impersonatedBy"
                ) as absent
                cross join lateral (
                  select id, "userId", "expiresAt", "createdAt", "impersonatedBy"
                  from public.session where token = %s
                ) as held
                cross join lateral (
                  select id, name, email, "emailVerified", image, role, banned, "banExpires"
                  from public."user" where id = held."userId"
                ) as found
                where extract(epoch from held."expiresAt") > extract(epoch from now())
                """,
                [token],
                row=_Session,
            )
        session = rows[0] if len(rows) == 1 else None
        if session is not None and not session.is_banned:
            left_s = session.expires_at - time.time()
            self._sessions.keep(key, session, min(BELIEVED_FOR_S, left_s))
        return session


class _Recent(Generic[_Found]):
    """What was found a moment ago, each until its own end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[bytes, tuple[float, _Found]] = {}

    def find(self, key: bytes) -> _Found | None:
        until, found = self._kept.get(key, (0.0, None))
        if found is None or self._clock() < until:
            return found
        del self._kept[key]
        return None

    def keep(self, key: bytes, found: _Found, for_s: float) -> None:
        if len(self._kept) >= _MOST_REMEMBERED:
            del self._kept[next(iter(self._kept))]  # the oldest
        self._kept[key] = (self._clock() + for_s, found)


@contextmanager
def _attempt(credential: str) -> Iterator[list[str]]:
    """Log how far an attempt with *credential* came, and never what was sent."""
    steps = [f"{credential} seen"]
    try:
        yield steps
    except ChatkeepError as error:
        steps.append(f"refused: {error.code}")
        raise
    finally:
        _log.info("attempt at Better Auth: %s", ", ".join(steps))


@contextmanager
def _rights_are_ours_to_have() -> Iterator[None]:
    """A right that is missing must not pass for a row that is."""
    try:
        yield
    except NotFound as error:
        raise DatabaseUnavailable from error


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
