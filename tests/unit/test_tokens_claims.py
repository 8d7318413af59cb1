"""What a well-signed token must say: times, audience, subject, kind."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from chatkeep.errors import (
    TokenExpired,
    TokenInvalid,
    TokenNotActive,
    TokenWithoutExpiry,
    TokenWrongAudience,
)
from chatkeep.tokens import Rules, verify
from tests import forge
from tests.forge import AUDIENCE, ISS, NOW, RULES, claims, header, key_set

LEEWAY = RULES.leeway_s
WEEK = 7 * 86_400


def judge(
    *, payload: object = None, head: object = None, rules: Rules = RULES, now: float = NOW
) -> type[TokenInvalid] | None:
    """Return the error that a well-signed token of these parts meets, None if it is taken."""
    token = forge.forge(head, payload)
    try:
        said = verify(token, keys=key_set("HS256"), rules=rules, now=now)
    except TokenInvalid as error:
        return type(error)
    assert payload is None or isinstance(payload, bytes) or said == payload
    return None


def raw(name: str, value: bytes) -> bytes:
    """Return claims whose *name* is written just so."""
    return forge.text_of(claims(**{name: ...}))[:-1] + f',"{name}":'.encode() + value + b"}"


@pytest.mark.parametrize(
    "subject",
    [
        *(..., None, 1, 1.5, True, [], ["a"], {}, {"a": 1}, ""),
        *(" ", "  ", " ana", "ana ", "a\x00b", "a\nb", "a\tb", "\x7f", "\x85", "\u2028"),
        *("\u200b", "\u202e", "\ufeff", "\u00a0", "\ue000", "x" * 256, "x" * 5000),
    ],
)
def test_subject_that_is_no_sound_name_is_refused(subject: object) -> None:
    """Whoever the token is about has a name that a database and a log can hold."""
    assert judge(payload=claims(sub=subject)) is TokenInvalid


def test_subject_with_a_lone_surrogate_is_refused() -> None:
    """A name that cannot be written in UTF-8 is none."""
    assert judge(payload=raw("sub", b'"a\\ud800"')) is TokenInvalid
    assert judge(payload=raw("sub", b'"\\udfff"')) is TokenInvalid


@pytest.mark.parametrize("token_id", [None, 1, "", [], {"a": 1}, " x", "x\x00", "x" * 256])
def test_token_id_that_is_no_sound_name_is_refused(token_id: object) -> None:
    """A token that could not be revoked by its id is not taken with it."""
    assert judge(payload=claims(jti=token_id)) is TokenInvalid
    assert judge(payload=claims(jti="6f0f9a0e")) is None


@pytest.mark.parametrize("subject", ["a", "x" * 255, "ana o'neil", "auth0|123", "Ana", "安", "0"])
def test_subject_is_kept_as_it_is_spelled(subject: str) -> None:
    """Any printable name is taken, and none is folded into another."""
    assert judge(payload=claims(sub=subject)) is None


def test_spellings_of_a_subject_stay_apart() -> None:
    """Composed and decomposed, upper and lower case, braces and dashes: nothing is unified."""
    uuid = "6f0f9a0e-7c1f-4d55-9d6f-2a4f8f3a7b10"
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    for name in (composed, decomposed, uuid, uuid.upper(), f"{{{uuid}}}", uuid.replace("-", "")):
        token = forge.forge(payload=claims(sub=name))
        said = verify(token, keys=key_set("HS256"), rules=RULES, now=NOW)
        assert said["sub"] == name


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [
        *(b"null", b'"1800003600"', b'"x"', b'""', b"true", b"false", b"[]", b"[1800003600]"),
        *(b"{}", b"-1", b"-1e300", b"1e300", b"1" + b"0" * 30, b"9" * 5000, b"NaN"),
        *(b"Infinity", b"-Infinity", b"1e400", b"253402300800", b"18446744073709551616"),
    ],
)
def test_moment_that_is_no_date_is_refused(name: str, value: bytes) -> None:
    """A time is a finite number in the range of dates, and nothing that resembles one."""
    assert judge(payload=raw(name, value)) is TokenInvalid


def test_token_without_expiry_is_refused() -> None:
    """What never ends is not an access token."""
    assert judge(payload=claims(exp=...)) is TokenWithoutExpiry


@pytest.mark.parametrize("spelled", [b"1800003600.5", b"1.8000036e9", b"1800003600.0"])
def test_moment_may_be_a_fraction(spelled: bytes) -> None:
    """RFC 7519 section 2: a NumericDate may have a fraction."""
    assert judge(payload=raw("exp", spelled)) is None


@pytest.mark.parametrize(
    ("exp", "error"),
    [
        (NOW - LEEWAY + 0.001, None),
        (NOW - LEEWAY + 1, None),
        (NOW - LEEWAY, TokenExpired),
        (NOW - LEEWAY - 1, TokenExpired),
        (0, TokenExpired),
    ],
)
def test_token_ends_exactly_at_expiry_and_leeway(exp: float, error: type | None) -> None:
    """At `exp` plus the leeway a token is over (RFC 7519 section 4.1.4)."""
    assert judge(payload=claims(exp=exp, iat=...)) is error
    strict = replace(RULES, leeway_s=0)
    assert judge(payload=claims(exp=NOW, iat=NOW - 9), rules=strict) is TokenExpired
    assert judge(payload=claims(exp=NOW + 0.001, iat=NOW - 9), rules=strict) is None


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(
    ("at", "error"),
    [
        (NOW, None),
        (NOW + LEEWAY, None),
        (NOW + LEEWAY + 0.001, TokenNotActive),
        (NOW + LEEWAY + 1, TokenNotActive),
        (NOW + 1000, TokenNotActive),
    ],
)
def test_token_starts_exactly_at_its_start_less_the_leeway(
    name: str, at: float, error: type | None
) -> None:
    """Neither `nbf` nor `iat` may lie further ahead than clocks differ."""
    assert judge(payload=claims(**{name: at})) is error


def test_token_issued_after_its_end_is_refused() -> None:
    """Times that contradict each other are no times."""
    assert judge(payload=claims(iat=NOW + 3601)) is TokenInvalid


@pytest.mark.parametrize(
    ("iat", "exp", "error"),
    [
        (NOW, NOW + WEEK, None),
        (NOW, NOW + WEEK + 1, TokenInvalid),
        (NOW - WEEK, NOW, None),
        (NOW - WEEK, NOW + 1, TokenInvalid),
        (..., NOW + WEEK, None),
        (..., NOW + WEEK + 1, TokenInvalid),
        (NOW, NOW + 10 * 365 * 86_400, TokenInvalid),
    ],
)
def test_life_is_capped(iat: object, exp: int, error: type | None) -> None:
    """A token that lives longer than its issuer's tokens do is not one of them."""
    assert judge(payload=claims(iat=iat, exp=exp)) is error


@pytest.mark.parametrize(
    ("audience", "error"),
    [
        (AUDIENCE, None),
        ([AUDIENCE], None),
        (["other", AUDIENCE], None),
        (..., TokenWrongAudience),
        (None, TokenWrongAudience),
        ("other", TokenWrongAudience),
        ("", TokenWrongAudience),
        ([], TokenWrongAudience),
        (["other"], TokenWrongAudience),
        ([[AUDIENCE]], TokenInvalid),
        ([AUDIENCE, 1], TokenInvalid),
        ([AUDIENCE, None], TokenInvalid),
        ({"aud": AUDIENCE}, TokenInvalid),
        ({AUDIENCE: 1}, TokenInvalid),
        (1, TokenInvalid),
        (True, TokenInvalid),
        (AUDIENCE[:-1], TokenWrongAudience),
        (AUDIENCE + "x", TokenWrongAudience),
        (AUDIENCE.upper(), TokenWrongAudience),
        (AUDIENCE + " ", TokenWrongAudience),
        (f"{AUDIENCE} other", TokenWrongAudience),
        (f"{AUDIENCE},other", TokenWrongAudience),
    ],
)
def test_audience_is_exactly_ours(audience: object, error: type | None) -> None:
    """A token meant for somebody else is refused, however close the name."""
    assert judge(payload=claims(aud=audience)) is error


@pytest.mark.parametrize(
    "iss", [..., None, "", 1, [ISS], {"iss": ISS}, ISS + "/", ISS.upper(), ISS[:-1], " " + ISS]
)
def test_issuer_is_exactly_the_configured_one(iss: object) -> None:
    """The issuer is compared letter by letter."""
    assert judge(payload=claims(iss=iss)) is TokenInvalid


def test_any_issuer_is_taken_only_where_none_is_configured() -> None:
    """A shared secret without an address speaks for whoever holds it."""
    rules = replace(RULES, iss=None)
    for iss in (..., "https://elsewhere.example"):
        assert judge(payload=claims(iss=iss), rules=rules) is None


@pytest.mark.parametrize("typ", [..., "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_access_token_types_are_taken(typ: object) -> None:
    """The kinds that access tokens have, in any case and with the full media type."""
    assert judge(head=header("HS256", typ=typ)) is None


@pytest.mark.parametrize(
    "typ",
    [
        *("logout+jwt", "dpop+jwt", "id+jwt", "secevent+jwt", "refresh+jwt", "JOSE", "", " JWT"),
        *(None, 1, ["JWT"], {}, True, "JWT\x00", "application/application/jwt", "text/jwt"),
    ],
)
def test_token_of_another_kind_is_refused(typ: object) -> None:
    """A well-signed token for another purpose is not an access token."""
    assert judge(head=header("HS256", typ=typ)) is TokenInvalid


def test_kind_may_be_required() -> None:
    """An issuer whose tokens always say what they are is held to that."""
    rules = replace(RULES, types=frozenset({"at+jwt"}))
    assert judge(head=header("HS256", typ="at+jwt"), rules=rules) is None
    for typ in ("JWT", ...):
        assert judge(head=header("HS256", typ=typ), rules=rules) is TokenInvalid


@pytest.mark.parametrize("binding", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None, "x"])
def test_token_bound_to_a_key_is_no_bearer(binding: object) -> None:
    """A token that asks for proof of a key is not taken without."""
    assert judge(payload=claims(cnf=binding)) is TokenInvalid


@pytest.mark.parametrize(
    "role", ["anon", "service_role", "supabase_admin", ["service_role"], {}, 1, True]
)
def test_key_of_a_server_is_nobody(role: object) -> None:
    """Roles of API keys are refused even with a person's name beside them."""
    assert judge(payload=claims(role=role)) is TokenInvalid
    assert judge(payload=claims(role=role, sub=...)) is TokenInvalid


def test_role_may_be_missing() -> None:
    """Who has no role is an ordinary person."""
    for role in (..., None, "editor"):
        assert judge(payload=claims(role=role)) is None


def test_role_is_looked_at_only_where_some_are_refused() -> None:
    """What other issuers call a role, and of what type it is, is their own affair."""
    rules = replace(RULES, refused_roles=frozenset())
    roles: tuple[object, ...] = ("anon", ["a", "b"], {}, 1)
    for role in roles:
        assert judge(payload=claims(role=role), rules=rules) is None


def test_only_a_good_signature_earns_a_reason() -> None:
    """Without a valid signature, expired and not active look like everything else."""
    for said in (claims(exp=NOW - 60, iat=...), claims(nbf=NOW + 60), claims(aud="other")):
        token = forge.forge(payload=said, sign=forge.hmac_signer(b"x" * 32))
        with pytest.raises(TokenInvalid) as refused:
            verify(token, keys=key_set("HS256"), rules=RULES, now=NOW)
        assert type(refused.value) is TokenInvalid


def test_reason_is_not_given_for_a_token_that_is_wrong_anyway() -> None:
    """An expired token of another issuer is invalid, not expired."""
    said = claims(exp=NOW - 60, iat=..., iss="https://elsewhere.example")
    assert judge(payload=said) is TokenInvalid
    assert judge(payload=claims(exp=NOW - 60, iat=..., cnf={})) is TokenInvalid
    assert judge(payload=claims(exp=NOW - 60, iat=..., aud="other")) is TokenExpired
