"""Signature algorithms, each turned into one check that is bound to one key.

What a token asks for never chooses how its key is used: a `Key` is made with exactly one
algorithm and cannot be used with another (RFC 8725 section 3.1). No key is found here,
and no claim is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC

#: Takes a signature and what it is said to sign; raises `InvalidSignature`.
Check = Callable[[bytes, bytes], None]
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_HASHES: Final[dict[str, HashAlgorithm]] = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
CURVES: Final[dict[str, EllipticCurve]] = {
    "ES256": SECP256R1(),
    "ES384": SECP384R1(),
    "ES512": SECP521R1(),
}
HMAC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
#: RFC 9864 gave EdDSA with Ed25519 a name of its own; the two names are one algorithm.
ED25519_NAMES: Final = ("EdDSA", "Ed25519")
ASYMMETRIC_ALGORITHMS: Final = (*RSA_ALGORITHMS, *CURVES, *ED25519_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that checks signatures of one algorithm. Its material cannot be read back."""

    algorithm: str
    kid: str | None = None
    check: Check = field(repr=False, compare=False)


def secret_key(secret: bytes, *, algorithm: str = "HS256", kid: str | None = None) -> Key:
    """Return the key that checks HMACs under *secret*.

    Raises:
        ValueError: the algorithm is no HMAC, or the secret is shorter than its hash
            (RFC 7518 section 3.2).
    """
    if algorithm not in HMAC_ALGORITHMS:
        raise ValueError("a shared secret works with HS256, HS384 and HS512 only")
    digest = _HASHES[algorithm[2:]]
    if len(secret) < digest.digest_size:
        raise ValueError(f"a secret for {algorithm} must have at least {digest.digest_size} bytes")
    return Key(algorithm=algorithm, kid=kid, check=_hmac_check(HMAC(secret, digest)))


def public_key(public: PublicKey, *, algorithm: str, kid: str | None = None) -> Key:
    """Return the key that checks signatures of *algorithm* with *public*.

    Raises:
        ValueError: the key is of another kind or curve than the algorithm needs.
    """
    return Key(
        algorithm="EdDSA" if algorithm in ED25519_NAMES else algorithm,
        kid=kid,
        check=_check_of(public, algorithm),
    )


def _check_of(public: PublicKey, algorithm: str) -> Check:
    if isinstance(public, RSAPublicKey) and algorithm in RSA_ALGORITHMS:
        return _rsa_check(public, algorithm)
    if isinstance(public, EllipticCurvePublicKey) and algorithm in CURVES:
        if public.curve.name == CURVES[algorithm].name:
            return _ecdsa_check(public, algorithm)
    elif isinstance(public, Ed25519PublicKey) and algorithm in ED25519_NAMES:
        return public.verify
    raise ValueError(f"this kind of key cannot check {algorithm}")


def _hmac_check(keyed: HMAC) -> Check:
    def check(signature: bytes, message: bytes) -> None:
        mac = keyed.copy()  # half the price of keying it again
        mac.update(message)
        mac.verify(signature)  # compares in constant time

    return check


def _rsa_check(public: RSAPublicKey, algorithm: str) -> Check:
    digest = _HASHES[algorithm[2:]]
    padding: AsymmetricPadding = PKCS1v15()
    if algorithm.startswith("PS"):  # RFC 7518 section 3.5: the salt is as long as the hash
        padding = PSS(mgf=MGF1(digest), salt_length=digest.digest_size)
    size = (public.key_size + 7) // 8

    def check(signature: bytes, message: bytes) -> None:
        # RFC 8017 sections 8.1.2 and 8.2.2. OpenSSL puts back zeros that were left out before it.
        if len(signature) != size:
            raise InvalidSignature
        public.verify(signature, message, padding, digest)

    return check


def _ecdsa_check(public: EllipticCurvePublicKey, algorithm: str) -> Check:
    scheme = ECDSA(_HASHES[algorithm[2:]])
    size = (public.curve.key_size + 7) // 8

    def check(signature: bytes, message: bytes) -> None:
        if len(signature) != 2 * size:  # RFC 7518 section 3.4: two numbers of full length
            raise InvalidSignature
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        public.verify(encode_dss_signature(r, s), message, scheme)

    return check
