"""Our JOSE policy: `verify` who signed a token and what it says, `issue` our own.

Pure: no clock, no network, no database. The order in which a token is looked at is the
defence: length, alphabet, header, the one key for it, signature, claims. See
`docs/explanation/tokens.md`.
"""

from chatkeep.tokens.algorithms import (
    ASYMMETRIC_ALGORITHMS,
    ED25519_NAMES,
    HMAC_ALGORITHMS,
    Key,
    public_key,
    secret_key,
)
from chatkeep.tokens.claims import (
    ACCESS_TOKEN_TYPES,
    LAST_MOMENT,
    MAX_IDENTIFIER_LENGTH,
    Rules,
    check,
    is_identifier,
    verify,
)
from chatkeep.tokens.compact import MAX_TOKEN_LENGTH, Header, Unverified, read, token_bytes
from chatkeep.tokens.keys import KeySet, PublishedKeys, read_key, read_key_set
from chatkeep.tokens.signing import issue

__all__ = [
    "ACCESS_TOKEN_TYPES",
    "ASYMMETRIC_ALGORITHMS",
    "ED25519_NAMES",
    "HMAC_ALGORITHMS",
    "LAST_MOMENT",
    "MAX_IDENTIFIER_LENGTH",
    "MAX_TOKEN_LENGTH",
    "Header",
    "Key",
    "KeySet",
    "PublishedKeys",
    "Rules",
    "Unverified",
    "check",
    "is_identifier",
    "issue",
    "public_key",
    "read",
    "read_key",
    "read_key_set",
    "secret_key",
    "token_bytes",
    "verify",
]
