"""Authenticators in software (WebAuthn), honest ones and others."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

if TYPE_CHECKING:
    from tests.second_factors import Member
    from tests.serving import Answer

ORIGIN = "http://localhost:8000"
_PRESENT, _VERIFIED, _HAS_KEY = 0x01, 0x04, 0x40


@dataclass(slots=True, kw_only=True)
class Authenticator:
    """A key in somebody's hand, and the browser it is plugged into.

    What it does wrong is said by its fields: *origin* and *rp_id* of the page, *says*
    further members of the client data, and whether the person touched and unlocked it.
    """

    origin: str = ORIGIN
    rp_id: str = "localhost"
    present: bool = True
    unlocked: bool = True
    algorithm: int = -7
    counter: int = 0
    says: dict[str, Any] = field(default_factory=dict)
    id: bytes = field(default_factory=lambda: os.urandom(32))
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    handle: str | None = None

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to `navigator.credentials.create`."""
        self.handle = options["user"]["id"]
        attested = (
            bytes(16) + struct.pack(">H", len(self.id)) + self.id + cbor2.dumps(self._public_key())
        )
        data = self._data(_HAS_KEY) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client_data = self._client_data("webauthn.create", options["challenge"])
        response = {
            "clientDataJSON": text_of(client_data),
            "attestationObject": text_of(attestation),
            "transports": ["internal", "made-up"],
        }
        return self._answer(response)

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to `navigator.credentials.get`, its counter one further."""
        self.counter += 1
        data = self._data(0)
        client_data = self._client_data("webauthn.get", options["challenge"])
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": text_of(client_data),
            "authenticatorData": text_of(data),
            "signature": text_of(signature),
            "userHandle": self.handle,
        }
        return self._answer(response)

    def _answer(self, response: dict[str, Any]) -> dict[str, Any]:
        own = text_of(self.id)
        return {
            "id": own,
            "rawId": own,
            "type": "public-key",
            "response": response,
            "clientExtensionResults": {},
        }

    def _data(self, flags: int) -> bytes:
        flags |= _PRESENT * self.present | _VERIFIED * self.unlocked
        rp_hash = hashlib.sha256(self.rp_id.encode()).digest()
        return rp_hash + struct.pack(">BI", flags, self.counter)

    def _client_data(self, kind: str, challenge: str) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps({**said, **self.says}).encode()

    def _public_key(self) -> dict[int, object]:
        numbers = self.key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return {1: 2, 3: self.algorithm, -1: 1, -2: x, -3: y}


async def registered(
    member: Member, key: Authenticator, offer: dict[str, Any] | None = None
) -> Answer:
    """Register *key* as a passkey of *member*'s."""
    if offer is None:
        offer = (await member.client.post("/auth/v1/passkeys/registration/options", {})).json
    body = {"challenge_id": offer["challenge_id"], "credential": key.create(offer["options"])}
    return await member.client.post("/auth/v1/passkeys/registration/verify", body)


async def passkey_of(member: Member) -> Authenticator:
    """Return a passkey of *member*'s."""
    key = Authenticator()
    answer = await registered(member, key)
    assert answer.status == 200, answer.text
    return key


def other_challenge() -> str:
    """Return a challenge that nobody made."""
    return text_of(os.urandom(32))


def bytes_of(text: str) -> bytes:
    """Return the bytes that base64url *text* stands for."""
    return urlsafe_b64decode(text + "==")


def text_of(raw: bytes) -> str:
    """Return *raw* in base64url."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
