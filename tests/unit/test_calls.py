"""How many functions it takes to verify a token. A number that grows is a slower product."""

from __future__ import annotations

import json
import time

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from chatkeep.db import Database
from chatkeep.issuers import Issuer, Issuers, StaticKeys
from chatkeep.revocations import Revocations
from chatkeep.tokens import KeySet, Rules, public_key, verify
from tests.calls import calls

SECRET = b"a secret for counting the calls of 48 bytes, no less"
NOW = int(time.time())
RULES = Rules(
    iss="https://project.supabase.co/auth/v1",
    audiences=frozenset({"authenticated"}),
    algorithms=frozenset({"HS256", "ES256"}),
    refused_roles=frozenset({"anon", "service_role"}),
    leeway_s=5,
)
CLAIMS = {
    "iss": RULES.iss,
    "aud": "authenticated",
    "exp": NOW + 3600,
    "iat": NOW,
    "role": "authenticated",
    "session_id": "60fd53f9-0eeb-4c37-8bb6-5e1cf6a5d1f4",
}
#: As counted with Python 3.11, and a tenth more: others inline other things.
FIRST_SIGHT = {"HS256": 68, "ES256": 75}
SEEN_BEFORE = 20


def a_token(algorithm: str, key: OctKey | ECKey, sub: str) -> str:
    """Return a token of somebody else each time."""
    payload = json.dumps({**CLAIMS, "sub": sub})
    return jws.serialize_compact(
        {"alg": algorithm, "typ": "JWT", "kid": "key"}, payload, key, algorithms=[algorithm]
    )


@pytest.mark.parametrize("algorithm", FIRST_SIGHT)
def test_a_new_token_takes_few_calls(algorithm: str) -> None:
    """Decoding, the signature and the claims, of a token that was never seen."""
    key: OctKey | ECKey
    if algorithm == "HS256":
        key, keys = OctKey.import_key(SECRET), KeySet.of_secret(SECRET)
    else:
        key = ECKey.generate_key("P-256")
        keys = KeySet([public_key(key.public_key, algorithm="ES256", kid="key")])
    first, second = (a_token(algorithm, key, sub) for sub in ("ana", "bo"))
    verify(first, keys=keys, rules=RULES, now=NOW)
    with calls() as counted:
        verify(second, keys=keys, rules=RULES, now=NOW)
    assert 0 < counted.count <= FIRST_SIGHT[algorithm]


async def test_a_known_token_takes_fewer() -> None:
    """Who comes again is found by the token, and looked up among what has ended."""
    issuer = Issuer(
        name="supabase",
        preset="supabase",
        rules=RULES,
        secret=StaticKeys(KeySet.of_secret(SECRET)),
        primary=True,
    )
    issuers, revocations = Issuers([issuer]), Revocations(Database(""))
    token = a_token("HS256", OctKey.import_key(SECRET), "ana")
    await issuers.authenticate(token)
    with calls() as counted:
        revocations.knows(await issuers.authenticate(token))
    assert 0 < counted.count <= SEEN_BEFORE
