"""A package `shop` as pages of the documentation show it, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def package_of(folder: Path, modules: Mapping[str, str]) -> str:
    """Write a package of *modules*, texts by their names, into *folder*; return what it is called.

    No two have one name: what Python has imported it does not read again.
    """
    name = f"shop_{uuid4().hex}"
    package = folder / name
    package.mkdir()
    (package / "__init__.py").touch()
    for module, text in modules.items():
        own = text.replace("from shop.", f"from {name}.")
        (package / f"{module}.py").write_text(own, encoding="utf-8")
    return name
