"""Our own issuer at work: who signs up or in gets tokens, and loses them again.

Ties accounts, passwords, sessions and signing keys together; each of them is in its own
module. Nothing here knows HTTP or the shape of an answer. A password is checked before
anything is said about the account it is for, and takes as long when there is none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chatkeep import accounts, passwords, sessions, tokens
from chatkeep.api_keys import ApiKeys
from chatkeep.db import AUTH, ConstraintViolated
from chatkeep.errors import (
    EmailAddressInvalid,
    EmailExists,
    InvalidCredentials,
    RefreshTokenReused,
    SamePassword,
    SessionNotFound,
    SignUpDisabled,
    TokenInvalid,
    UserAlreadyExists,
    UserBanned,
    UserNotFound,
)
from chatkeep.ids import new_id
from chatkeep.issuers import StaticKeys, embedded_issuer
from chatkeep.passwords import Passwords
from chatkeep.refresh_tokens import RefreshToken, RefreshTokens
from chatkeep.revocations import Revocations
from chatkeep.signing_keys import SigningKeys, load_signing_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.accounts import Change, Credential, User
    from chatkeep.config import Settings
    from chatkeep.db import Database, Query
    from chatkeep.devices import Device
    from chatkeep.issuers import Issuer
    from chatkeep.principal import Principal
    from chatkeep.sessions import Scope, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Tokens for a session. *again*: the refresh token had been given before."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    expires_at: int
    user: User
    session_id: UUID
    counter: int
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A person, on one signed-in device."""

    user: User
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants to be otherwise, as they typed it; None leaves it as it is."""

    email: str | None = None
    password: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = None


async def open_issuer(
    db: Database, settings: Settings, secret: bytes, *, primary: bool
) -> EmbeddedIssuer:
    """Return the server's own issuer, with its signing key made if this is the first start.

    *secret* is the server's, the same on every node. *primary*: whether its people's ids
    stand bare (see `issuers`).

    Raises:
        SetupError: the database was used with another secret.
    """
    keys = await load_signing_keys(db, secret)
    revocations = Revocations(db)
    await revocations.catch_up()
    issuer = embedded_issuer(
        base_url=settings.base_url, keys=StaticKeys(keys.verifying), primary=primary
    )
    return EmbeddedIssuer(
        db=db,
        issuer=issuer,
        signing_keys=keys,
        api_keys=ApiKeys.of(secret),
        refresh_tokens=RefreshTokens(secret),
        passwords=Passwords(),
        revocations=revocations,
        sign_up_open=settings.sign_up,
        access_token_life_s=settings.access_token_expiry_s,
        bounds=sessions.Bounds(
            idle=timedelta(milliseconds=settings.refresh_token_expiry_ms),
            lifetime=timedelta(seconds=settings.session_lifetime_s),
            at_most=settings.sessions_per_user,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedIssuer:
    """The issuer that this server is. One per process; `close` it at the end.

    *issuer* is its entry for the table of issuers.
    """

    db: Database
    issuer: Issuer
    signing_keys: SigningKeys
    api_keys: ApiKeys
    refresh_tokens: RefreshTokens
    passwords: Passwords
    revocations: Revocations
    sign_up_open: bool
    access_token_life_s: int
    bounds: sessions.Bounds

    def close(self) -> None:
        """Let go of the threads that check passwords."""
        self.passwords.close()

    async def sign_up(self, wish: Wish, device: Device) -> Grant:
        """Make an account and sign in; the address counts as confirmed, no mail is sent.

        Raises:
            SignUpDisabled, EmailAddressInvalid, WeakPassword, Invalid, UserAlreadyExists.
        """
        if not self.sign_up_open:
            raise SignUpDisabled
        passwords.require_acceptable(wish.password or "")
        email = accounts.normal_address(wish.email or "")
        metadata = accounts.storable(wish.metadata or {})
        # Hashed before anybody looks whether the address is taken: both take as long.
        stored = await self.passwords.hash(wish.password or "")
        user_id = UUID(new_id())
        creation = accounts.creation(user_id, email=email, password_hash=stored, metadata=metadata)
        try:
            *_, opened, users = await self.db.fetch_all(
                AUTH,
                *creation,
                self._opening(user_id, stored, device),
                accounts.by_id(user_id),
            )
        except ConstraintViolated as error:
            if error.name == accounts.ADDRESS_TAKEN:
                raise UserAlreadyExists from error
            raise
        return self._grant(users[0], opened[0])

    async def sign_in(self, email: str, password: str, device: Device) -> Grant:
        """Begin a session.

        Raises:
            InvalidCredentials: no such person, or another password, or none.
            UserBanned: the password is right, and the account is suspended.
        """
        credential = await self._credential(email)
        stored = credential.password_hash if credential else None
        matches = await self.passwords.matches(password, stored)
        if not matches or credential is None or stored is None:
            raise InvalidCredentials
        outdated = self.passwords.is_outdated(stored)
        renewed = await self.passwords.hash(password) if outdated else None
        user_id = self.issuer.user_id(str(credential.id))
        _, opened, beyond, users = await self.db.fetch_all(
            AUTH,
            accounts.sign_in(credential, new_hash=renewed),
            self._opening(credential.id, renewed or stored, device),
            sessions.beyond(user_id, self.bounds),
            accounts.by_id(credential.id),
        )
        self.revocations.ended(one.id for one in beyond)
        if users and users[0].is_banned:
            raise UserBanned
        if not opened:  # the password was changed while we looked at it
            raise InvalidCredentials
        return self._grant(users[0], opened[0])

    async def refresh(self, refresh_token: str, device: Device) -> Grant:
        """Exchange a refresh token; the rules are those of `chatkeep.sessions`.

        Raises:
            RefreshTokenNotFound, RefreshTokenReused, SessionExpired, UserBanned, Invalid,
            Unavailable.
        """
        shown = self.refresh_tokens.read(refresh_token)
        try:
            rotated = await sessions.rotate_session(self.db, shown, device, self.bounds)
        except RefreshTokenReused:
            self.revocations.ended([shown.session_id])
            raise
        if rotated.user.is_banned:
            raise UserBanned
        return self._grant(rotated.user, rotated.session, rotated.successor, again=rotated.again)

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
        if not found or not found[0].usable or found[0].user_id != principal.user_id:
            raise SessionNotFound
        here = Here(user=users[0], session=found[0])
        if here.user.is_banned:
            raise UserBanned
        if here.session.last_activity_at < datetime.now(UTC) - sessions.ACTIVITY_EVERY:
            await sessions.note_activity(self.db, here.session.id)
        return here

    async def update(self, here: Here, wish: Wish) -> User:
        """Change the person's address, password or metadata; return them as they are now.

        A new password ends all their other sessions.

        Raises:
            EmailAddressInvalid, EmailExists, WeakPassword, SamePassword, Invalid.
            SessionNotFound: the session was ended meanwhile.
        """
        change = await self._change(here.user, wish)
        ended: list[UUID] = []
        try:
            async with self.db.acting_as(AUTH) as connection:
                await accounts.change_user(connection, here.user.id, change)
                # Asked under the lock on the account: whoever's session a change of the
                # password has just ended must not change it back.
                if not await sessions.still_active(connection, here.session):
                    raise SessionNotFound
                if change.password_hash is not None:
                    ended = await sessions.end_others(
                        connection, here.session, reason="password_changed"
                    )
        except ConstraintViolated as error:
            if error.name == accounts.ADDRESS_TAKEN:
                raise EmailExists from error
            raise
        self.revocations.ended(ended)
        return await accounts.get_user(self.db, here.user.id)

    async def sign_out(self, here: Here, scope: Scope) -> None:
        """End this session, the person's others, or all: at once and everywhere."""
        self.revocations.ended(await sessions.end_sessions(self.db, here.session, scope))

    async def _credential(self, email: str) -> Credential | None:
        try:
            return await accounts.find_credential(self.db, accounts.normal_address(email))
        except EmailAddressInvalid:
            return None  # nobody has an address that is none

    async def _change(self, user: User, wish: Wish) -> Change:
        email = accounts.normal_address(wish.email) if wish.email else None
        return accounts.Change(
            email=None if email == user.email else email,
            password_hash=await self._new_hash(user, wish.password) if wish.password else None,
            metadata=wish.metadata,
        )

    async def _new_hash(self, user: User, password: str) -> str:
        passwords.require_acceptable(password)
        credential = await accounts.get_credential(self.db, user.id)
        if await self.passwords.matches(password, credential.password_hash):
            raise SamePassword
        return await self.passwords.hash(password)

    def _opening(self, subject: UUID, password_hash: str, device: Device) -> Query[Session]:
        return sessions.opening(
            UUID(new_id()),
            user_id=self.issuer.user_id(str(subject)),
            subject=subject,
            password_hash=password_hash,
            device=device,
            bounds=self.bounds,
        )

    def _grant(
        self,
        user: User,
        session: Session,
        refresh_token: RefreshToken | None = None,
        *,
        again: bool = False,
    ) -> Grant:
        successor = refresh_token or RefreshToken(
            session_id=session.id, counter=session.refresh_counter
        )
        now = int(time.time())
        expires_at = min(now + self.access_token_life_s, int(session.expires_at.timestamp()))
        claims = self._claims(user, session) | {"iat": now, "exp": expires_at}
        return Grant(
            access_token=tokens.issue(claims, self.signing_keys.current),
            refresh_token=self.refresh_tokens.write(successor),
            expires_in=expires_at - now,
            expires_at=expires_at,
            user=user,
            session_id=session.id,
            counter=successor.counter,
            again=again,
        )

    def _claims(self, user: User, session: Session) -> dict[str, object]:
        return {
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
        }
