"""Who signs the tokens we take: `Issuers` is the table, `Issuer` one entry of it.

The order of a table says nothing; a token's `iss` chooses its entry, and only that
entry's keys are tried. See `docs/explanation/tokens.md`.
"""

from chatkeep.issuers.issuer import ClaimNames, Issuer, KeySource, Preset, StaticKeys
from chatkeep.issuers.presets import check_shared_secret, embedded_issuer, supabase_issuer
from chatkeep.issuers.table import Issuers

__all__ = [
    "ClaimNames",
    "Issuer",
    "Issuers",
    "KeySource",
    "Preset",
    "StaticKeys",
    "check_shared_secret",
    "embedded_issuer",
    "supabase_issuer",
]
