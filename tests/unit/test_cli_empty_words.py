"""An empty word on the command line, such as of a variable that is not set, is nobody's name."""

from __future__ import annotations

import click
import pytest

from chatkeep.cli import _commands


@pytest.mark.parametrize(
    ("words", "behind"),
    [
        (["budgets", "set", "--role", "", "--tokens-per-day", "1"], "--role"),
        (["budgets", "unset", "--user", " "], "--user"),
        (["budgets", "unset", "--user="], "--user"),
        (["users", "list", "--search", ""], "--search"),
        (["users", "ban", ""], "ban"),
        (["token", "--email", "\t"], "--email"),
        (["serve", "--data", ""], "--data"),
        (["import", "chats.json", "--for="], "--for"),
    ],
)
def test_empty_word_is_refused_by_every_command(words: list[str], behind: str) -> None:
    """With exit code 2, before anything is made, and with what it stands behind."""
    with pytest.raises(click.UsageError, match=f"behind {behind} is empty") as refused:
        _commands.main(words, standalone_mode=False)
    assert refused.value.exit_code == 2


def test_value_with_a_sign_of_equality_is_no_empty_word() -> None:
    """Base64 ends with some."""
    for word in ("--user=a=", "a="):
        with pytest.raises(click.UsageError) as refused:
            _commands.main(["nothing-like-it", word], standalone_mode=False)
        assert "empty" not in str(refused.value)
