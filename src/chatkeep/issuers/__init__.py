"""Who signs the tokens we take: `Issuers` is the table, `Issuer` one entry of it.

The order of a table says nothing; a token's `iss` chooses its entry, and only that
entry's keys are tried. See `docs/explanation/tokens.md`.
"""

from chatkeep.issuers.issuer import (
    ClaimNames,
    Endpoints,
    Issuer,
    KeySource,
    Preset,
    StaticKeys,
    shown_text,
)
from chatkeep.issuers.logout_tokens import LogoutToken, RelyingParty, relying_party_of
from chatkeep.issuers.presets import (
    ROLES_OF_SERVERS,
    SUPABASE_ALGORITHMS,
    better_auth_api,
    better_auth_issuer,
    check_shared_secret,
    embedded_issuer,
    openid_issuer,
    supabase_issuer,
)
from chatkeep.issuers.table import Issuers

__all__ = [
    "ROLES_OF_SERVERS",
    "SUPABASE_ALGORITHMS",
    "ClaimNames",
    "Endpoints",
    "Issuer",
    "Issuers",
    "KeySource",
    "LogoutToken",
    "Preset",
    "RelyingParty",
    "StaticKeys",
    "better_auth_api",
    "better_auth_issuer",
    "check_shared_secret",
    "embedded_issuer",
    "openid_issuer",
    "relying_party_of",
    "shown_text",
    "supabase_issuer",
]
