"""The claims of a small shop, as its first and its second release declare them."""

from __future__ import annotations

from chatkeep.claims import Claim, ClaimVersion, ClaimVersions, computed, default, from_database

_FIRST = ClaimVersion(
    1,
    added=(
        Claim("userId"),
        Claim("email"),
        Claim("role", fill=default("user")),
        Claim("metadata", fill=default({})),
    ),
)
_SECOND = ClaimVersion(
    2,
    added=(
        Claim("companyId", fill=from_database()),
        Claim("role", fill=from_database(otherwise="user")),
        Claim("permissions", fill=from_database(otherwise=[])),
        Claim("isStaff", bool, fill=computed(lambda said: said["role"] == "staff")),
    ),
)
_THIRD = ClaimVersion(3, added=(Claim("plan", fill=default("free")),))

first = ClaimVersions((_FIRST,))
second = ClaimVersions((_FIRST, _SECOND))
third = ClaimVersions((_FIRST, _SECOND, _THIRD))
