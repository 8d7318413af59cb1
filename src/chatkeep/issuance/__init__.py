"""Our own issuer at work: whoever proved who they are gets tokens, and loses them again.

Ties accounts, sessions and signing keys together; each of them is in its own module. How
somebody proves who they are is not here: the ways to do it call `EmbeddedIssuer.begin`.
Nothing here knows HTTP or the shape of an answer.
"""

from chatkeep.issuance.grants import Grant, Here, ProviderTokens
from chatkeep.issuance.issuer import WEAK_TOKEN_LIFE_S, EmbeddedIssuer
from chatkeep.issuance.opening import open_issuer

__all__ = [
    "WEAK_TOKEN_LIFE_S",
    "EmbeddedIssuer",
    "Grant",
    "Here",
    "ProviderTokens",
    "open_issuer",
]
