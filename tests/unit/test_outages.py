"""An outage is told when it begins and when it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chatkeep.outages import Outage

if TYPE_CHECKING:
    import pytest


def test_each_outage_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried meanwhile; what always works says nothing."""
    log = logging.getLogger("chatkeep.of_a_test")
    caplog.set_level("INFO", log.name)
    outage = Outage(log, "count sheep")
    outage.worked()
    for why in ("dark", "darker"):
        outage.failed(why)
        outage.failed("as before")
        outage.worked()
        outage.worked()
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "cannot count sheep: dark"),
        ("INFO", "can count sheep again"),
        ("WARNING", "cannot count sheep: darker"),
        ("INFO", "can count sheep again"),
    ]
