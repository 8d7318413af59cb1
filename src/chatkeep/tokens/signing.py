"""Issuing: the tokens we sign ourselves.

ES256, which our own keys are of, and Ed25519 by hand; what somebody has imported besides with
joserfc. Its way of making a token takes twice as long as the signature.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from chatkeep.tokens.compact import MAX_TOKEN_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joserfc.jwk import Key as SigningKey

_encoder = msgspec.json.Encoder()
_ES256: Final = ECDSA(SHA256())
#: Of each of the two numbers that are a signature.
_ES256_BYTES: Final = 32


def issue(claims: Mapping[str, object], key: SigningKey, *, typ: str = "JWT") -> str:
    """Return *claims* as a token signed with *key*, which must carry `alg` and `kid`.

    Raises:
        ValueError: the key lacks one of them or cannot sign, or the claims are so many that
            nobody, ourselves included, would take the token.
    """
    if not key.alg or not key.kid:
        raise ValueError("a signing key needs alg and kid")
    header = {"alg": key.alg, "typ": typ, "kid": key.kid}
    payload = _encoder.encode(claims)
    if isinstance(key, OKPKey) or (isinstance(key, ECKey) and key.alg == "ES256"):
        token = _by_hand(header, payload, key)
    else:
        token = jws.serialize_compact(header, payload, key, algorithms=[key.alg])
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError(f"the token would be longer than {MAX_TOKEN_LENGTH} characters")
    return token


def _by_hand(header: Mapping[str, str], payload: bytes, key: ECKey | OKPKey) -> str:
    signed = b".".join((_base64url(_encoder.encode(header)), _base64url(payload)))
    return b".".join((signed, _base64url(_signature(signed, key)))).decode()


def _signature(signed: bytes, key: ECKey | OKPKey) -> bytes:
    private = key.private_key
    # RFC 8037 section 3.1; joserfc warns of the name that all others know.
    if isinstance(private, Ed25519PrivateKey):
        return private.sign(signed)
    # RFC 7518 section 3.4: both numbers, each as long as the curve has bytes.
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
        numbers = decode_dss_signature(private.sign(signed, _ES256))
        return b"".join(number.to_bytes(_ES256_BYTES, "big") for number in numbers)
    raise ValueError("this kind of key cannot sign")


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
