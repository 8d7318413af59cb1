"""What verifying an access token costs: ours, the other libraries' and the floor.

The floor is what no verifier can do without: split, base64, the signature with
`cryptography` and a key that is ready, and both JSON parts with `msgspec`. Claims are
those of a Supabase access token, and every library checks signature, `exp`, `iss`, `aud`
and that there is a `sub`. Each call sees another token, so that nothing is remembered but
what tokens share. Rounds are interleaved. The other libraries come from where
`benchmarks.peers` installs them; one that is not there is left out.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import itertools
import json
import statistics
import sys
import time
import uuid
import warnings
from operator import truediv
from typing import TYPE_CHECKING, Any, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from benchmarks import peers
from benchmarks.figures import NOISY, spread
from chatkeep.issuers import Issuer, Issuers, StaticKeys
from chatkeep.revocations import Revocations
from chatkeep.tokens import KeySet, Rules, public_key, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from chatkeep.db import Database

    Verifier = Callable[[str], object]
    SigningKey = OctKey | RSAKey | ECKey | OKPKey

ISS = "https://abcdefghijklmnop.supabase.co/auth/v1"
AUDIENCE = "authenticated"
SECRET = b"a-secret-for-the-benchmark-of-48-bytes-in-length"
NOW = int(time.time())
_TOKENS = 200
#: Rounds are many and short, so that what else the machine does falls on everybody alike.
_CALLS = 50


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians over interleaved rounds, in microseconds, and their ratios to the floor."""
    figures: dict[str, object] = {}
    spreads = []
    rounds = 80 if quick else 500
    for algorithm, key in _keys().items():
        tokens = [access_token(algorithm, key) for _ in range(_TOKENS)]
        costs = _race(_contenders(algorithm, key), tokens, rounds=rounds)
        for name, taken in costs.items():
            figures[f"{algorithm}_{name}_us"] = round(statistics.median(taken), 2)
        for name in [name for name in costs if name != "floor"]:
            ratios = map(truediv, costs[name], costs["floor"])
            figures[f"{algorithm}_{name}_of_floor"] = round(statistics.median(ratios), 2)
        spreads += [spread(costs[name]) for name in ("floor", "ours")]
    figures |= asyncio.run(_sign_in(rounds=rounds // 10))
    return figures | {"spread": round(max(spreads), 2), "noisy": max(spreads) > NOISY}


def _race(
    contenders: dict[str, Verifier], tokens: list[str], *, rounds: int
) -> dict[str, list[float]]:
    for verifier in contenders.values():
        verifier(tokens[0])  # raises if a library is set up wrongly
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    endless = itertools.cycle(tokens)
    for _ in range(rounds):
        batch = list(itertools.islice(endless, _CALLS))
        for name, verifier in contenders.items():
            costs[name].append(_cost(verifier, batch))
    return costs


def _cost(verifier: Verifier, batch: list[str]) -> float:
    began = time.perf_counter()
    for token in batch:
        verifier(token)
    return (time.perf_counter() - began) / len(batch) * 1e6


async def _sign_in(*, rounds: int) -> dict[str, float]:
    """Measure the whole way to a principal: the first time, and when the token was seen."""
    key = OctKey.import_key(SECRET)
    tokens = [access_token("HS256", key) for _ in range(_TOKENS)]
    revocations = Revocations(cast("Database", None))  # what is known is asked, nothing fetched
    issuer = Issuer(
        name="supabase",
        preset="supabase",
        rules=_RULES,
        secret=StaticKeys(KeySet.of_secret(SECRET)),
        primary=True,
    )
    first: list[float] = []
    seen: list[float] = []
    for _ in range(rounds):
        issuers = Issuers([issuer])
        for costs in (first, seen):
            began = time.perf_counter()
            for token in tokens:
                who = await issuers.authenticate(token)
                if revocations.knows(who):
                    raise AssertionError
            costs.append((time.perf_counter() - began) / len(tokens) * 1e6)
    return {
        "HS256_principal_us": round(statistics.median(first), 2),
        "seen_before_with_revocation_us": round(statistics.median(seen), 2),
    }


# --- tokens -----------------------------------------------------------------------------------


def _keys() -> dict[str, SigningKey]:
    return {
        "HS256": OctKey.import_key(SECRET),
        "RS256": RSAKey.generate_key(2048),
        "ES256": ECKey.generate_key("P-256"),
        "EdDSA": OKPKey.generate_key("Ed25519"),
    }


def access_token(algorithm: str, key: SigningKey) -> str:
    """Return a token as Supabase would sign it."""
    user = str(uuid.uuid4())
    claims = {
        "iss": ISS,
        "sub": user,
        "aud": AUDIENCE,
        "exp": NOW + 86_400,
        "iat": NOW,
        "email": "ana@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email": "ana@example.com", "email_verified": True, "sub": user},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": NOW}],
        "session_id": str(uuid.uuid4()),
        "is_anonymous": False,
    }
    header = {"alg": algorithm, "typ": "JWT", "kid": "b8a1c7d2-key"}
    return jws.serialize_compact(header, msgspec.json.encode(claims), key, algorithms=[algorithm])


# --- contenders -------------------------------------------------------------------------------

_RULES = Rules(
    iss=ISS,
    audiences=frozenset({AUDIENCE}),
    algorithms=frozenset({"HS256", "RS256", "ES256", "EdDSA"}),
    refused_roles=frozenset({"anon", "service_role", "supabase_admin"}),
    leeway_s=5,
)


def _contenders(algorithm: str, key: SigningKey) -> dict[str, Verifier]:
    found: dict[str, Verifier] = {
        "floor": _floor(algorithm, key),
        "ours": _ours(algorithm, key),
    }
    peers = {
        "PyJWT": ("jwt", _pyjwt),
        "joserfc": ("joserfc.jwt", _joserfc),
        "python-jose": ("jose.jwt", _python_jose),
        "Authlib": ("authlib.jose", _authlib),
        "jwcrypto": ("jwcrypto.jwt", _jwcrypto),
    }
    for name, (module, make) in peers.items():
        try:
            library = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        if (verifier := make(library, algorithm, key)) is not None:
            found[name] = verifier
    return found


def _ours(algorithm: str, key: SigningKey) -> Verifier:
    if isinstance(key, OctKey):
        keys = KeySet.of_secret(SECRET)
    else:
        public = cast("Any", key.public_key)
        keys = KeySet([public_key(public, algorithm=algorithm, kid="b8a1c7d2-key")])
    return lambda token: verify(token, keys=keys, rules=_RULES, now=time.time())


def _floor(algorithm: str, key: SigningKey) -> Verifier:
    check = _bare_check(algorithm, key)
    decode, loads = base64.urlsafe_b64decode, msgspec.json.decode

    def floor(token: str) -> object:
        header, payload, signature = token.split(".")
        loads(decode(header + "=="))
        check(decode(signature + "=="), f"{header}.{payload}".encode())
        return loads(decode(payload + "=="))

    return floor


def _bare_check(algorithm: str, key: SigningKey) -> Callable[[bytes, bytes], None]:
    public = cast("Any", key.public_key)
    if algorithm == "HS256":

        def check(signature: bytes, message: bytes) -> None:
            mac = HMAC(SECRET, SHA256())
            mac.update(message)
            mac.verify(signature)

    elif algorithm == "RS256":

        def check(signature: bytes, message: bytes) -> None:
            public.verify(signature, message, padding.PKCS1v15(), SHA256())

    elif algorithm == "ES256":

        def check(signature: bytes, message: bytes) -> None:
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            public.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))

    else:
        return cast("Callable[[bytes, bytes], None]", public.verify)
    return check


def _pyjwt(library: ModuleType, algorithm: str, key: SigningKey) -> Verifier:
    ready = SECRET if isinstance(key, OctKey) else key.public_key
    options = {"require": ["exp", "sub"]}
    return lambda token: library.decode(
        token, ready, algorithms=[algorithm], audience=AUDIENCE, issuer=ISS, options=options
    )


def _joserfc(library: ModuleType, algorithm: str, key: SigningKey) -> Verifier:
    claims = library.JWTClaimsRegistry(
        iss={"essential": True, "value": ISS},
        aud={"essential": True, "value": AUDIENCE},
        sub={"essential": True},
        exp={"essential": True},
    )
    return lambda token: claims.validate(library.decode(token, key, algorithms=[algorithm]).claims)


def _python_jose(library: ModuleType, algorithm: str, key: SigningKey) -> Verifier | None:
    if algorithm == "EdDSA":
        return None  # it does not have it
    ready = SECRET.decode() if isinstance(key, OctKey) else _pem(key)
    ready = importlib.import_module("jose.jwk").construct(ready, algorithm)
    options = {"require_exp": True, "require_sub": True}
    return lambda token: library.decode(
        token, ready, algorithms=[algorithm], audience=AUDIENCE, issuer=ISS, options=options
    )


def _authlib(library: ModuleType, algorithm: str, key: SigningKey) -> Verifier:
    ready = library.JsonWebKey.import_key(key.as_dict(private=isinstance(key, OctKey)))
    decoder = library.JsonWebToken([algorithm])
    wanted = {
        "iss": {"essential": True, "value": ISS},
        "aud": {"essential": True, "value": AUDIENCE},
        "sub": {"essential": True},
        "exp": {"essential": True},
    }
    return lambda token: decoder.decode(token, ready, claims_options=wanted).validate()


def _jwcrypto(library: ModuleType, algorithm: str, key: SigningKey) -> Verifier:
    jwk = importlib.import_module("jwcrypto.jwk")
    ready = jwk.JWK(**key.as_dict(private=isinstance(key, OctKey)))
    wanted = {"iss": ISS, "aud": AUDIENCE, "sub": None, "exp": None}
    return lambda token: json.loads(
        library.JWT(jwt=token, key=ready, algs=[algorithm], check_claims=wanted).claims
    )


def _pem(key: RSAKey | ECKey | OKPKey) -> str:
    public = cast("Any", key.public_key)
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ascii")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # on names of algorithms, from the others
    peers.make_importable()
    print(json.dumps(measure(quick="--quick" in sys.argv)))
