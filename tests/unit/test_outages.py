"""An outage is told when it begins and when it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chatkeep.outages import Outage

if TYPE_CHECKING:
    import pytest


def test_each_outage_is_a_line_for_each_reason_and_one_for_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often it is tried meanwhile; what always works says nothing."""
    log = logging.getLogger("chatkeep.of_a_test")
    caplog.set_level("INFO", log.name)
    outage = Outage(log, "count sheep")
    outage.worked()
    for reasons in (("dark", "dark"), ("dark", "cold", "dark", "cold")):
        for why in reasons:
            outage.failed(why)
        outage.worked()
        outage.worked()
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "cannot count sheep: dark"),
        ("INFO", "can count sheep again"),
        ("WARNING", "cannot count sheep: dark"),
        ("WARNING", "cannot count sheep: cold"),
        ("INFO", "can count sheep again"),
    ]


def test_reasons_that_never_end_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Another one each time is told a few times."""
    outage = Outage(logging.getLogger("chatkeep.of_a_test"), "count sheep")
    for number in range(1000):
        outage.failed(f"sheep {number} has gone")
    assert len(caplog.records) == 5
