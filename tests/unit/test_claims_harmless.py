"""No token holds a secret or personal data beyond the declared claims."""

from __future__ import annotations

import pytest

from chatkeep.claims import require_harmless
from chatkeep.claims.harmless import is_harmless_name
from chatkeep.errors import ClaimsRefused
from tests import forge

SECRET_NAMES = (
    *(
        "password",
        "PASSWORD",
        "user_password",
        "userPassword",
        "pass",
        "passwd",
        "pwd",
        "pass_word",
    ),
    *(
        "secret",
        "clientSecret",
        "api_key",
        "apiKey",
        "API-KEY",
        "privateKey",
        "token",
        "accessToken",
    ),
    *(
        "refresh_tokens",
        "jwt",
        "credential",
        "otp",
        "PIN",
        "cardNumber",
        "card",
        "cvv",
        "iban",
        "ssn",
    ),
    *("SSN", "socialSecurityNumber", "passport_no", "dob", "dateOfBirth", "birthday", "phone"),
    *(
        "homeAddress",
        "address",
        "firstName",
        "last_name",
        "fullName",
        "".join(chr(ord(letter) + 0xFEE0) for letter in "password"),
        "passwordHash",
    ),
)
HARMLESS_NAMES = (
    *("userId", "companyId", "role", "email", "environment", "permissions", "metadata", "plan"),
    *("isStaff", "seats", "team", "compassHeading", "spinning", "discard", "pinned", "keyboard"),
    *("theme", "locale", "featureFlags", "businessUnit", "cardinality", "tokenizer"),
)
SECRET_VALUES = (
    "-----BEGIN PRIVATE KEY-----\nMIG",
    forge.forge(),
    "Bearer abcdefghijkl",
    "postgresql://ana:hunter2@db.example/chat",
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
    "$2b$12$C6UzMDM.H6dfI/f/IKcEe.",
    "sk-proj-abcdefghijklmnopqrstuvwx",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "ghp_" + "a1" * 18,
    "AKIAIOSFODNN7EXAMPLE",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "378282246310005",
    "078-05-1120",
    "ana@example.com",
    4111111111111111,
    2**53 + 1,
    float("inf"),
)
HARMLESS_VALUES: tuple[object, ...] = (
    "acme",
    "0199f1c2-7a6e-7b1f-9d3c-5a0e6f0d2b11",
    "conversations:read",
    "a sentence that is much longer than forty characters, with 2 numbers in it",
    "https://cdn.example/pictures/1234567890.png",
    "4111111111111112",
    "1800000000000",
    "41111111111111111111",
    1_800_000_000,
    9_007_199_254_740_992,
    3.5,
    True,
    None,
    [],
    {},
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets_are_refused(name: str) -> None:
    """However they are spelled, and however deep they stand."""
    assert not is_harmless_name(name)
    with pytest.raises(ClaimsRefused, match="sounds like a secret"):
        require_harmless({"metadata": {"inside": [{name: "x"}]}})


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_ordinary_names_are_taken(name: str) -> None:
    """A word that merely has the letters of a secret in it is none."""
    assert is_harmless_name(name)


@pytest.mark.parametrize("value", SECRET_VALUES)
def test_values_that_look_like_secrets_are_refused(value: object) -> None:
    """The error says where, and never what."""
    with pytest.raises(ClaimsRefused) as refused:
        require_harmless({"metadata": {"a": ["x", {"b": value}]}})
    assert "metadata.a[1].b" in refused.value.detail
    assert str(value) not in refused.value.detail


@pytest.mark.parametrize("value", HARMLESS_VALUES)
def test_ordinary_values_are_taken(value: object) -> None:
    """Nobody is kept from signing in by an id, a link or a sentence."""
    require_harmless({"metadata": {"a": [value]}, "email": "ana@example.com"})


def test_ids_may_look_as_they_like() -> None:
    """Who gave them out may have drawn lots; a credential is none all the same."""
    require_harmless({"userId": "oidc:" + "aB3" * 20, "companyId": "4111111111111111"})
    require_harmless({"userId": "ana@example.com"})
    with pytest.raises(ClaimsRefused):
        require_harmless({"userId": "Bearer abcdefghijkl"})


def test_depth_is_bounded() -> None:
    """Something nested without end is refused, and not followed; eight levels are none."""
    require_harmless(nested(8))
    for levels in (9, 500):
        with pytest.raises(ClaimsRefused, match="nested too deeply"):
            require_harmless(nested(levels))


def nested(levels: int) -> dict[str, object]:
    """Return claims with a text so many levels deep."""
    deep: dict[str, object] = {"a": "x"}
    for _ in range(levels - 1):
        deep = {"a": deep}
    return deep
