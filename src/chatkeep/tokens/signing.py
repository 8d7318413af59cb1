"""Issuing: the tokens we sign ourselves."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.jwk import OKPKey

from chatkeep.tokens.compact import MAX_TOKEN_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joserfc.jwk import Key as SigningKey

_encoder = msgspec.json.Encoder()


def issue(claims: Mapping[str, object], key: SigningKey, *, typ: str = "JWT") -> str:
    """Return *claims* as a token signed with *key*, which must carry `alg` and `kid`.

    Raises:
        ValueError: the key lacks one of them, or the claims are so many that nobody,
            ourselves included, would take the token.
    """
    if not key.alg or not key.kid:
        raise ValueError("a signing key needs alg and kid")
    header = {"alg": key.alg, "typ": typ, "kid": key.kid}
    payload = _encoder.encode(claims)
    if isinstance(key, OKPKey):
        token = _with_ed25519(header, payload, key)
    else:
        token = jws.serialize_compact(header, payload, key, algorithms=[key.alg])
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError(f"the token would be longer than {MAX_TOKEN_LENGTH} characters")
    return token


def _with_ed25519(header: Mapping[str, str], payload: bytes, key: OKPKey) -> str:
    """Sign by hand (RFC 8037 section 3.1): the library warns of the name that all others know."""
    signed = b".".join(_base64url(part) for part in (_encoder.encode(header), payload))
    private = key.private_key
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("this kind of key cannot sign")  # noqa: TRY004 -- as of any unfit key
    return b".".join((signed, _base64url(private.sign(signed)))).decode()


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
