"""The page of what Chatkeep withstands names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "what-chatkeep-withstands.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text(encoding="utf-8"))


def test_every_claim_has_a_test_that_is_there() -> None:
    """Each row names at least one, and each that is named is defined in that file."""
    rows = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and "---" not in line and "Shown by" not in line
    ]
    assert len(rows) > 50
    assert [row for row in rows if "::test_" not in row] == []
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path, _ in NAMED}
    gone = [
        f"{path}::{name}"
        for path, name in NAMED
        if name and not re.search(rf"^(?:async )?def {name}\(", sources[path], re.MULTILINE)
    ]
    assert gone == []
