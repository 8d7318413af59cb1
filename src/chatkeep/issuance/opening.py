"""Open the server's own issuer from its settings and its secret."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from chatkeep.audit import Notices
from chatkeep.issuance.issuer import EmbeddedIssuer
from chatkeep.issuance.supabase_keys import SupabaseKeys
from chatkeep.issuers import embedded_issuer
from chatkeep.mail import outgoing_mail
from chatkeep.one_time_tokens import OneTimeTokens
from chatkeep.passwords import Passwords
from chatkeep.revocations import Revocations
from chatkeep.server_secrets import derived_key
from chatkeep.sessions import records as sessions
from chatkeep.sessions.refresh_tokens import RefreshTokens
from chatkeep.signing_keys import open_ring
from chatkeep.token_hook import open_hook

if TYPE_CHECKING:
    from chatkeep.config import Settings
    from chatkeep.db import Database


async def open_issuer(
    db: Database, settings: Settings, secret: bytes, *, primary: bool
) -> EmbeddedIssuer:
    """Return the server's own issuer, with its signing key made if this is the first start.

    *secret* is the server's, the same on every node. *primary*: whether its people's ids
    stand bare (see `issuers`).

    Raises:
        SetupError: the database was used with another secret.
    """
    keys = await open_ring(db, secret)
    revocations = Revocations(db)
    await revocations.catch_up()
    issuer = embedded_issuer(
        base_url=settings.base_url,
        keys=keys.published,
        shared=keys.shared,
        primary=primary,
    )
    hook = await open_hook(db, settings, refused_roles=issuer.rules.refused_roles)
    return EmbeddedIssuer(
        db=db,
        issuer=issuer,
        token_hook=hook,
        signing_keys=keys,
        supabase_keys=SupabaseKeys.of(secret),
        refresh_tokens=RefreshTokens(secret),
        passwords=Passwords(),
        revocations=revocations,
        notices=Notices(db),
        outgoing=outgoing_mail(settings, secret),
        one_time_tokens=OneTimeTokens(secret, timedelta(seconds=settings.one_time_token_life_s)),
        derived=partial(derived_key, secret),
        mfa_required=settings.mfa_required,
        admin_roles=frozenset(settings.admin_roles),
        sign_up_open=settings.sign_up,
        access_token_life_s=settings.access_token_expiry_s,
        bounds=sessions.Bounds(
            idle=timedelta(milliseconds=settings.refresh_token_expiry_ms),
            lifetime=timedelta(seconds=settings.session_lifetime_s),
            at_most=settings.sessions_per_user,
        ),
    )
