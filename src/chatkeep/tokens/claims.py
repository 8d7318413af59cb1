"""What a token must say, and the whole check from text to trusted claims.

A token's claims are trusted only after its signature verified with the one key meant for
it; only then may an error say more than "invalid". Time is given, never read from a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature

from chatkeep.errors import (
    TokenExpired,
    TokenInvalid,
    TokenNotActive,
    TokenWithoutExpiry,
    TokenWrongAudience,
)
from chatkeep.tokens.compact import Header, Unverified, read, refuse_repeated_members
from chatkeep.tokens.keys import KeySet, canonical

if TYPE_CHECKING:
    from chatkeep.tokens.algorithms import Key

#: The last second of the year 9999: what comes later is no date that we could show.
LAST_MOMENT: Final = 253_402_300_799
MAX_IDENTIFIER_LENGTH: Final = 255
_NUMBERS = frozenset({int, float})  # bool is an int, but not of this type

ACCESS_TOKEN_TYPES: Final = frozenset({None, "jwt", "at+jwt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one issuer's access tokens look like.

    *iss* None takes any issuer or none: who may use that is for the table of issuers to
    say. *types* are values of the header's `typ`, in lower case, None for its absence.
    *may_be_bound* lets through what names something it is bound to (`cnf`); whoever asks for
    that must see to it that the request has it, see `chatkeep.token_binding`. *leeway_s* is how
    far the issuer's clock may be from ours, at both ends of a token; *early_s* at its start alone.
    *needs_subject* false takes a token that is about nobody by name, but not one with a bad name.
    """

    iss: str | None
    audiences: frozenset[str]
    algorithms: frozenset[str]
    types: frozenset[str | None] = ACCESS_TOKEN_TYPES
    refused_roles: frozenset[str] = frozenset()
    max_lifetime_s: int = 7 * 86_400
    leeway_s: int = 0
    early_s: int = 0
    may_be_bound: bool = False
    needs_subject: bool = True

    def admit(self, header: Header) -> None:
        """Refuse a token whose header alone shows that it is not one of these.

        Raises:
            TokenInvalid: another algorithm or another kind of token.
        """
        if header.alg not in self.algorithms or header.typ not in self.types:
            raise TokenInvalid


def verify(token: str, *, keys: KeySet, rules: Rules, now: float) -> dict[str, object]:
    """Return the claims of *token*, which one of *keys* signed and *rules* allow.

    *now* is in seconds since 1970.

    Raises:
        TokenExpired, TokenNotActive, TokenWrongAudience: the signature verified, and that.
        TokenInvalid: for everything else; the caller must not learn which check failed.
    """
    unverified = read(token)
    key = keys.find(unverified.header)
    if key is None:
        raise TokenInvalid
    check(unverified, key=key, rules=rules, now=now)
    return unverified.claims


def check(token: Unverified, *, key: Key, rules: Rules, now: float) -> float:
    """Return until when *token*, which *key* signed, is good under *rules*.

    Raises as `verify` does. When it returns, the token's claims are verified.
    """
    rules.admit(token.header)
    if key.algorithm != canonical(token.header.alg):
        raise TokenInvalid
    try:
        key.check(token.signature, token.signing_input)
        refuse_repeated_members(token.payload, token.claims)
    except (InvalidSignature, ValueError, RecursionError) as error:
        raise TokenInvalid from error
    _check_identity(token.claims, rules)
    until = _check_times(token.claims, rules, now)
    _check_audience(token.claims.get("aud"), rules.audiences)
    return until


def is_identifier(value: object) -> bool:
    """Whether *value* is a text fit to be somebody's or something's name for good.

    No two spellings of it look alike to a database or a log: no control characters, lone
    surrogates or spaces at the ends. It is never normalised: another spelling is another.
    """
    return (
        type(value) is str
        and 0 < len(value) <= MAX_IDENTIFIER_LENGTH
        and value.isprintable()
        and value[0] != " "
        and value[-1] != " "
    )


def _check_identity(claims: dict[str, object], rules: Rules) -> None:
    if rules.iss is not None and claims.get("iss") != rules.iss:
        raise TokenInvalid
    if (rules.needs_subject or "sub" in claims) and not is_identifier(claims.get("sub")):
        raise TokenInvalid
    if "jti" in claims and not is_identifier(claims["jti"]):
        raise TokenInvalid
    # RFC 7800: bound to a key whose possession a plain bearer does not prove.
    if "cnf" in claims and not (rules.may_be_bound and claims["cnf"] is not None):
        raise TokenInvalid
    if rules.refused_roles and not _is_a_persons(claims.get("role"), rules.refused_roles):
        raise TokenInvalid


def _is_a_persons(role: object, refused: frozenset[str]) -> bool:
    return role is None or (type(role) is str and role not in refused)


def _check_times(claims: dict[str, object], rules: Rules, now: float) -> float:
    if "exp" not in claims:
        raise TokenWithoutExpiry
    expires = _moment(claims["exp"])
    issued = _moment(claims["iat"]) if "iat" in claims else min(now, expires)
    starts = _moment(claims["nbf"]) if "nbf" in claims else issued
    if not 0 <= expires - issued <= rules.max_lifetime_s:
        raise TokenInvalid
    until = expires + rules.leeway_s
    if now >= until:  # RFC 7519 section 4.1.4: "on or after"
        raise TokenExpired(expires_at=int(expires), issued_at=int(issued))
    if now + max(rules.leeway_s, rules.early_s) < max(issued, starts):
        raise TokenNotActive
    return until


def _moment(value: object) -> float:
    # A comparison with NaN is false, and neither text nor true is a number here.
    if type(value) in _NUMBERS and 0 <= value <= LAST_MOMENT:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise TokenInvalid


def _check_audience(audience: object, ours: frozenset[str]) -> None:
    if type(audience) is str:
        if audience in ours:
            return
    elif type(audience) is list:
        if not all(type(one) is str for one in audience):
            raise TokenInvalid
        if not ours.isdisjoint(audience):
            return
    elif audience is not None:
        raise TokenInvalid
    raise TokenWrongAudience
