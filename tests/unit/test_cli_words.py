"""What commands print of what people chose themselves."""

from __future__ import annotations

from chatkeep.cli.words import model_in_words, printable
from chatkeep.config import Settings
from chatkeep.setup_checks.models import examine_models


async def test_responder_is_not_taken_for_the_built_in_model() -> None:
    """Neither at the start nor by doctor: whoever answers is named, and no key is asked for."""
    theirs = Settings.from_env({"RESPONDER": "shop.answers:respond"})
    (found,) = await examine_models(theirs)
    for said in (model_in_words(theirs), found.note):
        assert "shop.answers:respond answers" in said
        assert "chatkeep/eliza" not in said
    assert "chatkeep/eliza, built in" in model_in_words(Settings.from_env({}))


def test_names_move_no_cursor_of_a_terminal() -> None:
    """Escapes, line ends and what turns the reading direction are shown as what they are not."""
    assert printable("ana\x1b[2J\r\nbo\u202e\x00 Ünal 例") == "ana?[2J??bo?? Ünal 例"
