"""The rules by which an identity at a provider signs in to an account, old or new.

An identity is an issuer and a subject there, nothing else; an address never is. An address is
looked at once, when an identity is new here:

- without an address, an account without one is made;
- an address that the provider has not verified makes nothing;
- a verified address that nobody has makes an account;
- one that an account has *and has proved* links the identity to that account;
- one of an account that nobody has confirmed it for and nobody ever signed in to makes that
  account this person's, and whatever somebody left in it is thrown away;
- else somebody may be living there who only typed the address: nothing is linked, and its
  person has to prove the address or to link the identity themselves.

Each decision is made under a lock on the account it depends on, in one transaction with its
effect. The account's row is always held before its identities: two sign-ins cannot wait for
each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from chatkeep import accounts, audit, shown_tokens
from chatkeep.db import AUTH, ConstraintViolated, Query, run_within
from chatkeep.errors import (
    BadIdToken,
    EmailConflictIdentityNotDeletable,
    EmailExists,
    IdentityAlreadyExists,
    IdentityNotFound,
    ProviderEmailNeedsVerification,
    SignUpDisabled,
    SingleIdentityNotDeletable,
    Unavailable,
    UserBanned,
)
from chatkeep.ids import new_id
from chatkeep.mail import Mail, queued
from chatkeep.providers import identities

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.issuance import EmbeddedIssuer, Here
    from chatkeep.providers.flows import Linking
    from chatkeep.providers.identities import Held
    from chatkeep.providers.proofs import Proof, Shown

_RACED: Final = frozenset({identities.TAKEN, accounts.ADDRESS_TAKEN})


async def account_of(issuer: EmbeddedIssuer, proof: Proof) -> UUID:
    """Return whose account *proof* opens, made or linked if need be.

    Raises:
        SignUpDisabled: there is no such account, and none may be made.
        UserBanned: there is, and it is suspended.
        ProviderEmailNeedsVerification, EmailExists: by the rules above.
    """
    try:
        return await _settle(issuer, proof)
    except ConstraintViolated as error:
        if error.name not in _RACED:
            raise
        return await _settle(issuer, proof)  # somebody came first, and is found now


async def link(issuer: EmbeddedIssuer, proof: Proof, linking: Linking) -> UUID:
    """Link *proof*'s identity to the account whose owner asked for it; return whose it is.

    Raises:
        SessionNotFound: the session they asked in has ended.
        IdentityAlreadyExists: it is linked, to this account or another one.
        EmailExists: another account got its address at this very moment.
    """
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            held = await identities.hold(connection, linking.user_id)
            person = issuer.user_id_of(held.id)
            await identities.require_session(connection, person, linking.session_id)
            known = await identities.find_known(connection, proof)
            if known is not None and known.user_id != held.id:
                raise IdentityAlreadyExists("Identity is already linked to another user")
            if known is not None:
                raise IdentityAlreadyExists
            await identities.settle_address(connection, held, proof)
            await _add(issuer, connection, held, proof, reason="manual")
    except ConstraintViolated as error:
        if error.name == identities.TAKEN:
            raise IdentityAlreadyExists from error
        if error.name == accounts.ADDRESS_TAKEN:  # free a moment ago, see `settle_address`
            raise EmailExists from error
        raise
    return linking.user_id


async def unlink(issuer: EmbeddedIssuer, here: Here, identity_id: UUID) -> None:
    """Take an identity from the caller's account (see `identities.removal`).

    Raises:
        SingleIdentityNotDeletable: it is the last.
        IdentityNotFound: they have no such identity.
        EmailConflictIdentityNotDeletable: see the error.
    """
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            held = await identities.hold(connection, here.user.id)
            mine = await identities.list_held(connection, here.user.id)
            gone = next((one for one in mine if one.id == identity_id), None)
            if gone is None:
                raise IdentityNotFound
            if len(mine) == 1:
                raise SingleIdentityNotDeletable
            rest = [one for one in mine if one.id != identity_id]
            note = _noted(issuer, "identity.unlinked", held.id, gone.provider)
            await run_within(connection, *identities.removal(held, gone, rest), note)
    except ConstraintViolated as error:
        if error.name == accounts.ADDRESS_TAKEN:
            raise EmailConflictIdentityNotDeletable from error
        raise


async def note_shown(issuer: EmbeddedIssuer, shown: Shown) -> None:
    """Remember an ID token until it expires, so that it is good once.

    Raises:
        BadIdToken: it has been shown before.
    """
    if not await shown_tokens.note_shown(issuer.db, shown.token_hash, shown.expires_at):
        raise BadIdToken("This ID token has been used already")


async def _settle(issuer: EmbeddedIssuer, proof: Proof) -> UUID:
    async with issuer.db.acting_as(AUTH) as connection:
        known = await identities.find_known(connection, proof)
        if known is not None:
            await _hold(connection, known.user_id)
            if await identities.find_known(connection, proof) != known:
                raise Unavailable  # unlinked, or linked elsewhere, at this very moment
            noted = identities.noting(known, proof)
            await run_within(connection, noted, identities.signed_in(known.user_id))
            return known.user_id
        if proof.email is None:
            return await _make(issuer, connection, proof)
        if not proof.email_verified:
            raise ProviderEmailNeedsVerification
        return await _settle_by_address(issuer, connection, proof, proof.email)


async def _settle_by_address(
    issuer: EmbeddedIssuer, connection: AsyncConnection, proof: Proof, email: str
) -> UUID:
    owner = await identities.find_owner(connection, email, people=issuer.issuer.user_id(""))
    if owner is None:
        return await _make(issuer, connection, proof)
    if owner.is_untouched and not owner.is_proven:
        await run_within(connection, *identities.emptying(owner.id))
    elif not owner.is_proven:
        raise EmailExists(
            "An account has this email address, and nobody has confirmed that it is theirs:"
            " sign in to it another way, and link this provider there"
        )
    reason = "verified_email" if owner.is_proven else "unconfirmed_account"
    held = await _hold(connection, owner.id)
    await _add(issuer, connection, held, proof, reason=reason)
    await run_within(connection, identities.signed_in(owner.id))
    return owner.id


async def _hold(connection: AsyncConnection, user_id: UUID) -> Held:
    """Return the account, held, which is not suspended: such a one stays as it is.

    Raises:
        UserBanned: it is.
    """
    held = await identities.hold(connection, user_id)
    if held.is_banned:
        raise UserBanned
    return held


async def _make(issuer: EmbeddedIssuer, connection: AsyncConnection, proof: Proof) -> UUID:
    if not issuer.sign_up_open:
        raise SignUpDisabled
    user_id = UUID(new_id())
    note = _noted(issuer, "user.created", user_id, proof.provider)
    await run_within(connection, *identities.creation(user_id, proof), note)
    return user_id


async def _add(
    issuer: EmbeddedIssuer, connection: AsyncConnection, held: Held, proof: Proof, *, reason: str
) -> None:
    """Link the identity, and tell the account's owner where they read their mail."""
    await run_within(
        connection,
        identities.adding(held.id, proof),
        identities.listing_providers(held.id),
        _noted(issuer, "identity.linked", held.id, proof.provider, reason=reason),
        *([_notice(issuer, held.email, held.id, proof)] if held.email else []),
    )


def _noted(
    issuer: EmbeddedIssuer, action: str, user_id: UUID, provider: str, *, reason: str | None = None
) -> Query[Any]:
    return audit.entry(
        action,
        reason=reason,
        user_id=issuer.user_id_of(user_id),
        issuer=issuer.issuer.name,
        details={"method": "oauth", "provider": provider},
    )


def _notice(issuer: EmbeddedIssuer, email: str, user_id: UUID, proof: Proof) -> Query[Any]:
    mail = Mail(
        kind="identity_linked",
        to=email,
        user_id=issuer.user_id_of(user_id),
        provider=proof.title,
    )
    return queued(mail, issuer.outgoing)
