"""Keys that were made elsewhere: read from PEM, or the secret of an issuer that signed HS256."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey

from chatkeep.errors import SetupError
from chatkeep.issuers import check_shared_secret
from chatkeep.signing_keys.stored import HMAC_ALGORITHM, SIGNING_ALGORITHMS, public_jwk, sealed
from chatkeep.tokens import read_key

if TYPE_CHECKING:
    from chatkeep.signing_keys.stored import PrivateKey

_RANDOM_BYTES: Final = 8
_RSA_BITS: Final = 2048
_Kind = TypeVar("_Kind", ECKey, RSAKey, OKPKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedKey:
    """A key to keep. *private* is sealed; *status* what it is at first."""

    kid: str
    algorithm: str
    public: dict[str, Any]
    private: bytes = field(repr=False)
    status: str


def private_key_of(pem: bytes, secret: bytes) -> ImportedKey:
    """Return the private key in *pem*, to sign when its turn comes.

    Elliptic curve P-256 becomes ES256, RSA of 2,048 bits or more RS256, Ed25519 EdDSA.

    Raises:
        SetupError: it is none of these, is encrypted, or is not sound.
    """
    try:
        found = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SetupError(
            "This is no private key in PEM, or it is encrypted:"
            " decrypt it first with `openssl pkey -in FILE`."
        ) from error
    plain = found.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    match found:
        case EllipticCurvePrivateKey() if isinstance(found.curve, SECP256R1):
            key: PrivateKey = _named(ECKey, plain, "ES256")
        case RSAPrivateKey() if found.key_size >= _RSA_BITS:
            key = _named(RSAKey, plain, "RS256")
        case Ed25519PrivateKey():
            key = _named(OKPKey, plain, "EdDSA")
        case _:
            raise SetupError(
                f"Only keys of P-256, of RSA with {_RSA_BITS} bits or more, and of Ed25519 can"
                " sign here."
            )
    public, kid = public_jwk(key), str(key.kid)
    try:
        read_key(public, algorithms=SIGNING_ALGORITHMS)
    except ValueError as error:
        raise SetupError(f"This key is not fit to sign with: {error}.") from error
    return ImportedKey(
        kid=kid,
        algorithm=str(key.alg),
        public=public,
        private=sealed(key.as_der(private=True), kid, secret),
        status="standby",
    )


def shared_secret_of(text: bytes, secret: bytes) -> ImportedKey:
    """Return the HS256 secret in *text*: to verify what was signed with it, never to sign.

    One line end after it does not count. Its id says nothing about it.

    Raises:
        SetupError: it is too short, or anybody could guess it.
    """
    try:
        shared = text.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise SetupError("The shared secret must be text in UTF-8.") from error
    if problems := check_shared_secret(shared, production=True):
        raise SetupError(*problems)
    kid = f"hs256-{os.urandom(_RANDOM_BYTES).hex()}"
    return ImportedKey(
        kid=kid,
        algorithm=HMAC_ALGORITHM,
        public={},
        private=sealed(shared.encode(), kid, secret),
        status="previous",
    )


def _named(kind: type[_Kind], pem: bytes, algorithm: str) -> _Kind:
    kid = kind.import_key(pem).thumbprint()
    return kind.import_key(pem, {"kid": kid, "alg": algorithm, "use": "sig"})
