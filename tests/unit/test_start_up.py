"""What a start does without, so that it is quick: parts for few, and looking for garbage."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Final

import pytest

from chatkeep.garbage import importing

#: What only some settings need, and takes a tenth of a second and megabytes to import.
FOR_FEW: Final = {"redis", "opentelemetry.sdk", "opentelemetry.exporter"}


def test_server_imports_nothing_that_its_settings_may_not_need() -> None:
    """Whoever has no Redis starts without its client."""
    told = subprocess.run(
        [sys.executable, "-c", "import sys, chatkeep.server; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert not FOR_FEW & set(told.stdout.split())


def test_nothing_is_collected_while_it_imports() -> None:
    """And it is afterwards; what the imports made is set aside."""
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        made: list[list[int]] = [[] for _ in range(10)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_import_that_fails_leaves_collections_on() -> None:
    """An application goes on when its server cannot be imported."""
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
