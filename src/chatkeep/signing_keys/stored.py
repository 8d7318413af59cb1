"""The keys as they are kept: the rows, and the private parts that only the secret opens."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import ECKey, OKPKey, RSAKey

from chatkeep import tokens
from chatkeep.db import AUTH, Query
from chatkeep.errors import SetupError
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from joserfc.jwk import KeyParameters

    from chatkeep.db import Database

#: What the keys that are made here sign with, and what those that were imported may.
ALGORITHM: Final = "ES256"
SIGNING_ALGORITHMS: Final = ("ES256", "RS256", "EdDSA")
#: Of the secret that a former issuer signed with; it verifies and never signs.
HMAC_ALGORITHM: Final = "HS256"
#: A key that signs no more is published for so long: session cookies live for seven days.
KEPT: Final = timedelta(days=8)
_CURVE: Final = "P-256"
_NONCE_BYTES: Final = 12

PrivateKey = ECKey | RSAKey | OKPKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """All keys of this issuer: one that signs, and the published set that verifies.

    *jwks* is the JSON of `/.well-known/jwks.json`; it has no private member. *shared* is the
    imported secret of a former issuer, if there is one; it is published nowhere.
    """

    current: PrivateKey = field(repr=False)
    verifying: tokens.KeySet = field(repr=False)
    shared: tokens.KeySet = field(repr=False)
    jwks: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A row: a key, with its private part sealed."""

    kid: str
    algorithm: str
    public_jwk: dict[str, Any]
    private_key: bytes = field(repr=False)
    status: str


def in_use() -> Query[StoredKey]:
    """Return the query for the keys that sign or verify now, the current one first."""
    return Query(
        "select kid, algorithm, public_jwk, private_key, status"
        " from chatkeep.signing_keys where status in ('current', 'standby')"
        " or (status = 'previous' and coalesce(retired_at, now()) > now() - %s)"
        " order by status = 'current' desc, created_at desc",
        (KEPT,),
        StoredKey,
    )


async def load_signing_keys(db: Database, secret: bytes) -> SigningKeys:
    """Return the keys in *db*, of which the first is made here when there are none.

    Raises:
        SetupError: the private key was encrypted under another secret.
    """
    (rows,) = await db.fetch_all(AUTH, in_use())
    if not any(row.status == "current" for row in rows):
        key = new_key()
        await db.fetch_all(AUTH, insertion(key, "current", secret))
        (rows,) = await db.fetch_all(AUTH, in_use())
    return opened(rows, secret)


def opened(rows: list[StoredKey], secret: bytes) -> SigningKeys:
    """Return what *rows*, of which one is current, are good for.

    Raises:
        SetupError: a private part was encrypted under another secret.
    """
    (current,) = (row for row in rows if row.status == "current")
    published = [row.public_jwk for row in rows if row.algorithm != HMAC_ALGORITHM]
    jwks = msgspec.json.encode({"keys": published})
    secrets = [unsealed(row, secret) for row in rows if row.algorithm == HMAC_ALGORITHM]
    return SigningKeys(
        current=_private_key(current, unsealed(current, secret)),
        verifying=tokens.read_key_set(jwks, algorithms=SIGNING_ALGORITHMS).keys,
        shared=tokens.KeySet.of_secret(secrets[0]) if secrets else tokens.KeySet(),
        jwks=jwks,
    )


@dataclass(frozen=True, slots=True)
class Inserted:
    """The id of a key that was stored."""

    kid: str


def new_key() -> ECKey:
    """Return a key that nobody has, named by its thumbprint (RFC 7638)."""
    key = ECKey.generate_key(_CURVE)
    return ECKey.import_key(key.as_der(private=True), {"kid": key.thumbprint(), "alg": ALGORITHM})


def insertion(key: PrivateKey, status: str, secret: bytes) -> Query[Inserted]:
    """Return the statement that stores *key*; it does nothing where there is a current one."""
    kid, algorithm = str(key.kid), str(key.alg)
    sealed_part = sealed(key.as_der(private=True), kid, secret)
    return insertion_of(kid, algorithm, public_jwk(key), sealed_part, status)


def insertion_of(
    kid: str, algorithm: str, public: dict[str, Any], private: bytes, status: str
) -> Query[Inserted]:
    """Return the statement that stores a key out of its parts, *private* already sealed."""
    return Query(
        "insert into chatkeep.signing_keys"
        " (kid, algorithm, public_jwk, private_key, status, signs_since, retired_at)"
        " values (%s, %s, %s::jsonb, %s, %s, case when %s = 'current' then now() end,"
        " case when %s = 'previous' then now() end)"
        " on conflict (status) where status = 'current' do nothing returning kid",
        (
            *(kid, algorithm, msgspec.json.encode(public).decode(), private),
            *(status, status, status),
        ),
        Inserted,
    )


def public_jwk(key: PrivateKey) -> dict[str, Any]:
    """Return what is published of *key*: its public half, and what it is for."""
    public = {**key.as_dict(private=False), "kid": key.kid, "alg": key.alg, "use": "sig"}
    return {**public, "key_ops": ["verify"]}


def sealed(private: bytes, kid: str, secret: bytes) -> bytes:
    """The private part, encrypted; bound to its *kid*, so that rows cannot be swapped."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _encryption(secret).encrypt(nonce, private, kid.encode())


def unsealed(row: StoredKey, secret: bytes) -> bytes:
    """Return the private part of *row*.

    Raises:
        SetupError: it was encrypted under another secret, or belongs to another key.
    """
    nonce, encrypted = row.private_key[:_NONCE_BYTES], row.private_key[_NONCE_BYTES:]
    try:
        return _encryption(secret).decrypt(nonce, encrypted, row.kid.encode())
    except (InvalidTag, ValueError) as error:
        raise SetupError(
            "The signing key in the database was encrypted under another secret. Set"
            " CHATKEEP_SECRET to the one it was made with (without CHATKEEP_SECRET it is in the"
            " data folder), or see `chatkeep keys reencrypt`."
        ) from error


def _encryption(secret: bytes) -> AESGCM:
    return AESGCM(derived_key(secret, "signing keys"))


def _private_key(row: StoredKey, private: bytes) -> PrivateKey:
    named: KeyParameters = {"kid": row.kid, "alg": row.algorithm, "use": "sig"}
    match row.algorithm:
        case "RS256":
            return RSAKey.import_key(private, named)
        case "EdDSA":
            return OKPKey.import_key(private, named)
        case _:
            return ECKey.import_key(private, named)
