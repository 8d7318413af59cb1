"""What is compared with, installed beside Chatkeep and never into it.

`peers.txt` goes into `.cache/peers-venv` (20 seconds), the LiteLLM proxy into a folder of its
own (`scripts/litellm-peer`). Both happen once, before `make bench` measures; a benchmark for
which nothing could be installed goes without, and says so.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parent.parent
_WANTED: Final = Path(__file__).parent / "peers.txt"
_VENV: Final = _ROOT / ".cache/peers-venv"
_INSTALLED: Final = _VENV / "peers.txt"
_LITELLM: Final = _ROOT / "scripts/litellm-peer"
BIN: Final = _VENV / "bin"


def has_peers() -> bool:
    """Install what is not there; return whether it is, and say why not."""
    if _INSTALLED.exists() and _INSTALLED.read_bytes() == _WANTED.read_bytes():
        return True
    print(f"Installing what is compared with into {_VENV.relative_to(_ROOT)} ...", flush=True)
    pip = [str(BIN / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_VENV)], check=True)
        install = ["install", "--retries", "1", "-r", str(_WANTED)]
        subprocess.run([*pip, *install], check=True)
    except subprocess.CalledProcessError as error:
        print(f"The others do not take part, they could not be installed: {error}", flush=True)
        return False
    _INSTALLED.write_bytes(_WANTED.read_bytes())
    return True


def make_importable() -> None:
    """Let this process import what is installed there and not here."""
    if has_peers():
        sys.path += [str(one) for one in _VENV.glob("lib/python*/site-packages")]


def install() -> None:
    """Install everything that is compared with, as far as it can be had."""
    has_peers()
    if subprocess.run([str(_LITELLM)], check=False).returncode:
        print("LiteLLM does not take part: it could not be installed.", flush=True)
