"""The published examples: RFC 7515, RFC 7519, RFC 7520 and RFC 8037."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from chatkeep.errors import TokenExpired, TokenInvalid
from chatkeep.tokens import Key, KeySet, Rules, read, read_key, secret_key, verify
from tests.forge import unsegment

EXAMPLES = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "jose" / "rfc-examples.json").read_text()
)
SIGNED = pytest.mark.parametrize("example", EXAMPLES["signed"], ids=lambda one: one["source"])


def key_of(example: dict[str, Any]) -> Key:
    """Return the key that an example is to be checked with."""
    algorithm, jwk = example["alg"], example["jwk"]
    if jwk["kty"] == "oct":
        return secret_key(unsegment(jwk["k"]), algorithm=algorithm, kid=jwk.get("kid"))
    return read_key(jwk, algorithms=[algorithm])


@SIGNED
def test_signature_of_published_example_verifies(example: dict[str, Any]) -> None:
    """Our checks agree with the standards' own examples, and notice one changed bit."""
    signing_input, _, signature = example["token"].rpartition(".")
    check = key_of(example).check
    check(unsegment(signature), signing_input.encode())
    bent = bytearray(unsegment(signature))
    bent[-1] ^= 1
    with pytest.raises(InvalidSignature):
        check(bytes(bent), signing_input.encode())
    with pytest.raises(InvalidSignature):
        check(unsegment(signature), signing_input.encode() + b"A")


@SIGNED
def test_published_example_is_read_as_published(example: dict[str, Any]) -> None:
    """The examples with claims are read to the letter; the others are no JWTs."""
    if example["claims"] is None:
        with pytest.raises(TokenInvalid):
            read(example["token"])
    else:
        token = read(example["token"])
        assert token.claims == example["claims"]
        assert token.header.alg == example["alg"]


@SIGNED
def test_published_example_is_no_access_token(example: dict[str, Any]) -> None:
    """Joe's token of 2011 names nobody, so it opens nothing, expired or not."""
    rules = Rules(iss="joe", audiences=frozenset({"x"}), algorithms=frozenset({example["alg"]}))
    with pytest.raises(TokenInvalid) as refused:
        verify(example["token"], keys=KeySet([key_of(example)]), rules=rules, now=1_300_819_379)
    assert not isinstance(refused.value, TokenExpired)


@pytest.mark.parametrize("example", EXAMPLES["unsecured"], ids=lambda one: one["source"])
def test_published_unsecured_example_is_refused(example: dict[str, Any]) -> None:
    """The standard's own unsigned token is not taken."""
    with pytest.raises(TokenInvalid):
        read(example["token"])
