"""Issuing: the tokens we sign ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from joserfc import jws

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
    token = jws.serialize_compact(header, _encoder.encode(claims), key, algorithms=[key.alg])
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError(f"the token would be longer than {MAX_TOKEN_LENGTH} characters")
    return token
