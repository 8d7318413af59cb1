"""Personal keys as text, and what of them is remembered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.better_auth import _SIGNED, _TOKEN
from chatkeep.issuance.supabase_keys import SupabaseKeys
from chatkeep.personal_keys import texts
from chatkeep.sessions.refresh_tokens import RefreshToken, RefreshTokens
from chatkeep.web.key_access import SCOPES_OF
from tests.http.test_matrix import ROUTES

if TYPE_CHECKING:
    from tests.http.test_matrix import Route

SECRET = b"a secret of tests: 0123456789abcdef"


def test_a_key_has_the_form_that_scanners_are_told() -> None:
    """The documented pattern finds every key, and two are never the same."""
    keys = {texts.new_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(re.fullmatch(r"ck_[0-9A-Za-z]{38}", one) for one in keys)
    assert all(texts.is_sound(one) for one in keys)


@given(st.integers(3, 40), st.sampled_from("0aZ_-. é"))
def test_a_changed_character_is_noticed_without_asking_anybody(place: int, other: str) -> None:
    """Whatever one character of a key is replaced by, it is a key no more."""
    key = texts.new_key()
    changed = key[:place] + other + key[place + 1 :]
    assert texts.is_sound(changed) == (changed == key)


@given(st.text())
def test_anything_can_be_asked_for(text: str) -> None:
    """No text makes the check fail, and nobody hits a key by chance."""
    assert not texts.is_sound(text)
    assert not texts.is_sound(texts.PREFIX + text)
    texts.hash_of(texts.PREFIX + text)


def test_cut_off_doubled_or_padded_keys_are_none() -> None:
    """What copying does to a key does not go unnoticed."""
    key = texts.new_key()
    for broken in (key[:-1], key + "A", f" {key}", f"{key}\n", key.lower(), key * 2, ""):
        assert not texts.is_sound(broken)


def test_a_key_is_no_other_credential_and_none_of_them_is_a_key() -> None:
    """Supabase's keys, refresh tokens, JWTs and opaque session tokens are told apart by form."""
    supabase_keys = SupabaseKeys.of(SECRET)
    refresh = RefreshTokens(SECRET)
    from uuid import uuid4  # noqa: PLC0415 -- of this test alone

    others = [
        supabase_keys.publishable,
        supabase_keys.secret,
        refresh.write(RefreshToken(session_id=uuid4(), counter=1)),
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "aB3" * 10 + "xy",
    ]
    assert not any(texts.claims_to_be_one(one) for one in others)
    key = texts.new_key()
    assert not refresh.wrote(key)
    assert not supabase_keys.is_publishable(key)
    assert not supabase_keys.is_secret(key)
    assert not _TOKEN.fullmatch(key)
    assert not _SIGNED.fullmatch(key)
    assert "." not in key


def test_what_is_shown_of_a_key_tells_nobody_the_rest() -> None:
    """Nine characters of forty-one; the checksum is not among them."""
    key = texts.new_key()
    assert texts.shown_part(key) == key[:9]


def test_only_routes_that_are_there_take_keys() -> None:
    """A route that was renamed must be named anew, and none of accounts is ever named."""
    there = {(one.method, one.path) for one in ROUTES}
    assert set(SCOPES_OF) <= there
    forbidden = re.compile(r"^/(auth/|api/(auth|admin|keys|sessions|account|settings))")
    assert [path for _, path in SCOPES_OF if forbidden.match(path)] == []


@pytest.mark.parametrize("route", [one for one in ROUTES if "anybody" in one.access], ids=str)
def test_public_routes_are_not_named(route: Route) -> None:
    """Where nobody is asked who they are, a scope would mean nothing."""
    assert (route.method, route.path) not in SCOPES_OF
