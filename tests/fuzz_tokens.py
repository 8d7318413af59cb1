"""A differential fuzz: our verifier against PyJWT and joserfc, on bent tokens.

Run `python -m tests.fuzz_tokens 1000000 [seed]` for the long form. Whatever ours takes,
the others must take too, unless `REASONS` says in writing why they do not; and ours may
raise nothing but its own errors. That the others take more is expected, and counted.
"""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jwk import KeySet as JoserfcKeys

from chatkeep.errors import TokenInvalid
from chatkeep.tokens import KeySet, public_key, read, verify
from tests import forge
from tests.forge import AUDIENCE, ISS, NOW, RULES, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Peer = Callable[[str, str], dict[str, Any]]

#: One of each family; the siblings differ in numbers only, and cost the fuzz its speed.
FUZZED = ("HS256", "RS256", "PS256", "ES256", "EdDSA")
_HMAC_ALONE = KeySet.of_secret(SECRET)
_PUBLIC = KeySet(
    public_key(forge.public_part(name), algorithm=name, kid=f"key-{name}") for name in FUZZED[1:]
)
_ODD_VALUES: tuple[bytes, ...] = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b"1e3", b"1e400", b"NaN", b"[]", b"{}", b'""', b'" "'),
    *(b'"none"', b'"HS256"', b'"ES256"', b'"JWT"', b'"b64"', b'["b64"]', b'["exp"]', b'"\\u0000"'),
    *(b'"\\ud800"', b'"x"', b'"1800003600"', b"1800003600", b"1800003600.5", b"1" + b"0" * 30),
    *(b'["authenticated"]', b'["authenticated",1]', b'"service_role"', b'{"jwk":{}}', b"[[[[]]]]"),
)
_NAMES = (
    *("alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5c", "x5t", "cty", "zip", "extra"),
    *("exp", "nbf", "iat", "iss", "aud", "sub", "cnf", "role", "jti", "email"),
)
_NOISE = "ABCabc019-_.=+/ \n\té\x00\ud800{}\"'"


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of a run: how often each verifier took a token, and what must not be."""

    tried: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


def run(rounds: int, seed: int) -> Tally:
    """Judge *rounds* bent tokens."""
    rng = random.Random(seed)
    honest = {name: forge.forge(algorithm=name) for name in FUZZED}
    tally = Tally()
    for _ in range(rounds):
        algorithm = rng.choices(FUZZED, weights=(8, 1, 1, 2, 2))[0]
        _judge(bend(rng, algorithm, honest), algorithm, tally)
    return tally


def bend(rng: random.Random, algorithm: str, honest: dict[str, str]) -> str:
    """Return a token for *algorithm* with something about it changed; sometimes nothing."""
    kind = rng.random()
    if kind < 0.5:  # re-signed, so that what is inside gets looked at
        head, payload = forge.text_of(forge.header(algorithm)), forge.text_of(forge.claims())
        if rng.random() < 0.5:
            payload = _bend_json(rng, payload)
        else:
            head = _bend_json(rng, head)
        signed_for = algorithm if rng.random() < 0.9 else rng.choice(FUZZED)
        return forge.forge(head, payload, algorithm=signed_for)
    token = honest[algorithm]
    if kind < 0.8:
        return _bend_text(rng, token)
    return _bend_segments(rng, token, honest[rng.choice(FUZZED)])


def _bend_json(rng: random.Random, text: bytes) -> bytes:
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        text = rng.choice(_JSON_BENDS)(rng, text)
    return text


def _set_member(rng: random.Random, text: bytes) -> bytes:
    """Add a member, or change one: the repetition goes when it is read and written."""
    name, value = rng.choice(_NAMES), rng.choice(_ODD_VALUES)
    added = text.rstrip()[:-1] + f',"{name}":'.encode() + value + b"}"
    if rng.random() < 0.3:
        return added
    try:
        return json.dumps(json.loads(added), separators=(",", ":")).encode()
    except ValueError:
        return added


def _drop_member(rng: random.Random, text: bytes) -> bytes:
    try:
        said = json.loads(text)
        said.pop(rng.choice(list(said)))
    except (ValueError, AttributeError, IndexError, TypeError):
        return text
    return json.dumps(said, separators=(",", ":")).encode()


def _recode(rng: random.Random, text: bytes) -> bytes:
    try:
        plain = text.decode()
    except UnicodeDecodeError:
        return text
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"))
    return plain.encode(encoding, errors="replace")


def _respace(rng: random.Random, text: bytes) -> bytes:
    blank = rng.choice((b" ", b"\n", b"\t", b"\r\n", b"\x0b", b"\xc2\xa0"))
    at = rng.choice((b"{", b",", b":", b"}"))
    return text.replace(at, rng.choice((at + blank, blank + at)))


def _reescape(rng: random.Random, text: bytes) -> bytes:
    letter = rng.choice(b"abeilmrstuxp")
    return text.replace(bytes([letter]), b"\\u%04x" % letter, rng.choice((1, -1)))


def _flip_byte(rng: random.Random, text: bytes) -> bytes:
    if not text:
        return text
    at = rng.randrange(len(text))
    return text[:at] + bytes([rng.randrange(256)]) + text[at + rng.choice((0, 1, 1)) :]


_JSON_BENDS = (_set_member, _set_member, _drop_member, _recode, _respace, _reescape, _flip_byte)


def _bend_text(rng: random.Random, token: str) -> str:
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(token) + 1)
        token = token[:at] + rng.choice(_NOISE) + token[at + rng.choice((0, 1, 1, 2)) :]
    return token + rng.choice(("", "", "", "=", "==", ".", "\n", " ", "A"))


def _bend_segments(rng: random.Random, token: str, other: str) -> str:
    parts, foreign = token.split("."), other.split(".")
    for _ in range(rng.choice((1, 1, 2))):
        which = rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                parts[which] = foreign[which % 3]
            case 1:
                parts.insert(which, rng.choice(parts))
            case 2:
                parts.pop(which)
            case 3:
                parts[which] = forge.segment(forge.unsegment(token.rpartition(".")[2])[::-1])
            case 4:
                parts[which] = parts[which][: rng.randrange(len(parts[which]) + 1)]
            case _:
                parts[which] = parts[which][:-1] + rng.choice("AQgwEIMUYckos048_-z")
        if not parts:
            return ""
    return ".".join(parts)


def _judge(token: str, algorithm: str, tally: Tally) -> None:
    tally.tried += 1
    keys = _HMAC_ALONE if algorithm == "HS256" else _PUBLIC
    try:
        verify(token, keys=keys, rules=RULES, now=NOW)
        ours = True
    except TokenInvalid:
        ours = False
    except Exception as error:  # noqa: BLE001 -- any other error is what we look for
        tally.complaints.append(f"{error!r} from {token!r}")
        return
    if ours:  # the public keys lie in one set, so a whole other token may have been taken
        algorithm = read(token).header.alg
    tally.taken["ours"] += ours
    for name, peer in _PEERS.items():
        refusal = _refusal(peer, token, algorithm)
        tally.taken[name] += refusal is None
        if ours and refusal and not any(reason in refusal for reason in REASONS[name]):
            said = [forge.unsegment(part) for part in token.split(".")[:2]]
            tally.complaints.append(f"{name} refuses what we take: {refusal}: {said}")


def _refusal(peer: Peer, token: str, algorithm: str) -> str | None:
    try:
        peer(token, algorithm)
    except Exception as error:  # noqa: BLE001 -- they raise what they like
        return f"{type(error).__name__}: {error}"
    return None


def _by_pyjwt(token: str, algorithm: str) -> dict[str, Any]:
    key = SECRET if algorithm == "HS256" else forge.public_part(algorithm)
    claims = pyjwt.decode(
        token,
        key,
        algorithms=[algorithm],
        audience=AUDIENCE,
        issuer=ISS,
        leeway=5,
        options={
            "require": ["exp", "sub"],
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
        },
    )
    return dict(claims)


def _joserfc_keys() -> dict[str, OctKey | JoserfcKeys]:
    kinds = {"RS256": RSAKey, "PS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
    found: dict[str, OctKey | JoserfcKeys] = {"HS256": OctKey.import_key(SECRET)}
    for name, kind in kinds.items():
        found[name] = JoserfcKeys([kind.import_key(forge.jwk(name))])  # type: ignore[attr-defined]
    return found


_JOSERFC_KEYS = _joserfc_keys()
_JOSERFC_CLAIMS = joserfc_jwt.JWTClaimsRegistry(
    now=NOW,
    leeway=5,
    iss={"essential": True, "value": ISS},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
    exp={"essential": True},
)


def _by_joserfc(token: str, algorithm: str) -> dict[str, Any]:
    decoded = joserfc_jwt.decode(token, _JOSERFC_KEYS[algorithm], algorithms=[algorithm])
    _JOSERFC_CLAIMS.validate(decoded.claims)
    return decoded.claims


_PEERS: dict[str, Peer] = {"PyJWT": _by_pyjwt, "joserfc": _by_joserfc}

_IGNORED = "RFC 7515 section 4: a header member that is not understood is ignored"
_UNREAD = "we read only alg, kid, typ, crit and b64, so no other member can mislead us"
#: Why a peer may refuse what we take: part of its message, and the reason.
REASONS: dict[str, dict[str, str]] = {
    "PyJWT": {},
    "joserfc": {
        "unsupported_header: Unsupported": _IGNORED,
        **{
            f"'{name}' in header must be": _UNREAD
            for name in ("cty", "jwk", "jku", "x5c", "x5t", "zip")
        },
    },
}


def main(arguments: Iterable[str]) -> int:
    """Fuzz as many rounds as asked for; 0 when there is nothing to complain about."""
    rounds, seed = [*map(int, arguments), 10_000, int(time.time())][:2]
    warnings.simplefilter("ignore")
    tally = run(rounds, seed)
    print(f"seed {seed}: {tally.tried} tokens; taken: {dict(tally.taken)}")  # noqa: T201 -- a program
    print("\n".join(tally.complaints[:20]))  # noqa: T201 -- a program
    return bool(tally.complaints)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
