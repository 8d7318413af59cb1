"""Signed-in browsers: sessions whose credential is a cookie.

Such a session is a row of `user_sessions` like every other, listed and ended like them. It
begins with a password, or in exchange for a bearer of any issuer, and then it is that
bearer's own session: whatever ends one ends both. Setting the cookie is `web`'s.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from chatkeep import accounts, audit
from chatkeep.claims.counts import TOKEN_LIFE
from chatkeep.db import AUTH, Query
from chatkeep.errors import ChatkeepError, InvalidCredentials, TokenRevoked
from chatkeep.ids import new_id
from chatkeep.issuance import WEAK_TOKEN_LIFE_S
from chatkeep.sessions import own as own_sessions
from chatkeep.sessions.cookie_tokens import SessionOwner
from chatkeep.sign_in import password_accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chatkeep.accounts import User
    from chatkeep.db import Database
    from chatkeep.devices import Device
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.principal import Principal
    from chatkeep.sessions.cookie_tokens import SessionToken, SessionTokens

_log = logging.getLogger(__name__)

#: A sliding cookie is renewed when this part of its life has passed: a day of seven.
RENEWED_AFTER: Final = 1 / 7
#: One that did not come back from there is tried again after this.
_TRIED_AGAIN_AFTER_S: Final = 60.0
#: A next cookie that would not live longer than this one by so much is none.
_WORTH_IT: Final = timedelta(minutes=1)
_REMEMBERED_AT_MOST: Final = 50_000
_PROOFS_AT_MOST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    id: UUID
    issuer: str
    reference: str | None
    aal: str
    amr: list[dict[str, Any]]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Kept:
    id: UUID


class BrowserSessions:
    """Begins, renews and ends them. Share one per process. *sliding*: use makes them live on."""

    def __init__(
        self,
        db: Database,
        tokens: SessionTokens,
        issuer: EmbeddedIssuer,
        *,
        sliding: bool,
        clock: Callable[[], float],
    ) -> None:
        """Put the parts together; *clock* counts seconds, for what was tried a moment ago."""
        # A cookie that nobody can show any more leaves no session behind.
        bounds = replace(issuer.bounds, idle=min(issuer.bounds.idle, TOKEN_LIFE))
        self._db = db
        self._tokens = tokens
        self._issuer = replace(issuer, bounds=bounds)
        self._bounds = bounds
        self._sliding = sliding
        self._clock = clock
        self._tried: OrderedDict[str, float] = OrderedDict()

    async def sign_in(self, email: str, password: str, device: Device) -> SessionToken:
        """Begin a session of who has this address and password.

        Raises:
            InvalidCredentials, UserBanned and whatever else `password_accounts.sign_in` does.
            ClaimsRefused, Unavailable: see `SessionTokens.issue`.
        """
        grant = await password_accounts.sign_in(self._issuer, email, password, device)
        user_id = self._issuer.user_id_of(grant.user.id)
        (rows,) = await self._db.fetch_all(AUTH, _by_id(user_id, grant.session_id))
        if not rows:
            raise InvalidCredentials  # ended between the two statements
        owner = _owner(rows[0], user_id, str(grant.user.id), grant.user.email)
        return await self._issued(self._bounded(owner, grant.user), {}, "session.cookie_issued")

    async def exchange(self, bearer: Principal, device: Device) -> SessionToken:
        """Return the cookie's token for the session of a verified and admitted *bearer*.

        The session lives on with the cookie: seven days, and never beyond the longest life of
        a session, however often its bearer is exchanged.

        Raises:
            TokenRevoked: the session has ended.
            ClaimsRefused, Unavailable: see `SessionTokens.issue`.
        """
        account = self._issuer.subject_of(bearer.user_id)
        asked = () if account is None else (accounts.by_id(account),)
        found, *users = await self._db.fetch_all(AUTH, self._adopted(bearer, device), *asked)
        user = users[0][0] if users and users[0] else None
        if not found or (account is not None and user is None):
            raise TokenRevoked
        await self._require_still_good(bearer, found[0])
        owner = _owner(found[0], bearer.user_id, bearer.subject, bearer.email)
        # A token from before a second factor was verified is as weak as it was then.
        if found[0].reference is not None or bearer.aal < owner.aal:
            owner = replace(owner, aal=bearer.aal, amr=_proofs(bearer))
        return await self._issued(self._bounded(owner, user), {}, "session.cookie_issued")

    async def _require_still_good(self, bearer: Principal, adopted: _Row) -> None:
        """End the session again if everything of its person ended while it was adopted."""
        try:
            await self._issuer.revocations.confirm(bearer)
        except TokenRevoked as error:
            await own_sessions.end_own(self._db, bearer.user_id, adopted.id, reason=error.code)
            raise

    async def renewed(self, cookie: Principal) -> SessionToken | None:
        """Return the next token for the session of *cookie*, if it is time for one.

        None too when that could not be found out now: the request goes on with what it has.
        """
        session_id = str(cookie.claims["sid"])
        if not self._sliding or self._tokens.age(cookie) < RENEWED_AFTER:
            return None
        if not self._may_try(session_id):
            return None
        try:
            return await self._renewed(cookie, UUID(session_id))
        except ChatkeepError as error:
            _log.warning("a session cookie was not renewed: %s", error.code)
            return None

    async def end(self, cookie: Principal, *, reason: str) -> None:
        """End the session of *cookie*, at once and everywhere."""
        ending = Query(
            "update public.user_sessions set is_active = false, reason = %s"
            " where user_id = %s and id = %s and is_active returning id, user_id, issuer",
            (reason, cookie.user_id, UUID(str(cookie.claims["sid"]))),
            _Kept,
        )
        await self._db.fetch_all(AUTH, audit.of_change(ending, "session.ended", reason=reason))
        await self._issuer.revocations.catch_up()

    def _may_try(self, session_id: str) -> bool:
        """Whether nobody here tried a moment ago; parallel requests of a page need only one."""
        now = self._clock()
        if now - self._tried.get(session_id, float("-inf")) < _TRIED_AGAIN_AFTER_S:
            return False
        self._tried[session_id] = now
        self._tried.move_to_end(session_id)
        if len(self._tried) > _REMEMBERED_AT_MOST:
            self._tried.popitem(last=False)
        return True

    async def _renewed(self, cookie: Principal, session_id: UUID) -> SessionToken | None:
        rows, users = await self._db.fetch_all(
            AUTH, self._extended(cookie.user_id, session_id), accounts.by_session(session_id)
        )
        if not rows or _lasts_until(cookie, rows[0].expires_at):
            return None  # ended, or as old as any session may get
        if cookie.issuer == self._issuer.issuer.name and (not users or users[0].is_banned):
            return None
        email = users[0].email if users else cookie.email
        owner = _owner(rows[0], cookie.user_id, cookie.subject, email)
        if rows[0].reference is not None or cookie.aal < owner.aal:
            owner = replace(owner, aal=cookie.aal, amr=_proofs(cookie))
        if owner != self._bounded(owner, users[0] if users else None):
            return None  # a second factor was to be shown, and was not
        return await self._issued(owner, self._tokens.carried(cookie), "session.cookie_renewed")

    def _extended(self, user_id: str, session_id: UUID) -> Query[_Row]:
        return Query(
            "update public.user_sessions set last_activity_at = now(), expires_at ="
            " greatest(expires_at, least(now() + %s, created_at + %s))"
            " where user_id = %s and id = %s and is_active and expires_at > now()"
            " returning id, issuer, reference, aal, amr,"
            " least(expires_at, now() + %s, created_at + %s) as expires_at",
            (
                *(self._bounds.idle, self._bounds.lifetime, user_id, session_id),
                *(TOKEN_LIFE, self._bounds.lifetime),
            ),
            _Row,
        )

    def _adopted(self, bearer: Principal, device: Device) -> Query[_Row]:
        """The statement that makes the *bearer*'s session live as long as the cookie."""
        if bearer.issuer == self._issuer.issuer.name and bearer.session_id is not None:
            return self._extended(bearer.user_id, UUID(bearer.session_id))
        return Query(
            "insert into public.user_sessions as s"
            " (user_id, id, issuer, reference, device, address, issued_at, names_session,"
            " expires_at) values (%s, %s, %s, %s, %s, %s::inet, %s, %s, now() + %s)"
            " on conflict (issuer, reference) where reference is not null do update set"
            " last_activity_at = now(), expires_at = greatest(s.expires_at,"
            " least(excluded.expires_at, s.created_at + %s))"
            " where s.user_id = excluded.user_id and s.is_active"
            " and s.created_at + %s > now()"
            " returning s.id, s.issuer, s.reference, s.aal, s.amr,"
            " least(s.expires_at, now() + %s, s.created_at + %s) as expires_at",
            (
                *(bearer.user_id, UUID(new_id()), bearer.issuer),
                *(bearer.session_id or bearer.token_id, device.name, device.address),
                *(bearer.issued_at, bearer.session_id is not None),
                *(self._idle, self._bounds.lifetime, self._bounds.lifetime),
                *(TOKEN_LIFE, self._bounds.lifetime),
            ),
            _Row,
        )

    def _bounded(self, owner: SessionOwner, user: User | None) -> SessionOwner:
        """Have a session of *user*, who is ours, say what it owes, and until when it may."""
        if user is None or not self._issuer.owes_factor(owner.aal, user):
            return owner
        owing = replace(owner, next_aal="aal2")
        if not self._issuer.is_too_weak(owner.aal, user):
            return owing
        soon = datetime.now(UTC) + timedelta(seconds=WEAK_TOKEN_LIFE_S)
        return replace(owing, ends_at=min(owner.ends_at, soon))

    @property
    def _idle(self) -> timedelta:
        return min(self._bounds.idle, self._bounds.lifetime)

    async def _issued(
        self, owner: SessionOwner, claims: Mapping[str, object], action: str
    ) -> SessionToken:
        """Issue a token, and keep its hash: who finds one somewhere finds its session by it."""
        issued = await self._tokens.issue(owner, claims)
        digest = hashlib.sha256(issued.token.encode()).hexdigest()
        keeping = Query(
            "update public.user_sessions set session_token = %s"
            " where user_id = %s and id = %s and is_active returning id, user_id, issuer",
            (digest, owner.user_id, owner.session_id),
            _Kept,
        )
        details = {"expires_at": int(issued.expires_at.timestamp())}
        (kept,) = await self._db.fetch_all(AUTH, audit.of_change(keeping, action, details=details))
        if not kept:
            raise TokenRevoked
        return issued


def _lasts_until(cookie: Principal, end: datetime) -> bool:
    return cookie.expires_at is not None and end - cookie.expires_at < _WORTH_IT


def _by_id(user_id: str, session_id: UUID) -> Query[_Row]:
    return Query(
        "select id, issuer, reference, aal, amr, expires_at from public.user_sessions"
        " where user_id = %s and id = %s and is_active and expires_at > now()",
        (user_id, session_id),
        _Row,
    )


def _owner(row: _Row, user_id: str, subject: str, email: str | None) -> SessionOwner:
    return SessionOwner(
        user_id=user_id,
        issuer=row.issuer,
        subject=subject,
        session_id=row.id,
        reference=row.reference,
        ends_at=row.expires_at,
        email=email,
        aal=row.aal,
        amr=row.amr,
    )


def _proofs(bearer: Principal) -> list[dict[str, object]]:
    """When and how the person proved who they are, as far as another issuer's token says."""
    said = bearer.claims.get("amr")
    found: list[dict[str, object]] = [
        {"method": str(one["method"])[:64], "timestamp": one["timestamp"]}
        for one in (said if isinstance(said, list) else [])
        if isinstance(one, dict)
        and isinstance(one.get("method"), str)
        and type(one.get("timestamp")) is int
    ]
    if not found and bearer.authenticated_at is not None:
        moment = int(bearer.authenticated_at.astimezone(UTC).timestamp())
        found = [{"method": "token_exchange", "timestamp": moment}]
    return found[:_PROOFS_AT_MOST]
