"""Which key may check which token, and which keys are fit to check any."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey

from chatkeep.errors import TokenInvalid
from chatkeep.tokens import (
    ASYMMETRIC_ALGORITHMS,
    Header,
    KeySet,
    check,
    issue,
    public_key,
    read,
    read_key,
    read_key_set,
    secret_key,
    verify,
)
from tests import forge
from tests.forge import ALGORITHMS, ASYMMETRIC, NOW, RULES, SECRET, claims, header, jwk, key_set

if TYPE_CHECKING:
    from joserfc.jwk import KeyParameters

PEM, DER, SSH = Encoding.PEM, Encoding.DER, Encoding.OpenSSH
SPKI, PKCS1 = PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1


def refuse(token: str, keys: KeySet) -> None:
    """Expect *token* to be refused with *keys*."""
    with pytest.raises(TokenInvalid) as refused:
        verify(token, keys=keys, rules=RULES, now=NOW)
    assert type(refused.value) is TokenInvalid


def spellings(algorithm: str) -> list[bytes]:
    """Return our public key in every form somebody might take for a secret."""
    public = forge.public_part(algorithm)
    forms = [public.public_bytes(PEM, SPKI), public.public_bytes(DER, SPKI)]
    forms += [public.public_bytes(SSH, PublicFormat.OpenSSH)]
    forms += [json.dumps(jwk(algorithm), separators=(",", ":")).encode()]
    forms += [json.dumps(jwk(algorithm)).encode(), forge.document(jwk(algorithm))]
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        forms += [public.public_bytes(PEM, PKCS1), public.public_bytes(DER, PKCS1)]
        forms += [numbers.n.to_bytes(256, "big"), str(numbers.n).encode()]
    elif isinstance(public, ed25519.Ed25519PublicKey):
        forms += [public.public_bytes_raw()]
    else:
        forms += [public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)]
    forms += [base64.b64encode(form) for form in forms]
    return forms + [form.rstrip(b"\n") for form in forms] + [form + b"\n" for form in forms]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_key_is_never_a_secret(algorithm: str) -> None:
    """An HMAC made with what everybody can read fails, with a shared secret in use or not."""
    mixed = KeySet.of_secret(SECRET)
    for form in spellings(algorithm):
        for hmac in ("HS256", "HS384", "HS512"):
            sign = forge.hmac_signer(form, hmac)
            for kid in (f"key-{algorithm}", ...):
                token = forge.forge(header(hmac, kid=kid), sign=sign)
                refuse(token, key_set(algorithm))
                refuse(token, mixed)


@pytest.mark.parametrize("used", ALGORITHMS)
@pytest.mark.parametrize("bound", ALGORITHMS)
def test_key_works_with_its_own_algorithm_only(used: str, bound: str) -> None:
    """A good signature by the right key under a sibling algorithm is refused."""
    kid = ... if bound in forge.HMACS else f"key-{bound}"
    token = forge.forge(header(used, kid=kid), algorithm=used)
    if {used, bound} <= {"EdDSA", "Ed25519"} or used == bound:
        assert verify(token, keys=key_set(bound), rules=RULES, now=NOW) == claims()
    else:
        refuse(token, key_set(bound))


@pytest.mark.parametrize("bound", ALGORITHMS)
@pytest.mark.parametrize("named", ALGORITHMS)
def test_header_must_name_the_algorithm_that_signed(named: str, bound: str) -> None:
    """A good signature by the right key does not make up for a header that says otherwise."""
    token = forge.forge(header(named, kid=f"key-{bound}"), algorithm=bound)
    if {named, bound} <= {"EdDSA", "Ed25519"} or named == bound:
        assert verify(token, keys=key_set(bound), rules=RULES, now=NOW) == claims()
    else:
        refuse(token, key_set(bound))


@pytest.mark.parametrize("bound", ALGORITHMS)
def test_check_refuses_a_key_of_another_algorithm(bound: str) -> None:
    """Even handed the wrong key by mistake, the check itself does not use it."""
    token = read(forge.forge(algorithm="ES256"))
    key = key_set(bound).find(Header(bound, f"key-{bound}", None))
    assert key is not None
    if bound == "ES256":
        assert check(token, key=key, rules=RULES, now=NOW) > NOW
    else:
        with pytest.raises(TokenInvalid):
            check(token, key=key, rules=RULES, now=NOW)


@pytest.mark.parametrize("digest", ["384", "512"])
def test_p256_signature_over_another_hash_is_refused(digest: str) -> None:
    """ES256 is P-256 with SHA-256 and nothing else."""
    sign = forge.ec_signer(forge.EC_KEYS["ES256"], digest)
    refuse(forge.forge(header("ES256"), sign=sign), key_set("ES256"))


def test_pss_salt_has_the_length_of_the_hash() -> None:
    """RFC 7518 section 3.5 fixes the salt; another length is another signature."""
    for length in (0, 20, padding.PSS.MAX_LENGTH):
        pss = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=length)
        sign = partial(forge.RSA_KEY.sign, padding=pss, algorithm=SHA256())
        refuse(forge.forge(header("PS256"), sign=sign), key_set("PS256"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bent_signature_is_refused(algorithm: str) -> None:
    """Every changed, missing or added byte of a signature spoils it."""
    head, payload, text = forge.forge(algorithm=algorithm).split(".")
    signature = forge.unsegment(text)
    bent = [signature[:-1], signature[1:], signature + b"\x00", b"\x00" + signature]
    bent += [b"\x00" * len(signature), b"\xff" * len(signature), signature[::-1]]
    bent += [bytes([signature[0] ^ 1]) + signature[1:], signature[:-1] + bytes([signature[-1] ^ 1])]
    for other in bent:
        refuse(f"{head}.{payload}.{forge.segment(other)}", key_set(algorithm))


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_rsa_signature_has_its_full_length(algorithm: str) -> None:
    """Also where it begins with a zero, without which it is the same number (RFC 8017)."""
    tokens = (forge.forge(payload=claims(n=n), algorithm=algorithm) for n in count())
    token = next(one for one in tokens if forge.unsegment(one.split(".")[2])[0] == 0)
    verify(token, keys=key_set(algorithm), rules=RULES, now=NOW)
    head, payload, text = token.split(".")
    signature = forge.unsegment(text)
    for other in (signature[1:], b"\x00" + signature):
        refuse(f"{head}.{payload}.{forge.segment(other)}", key_set(algorithm))


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_ecdsa_signature_is_two_numbers_of_full_length(algorithm: str) -> None:
    """Zeros, numbers of the order or beyond, and the ASN.1 form are refused."""
    head, payload, text = forge.forge(algorithm=algorithm).split(".")
    signature = forge.unsegment(text)
    size = len(signature) // 2
    r, s = signature[:size], signature[size:]
    zero, top = b"\x00" * size, b"\xff" * size
    asn1 = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    bare = [zero + zero, zero + s, r + zero, top + s, r + top, top + top, asn1, r + r, s + r]
    for bad in (*bare, r + b"\x00" + s, b"\x00" + r + b"\x00" + s):
        refuse(f"{head}.{payload}.{forge.segment(bad)}", key_set(algorithm))


def test_other_signature_of_the_same_ecdsa_token_is_the_same_claims() -> None:
    """(r, n-s) signs what (r, s) signs, so nothing may be keyed on the signature."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    head, payload, text = forge.forge(algorithm="ES256").split(".")
    signature = forge.unsegment(text)
    twin = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    token = f"{head}.{payload}.{forge.segment(twin)}"
    assert verify(token, keys=key_set("ES256"), rules=RULES, now=NOW) == claims()


def test_ed25519_signature_with_a_larger_number_is_refused() -> None:
    """Adding the order to s is the same number to a careless reader (RFC 8032 section 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    head, payload, text = forge.forge(algorithm="EdDSA").split(".")
    signature = forge.unsegment(text)
    larger = int.from_bytes(signature[32:], "little") + order
    twin = signature[:32] + larger.to_bytes(32, "little")
    refuse(f"{head}.{payload}.{forge.segment(twin)}", key_set("EdDSA"))


def test_ed25519_has_the_names_that_are_configured() -> None:
    """The two names of one algorithm are taken only where each is allowed."""
    for name, other in (("EdDSA", "Ed25519"), ("Ed25519", "EdDSA")):
        rules = replace(RULES, algorithms=frozenset({name}))
        keys = key_set(name)
        verify(forge.forge(algorithm=name), keys=keys, rules=rules, now=NOW)
        with pytest.raises(TokenInvalid):
            verify(
                forge.forge(header(other, kid=f"key-{name}"), algorithm=other),
                keys=keys,
                rules=rules,
                now=NOW,
            )


def test_key_inside_the_token_is_ignored() -> None:
    """A token that brings its own key is checked with ours, and fails."""
    attacker = ec.generate_private_key(ec.SECP256R1())
    own = {**forge.jwk_members(attacker.public_key()), "kid": "key-ES256", "alg": "ES256"}
    chain = [base64.b64encode(b"certificate").decode()]
    for extra in ({"jwk": own}, {"x5c": chain}, {"x5t": "AAAA"}, {"x5t#S256": "AAAA"}):
        head = header("ES256", **extra)
        refuse(forge.forge(head, sign=forge.ec_signer(attacker)), key_set("ES256"))
        honest = forge.forge(head, algorithm="ES256")
        assert verify(honest, keys=key_set("ES256"), rules=RULES, now=NOW) == claims()


def test_unknown_key_id_is_refused() -> None:
    """Keys are not tried one after another: the token names one."""
    refuse(forge.forge(header("ES256", kid="other"), algorithm="ES256"), key_set("ES256"))


def test_missing_key_id_means_the_only_key_of_that_algorithm() -> None:
    """Without an id there must be exactly one key it can be."""
    token = forge.forge(header("ES256", kid=...), algorithm="ES256")
    one = [
        read_key(jwk("ES256"), algorithms=ASYMMETRIC),
        read_key(jwk("RS256"), algorithms=ASYMMETRIC),
    ]
    assert verify(token, keys=KeySet(one), rules=RULES, now=NOW) == claims()
    other = forge.jwk_members(ec.generate_private_key(ec.SECP256R1()).public_key())
    two = [*one, read_key({**other, "kid": "second"}, algorithms=ASYMMETRIC)]
    refuse(token, KeySet(two))
    with pytest.raises(TokenInvalid):  # also of whoever would ask the issuer for more keys
        KeySet(two).find(Header("ES256", None, None))


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_published_key_is_read_for_its_algorithm(algorithm: str) -> None:
    """Each kind of key that an issuer may publish verifies what it signed."""
    keys = read_key_set(forge.document(jwk(algorithm)), algorithms=[algorithm])
    assert keys.left_out == ()
    assert verify(forge.forge(algorithm=algorithm), keys=keys.keys, rules=RULES, now=NOW)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "ES512", "EdDSA"])
def test_published_key_without_alg_gets_the_one_it_stands_for(algorithm: str) -> None:
    """A curve says it all; an RSA key takes the first RSA algorithm that is allowed."""
    bare = jwk(algorithm, alg=..., use=...)
    keys = read_key_set(forge.document(bare), algorithms=ASYMMETRIC).keys
    assert verify(forge.forge(algorithm=algorithm), keys=keys, rules=RULES, now=NOW)


def test_published_key_without_id_serves_tokens_without_id() -> None:
    """A lone key without a name is enough for tokens that name none."""
    bare = jwk("EdDSA", kid="x", alg=..., use=...)
    del bare["kid"]
    keys = read_key_set(forge.document(bare), algorithms=ASYMMETRIC).keys
    token = forge.forge(header("EdDSA", kid=...), algorithm="EdDSA")
    assert verify(token, keys=keys, rules=RULES, now=NOW)
    refuse(forge.forge(algorithm="EdDSA"), keys)


SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
NOT_POINTS = [
    "0200000000000000000000000000000000000000000000000000000000000000",  # on no x
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # p itself, for zero
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # p + 1, for one
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "00" * 31,
    "00" * 33,
]


def okp(encoded: str) -> dict[str, object]:
    """Return an Ed25519 key of these bytes."""
    return {"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": forge.segment(bytes.fromhex(encoded))}


def rsa_jwk(modulus: int, exponent: int = 65537) -> dict[str, object]:
    """Return an RSA key of these numbers."""
    return {"kty": "RSA", "kid": "a", "n": forge._number(modulus), "e": forge._number(exponent)}


#: Those whose remainders are the fingerprint of CVE-2017-15361: all odd ones up to 167.
ROCA_PRIMES = [n for n in range(3, 168) if all(n % smaller for smaller in range(2, n))]


def roca_modulus(sound: int = 1) -> int:
    """Return a number with that fingerprint, a power of 65537 throughout, but for one prime."""
    product = math.prod(ROCA_PRIMES) // sound
    modulus = pow(65537, 1234567, product) + product * (2**2047 // product + 1)
    while modulus % 2 == 0 or modulus % sound:
        modulus += product
    return modulus


#: A sound key of too few bits.
WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 -- weak on purpose


def elsewhere(**changes: object) -> dict[str, object]:
    """Return a P-256 key with a member changed."""
    return {name: value for name, value in (jwk("ES256") | changes).items() if value is not ...}


GOOD = "good"
MODULUS = forge.RSA_KEY.public_key().public_numbers().n
UNFIT: dict[str, dict[str, object]] = {
    "symmetric": {"kty": "oct", "k": forge.segment(SECRET), "kid": "a", "alg": "HS256"},
    "symmetric as RSA": {**jwk("RS256"), "k": forge.segment(SECRET)},
    "private EC": elsewhere(d="AAAA"),
    "private RSA": jwk("RS256", d="AAAA", p="AAAA", q="AAAA"),
    "for encryption": jwk("RS256", use="enc"),
    "use is a list": jwk("RS256", use=["sig"]),
    "use is null": jwk("RS256", use=None),
    "to sign": elsewhere(key_ops=["sign"]),
    "to encrypt": elsewhere(key_ops=["encrypt"]),
    "for nothing": elsewhere(key_ops=[]),
    "key_ops is a text": elsewhere(key_ops="verify"),
    "alg of another kind": elsewhere(alg="RS256"),
    "alg of another curve": elsewhere(alg="ES384"),
    "alg HS256": jwk("RS256", alg="HS256"),
    "alg none": jwk("RS256", alg="none"),
    "alg null": jwk("RS256", alg=None),
    "alg list": jwk("RS256", alg=["RS256"]),
    "alg not allowed": jwk("RS256", alg="RSA-OAEP"),
    "curve of another size": elsewhere(crv="P-384", alg="ES384"),
    "unknown curve": elsewhere(crv="secp256k1", alg="ES256K"),
    "curve is null": elsewhere(crv=None),
    "curve is a list": elsewhere(crv=["P-256"]),
    "Ed448": {
        "kty": "OKP",
        "crv": "Ed448",
        "kid": "a",
        "alg": "EdDSA",
        "x": forge.segment(ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()),
    },
    "Ed25519 as X25519": {**jwk("EdDSA"), "crv": "X25519"},
    "Ed25519 as EC": {**jwk("EdDSA"), "kty": "EC"},
    "P-256 as OKP": elsewhere(kty="OKP"),
    "X25519": {"kty": "OKP", "crv": "X25519", "kid": "a", "x": "A" * 43},
    "no kty": elsewhere(kty=...),
    "kty is a list": elsewhere(kty=["EC"]),
    "kid is a number": {**jwk("ES256"), "kid": 7},
    "kid is empty": {**jwk("ES256"), "kid": ""},
    "kid is null and alg wrong": {**jwk("ES256"), "kid": None, "alg": "RS256"},
    "not on the curve": elsewhere(x=forge.segment(b"\x01" * 32)),
    "the point at infinity": elsewhere(
        x=forge.segment(b"\x00" * 32), y=forge.segment(b"\x00" * 32)
    ),
    "short coordinate": elsewhere(x=forge.segment(b"\x01" * 31)),
    "long coordinates": elsewhere(
        **{
            name: forge.segment(b"\x00" + forge.unsegment(str(jwk("ES256")[name])))
            for name in ("x", "y")
        }
    ),
    "Ed25519 key too long": {
        **jwk("EdDSA"),
        "x": forge.segment(forge.unsegment(str(jwk("EdDSA")["x"])) + b"\x00"),
    },
    "coordinate is a number": elsewhere(x=1),
    "coordinate missing": elsewhere(y=...),
    "coordinate padded": elsewhere(x=str(jwk("ES256")["x"]) + "="),
    "coordinate in another alphabet": elsewhere(x="+" * 43),
    "coordinate not ASCII": elsewhere(x="é" * 43),
    "RSA of 1024 bits": {**forge.jwk_members(WEAK_RSA), "kid": "a"},
    "RSA of 2047 bits": rsa_jwk(2**2047 - 19),
    "RSA of 16384 bits": rsa_jwk(2**16383 + 1),
    "RSA exponent 1": rsa_jwk(MODULUS, 1),
    "RSA exponent 2": rsa_jwk(MODULUS, 2),
    "RSA exponent 65536": rsa_jwk(MODULUS, 65536),
    "RSA exponent of 33 bits": rsa_jwk(MODULUS, 2**32 + 1),
    "RSA modulus even": rsa_jwk(MODULUS + 1),
    "RSA modulus empty": {**rsa_jwk(MODULUS), "n": ""},
    "RSA by a broken generator": rsa_jwk(roca_modulus()),
    **{f"small order {encoded[:8]}": okp(encoded) for encoded in SMALL_ORDER},
    **{f"no point {encoded[:8]}": okp(encoded) for encoded in NOT_POINTS},
    "empty": {},
}


@pytest.mark.parametrize("name", UNFIT)
def test_unfit_key_is_left_out_and_the_rest_is_kept(name: str) -> None:
    """A bad key in a published set takes nothing else with it, and says why it was left out."""
    good = jwk("ES512", kid=GOOD)
    published = read_key_set(forge.document(UNFIT[name], good), algorithms=ASYMMETRIC_ALGORITHMS)
    assert len(published.keys) == 1
    assert len(published.left_out) == 1
    with pytest.raises(ValueError, match="no usable key"):
        read_key_set(forge.document(UNFIT[name]), algorithms=ASYMMETRIC_ALGORITHMS)


def test_largest_exponent_is_taken() -> None:
    """The cap on exponents is a cap."""
    assert read_key(rsa_jwk(MODULUS, 2**32 - 1), algorithms=["RS256"]).algorithm == "RS256"


def test_two_keys_of_one_id_are_both_left_out() -> None:
    """When an id does not name one key, it names none."""
    pair = [jwk("ES256", kid="same"), jwk("RS256", kid="same"), jwk("EdDSA", kid=GOOD)]
    published = read_key_set(forge.document(*pair), algorithms=ASYMMETRIC)
    assert len(published.keys) == 1
    refuse(forge.forge(header("ES256", kid="same"), algorithm="ES256"), published.keys)
    with pytest.raises(ValueError, match="same id"):
        KeySet([read_key(key, algorithms=ASYMMETRIC) for key in pair[:2]])


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"{}",
        b"[]",
        b"null",
        b'{"keys":[]}',
        b'{"keys":"x"}',
        b'{"keys":null}',
        b'{"keys":{}}',
        b'{"keys":[1]}',
        b'{"keys":["x"]}',
        b'{"keys":[null]}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{"kty":"RSA","kty":"EC"}]}',
        b"\xef\xbb\xbf" + forge.document(jwk("ES256")),
        forge.document(jwk("ES256")).decode().encode("utf-16"),
        b'{"keys":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"keys":[{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}]}",
        b'{"keys":[{"x":"\xff"}]}',
        b'{"keys":[{"x":1' + b"0" * 5000 + b"}]}",
        forge.document(*[jwk("EdDSA", kid=f"k{number}") for number in range(101)]),
    ],
)
def test_document_without_usable_keys_is_refused(document: bytes) -> None:
    """What is no set of keys, or is too much of one, is an error and not an empty set."""
    with pytest.raises(ValueError, match=r"it is|it has|no usable"):
        read_key_set(document, algorithms=ASYMMETRIC)


def test_set_with_a_repeated_member_is_refused() -> None:
    """Which of the two was meant, readers do not agree on (RFC 8259 section 4)."""
    good = forge.document(jwk("ES256"))
    assert len(read_key_set(good, algorithms=ASYMMETRIC).keys) == 1
    for inner in (b'"kid": "key-ES256"', b'"kty": "EC"'):
        with pytest.raises(ValueError, match="it is not a JWK Set"):
            read_key_set(good.replace(b"}]", b", " + inner + b"}]"), algorithms=ASYMMETRIC)
    with pytest.raises(ValueError, match="it is not a JWK Set"):
        read_key_set(b'{"keys": [], ' + good[1:], algorithms=ASYMMETRIC)


@pytest.mark.parametrize("sound", ROCA_PRIMES)
def test_key_with_only_part_of_the_fingerprint_is_taken(sound: int) -> None:
    """Each of the primes is looked at, and all of them have to speak against a key."""
    assert read_key(rsa_jwk(roca_modulus(sound)), algorithms=["RS256"]).algorithm == "RS256"


def test_hundred_keys_are_read() -> None:
    """The cap on keys is a cap."""
    many = [jwk("EdDSA", kid=f"k{number}") for number in range(100)]
    assert len(read_key_set(forge.document(*many), algorithms=ASYMMETRIC).keys) == 100


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("RS256", "ES256"),
        ("ES256", "RS256"),
        ("EdDSA", "PS256"),
        ("ES256", "EdDSA"),
        ("EdDSA", "ES256"),
        ("ES256", "ES384"),
        ("ES256", "HS256"),
    ],
)
def test_key_of_another_kind_checks_nothing(kind: str, algorithm: str) -> None:
    """Whoever names the algorithm, a key is for its own kind and curve alone."""
    with pytest.raises(ValueError, match="cannot check"):
        public_key(forge.public_part(kind), algorithm=algorithm)


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_secret_has_at_least_the_length_of_the_hash(algorithm: str, size: int) -> None:
    """Short secrets can be guessed from one token (RFC 7518 section 3.2)."""
    secret_key(b"x" * size, algorithm=algorithm)
    for short in (b"", b"x" * 8, b"x" * (size - 1)):
        with pytest.raises(ValueError, match="at least"):
            secret_key(short, algorithm=algorithm)


def test_secret_serves_no_other_algorithm() -> None:
    """A secret is for an HMAC."""
    with pytest.raises(ValueError, match="HS256"):
        secret_key(SECRET, algorithm="RS256")


def test_key_does_not_show_its_material() -> None:
    """What a log or a traceback prints of a key is its name."""
    shown = repr(secret_key(SECRET)) + repr(KeySet.of_secret(SECRET))
    assert SECRET.decode() not in shown
    assert repr(SECRET) not in shown


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_issued_token_is_accepted(algorithm: str) -> None:
    """What we sign, we take."""
    curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
    key = ECKey.generate_key(curve, {"alg": algorithm, "kid": "ours"})
    keys = KeySet([public_key(key.public_key, algorithm=algorithm, kid="ours")])
    token = issue(claims(name="Ána"), key)
    assert verify(token, keys=keys, rules=RULES, now=NOW) == claims(name="Ána")


def test_every_signature_is_as_long_as_its_curve_says() -> None:
    """Also one of a number that begins with zeros, as one in 256 does (RFC 7518 section 3.4)."""
    key = ECKey.generate_key("P-256", {"alg": "ES256", "kid": "ours"})
    keys = KeySet([public_key(key.public_key, algorithm="ES256", kid="ours")])
    for _ in range(1000):
        token = issue(claims(), key)
        assert len(token.rpartition(".")[2]) == 86
        assert verify(token, keys=keys, rules=RULES, now=NOW) == claims()


@pytest.mark.parametrize("curve", ["P-384", "secp256k1"])
def test_nothing_is_issued_with_the_key_of_another_curve(
    curve: Literal["P-384", "secp256k1"],
) -> None:
    """ES256 is of one curve, whatever the key says of itself."""
    key = ECKey.generate_key(curve, {"alg": "ES256", "kid": "ours"})
    with pytest.raises(ValueError, match="cannot sign"):
        issue(claims(), key)


def test_nothing_is_issued_with_a_public_key() -> None:
    """Who can only verify can not sign."""
    key = ECKey.generate_key("P-256", {"alg": "ES256", "kid": "ours"}, private=False)
    with pytest.raises(ValueError, match="cannot sign"):
        issue(claims(), key)


@pytest.mark.parametrize("missing", ["alg", "kid"])
def test_nothing_is_issued_with_a_nameless_key(missing: Literal["alg", "kid"]) -> None:
    """A token that does not say which key signed it could not be checked."""
    parameters: KeyParameters = {"alg": "ES256", "kid": "ours"}
    parameters[missing] = ""
    key = ECKey.generate_key("P-256", parameters)
    with pytest.raises(ValueError, match="alg and kid"):
        issue(claims(), key)
