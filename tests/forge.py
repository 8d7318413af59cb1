"""Making tokens, honest and forged, from their parts: bytes in, no library's opinion.

The keys are made anew for each run; nothing is signed with a key anybody knows.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from chatkeep.tokens import KeySet, Rules, public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Signer = Callable[[bytes], bytes]

NOW = 1_800_000_000
ISS = "https://project.example/auth/v1"
AUDIENCE = "authenticated"
SECRET = secrets.token_urlsafe(48).encode()

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEYS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
ED25519_KEY = ed25519.Ed25519PrivateKey.generate()
_HASHES = {"256": SHA256(), "384": SHA384(), "512": SHA512()}

HMACS = ("HS256", "HS384", "HS512")
ASYMMETRIC = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
ALGORITHMS = (*HMACS, *ASYMMETRIC)

RULES = Rules(
    iss=ISS,
    audiences=frozenset({AUDIENCE}),
    algorithms=frozenset(ALGORITHMS),
    refused_roles=frozenset({"anon", "service_role", "supabase_admin"}),
    leeway_s=5,
)


def claims(**changes: object) -> dict[str, object]:
    """Return what a Supabase access token says, with *changes*; `...` takes a claim out."""
    said: dict[str, object] = {
        "iss": ISS,
        "sub": "6f0f9a0e-7c1f-4d55-9d6f-2a4f8f3a7b10",
        "aud": AUDIENCE,
        "exp": NOW + 3600,
        "iat": NOW,
        "email": "ana@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"full_name": "Ana Example", "email_verified": True},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": NOW}],
        "session_id": "0c1d6b1e-4a0b-4a8e-8a34-3f1f3ce0a111",
        "is_anonymous": False,
        **changes,
    }
    return {name: value for name, value in said.items() if value is not ...}


def segment(data: bytes) -> str:
    """Return *data* in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsegment(text: str) -> bytes:
    """Return the bytes of base64url *text*."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text_of(part: object) -> bytes:
    """Return *part* as the JSON that JavaScript would write; bytes stay what they are."""
    if isinstance(part, bytes):
        return part
    return json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode()


def header(algorithm: str, **more: object) -> dict[str, object]:
    """Return a header naming *algorithm* and the key that we hold for it."""
    said = {"alg": algorithm, "typ": "JWT", "kid": f"key-{algorithm}", **more}
    return {name: value for name, value in said.items() if value is not ...}


def forge(
    head: object = None,
    payload: object = None,
    *,
    algorithm: str = "HS256",
    sign: Signer | None = None,
) -> str:
    """Return a token of any header and payload, signed for *algorithm* or with *sign*."""
    head = header(algorithm) if head is None else head
    payload = claims() if payload is None else payload
    signing_input = f"{segment(text_of(head))}.{segment(text_of(payload))}"
    signature = (sign or signer(algorithm))(signing_input.encode())
    return f"{signing_input}.{segment(signature)}"


def signer(algorithm: str) -> Signer:
    """Return what signs for *algorithm* with our key."""
    digest = _HASHES.get(algorithm[2:])
    if algorithm in HMACS:
        return hmac_signer(SECRET, algorithm)
    if algorithm in EC_KEYS:
        return ec_signer(EC_KEYS[algorithm])
    if digest is None:
        return ED25519_KEY.sign
    if algorithm.startswith("PS"):
        pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
        return lambda message: RSA_KEY.sign(message, pss, digest)
    return lambda message: RSA_KEY.sign(message, padding.PKCS1v15(), digest)


def hmac_signer(secret: bytes, algorithm: str = "HS256") -> Signer:
    """Return what computes an HMAC under *secret*."""
    return lambda message: hmac.digest(secret, message, f"sha{algorithm[2:]}")


def ec_signer(key: ec.EllipticCurvePrivateKey, digest: str | None = None) -> Signer:
    """Return what makes the two numbers of an ECDSA signature, as JWS writes them."""
    size = (key.curve.key_size + 7) // 8
    scheme = ec.ECDSA(_HASHES[digest or {32: "256", 48: "384", 66: "512"}[size]])

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, scheme))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return sign


def public_part(
    algorithm: str,
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    """Return our public key for *algorithm*."""
    if algorithm in EC_KEYS:
        return EC_KEYS[algorithm].public_key()
    return (RSA_KEY if algorithm[:2] in {"RS", "PS"} else ED25519_KEY).public_key()


def key_set(algorithm: str) -> KeySet:
    """Return the set that holds just our key for *algorithm*."""
    if algorithm in HMACS:
        return KeySet.of_secret(SECRET, algorithm=algorithm)
    key = public_key(public_part(algorithm), algorithm=algorithm, kid=f"key-{algorithm}")
    return KeySet([key])


def jwk(algorithm: str, *, kid: str | None = None, **more: object) -> dict[str, object]:
    """Return our public key for *algorithm* as an issuer would publish it."""
    said: dict[str, object] = {"kid": kid or f"key-{algorithm}", "alg": algorithm, "use": "sig"}
    said |= jwk_members(public_part(algorithm)) | more
    return {name: value for name, value in said.items() if value is not ...}


def jwk_members(
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
) -> dict[str, object]:
    """Return the members of a JWK that are *public* itself (RFC 7518 section 6)."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": segment(public.public_bytes_raw())}
    numbers = public.public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    size = (public.key_size + 7) // 8
    curve = {32: "P-256", 48: "P-384", 66: "P-521"}[size]
    return {
        "kty": "EC",
        "crv": curve,
        "x": segment(numbers.x.to_bytes(size, "big")),
        "y": segment(numbers.y.to_bytes(size, "big")),
    }


def _number(value: int) -> str:
    return segment(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def document(*jwks: Mapping[str, object]) -> bytes:
    """Return a JWK Set of *jwks*."""
    return json.dumps({"keys": jwks}).encode()
