"""The keys with which we sign our own access tokens.

Made on first start, kept in `chatkeep.signing_keys`, the private part encrypted under a
key that comes from the server's secret: a dump of the database signs nothing. However
many nodes start at once, one key is made. The table's `status` says what each is for:
`current` signs; `standby` and `previous` are published so that verifiers know them before
and after; `revoked` is neither.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import ECKey

from chatkeep import tokens
from chatkeep.db import AUTH
from chatkeep.errors import SetupError
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.db import Database

ALGORITHM: Final = "ES256"
_CURVE: Final = "P-256"
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """All keys of this issuer: one that signs, and the published set that verifies.

    *jwks* is the JSON of `/.well-known/jwks.json`; it has no private member.
    """

    current: ECKey = field(repr=False)
    verifying: tokens.KeySet = field(repr=False)
    jwks: bytes


@dataclass(frozen=True, slots=True)
class _Row:
    kid: str
    algorithm: str
    public_jwk: dict[str, Any]
    private_key: bytes
    status: str
    created_at: datetime


async def load_signing_keys(db: Database, secret: bytes) -> SigningKeys:
    """Return the keys in *db*, of which the first is made here when there are none.

    Raises:
        SetupError: the private key was encrypted under another secret.
    """
    encryption = AESGCM(derived_key(secret, "signing keys"))
    rows = await _stored(db)
    if not any(row.status == "current" for row in rows):
        await _make(db, encryption)
        rows = await _stored(db)
    (current,) = (row for row in rows if row.status == "current")
    jwks = msgspec.json.encode({"keys": [row.public_jwk for row in rows]})
    return SigningKeys(
        current=_opened(current, encryption),
        verifying=tokens.read_key_set(jwks, algorithms=(ALGORITHM,)).keys,
        jwks=jwks,
    )


async def _stored(db: Database) -> list[_Row]:
    return await db.fetch(
        AUTH,
        "select kid, algorithm, public_jwk, private_key, status, created_at"
        " from chatkeep.signing_keys where status <> 'revoked'"
        " order by status = 'current' desc, created_at desc",
        (),
        row=_Row,
    )


async def _make(db: Database, encryption: AESGCM) -> None:
    """Store a new current key, unless another node has just done so."""
    key = ECKey.generate_key(_CURVE)
    kid = key.thumbprint()  # RFC 7638
    public = {**key.as_dict(private=False), "kid": kid, "alg": ALGORITHM, "use": "sig"}
    public["key_ops"] = ["verify"]
    await db.execute(
        AUTH,
        "insert into chatkeep.signing_keys (kid, algorithm, public_jwk, private_key, status)"
        " values (%s, %s, %s::jsonb, %s, 'current')"
        " on conflict (status) where status = 'current' do nothing",
        (kid, ALGORITHM, msgspec.json.encode(public).decode(), _sealed(key, kid, encryption)),
    )


def _sealed(key: ECKey, kid: str, encryption: AESGCM) -> bytes:
    """The private part, encrypted; bound to its *kid*, so that rows cannot be swapped."""
    nonce = os.urandom(_NONCE_BYTES)
    private = key.as_der(private=True)
    return nonce + encryption.encrypt(nonce, private, kid.encode())


def _opened(row: _Row, encryption: AESGCM) -> ECKey:
    nonce, sealed = row.private_key[:_NONCE_BYTES], row.private_key[_NONCE_BYTES:]
    try:
        private = encryption.decrypt(nonce, sealed, row.kid.encode())
    except InvalidTag as error:
        raise SetupError(
            "The signing key in the database was encrypted under another secret. Set"
            " CHATKEEP_SECRET to the one it was made with (without CHATKEEP_SECRET it is in the"
            " data folder)."
        ) from error
    return ECKey.import_key(private, {"kid": row.kid, "alg": row.algorithm, "use": "sig"})
