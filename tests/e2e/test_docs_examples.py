"""The tutorial does what it says: its commands run, and print what it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
CLIENTS = ROOT / "tests" / "clients" / "node_modules"
SHOWN_ADDRESS = "http://127.0.0.1:8000"
BREAK = "----- next example -----"


class Example(NamedTuple):
    """A block of code and, if one follows, the block that shows what it prints."""

    language: str
    code: str
    prints: str | None


def examples(page: Path) -> list[Example]:
    """Return the runnable blocks of *page* in their order."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    following = [*blocks[1:], ("", "")]
    return [
        Example(language, code, shown if kind == "text" else None)
        for (language, code), (kind, shown) in zip(blocks, following, strict=True)
        if language in {"sh", "js"} and "git clone" not in code
    ]


def matches(shown: str, printed: str) -> bool:
    """Tell whether *printed* is what a page shows, where `…` stands for anything."""
    pattern = ".*".join(re.escape(piece) for piece in shown.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.fixture
def address(home: Path) -> Iterator[str]:
    """Run the server as the tutorial does, in a folder of its own."""
    command = [str(Path(sys.executable).with_name("chatkeep")), "serve", "--port", "0"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            lines = iter(server.stdout or ())
            found = next((one for line in lines if (one := re.search(r"Open +(\S+)", line))), None)
            assert found, "the server ended before it was ready"
            yield found[1]
        finally:
            server.terminate()
            server.communicate(timeout=60)
    assert server.returncode == 0


def run_shell(found: list[Example], address: str) -> list[str]:
    """Run the shell examples in one shell, as a reader does; return what each printed."""
    script = f"\necho '{BREAK}'\n".join(one.code for one in found)
    assert SHOWN_ADDRESS in script
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(SHOWN_ADDRESS, address)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(BREAK)


def run_node(one: Example, address: str, folder: Path) -> str:
    """Run a JavaScript example beside the installed clients; return what it printed."""
    (folder / "node_modules").symlink_to(CLIENTS)
    (folder / "example.mjs").write_text(one.code)
    environment = {**os.environ, "BASE": address}
    done = subprocess.run(
        ["node", "example.mjs"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial is told with curl")
@pytest.mark.skipif(not CLIENTS.is_dir(), reason="`make test` installs the clients")
def test_tutorial_does_what_it_says(address: str, tmp_path: Path) -> None:
    """Ana and Bo get, step by step, what the page shows."""
    found = examples(TUTORIAL)
    shell = [one for one in found if one.language == "sh"]
    (node,) = [one for one in found if one.language == "js"]
    printed = [*zip(shell, run_shell(shell, address), strict=True)]
    printed.append((node, run_node(node, address, tmp_path)))
    for one, output in printed:
        if one.prints is not None:
            assert matches(one.prints, output), f"{one.code}\nprints\n{output}"
