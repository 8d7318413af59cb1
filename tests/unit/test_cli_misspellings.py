"""A setting with a letter too many is told, and what belongs to other programs is not."""

from __future__ import annotations

import pytest

from chatkeep.cli.misspellings import find_misspellings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DATABSE_URL", "DATABASE_URL"),
        ("OPENAI_APIKEY", "OPENAI_API_KEY"),
        ("SIGNUP", "SIGN_UP"),
        ("SUPABASE_PROJECT_ULR", "SUPABASE_PROJECT_URL"),
        ("SESSION_LIFETME", "SESSION_LIFETIME"),
        ("OIDC_ROLE_CLAIM", "OIDC_ROLES_CLAIM"),
        ("SIGN_IN_PROVIDER", "SIGN_IN_PROVIDERS"),
        ("SIGN_IN_GOOGLE_CLIENTID", "SIGN_IN_GOOGLE_CLIENT_ID"),
    ],
)
def test_near_miss_is_told(name: str, meant: str) -> None:
    """Whoever wrote it learns which setting keeps its default."""
    assert find_misspellings({name: "x"}) == [f"{name} is no setting: did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOSTNAME",
        "CHATKEEP_SERVICE_HOST",
        "SUPABASE_PROJECT_ID",
        "OIDC_SHOP_ISSUER",
        "OIDC_X_ISSUER",
        "SIGN_IN_GOOGLES_CLIENT_ID",
        "DATABASE_URL",
    ],
)
def test_other_names_are_left_alone(name: str) -> None:
    """Settings themselves, and what other programs and platforms set, say nothing."""
    assert find_misspellings({name: "x"}) == []


def test_name_beside_its_setting_is_left_alone() -> None:
    """Somebody who set both has not mistaken one for the other."""
    assert find_misspellings({"DATABASE_URLS": "x", "DATABASE_URL": "x"}) == []
