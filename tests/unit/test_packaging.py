"""What is installed: locked, hashed, the same in every lock file, and named nowhere else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-node.lock"]
#: Needed by an old Python alone, and done without by `redis_link.py`.
STOOD_IN_FOR: Final = "redis needs async-timeout"
NODE_LOCKS = ["web/package-lock.json", "tests/clients/package-lock.json"]


def pins(lock: str) -> dict[str, str]:
    """Return each locked project with everything that is said of it."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    return dict(re.findall(r"^([\w.-]+)(==(?:.+\n {4})*.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    """An install refuses a file that nobody locked."""
    assert all("--hash=sha256:" in pin for pin in pins(lock).values())


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_index(lock: str) -> None:
    """Where packages come from is the business of the machine, not of the project."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(r"://|index-url|trusted-host|find-links", text)


@pytest.mark.parametrize("lock", NODE_LOCKS)
def test_node_lock_names_no_registry(lock: str) -> None:
    """As above; npm finds each package by its name, and checks it by its hash."""
    packages = json.loads((ROOT / lock).read_text(encoding="utf-8"))["packages"]
    installed = {name: one for name, one in packages.items() if name}
    assert not [name for name, one in installed.items() if "resolved" in one]
    assert not [name for name, one in installed.items() if "integrity" not in one]


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_agree(lock: str) -> None:
    """Whoever develops runs what whoever serves runs."""
    everything = pins("requirements-dev.lock")
    assert pins(lock).items() <= everything.items()


def test_every_dependency_is_locked() -> None:
    """The lock files cover what the package asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[^\w-]", one)[0] for one in project["dependencies"]}
    assert names <= set(pins("requirements.lock"))


def test_what_the_oldest_python_needs_is_locked_too() -> None:
    """Locks are made with a newer one, which may need less: Debian 12 has Python 3.11.2."""
    locked = {canonicalize_name(name) for name in pins("requirements.lock")}
    oldest = {"python_version": "3.11", "python_full_version": "3.11.2", "extra": ""}
    missing = {
        f"{name} needs {needed}"
        for name in locked
        for needed in map(Requirement, _requirements(name))
        if (needed.marker is None or needed.marker.evaluate(oldest))
        and canonicalize_name(needed.name) not in locked
    }
    assert not {one for one in missing if not one.startswith(STOOD_IN_FOR)}


def _requirements(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # for another system
        return []


def test_redis_is_imported_by_the_oldest_python() -> None:
    """What the library needs there and is not locked is stood in for."""
    program = (
        "import sys; from collections import namedtuple;"
        "sys.version_info = namedtuple('_', 'major minor micro releaselevel serial')"
        "(3, 11, 2, 'final', 0); import chatkeep.redis_link"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_psycopg_has_no_second_driver() -> None:
    """psycopg-c of another version than psycopg breaks it when it happens to be installed."""
    assert "psycopg-c" not in pins("requirements-dev.lock")
