"""What commands print of what people chose themselves."""

from __future__ import annotations

from chatkeep.cli.words import printable


def test_names_move_no_cursor_of_a_terminal() -> None:
    """Escapes, line ends and what turns the reading direction are shown as what they are not."""
    assert printable("ana\x1b[2J\r\nbo\u202e\x00 Ünal 例") == "ana?[2J??bo?? Ünal 例"
