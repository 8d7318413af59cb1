"""Claims that change: what a session token says, in every version that is still about.

Declare the versions in one place (`ClaimVersions`); tokens of older shapes are upgraded in
memory on the way in (`Upgrades`), what that costs is counted (`ClaimCounts`), and secrets
never get into a token (`require_harmless`). See `docs/explanation/claims-that-change.md`.
"""

from chatkeep.claims.counts import ClaimCounts, ClaimDrain, Drain, VersionDrain, read_drain
from chatkeep.claims.declared import (
    Claim,
    ClaimVersion,
    ClaimVersions,
    Source,
    computed,
    default,
    from_database,
)
from chatkeep.claims.harmless import require_harmless
from chatkeep.claims.loading import declared_versions, load_versions
from chatkeep.claims.lookups import Lookups
from chatkeep.claims.standard import STANDARD, accounts_source
from chatkeep.claims.upgrades import Upgrades

__all__ = [
    "STANDARD",
    "Claim",
    "ClaimCounts",
    "ClaimDrain",
    "ClaimVersion",
    "ClaimVersions",
    "Drain",
    "Lookups",
    "Source",
    "Upgrades",
    "VersionDrain",
    "accounts_source",
    "computed",
    "declared_versions",
    "default",
    "from_database",
    "load_versions",
    "read_drain",
    "require_harmless",
]
