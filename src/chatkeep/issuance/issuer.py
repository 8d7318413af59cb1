"""The issuer that this server is: it begins sessions, refreshes, locates and ends them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from chatkeep import accounts, tokens
from chatkeep.db import AUTH
from chatkeep.errors import (
    AccessTokenHookFailed,
    ChatkeepError,
    Invalid,
    InvalidCredentials,
    RefreshTokenNotFound,
    RefreshTokenReused,
    SessionExpired,
    SessionNotFound,
    TokenInvalid,
    UserBanned,
    UserNotFound,
)
from chatkeep.ids import new_id
from chatkeep.issuance.grants import Grant, Here
from chatkeep.sessions import own as own_sessions
from chatkeep.sessions import records as sessions
from chatkeep.sessions.refresh_tokens import RefreshToken
from chatkeep.token_binding import confirmation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from chatkeep.accounts import User
    from chatkeep.audit import Notices
    from chatkeep.config.factors import MfaRequired
    from chatkeep.db import Database, Query
    from chatkeep.devices import Device
    from chatkeep.issuance.supabase_keys import SupabaseKeys
    from chatkeep.issuers import Issuer
    from chatkeep.mail import Outgoing
    from chatkeep.one_time_tokens import OneTimeTokens
    from chatkeep.passwords import Passwords
    from chatkeep.principal import Principal
    from chatkeep.revocations import Revocations
    from chatkeep.sessions.own import Scope
    from chatkeep.sessions.provider_sessions import ProviderSession
    from chatkeep.sessions.records import Rotated, Session
    from chatkeep.sessions.refresh_tokens import RefreshTokens
    from chatkeep.signing_keys import KeyRing
    from chatkeep.token_hook import TokenHook

#: How long a session without a second factor has, where one is required, to get there.
WEAK_TOKEN_LIFE_S: Final = 900
_LOW_AAL: Final = "Invalid Refresh Token: Session Expired (Low AAL: User Needs MFA Verification)"


class Owner(Protocol):
    """Whose session it is, as far as that decides which factors it takes."""

    @property
    def is_anonymous(self) -> bool:
        """Whether they have nothing to sign in with."""

    @property
    def has_second_factor(self) -> bool:
        """Whether they have verified one."""

    @property
    def roles(self) -> Collection[str]:
        """What their operator lets them be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedIssuer:
    """The issuer that this server is. One per process; `close` it at the end.

    *issuer* is its entry for the table of issuers. *derived* returns the server's key for a
    purpose (see `server_secrets`).
    """

    db: Database
    issuer: Issuer
    token_hook: TokenHook | None
    signing_keys: KeyRing
    supabase_keys: SupabaseKeys
    refresh_tokens: RefreshTokens
    passwords: Passwords
    revocations: Revocations
    notices: Notices
    outgoing: Outgoing
    one_time_tokens: OneTimeTokens
    derived: Callable[[str], bytes] = field(repr=False)
    mfa_required: MfaRequired = "none"
    admin_roles: frozenset[str] = frozenset()
    sign_up_open: bool
    access_token_life_s: int
    bounds: sessions.Bounds

    def close(self) -> None:
        """Let go of the threads that check passwords."""
        self.passwords.close()

    def user_id_of(self, account: UUID) -> str:
        """Return the user id of the person who has *account*."""
        return self.issuer.user_id(str(account))

    def subject_of(self, user_id: str) -> UUID | None:
        """Return the account that *user_id* names, None for people of other issuers."""
        prefix = self.issuer.user_id("")
        try:
            found = UUID(user_id.removeprefix(prefix))
        except ValueError:
            return None
        return found if user_id == f"{prefix}{found}" else None

    async def begin(
        self,
        subject: UUID,
        proof: str,
        device: Device,
        *,
        first: Sequence[Query[Any]] = (),
        password_hash: str | None = None,
        aal: str = "aal1",
        begun_with: ProviderSession | None = None,
    ) -> Grant:
        """Begin a session of *subject*, who has proved who they are by *proof*.

        *proof* is an authentication method as Supabase Auth names it in `amr` ("password",
        "otp", "oauth", ...). *first* are statements that belong into the same transaction;
        they come before the session is made. With *password_hash* there is a session only if
        that is still the hash of their password. *aal* is "aal2" where the one proof was of
        two factors. The session ends when *begun_with* does, if its provider says so.

        Raises:
            UserBanned: the account is suspended.
            InvalidCredentials: it is gone, or its password was changed meanwhile.
        """
        beginning = self.beginning(
            subject, proof, device, password_hash=password_hash, aal=aal, begun_with=begun_with
        )
        *_, opened, beyond, users = await self.db.fetch_all(AUTH, *first, *beginning)
        return await self.begun(opened, beyond, users)

    def beginning(
        self,
        subject: UUID,
        proof: str,
        device: Device,
        *,
        password_hash: str | None = None,
        aal: str = "aal1",
        begun_with: ProviderSession | None = None,
    ) -> tuple[Query[Any], Query[Any], Query[Any]]:
        """Return the statements of `begin`, for a transaction that decides between them.

        Give what they answered to `begun` when the transaction is over.
        """
        return (
            self.opening(
                subject, proof, device, password_hash=password_hash, aal=aal, begun_with=begun_with
            ),
            sessions.beyond(self.user_id_of(subject), self.bounds),
            accounts.by_id(subject),
        )

    async def begun(
        self, opened: Sequence[Session], beyond: Sequence[sessions.Ended], users: Sequence[User]
    ) -> Grant:
        """Return tokens for the session that the statements of `beginning` made.

        Raises:
            UserBanned, InvalidCredentials: they made none, see `begin`.
            AccessTokenHookRefused, AccessTokenHookFailed, Unavailable: see `grant`; the
                session is ended again.
        """
        self.revocations.ended(one.id for one in beyond)
        user_id = self.user_id_of(users[0].id) if users else None
        if users and users[0].is_banned:
            self.notices.note("session.begun", reason=UserBanned.code, user_id=user_id)
            raise UserBanned
        if not opened:
            self.notices.note("session.begun", reason=InvalidCredentials.code, user_id=user_id)
            raise InvalidCredentials
        try:
            return await self.grant(users[0], opened[0])
        except ChatkeepError as error:
            # Nobody got its tokens.
            await own_sessions.end_own(self.db, opened[0].user_id, opened[0].id, reason=error.code)
            raise

    async def refresh(self, refresh_token: str, device: Device) -> Grant:
        """Exchange a refresh token; the rules are those of `chatkeep.sessions.records`.

        Raises:
            RefreshTokenNotFound, RefreshTokenReused, SessionExpired, UserBanned, Invalid,
            Unavailable.
        """
        shown = self.refresh_tokens.read(refresh_token)
        try:
            rotated = await sessions.rotate_session(self.db, shown, device, self.bounds)
            self._require_strength(rotated)
        except RefreshTokenReused:
            self.revocations.ended([shown.session_id])
            raise
        except (RefreshTokenNotFound, SessionExpired, UserBanned, Invalid) as error:
            self.notices.note("session.refreshed", reason=error.code, session_id=shown.session_id)
            raise
        return await self.grant(
            rotated.user, rotated.session, rotated.successor, again=rotated.again
        )

    async def locate(self, principal: Principal) -> Here:
        """Return the person and session that a verified token of ours is about, from the table.

        Raises:
            TokenInvalid: another issuer's token.
            UserNotFound, SessionNotFound, UserBanned: as things are now.
        """
        if principal.issuer != self.issuer.name or principal.session_id is None:
            raise TokenInvalid
        found, users = await self.db.fetch_all(
            AUTH,
            sessions.by_id(UUID(principal.session_id)),
            accounts.by_id(UUID(principal.subject)),
        )
        if not users:
            raise UserNotFound
        if users[0].is_banned:
            raise UserBanned
        if not found or not found[0].usable or found[0].user_id != principal.user_id:
            raise SessionNotFound
        aal = min(principal.aal, found[0].aal)
        here = Here(user=users[0], session=found[0], aal=aal)
        if here.session.last_activity_at < datetime.now(UTC) - sessions.ACTIVITY_EVERY:
            await sessions.note_activity(self.db, here.session.id)
        return here

    async def sign_out(self, here: Here, scope: Scope) -> None:
        """End this session, the person's others, or all: at once and everywhere."""
        self.revocations.ended(await own_sessions.end_sessions(self.db, here.session, scope))

    def opening(
        self,
        subject: UUID,
        proof: str,
        device: Device,
        *,
        password_hash: str | None = None,
        aal: str = "aal1",
        begun_with: ProviderSession | None = None,
    ) -> Query[Session]:
        """Return the statement that starts a session of *subject*; see `sessions.opening`."""
        return sessions.opening(
            UUID(new_id()),
            user_id=self.user_id_of(subject),
            subject=subject,
            proof=proof,
            password_hash=password_hash,
            aal=aal,
            device=device,
            bounds=self.bounds,
            begun_with=begun_with,
        )

    async def grant(
        self,
        user: User,
        session: Session,
        refresh_token: RefreshToken | None = None,
        *,
        again: bool = False,
    ) -> Grant:
        """Return tokens for *session*, with *refresh_token* or the newest of its family.

        Raises:
            AccessTokenHookRefused, AccessTokenHookFailed, Unavailable: see `TokenHook.changed`.
        """
        successor = refresh_token or RefreshToken(
            session_id=session.id, counter=session.refresh_counter
        )
        now = int(time.time())
        life_s = self.access_token_life_s
        if self.is_too_weak(session.aal, user):
            life_s = min(life_s, WEAK_TOKEN_LIFE_S)
        expires_at = min(now + life_s, int(session.expires_at.timestamp()))
        claims = self._claims(user, session) | {"iat": now, "exp": expires_at}
        method = "token_refresh" if refresh_token is not None else _method(session)
        return Grant(
            access_token=await self._signed(claims, method),
            refresh_token=self.refresh_tokens.write(successor),
            expires_in=expires_at - now,
            expires_at=expires_at,
            user=user,
            session_id=session.id,
            counter=successor.counter,
            again=again,
            bound_to=session.bound_to,
        )

    async def _signed(self, claims: dict[str, object], method: str) -> str:
        if self.token_hook is None:
            return tokens.issue(claims, self.signing_keys.current)
        wanted = await self.token_hook.changed(claims, method=method)
        try:
            # No hook frees a token from what it is bound to, or from what it still owes.
            held = {name: claims[name] for name in ("cnf", "next_aal") if name in claims}
            return tokens.issue(wanted | held, self.signing_keys.current)
        except ValueError as error:  # so many claims that nobody would take the token
            raise AccessTokenHookFailed from error

    def _require_strength(self, rotated: Rotated) -> None:
        if self.is_too_weak(rotated.session.aal, rotated.user):
            raise SessionExpired(_LOW_AAL)

    def is_too_weak(self, aal: str, owner: Owner) -> bool:
        """Whether a session at *aal* lacks a second factor that its *owner* must have.

        Who is anonymous has nothing to sign in with again, and can have none.
        """
        required = self.mfa_required == "everybody" or (
            self.mfa_required == "admins" and not self.admin_roles.isdisjoint(owner.roles)
        )
        return required and aal != "aal2" and not owner.is_anonymous

    def owes_factor(self, aal: str, owner: Owner) -> bool:
        """Whether a session at *aal* has not shown the factor that its *owner* has or must have."""
        return (owner.has_second_factor and aal != "aal2") or self.is_too_weak(aal, owner)

    def _claims(self, user: User, session: Session) -> dict[str, object]:
        next_aal = {"next_aal": "aal2"} if self.owes_factor(session.aal, user) else {}
        return next_aal | {
            "iss": self.issuer.rules.iss,
            "sub": str(user.id),
            "aud": user.aud,
            "email": user.email or "",
            "phone": "",
            "app_metadata": user.app_metadata,
            "user_metadata": user.user_metadata,
            "role": user.role,
            "aal": session.aal,
            "amr": session.amr,
            "session_id": str(session.id),
            "is_anonymous": user.is_anonymous,
            "jti": new_id(),
            **confirmation(session.bound_to),
        }


def _method(session: Session) -> str:
    """How the person proved themselves last, as `amr` names it."""
    return str(session.amr[0].get("method", "")) if session.amr else ""
