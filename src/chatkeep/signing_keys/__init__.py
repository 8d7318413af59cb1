"""The keys with which we sign our own access tokens and session cookies.

Made on first start, kept in `chatkeep.signing_keys`, the private part encrypted under a
key that comes from the server's secret: a dump of the database signs nothing. However
many nodes start at once, one key is made. The table's `status` says what each is for:
`current` signs; `standby` and `previous` are published so that verifiers know them before
and after; `revoked` is neither. `KeyRing` is what a running server goes by; `changes` is
how keys take turns.
"""

from chatkeep.signing_keys.ring import KeyRing, open_ring
from chatkeep.signing_keys.stored import (
    ALGORITHM,
    KEPT,
    SIGNING_ALGORITHMS,
    SigningKeys,
    load_signing_keys,
)

__all__ = [
    "ALGORITHM",
    "KEPT",
    "SIGNING_ALGORITHMS",
    "KeyRing",
    "SigningKeys",
    "load_signing_keys",
    "open_ring",
]
