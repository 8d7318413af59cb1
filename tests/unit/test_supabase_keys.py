"""The two API keys follow from the secret, and only the right one is the right one."""

from __future__ import annotations

from chatkeep.issuance.supabase_keys import SupabaseKeys

KEYS = SupabaseKeys.of(b"s" * 32)


def test_keys_are_the_same_on_every_node() -> None:
    """The same secret gives the same keys, another gives others."""
    assert SupabaseKeys.of(b"s" * 32) == KEYS
    other = SupabaseKeys.of(b"t" * 32)
    assert {other.publishable, other.secret}.isdisjoint({KEYS.publishable, KEYS.secret})


def test_keys_have_the_prefixes_that_clients_look_at() -> None:
    """Supabase clients tell by the prefix that a key is no JWT."""
    assert KEYS.publishable.startswith("sb_publishable_")
    assert KEYS.secret.startswith("sb_secret_")
    assert KEYS.secret.removeprefix("sb_secret_") != KEYS.publishable.removeprefix(
        "sb_publishable_"
    )


def test_each_key_is_itself_only() -> None:
    """Neither key is taken for the other, nor anything like it for either."""
    assert KEYS.is_publishable(KEYS.publishable)
    assert KEYS.is_secret(KEYS.secret)
    assert not KEYS.is_secret(KEYS.publishable)
    assert not KEYS.is_publishable(KEYS.secret)
    assert not KEYS.is_secret(KEYS.secret + "x")
    assert not KEYS.is_secret("")
    assert not KEYS.is_secret("é")


def test_secret_key_is_not_shown() -> None:
    """Printing the keys does not print the secret one."""
    assert KEYS.secret not in repr(KEYS)
