"""Refresh tokens are ours or they are nothing."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.errors import Invalid, RefreshTokenNotFound
from chatkeep.sessions.refresh_tokens import PREFIX, RefreshToken, RefreshTokens

TOKENS = RefreshTokens(b"s" * 32)
TOKEN = RefreshToken(session_id=UUID(int=7), counter=3)


@given(st.uuids(), st.integers(0, 2**40 - 1))
def test_token_reads_back(session_id: UUID, counter: int) -> None:
    """What was written is read again, and is written the same each time."""
    token = RefreshToken(session_id=session_id, counter=counter)
    text = TOKENS.write(token)
    assert TOKENS.read(text) == token
    assert TOKENS.write(token) == text
    assert len(text) == 64


def test_every_changed_character_is_seen() -> None:
    """A token with any one character changed was not written by us."""
    text = TOKENS.write(TOKEN)
    for place in range(len(PREFIX), len(text)):
        other = "A" if text[place] != "A" else "B"
        with pytest.raises(RefreshTokenNotFound):
            TOKENS.read(text[:place] + other + text[place + 1 :])


def test_another_servers_token_is_unknown() -> None:
    """The proof depends on the server's secret."""
    with pytest.raises(RefreshTokenNotFound):
        TOKENS.read(RefreshTokens(b"t" * 32).write(TOKEN))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "not.a.jwt",
        "ckr1",
        TOKENS.write(TOKEN) + "A",
        TOKENS.write(TOKEN)[:-1],
        TOKENS.write(TOKEN) + "\n",
        " " + TOKENS.write(TOKEN),
        TOKENS.write(TOKEN).replace(PREFIX, "ckr2"),
        TOKENS.write(TOKEN)[:-1] + "=",
        TOKENS.write(TOKEN)[:-1] + "é",
        "AAAAAAAAAAAA",
    ],
)
def test_what_is_no_token_is_invalid(text: str) -> None:
    """Anything of another shape is refused as malformed, not as unknown."""
    with pytest.raises(Invalid):
        TOKENS.read(text)


def test_token_of_supabases_old_shape_is_unknown() -> None:
    """Twelve small letters and digits are a token of Supabase Auth: well-formed, not here."""
    with pytest.raises(RefreshTokenNotFound):
        TOKENS.read("aaaaaaaaaaaa")


def test_token_shows_nothing_of_the_secret() -> None:
    """Neither key nor secret is visible where objects are printed."""
    assert "s" * 8 not in repr(TOKENS)
    assert str(uuid4()) not in repr(TOKEN)
