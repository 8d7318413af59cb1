"""What a token is bound to, and whether the request that shows it has that.

A key: the client proves it with a DPoP proof (RFC 9449), a small JWT that it signs for one
request. A network (an address, or its /64 in IPv6) or a kind of device, for operators who
choose that: both can be imitated, and networks change by themselves. In a token stands a
`cnf` claim (RFC 7800) that names one of them; a token without it is anybody's who has it.

A proof is good for one request. It is remembered for as long as it could be taken, by this
process and by whoever else is told: but only once the token that it came with was found to be
good, so that strangers cannot fill the memory, and only so many of one person.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections import Counter, OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from chatkeep.devices import device_name
from chatkeep.errors import RateLimited, TokenInvalid, Unavailable
from chatkeep.request_origin import request_origin
from chatkeep.tokens import ASYMMETRIC_ALGORITHMS, is_identifier, read, read_key
from chatkeep.tokens.compact import decode_base64url, refuse_repeated_members

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

#: A proof is taken for so long after it was made, and as much before, for clocks differ.
PROOF_LIFE_S: Final = 60
_LONGEST_PROOF: Final = 4096
#: A proof made by a clock that is ahead is taken for twice its life, so it is remembered.
_REMEMBERED_FOR_S: Final = 2 * PROOF_LIFE_S
_REMEMBERED_AT_MOST: Final = 100_000
#: Of one person: more than the limit of requests lets anybody show in that time.
_OF_ONE_AT_MOST: Final = 10_000
#: Of requests that nobody is known to have made, such as sign-ins.
_OF_NOBODY_AT_MOST: Final = 50_000
NOBODY: Final = ""
_TYPE: Final = "dpop+jwt"
#: The members of a key that its thumbprint is made of (RFC 7638 section 3.2, RFC 8037).
_THUMBPRINT: Final = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")} | {
    "OKP": ("crv", "kty", "x")
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a proof is made for: one request, as the client addressed it."""

    method: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKey:
    """A key that a proof proved: its thumbprint, and what the proof calls itself (`jti`)."""

    thumbprint: str
    proof_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What the request at hand has: a key, where it comes from, and with what."""

    key: ShownKey | None = None
    address: str | None = None
    user_agent: str | None = None

    def binding(self, kind: str) -> str | None:
        """Return what a token for this request is bound to by *kind*; a key comes before it."""
        if self.key is not None:
            return f"jkt:{self.key.thumbprint}"
        value = self._value(kind)
        return None if value is None else f"{kind}:{value}"

    def has(self, confirmation: object) -> bool:
        """Whether a token with this `cnf` (None: without one) may be used by the request."""
        if confirmation is None:
            # A token that is shown with a proof and names no key was never given out for one.
            return self.key is None
        if not isinstance(confirmation, dict) or len(confirmation) != 1:
            return False
        ((kind, wanted),) = confirmation.items()
        if self.key is not None:
            found = self.key.thumbprint if kind == "jkt" else None
        else:
            found = self._value(kind)
        return found is not None and isinstance(wanted, str) and hmac.compare_digest(found, wanted)

    def _value(self, kind: str) -> str | None:
        match kind:
            case "address" if self.address is not None:
                return _digest(_network(self.address))
            case "device" if self.user_agent is not None:
                return _digest(device_name(self.user_agent))
        return None


#: A request that proves nothing.
NOTHING: Final = Proven()


def confirmation(bound_to: str | None) -> dict[str, object]:
    """Return the claims by which an access token says what it is bound to."""
    if bound_to is None:
        return {}
    kind, _, value = bound_to.partition(":")
    return {"cnf": {kind: value}}


@dataclass(frozen=True, slots=True)
class _Spent:
    until: float
    request_id: str | None
    owner: str


class Proofs:
    """Verifies DPoP proofs, and lets each be used for one request. Share one per process.

    *elsewhere* tells everybody else who takes the same proofs that one is shown, and returns
    whether it is the first time that anybody does; where nobody can be asked, it says so too.
    """

    def __init__(
        self,
        *,
        public_url: str | None,
        elsewhere: Callable[[ShownKey], Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take *public_url* for the address people use; None: what a request says itself."""
        self._public_url = public_url
        self._elsewhere = elsewhere
        self._clock = clock
        self._spent: OrderedDict[ShownKey, _Spent] = OrderedDict()
        self._owners: Counter[str] = Counter()

    def check(self, proof: str, request: Request, *, access_token: str | None = None) -> ShownKey:
        """Return the key that *proof* proves (RFC 9449 section 4.3), which is to be `spend`ed.

        Raises:
            TokenInvalid: it proves none for this request.
        """
        if not 0 < len(proof) <= _LONGEST_PROOF:
            raise TokenInvalid
        claims, key = _verified(proof)
        if claims.get("htm") != request.method or not self._is_for(claims.get("htu"), request):
            raise TokenInvalid
        if access_token is not None and claims.get("ath") != _hash_of(access_token):
            raise TokenInvalid
        made, now = claims.get("iat"), self._clock()
        # By comparing: an integer of JSON may be too large to reckon with.
        if type(made) not in {int, float} or not now - PROOF_LIFE_S <= made <= now + PROOF_LIFE_S:  # type: ignore[operator]
            raise TokenInvalid
        identifier = claims.get("jti")
        if not is_identifier(identifier):
            raise TokenInvalid
        return ShownKey(thumbprint=key, proof_id=str(identifier))

    async def spend(self, shown: ShownKey, *, owner: str = NOBODY) -> None:
        """Use a proof for the request at hand, whose looks at it all count as one.

        *owner* is whose token it came with; only proofs of good tokens have one.

        Raises:
            TokenInvalid: another request has shown it, here or elsewhere.
            RateLimited: *owner* has shown too many of late.
            Unavailable: so many were shown that no more can be remembered.
        """
        if not self._is_first_look(shown, owner) or self._elsewhere is None:
            return
        if not await self._elsewhere(shown):
            raise TokenInvalid

    def _is_first_look(self, shown: ShownKey, owner: str) -> bool:
        self._forget()
        at_hand = request_origin.get().request_id
        before = self._spent.get(shown)
        if before is not None:
            if before.request_id is None or before.request_id != at_hand:
                raise TokenInvalid
            return False
        self._require_room(owner)
        until = self._clock() + _REMEMBERED_FOR_S
        self._spent[shown] = _Spent(until, at_hand, owner)
        self._owners[owner] += 1
        return True

    def _require_room(self, owner: str) -> None:
        """Refuse rather than forget one that could still be copied."""
        if owner != NOBODY and self._owners[owner] >= _OF_ONE_AT_MOST:
            raise RateLimited(retry_after_s=PROOF_LIFE_S)
        too_many = owner == NOBODY and self._owners[owner] >= _OF_NOBODY_AT_MOST
        if too_many or len(self._spent) >= _REMEMBERED_AT_MOST:
            raise Unavailable

    def _forget(self) -> None:
        now = self._clock()
        while self._spent:
            shown, spent = next(iter(self._spent.items()))
            if spent.until >= now:
                break
            del self._spent[shown]
            self._owners[spent.owner] -= 1
            if not self._owners[spent.owner]:
                del self._owners[spent.owner]

    def _is_for(self, said: object, request: Request) -> bool:
        if not isinstance(said, str):
            return False
        wanted = request.url
        try:
            if self._public_url is not None:
                wanted = self._public_url + urlsplit(request.url).path
            return _normal(said) == _normal(wanted)
        except ValueError:
            return False


def _verified(proof: str) -> tuple[dict[str, object], str]:
    """Return the claims of a proof, and the thumbprint of the key that signed it."""
    token = read(proof)
    if token.header.typ != _TYPE or token.header.alg not in ASYMMETRIC_ALGORITHMS:
        raise TokenInvalid
    try:
        jwk = _key_in(proof)
        key = read_key(jwk, algorithms=(token.header.alg,))
        key.check(token.signature, token.signing_input)
        refuse_repeated_members(token.payload, token.claims)
        return token.claims, thumbprint(jwk)
    except (ValueError, KeyError, InvalidSignature, UnsupportedAlgorithm, RecursionError) as error:
        raise TokenInvalid from error


def _key_in(proof: str) -> dict[str, Any]:
    header = msgspec.json.decode(decode_base64url(proof.partition(".")[0]), type=dict[str, Any])
    jwk = header.get("jwk")
    if not isinstance(jwk, dict) or not {"jku", "x5c", "x5u"}.isdisjoint(header):
        raise ValueError("no key of its own")
    return jwk


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a public key (RFC 7638)."""
    members = {name: jwk[name] for name in _THUMBPRINT[jwk["kty"]]}
    return _base64url(hashlib.sha256(msgspec.json.encode(members, order="sorted")).digest())


def _hash_of(access_token: str) -> str:
    return _base64url(hashlib.sha256(access_token.encode()).digest())


def _digest(text: str | None) -> str | None:
    return None if text is None else _base64url(hashlib.sha256(text.encode()).digest())


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _network(address: str) -> str | None:
    """The address, or in IPv6 its /64: a device's own half changes by itself (RFC 8981)."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return str(ip_network(f"{known}/{32 if known.version == 4 else 64}", strict=False))  # noqa: PLR2004 -- the version's number


def _normal(url: str) -> tuple[str, str, int | None, str]:
    """Compare by scheme, host, port and path (RFC 9449 section 4.3, RFC 3986 section 6.2.3)."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or parts.username is not None:
        raise ValueError("no address of the web")
    port = parts.port or _DEFAULT_PORTS[scheme]
    return scheme, (parts.hostname or "").lower(), port, parts.path or "/"
