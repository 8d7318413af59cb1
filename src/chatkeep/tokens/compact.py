"""The shape of a token: JWS compact serialization, read strictly.

Takes text apart and says nothing about who made it: everything here is unverified. The
rules of RFC 7515 and RFC 7519 are applied to the letter, because each leniency (padding,
other encodings, repeated members) has been somebody's way in. One token has one spelling.
"""

from __future__ import annotations

import json
from binascii import a2b_base64
from functools import lru_cache

import msgspec
from msgspec import UNSET, UnsetType

from chatkeep.errors import TokenInvalid

#: Longer text is refused before anything looks at it. Requests carry tokens in a header,
#: and servers cap those at 8 to 16 KiB anyway.
MAX_TOKEN_LENGTH = 8192

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# Turns base64url into the alphabet that the decoder knows, and all that is foreign to it
# (padding and dots among it) into a byte that the decoder refuses.
_TO_STANDARD = bytes(
    b"+/"[b"-_".index(code)] if code in b"-_" else code if code in _ALPHABET else 0
    for code in range(256)
)
# By the segment's length modulo four: the characters it may end with so that the bits
# which stand for no byte are zero (RFC 4648 section 3.5), and the padding left off.
_ENDINGS = (_ALPHABET, b"", b"AQgw", b"AEIMQUYcgkosw048")
_PADDING = (b"", b"", b"==", b"=")

_KNOWN_HEADERS = 256
_MAX_KEY_ID_LENGTH = 512


class Header(msgspec.Struct, frozen=True):
    """What a token says about how it was signed. Nothing else in its header is looked at.

    `jwk`, `jku`, `x5c`, `x5u` and their like are ignored, as RFC 7515 section 4 lets a
    reader: keys come from configuration only, and no address in a token is ever visited.
    *typ* is in lower case and without `application/` (RFC 7515 section 4.1.9), or None.
    """

    alg: str
    kid: str | None
    typ: str | None


# msgspec records where this package needs them by the thousand: a frozen dataclass takes
# about as long to make as a whole header takes to look up.
class Unverified(msgspec.Struct, frozen=True):
    """A well-formed token that nobody has vouched for yet.

    *claims* may be used to find out whose key to try, and for nothing more.
    """

    header: Header
    claims: dict[str, object]
    payload: bytes
    signing_input: bytes
    signature: bytes


class _WrittenHeader(msgspec.Struct):
    """The members that matter, with the types they must have; null is not "absent"."""

    alg: str
    kid: str | UnsetType = UNSET
    typ: str | UnsetType = UNSET
    crit: msgspec.Raw | UnsetType = UNSET
    b64: msgspec.Raw | UnsetType = UNSET


class Repeated(ValueError):
    """A JSON object names a member twice."""


_header_decoder = msgspec.json.Decoder(_WrittenHeader)
_object_decoder = msgspec.json.Decoder(dict[str, object])
_encoder = msgspec.json.Encoder()


def read(token: str) -> Unverified:
    """Take *token* apart.

    Raises:
        TokenInvalid: it is not exactly three canonical base64url segments, whose first
            two are JSON objects in UTF-8; or its header asks for what we do not do.
    """
    raw = token_bytes(token)
    signing_input, _, signature = raw.rpartition(b".")
    header, _, payload = signing_input.partition(b".")
    try:
        # A dot too many is left in the payload, and foreign to it; one too few leaves
        # nothing for a segment. So this is where the segments are counted.
        payload, signature = _decode(payload), _decode(signature)
        known = _header(header)
        claims = _object_decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise TokenInvalid from error
    return Unverified(known, claims, payload, signing_input, signature)


def token_bytes(token: str) -> bytes:
    """Return *token* as bytes, if it is short enough and plain ASCII.

    Raises:
        TokenInvalid: it is not.
    """
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenInvalid
    return token.encode()


def decode_base64url(text: str) -> bytes:
    """Decode base64url without padding.

    Raises:
        ValueError: it has other characters, is empty, or is not canonical.
    """
    return _decode(text.encode())


def _decode(segment: bytes) -> bytes:
    rest = len(segment) & 3
    if not segment or segment[-1] not in _ENDINGS[rest]:
        raise ValueError("not canonical base64url")
    # Not strict, it would skip foreign characters in silence.
    return a2b_base64(segment.translate(_TO_STANDARD) + _PADDING[rest], strict_mode=True)


def refuse_repeated_members(text: bytes, decoded: dict[str, object]) -> None:
    """Refuse JSON *text*, which msgspec decoded to *decoded*, if an object repeats a member.

    Decoders keep one of two members of the same name and do not agree which (RFC 8259
    section 4), so the signer and we could read different claims. Writing *decoded* out
    again cannot repeat anything; when that gives the same bytes, and for nearly all
    tokens it does, nothing was repeated. Else (spaces, escapes, a number spelled
    otherwise) the slow reader, which sees every member, decides.

    Raises:
        Repeated: a member is repeated, at any depth.
    """
    if _encoder.encode(decoded) != text:
        json.loads(text.decode(), object_pairs_hook=_object_of_distinct)


def _object_of_distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Repeated("repeated member")
    return members


# One issuer's tokens share a handful of headers. What is refused is not kept.
@lru_cache(maxsize=_KNOWN_HEADERS)
def _header(segment: bytes) -> Header:
    text = _decode(segment)
    refuse_repeated_members(text, _object_decoder.decode(text))
    written = _header_decoder.decode(text)
    # RFC 7515 section 4.1.11: what is critical and not understood must be refused. We
    # understand no extension, and an unencoded payload (RFC 7797) least of all.
    if written.crit is not UNSET or written.b64 is not UNSET:
        raise ValueError("an extension we do not know")
    kid = None if written.kid is UNSET else written.kid
    if kid is not None and not 0 < len(kid) <= _MAX_KEY_ID_LENGTH:
        raise ValueError("kid is empty or too long")
    typ = None if written.typ is UNSET else written.typ.lower().removeprefix("application/")
    return Header(written.alg, kid, typ)
