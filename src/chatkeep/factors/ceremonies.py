"""What is asked of an authenticator, and whether its answer is right (WebAuthn Level 2).

The checks are those of the library `webauthn`; what it leaves to its caller is here: the
counter, frames of other sites, and that nothing a stranger sends raises anything but
`Unverified`. Knows no account and no database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
import webauthn
from webauthn.helpers import (
    base64url_to_bytes,
    options_to_json_dict,
    parse_client_data_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from chatkeep.config.factors import is_address
from chatkeep.config.values import THIS_MACHINE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chatkeep.config import Settings

#: EdDSA, ES256 and RS256: what authenticators have, and nothing that is on its way out.
ALGORITHMS: Final = [
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
_PATIENCE_MS: Final = 300_000
_LONGEST_ID: Final = 1023  # WebAuthn section 5.1.3 step 4 has it as the most
_TRANSPORTS: Final = {one.value: one for one in AuthenticatorTransport}


class Unverified(Exception):
    """An authenticator's answer is not right; *reason* is for the audit log alone."""

    def __init__(self, reason: str = "verification_failed") -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelyingParty:
    """Who asks: the domain that keys belong to, and the pages where they are used."""

    id: str
    origins: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> RelyingParty | None:
        """Return who this server is to authenticators; None where it has no domain."""
        parts = urlsplit(settings.base_url)
        host = parts.hostname or ""
        host = "localhost" if host in THIS_MACHINE else host
        rp_id = settings.webauthn_rp_id or host
        if is_address(rp_id):
            return None
        port = f":{parts.port}" if parts.port else ""
        return cls(
            id=rp_id, origins=settings.webauthn_origins or (f"{parts.scheme}://{host}{port}",)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom a new key is for, as the authenticator keeps and shows it.

    One authenticator has one discoverable key for each *handle* and domain.
    """

    handle: bytes
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that was registered."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    transports: list[str]
    backed_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A key that we know, to be offered or excluded."""

    credential_id: bytes
    transports: Sequence[str]


def creation_options(
    party: RelyingParty,
    owner: Owner,
    challenge: bytes,
    *,
    known: Sequence[Known],
    passkey: bool,
) -> dict[str, Any]:
    """Return what `navigator.credentials.create` is asked; *known* keys are not made again.

    A *passkey* is found without a name and asks for a finger, a face or a PIN; a second
    factor does not have to.
    """
    chosen = AuthenticatorSelectionCriteria(
        resident_key=(
            ResidentKeyRequirement.REQUIRED if passkey else ResidentKeyRequirement.DISCOURAGED
        ),
        require_resident_key=passkey,
        user_verification=_verification(required=passkey),
    )
    options = webauthn.generate_registration_options(
        rp_id=party.id,
        rp_name=party.id,
        user_id=owner.handle,
        user_name=owner.name,
        user_display_name=owner.name,
        challenge=challenge,
        timeout=_PATIENCE_MS,
        authenticator_selection=chosen,
        exclude_credentials=[_descriptor(one) for one in known],
        supported_pub_key_algs=ALGORITHMS,
    )
    return options_to_json_dict(options)


def request_options(
    party: RelyingParty, challenge: bytes, *, known: Sequence[Known], passkey: bool
) -> dict[str, Any]:
    """Return what `navigator.credentials.get` is asked: one of *known* keys, or any passkey."""
    options = webauthn.generate_authentication_options(
        rp_id=party.id,
        challenge=challenge,
        timeout=_PATIENCE_MS,
        allow_credentials=[_descriptor(one) for one in known],
        user_verification=_verification(required=passkey),
    )
    return options_to_json_dict(options)


def registered(
    party: RelyingParty, answer: Mapping[str, Any], challenge: bytes, *, passkey: bool
) -> Key:
    """Return the key that an authenticator made for *challenge*.

    Raises:
        Unverified: challenge, origin, domain, algorithm or user verification are not right.
    """
    try:
        found = webauthn.verify_registration_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            require_user_verification=passkey,
            supported_pub_key_algs=ALGORITHMS,
        )
        _require_own_page(answer)
        said = answer["response"].get("transports") or []
        transports = [one for one in said if one in _TRANSPORTS]
    except Unverified:
        raise
    except Exception as error:  # a stranger's CBOR, DER and JSON: its parsers raise anything
        raise Unverified from error
    if len(found.credential_id) > _LONGEST_ID:
        raise Unverified
    return Key(
        credential_id=found.credential_id,
        public_key=found.credential_public_key,
        sign_count=found.sign_count,
        transports=transports,
        backed_up=found.credential_backed_up,
    )


def shown_key(answer: Mapping[str, Any]) -> tuple[bytes, bytes | None]:
    """Return the id of the key that *answer* claims to be of, and the handle of its owner.

    Raises:
        Unverified: it names none.
    """
    try:
        handle = answer["response"].get("userHandle")
        return base64url_to_bytes(answer["id"]), base64url_to_bytes(handle) if handle else None
    except Exception as error:  # a stranger's JSON
        raise Unverified from error


def signed(
    party: RelyingParty,
    answer: Mapping[str, Any],
    challenge: bytes,
    *,
    public_key: bytes,
    sign_count: int,
    passkey: bool,
) -> int:
    """Return the key's new counter, if it has signed *challenge*.

    Raises:
        Unverified: challenge, origin, domain, user verification or signature are not right; or
            the counter did not grow, so there are two of this key ("cloned_authenticator").
    """
    try:
        found = webauthn.verify_authentication_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=public_key,
            credential_current_sign_count=0,  # looked at below, once the signature is right
            require_user_verification=passkey,
        )
        _require_own_page(answer)
    except Unverified:
        raise
    except Exception as error:  # a stranger's CBOR, DER and JSON: its parsers raise anything
        raise Unverified from error
    # WebAuthn section 6.1.1: an authenticator without a counter says zero for ever.
    if found.new_sign_count <= sign_count and (found.new_sign_count or sign_count):
        raise Unverified("cloned_authenticator")
    return found.new_sign_count


def _require_own_page(answer: Mapping[str, Any]) -> None:
    """Refuse what was signed in a frame inside another site's page (WebAuthn section 13.4.9)."""
    raw = base64url_to_bytes(answer["response"]["clientDataJSON"])
    if parse_client_data_json(raw).cross_origin or msgspec.json.decode(raw).get("topOrigin"):
        raise Unverified("other_site")


def _verification(*, required: bool) -> UserVerificationRequirement:
    wanted = UserVerificationRequirement
    return wanted.REQUIRED if required else wanted.PREFERRED


def _descriptor(known: Known) -> PublicKeyCredentialDescriptor:
    transports = [_TRANSPORTS[one] for one in known.transports if one in _TRANSPORTS]
    return PublicKeyCredentialDescriptor(id=known.credential_id, transports=transports or None)
