"""The package as it is published: what must be in it, and what must not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import chatkeep

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "chatkeep"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel with the locked build backend and list what is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return set(ZipFile(wheel).namelist())


def files(folder: Path, pattern: str) -> set[str]:
    """Name the files below *folder* as a wheel names them."""
    found = (path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(SOURCE.parent).as_posix() for path in found}


def test_wheel_has_every_module(names: set[str]) -> None:
    """Every Python file is there, the migrations too."""
    modules = files(SOURCE, "*.py")
    assert "chatkeep/sql/versions/0001_initial.py" in modules
    assert modules <= names


def test_wheel_has_the_web_chat(names: set[str]) -> None:
    """Git ignores the built files; the wheel carries all of them."""
    static = files(SOURCE / "web" / "static", "*")
    assert "chatkeep/web/static/index.html" in static
    assert static <= names


def test_wheel_says_that_it_is_typed(names: set[str]) -> None:
    """Type checkers read our annotations (PEP 561)."""
    assert "chatkeep/py.typed" in names


def test_wheel_has_nothing_else(names: set[str]) -> None:
    """Neither tests nor sources of the web chat are installed on people's machines."""
    assert {name.split("/")[0] for name in names} <= {
        "chatkeep",
        f"chatkeep-{chatkeep.__version__}.dist-info",
    }
