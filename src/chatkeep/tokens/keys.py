"""Key sets: what an issuer signs with, read from what it publishes.

Only public keys and only whole, sound ones: a key that is weak, private, meant for
something else or not quite right is left out, and never becomes an HMAC secret. Nothing
here fetches; `chatkeep.jwks` does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from chatkeep.errors import TokenInvalid
from chatkeep.tokens.algorithms import (
    CURVES,
    ED25519_NAMES,
    RSA_ALGORITHMS,
    Key,
    PublicKey,
    public_key,
    secret_key,
)
from chatkeep.tokens.compact import Header, Repeated, decode_base64url, refuse_repeated_members

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_KEYS: Final = 100
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVE_NAMES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

_RSA_BITS = range(2048, 8193)  # below is weak; above is a way to keep us busy
_MAX_RSA_EXPONENT_BITS = 32
_ROCA_PRIMES = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89),
    *(97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)

_ED25519_P = 2**255 - 19
_ED25519_D = -121665 * pow(121666, -1, _ED25519_P) % _ED25519_P
#: The y coordinates of the eight points whose order divides eight. Signatures that fit
#: such a "key" can be made by anybody.
_ED25519_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _ED25519_P - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)


class KeySet:
    """The keys of one issuer, each under its own id. Never changes: a rotation is a new set.

    Identity is the set's generation: what was verified with a set that is no longer the
    issuer's current one has to be verified again.
    """

    __slots__ = ("_by_algorithm", "_by_kid", "_one_secret", "_size")

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        """Hold *keys*.

        Raises:
            ValueError: two have the same id; which one was meant could not be told.
        """
        kept = tuple(keys)
        named = [key for key in kept if key.kid is not None]
        self._by_kid = {key.kid: key for key in named}
        if len(self._by_kid) != len(named):
            raise ValueError("two keys have the same id")
        counts = Counter(key.algorithm for key in kept)
        self._by_algorithm = {key.algorithm: key for key in kept if counts[key.algorithm] == 1}
        self._one_secret = False
        # Reckoned once: whoever looks whether there are any does so for each request.
        choice = (*self._by_kid.values(), *self._by_algorithm.values())
        self._size = len({id(key) for key in choice})

    @classmethod
    def of_secret(cls, secret: bytes, *, algorithm: str = "HS256") -> KeySet:
        """Return the set of one shared secret, whatever id a token gives it.

        Raises:
            ValueError: the secret is too short for the algorithm.
        """
        keys = cls([secret_key(secret, algorithm=algorithm)])
        keys._one_secret = True
        return keys

    def __len__(self) -> int:
        """Return how many keys there are to choose from."""
        return self._size

    @property
    def algorithms(self) -> frozenset[str]:
        """What the keys are made for."""
        keys = (*self._by_kid.values(), *self._by_algorithm.values())
        return frozenset(key.algorithm for key in keys)

    def find(self, header: Header) -> Key | None:
        """Return the one key that *header* asks for, or None if it names an unknown one.

        Whether the key is made for the header's algorithm is for `check` to say.

        Raises:
            TokenInvalid: no id is given and it is not plain which key is meant (we do not
                try one after another).
        """
        if header.kid is not None and not self._one_secret:
            return self._by_kid.get(header.kid)
        key = self._by_algorithm.get(canonical(header.alg))
        if key is None:
            raise TokenInvalid
        return key


def canonical(algorithm: str) -> str:
    """Return the one name of an algorithm that has two."""
    return "EdDSA" if algorithm == "Ed25519" else algorithm


class _Document(msgspec.Struct):
    keys: list[dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKeys:
    """A JWK Set as we understood it: what can be used, and why the rest cannot."""

    keys: KeySet
    left_out: tuple[str, ...]


_document_decoder = msgspec.json.Decoder(_Document)
_object_decoder = msgspec.json.Decoder(dict[str, object])


def read_key_set(document: bytes, *, algorithms: Iterable[str]) -> PublishedKeys:
    """Read a JWK Set (RFC 7517 section 5), leaving out what is not fit to verify with.

    A key becomes bound to its own `alg`, else to the one its curve stands for, else (RSA)
    to the first RSA algorithm in *algorithms*.

    Raises:
        ValueError: it is no JWK Set, or has too many keys, or none that can be used.
    """
    allowed = tuple(algorithms)
    found: list[Key] = []
    reasons: list[str] = []
    for jwk in _published(document):
        try:
            found.append(read_key(jwk, algorithms=allowed))
        except (ValueError, UnsupportedAlgorithm) as error:
            reasons.append(str(error))
    uses = Counter(key.kid for key in found if key.kid is not None)
    reasons += [f"{count} keys have the same id" for count in uses.values() if count > 1]
    kept = [key for key in found if key.kid is None or uses[key.kid] == 1]
    if not kept:
        raise ValueError(f"no usable key ({'; '.join(reasons[:3]) or 'it is empty'})")
    return PublishedKeys(keys=KeySet(kept), left_out=tuple(reasons))


def _published(document: bytes) -> list[dict[str, object]]:
    try:
        keys = _document_decoder.decode(document).keys
        refuse_repeated_members(document, _object_decoder.decode(document))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError, Repeated) as error:
        raise ValueError("it is not a JWK Set") from error
    if len(keys) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    return keys


def read_key(jwk: Mapping[str, object], *, algorithms: Iterable[str]) -> Key:
    """Read one public JWK (RFC 7517 section 4).

    Raises:
        ValueError: it cannot be used to verify with one of *algorithms*; says why.
        UnsupportedAlgorithm: the build of OpenSSL below us lacks its curve.
    """
    _refuse_purpose(jwk)
    kid = jwk.get("kid")
    if not isinstance(kid, str | None) or kid == "":
        raise ValueError("kid is not a text")
    algorithm = _algorithm_for(jwk, tuple(algorithms))
    return public_key(_public_part(jwk, algorithm), algorithm=algorithm, kid=kid)


def _refuse_purpose(jwk: Mapping[str, object]) -> None:
    """Refuse keys that are secret, were made public by accident, or are not for this."""
    if _PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("it is a secret or private key")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("its use is not sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("its key_ops do not allow to verify")


def _algorithm_for(jwk: Mapping[str, object], allowed: tuple[str, ...]) -> str:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    possible: tuple[str, ...] = ()
    if kind == "RSA":
        possible = tuple(name for name in allowed if name in RSA_ALGORITHMS)
    elif kind == "EC" and isinstance(curve, str):
        possible = tuple(name for name in allowed if name == _CURVE_NAMES.get(curve))
    elif kind == "OKP" and curve == "Ed25519":
        possible = tuple(name for name in ED25519_NAMES if name in allowed)
    named = jwk.get("alg", possible[0] if possible else None)
    if named not in possible:
        raise ValueError("its type, curve or alg is not one we use")
    return str(named)


def _public_part(jwk: Mapping[str, object], algorithm: str) -> PublicKey:
    if algorithm in CURVES:
        return _curve_key(_member(jwk, "x"), _member(jwk, "y"), algorithm)
    if algorithm in ED25519_NAMES:
        return _ed25519_key(_member(jwk, "x"))
    modulus, exponent = _member(jwk, "n"), _member(jwk, "e")
    return _rsa_key(int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big"))


def _member(jwk: Mapping[str, object], name: str) -> bytes:
    value = jwk.get(name)
    if isinstance(value, str):
        return decode_base64url(value)
    raise ValueError(f"{name} is missing")


def _curve_key(x: bytes, y: bytes, algorithm: str) -> PublicKey:
    curve = CURVES[algorithm]
    if not len(x) == len(y) == (curve.key_size + 7) // 8:  # RFC 7518 section 6.2.1.2
        raise ValueError("a coordinate does not have its full length")
    numbers = EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
    return numbers.public_key()  # refuses a point that is not on the curve


def _ed25519_key(encoded: bytes) -> PublicKey:
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    if y >= _ED25519_P or not _is_on_ed25519(y):
        raise ValueError("it is not a point of Ed25519")
    if y in _ED25519_SMALL_ORDER_Y:
        raise ValueError("its order is small")
    return Ed25519PublicKey.from_public_bytes(encoded)  # refuses another length


def _is_on_ed25519(y: int) -> bool:
    """Whether some x has this y (RFC 8032 section 5.1.3); the library does not look."""
    square = (y * y - 1) * pow(_ED25519_D * y * y + 1, -1, _ED25519_P) % _ED25519_P
    return pow(square, (_ED25519_P - 1) // 2, _ED25519_P) in {0, 1}


def _rsa_key(modulus: int, exponent: int) -> PublicKey:
    if modulus.bit_length() not in _RSA_BITS or not modulus & 1:
        raise ValueError(f"RSA keys must have {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits")
    if exponent.bit_length() > _MAX_RSA_EXPONENT_BITS:
        raise ValueError("its exponent is too large")
    if _is_roca(modulus):
        raise ValueError("it was made by a generator whose keys can be factored (ROCA)")
    return RSAPublicNumbers(exponent, modulus).public_key()  # refuses e even or below 3


def _is_roca(modulus: int) -> bool:
    """Whether *modulus* has the fingerprint of CVE-2017-15361.

    Its primes are 65537^a modulo a product of small primes, and so is their product; a
    sound key looks like that by chance once in 10^8.
    """
    return all(modulus % prime in _POWERS[prime] for prime in _ROCA_PRIMES)


_POWERS = {
    prime: frozenset(pow(65537, power, prime) for power in range(prime)) for prime in _ROCA_PRIMES
}
