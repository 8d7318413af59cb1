"""Limits: how often something may be done, by an address, a person, or at an account.

`Limits.spend(kind, key)` counts by whatever the key names; `Attempts` counts at an account
without letting strangers lock out whose account it is. Nothing here knows HTTP.
"""

from chatkeep.limits.attempts import Attempt, AttemptKind, Attempts
from chatkeep.limits.limiting import Limits
from chatkeep.limits.rates import AT_ONCE, RATES, Rate
from chatkeep.limits.shared import SharedCounts

__all__ = [
    "AT_ONCE",
    "RATES",
    "Attempt",
    "AttemptKind",
    "Attempts",
    "Limits",
    "Rate",
    "SharedCounts",
]
