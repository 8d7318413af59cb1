"""Authorization codes: the end of a PKCE flow, in which a browser carries no tokens.

Whoever proved who they are in a browser is sent back to the application with a code; the
application exchanges it, once and soon, and only with the verifier whose challenge the flow
began with (RFC 7636), so that a code seen on the way is worth nothing. The database keeps
a hash of it. How somebody proved who they are is not decided here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chatkeep.batches import in_turns
from chatkeep.db import AUTH, Query, run_within
from chatkeep.errors import BadCodeVerifier, FlowStateExpired, FlowStateNotFound
from chatkeep.issuance import ProviderTokens
from chatkeep.sessions.provider_sessions import ProviderSession, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.db import Database
    from chatkeep.devices import Device
    from chatkeep.issuance import EmbeddedIssuer, Grant
    from chatkeep.one_time_tokens import Challenge, ChallengeMethod

LIFE: Final = timedelta(seconds=300)
_CODE_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # NIST SP 800-38D section 8.2
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    user_id: UUID
    proof: str
    code_challenge: str
    code_challenge_method: ChallengeMethod
    provider_tokens: bytes | None = field(repr=False)
    provider_issuer: str | None
    provider_subject: str | None
    provider_session: str | None
    provider_issued_at: datetime | None
    expired: bool

    @property
    def begun_with(self) -> ProviderSession | None:
        """The session at a provider that the flow came from."""
        issuer, subject = self.provider_issuer, self.provider_subject
        if issuer is None or subject is None or self.provider_issued_at is None:
            return None
        return ProviderSession(
            issuer=issuer,
            subject=subject,
            name=self.provider_session,
            issued_at=self.provider_issued_at,
        )


@dataclass(frozen=True, slots=True)
class _Touched:
    user_id: UUID


async def issue(
    issuer: EmbeddedIssuer,
    subject: UUID,
    proof: str,
    challenge: Challenge,
    *,
    first: Sequence[Query[Any]] = (),
    provider_tokens: ProviderTokens | None = None,
    begun_with: ProviderSession | None = None,
) -> str:
    """Return a code for *subject*, who has proved who they are by *proof* (see `begin`).

    *first* are statements that belong into the same transaction; they come before.
    """
    code, kept = issuing(
        issuer,
        subject,
        proof,
        challenge,
        provider_tokens=provider_tokens,
        begun_with=begun_with,
    )
    await issuer.db.fetch_all(AUTH, *first, kept)
    return code


def issuing(
    issuer: EmbeddedIssuer,
    subject: UUID,
    proof: str,
    challenge: Challenge,
    *,
    provider_tokens: ProviderTokens | None = None,
    begun_with: ProviderSession | None = None,
) -> tuple[str, Query[Any]]:
    """Return a code as `issue` does, and the statement that keeps it."""
    code = secrets.token_urlsafe(_CODE_BYTES)
    sealed = _sealed(_key(issuer), code, provider_tokens) if provider_tokens else None
    return code, Query(
        "insert into chatkeep.authorization_codes (user_id, code_hash, proof, code_challenge,"
        " code_challenge_method, provider_tokens, expires_at, provider_issuer,"
        " provider_subject, provider_session, provider_issued_at)"
        " values (%s, %s, %s, %s, %s, %s, now() + %s, %s, %s, %s, %s) returning user_id",
        (
            *(subject, _hash_of(code), proof, challenge.text, challenge.method, sealed, LIFE),
            *columns_of(begun_with),
        ),
        _Touched,
    )


async def redeem(issuer: EmbeddedIssuer, code: str, verifier: str, device: Device) -> Grant:
    """Exchange *code* for a session. Whatever comes of it, the code is used up.

    Raises:
        FlowStateNotFound: there is no such code, or it has been used.
        FlowStateExpired: it is too old.
        BadCodeVerifier: the flow was begun by somebody else.
        UserBanned, InvalidCredentials: see `EmbeddedIssuer.begin`.
    """
    rows: list[list[Any]] = []
    async with issuer.db.acting_as(AUTH) as connection:
        kept = await _taken(connection, code)
        refusal = _refusal(kept, verifier)
        if refusal is None:
            beginning = issuer.beginning(
                kept.user_id, kept.proof, device, begun_with=kept.begun_with
            )
            rows = await run_within(connection, *beginning)
    if refusal is not None:  # after the transaction: a wrong try has used the code up
        raise refusal
    grant = await issuer.begun(*rows)
    if kept.provider_tokens is None:
        return grant
    return replace(grant, provider_tokens=_opened(_key(issuer), code, kept.provider_tokens))


async def _taken(connection: AsyncConnection, code: str) -> _Kept:
    _, found = await run_within(
        connection,
        # The account first, see `accounts.holding`.
        Query(
            "select u.id as user_id from chatkeep.users u"
            " join chatkeep.authorization_codes c on c.user_id = u.id"
            " where c.code_hash = %s for update of u",
            (_hash_of(code),),
            _Touched,
        ),
        Query(
            "delete from chatkeep.authorization_codes where code_hash = %s returning user_id,"
            " proof, code_challenge, code_challenge_method, provider_tokens,"
            " provider_issuer, provider_subject, provider_session, provider_issued_at,"
            " expires_at <= now() as expired",
            (_hash_of(code),),
            _Kept,
        ),
    )
    if not found:
        raise FlowStateNotFound
    kept: _Kept = found[0]
    return kept


def _refusal(kept: _Kept, verifier: str) -> FlowStateExpired | BadCodeVerifier | None:
    if kept.expired:
        return FlowStateExpired()
    return None if _fits(kept, verifier) else BadCodeVerifier()


def _fits(kept: _Kept, verifier: str) -> bool:
    """Whether *verifier* is the one of the challenge (RFC 7636 section 4.6)."""
    shown = verifier[:_LONGEST].encode("utf-8", "surrogatepass")
    if kept.code_challenge_method == "s256":
        shown = urlsafe_b64encode(hashlib.sha256(shown).digest()).rstrip(b"=")
    return hmac.compare_digest(shown, kept.code_challenge.encode())


def dropping(user_id: UUID) -> Query[Any]:
    """Return the statement that makes every code of a person worthless."""
    return Query(
        "delete from chatkeep.authorization_codes where user_id = %s returning user_id",
        (user_id,),
        _Touched,
    )


async def sweep(db: Database) -> None:
    """Forget what has expired."""
    await in_turns(
        lambda at_most: db.execute(
            AUTH,
            "with few as materialized (select user_id, code_hash"
            "  from chatkeep.authorization_codes where expires_at <= now()"
            "  limit %s for update skip locked)"
            " delete from chatkeep.authorization_codes a using few"
            " where (a.user_id, a.code_hash) = (few.user_id, few.code_hash)",
            (at_most,),
        )
    )


def _hash_of(code: str) -> bytes:
    return hashlib.sha256(code[:_LONGEST].encode("utf-8", "surrogatepass")).digest()


def _key(issuer: EmbeddedIssuer) -> bytes:
    return issuer.derived("provider tokens of a flow")


def _sealed(key: bytes, code: str, provider_tokens: ProviderTokens) -> bytes:
    """The tokens, encrypted; bound to the code, so that rows cannot be swapped."""
    nonce = os.urandom(_NONCE_BYTES)
    plain = msgspec.json.encode(provider_tokens)
    return nonce + AESGCM(key).encrypt(nonce, plain, _hash_of(code))


def _opened(key: bytes, code: str, sealed: bytes) -> ProviderTokens:
    nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    plain = AESGCM(key).decrypt(nonce, content, _hash_of(code))
    return msgspec.json.decode(plain, type=ProviderTokens)
