"""The declaration of an application, found by its import path (`package.module:name`)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chatkeep.claims.declared import ClaimVersions
from chatkeep.claims.standard import STANDARD
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from chatkeep.config import Settings


def declared_versions(settings: Settings) -> ClaimVersions:
    """Return the versions that *settings* name, the standard ones if they name none.

    Raises:
        SetupError: as `load_versions`.
    """
    return STANDARD if settings.claims is None else load_versions(settings.claims)


def load_versions(path: str) -> ClaimVersions:
    """Return the versions at *path*. The present folder is looked into last.

    Raises:
        SetupError: there is nothing of the kind, or importing it failed.
    """
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except SetupError:
        raise
    except Exception as error:
        # Whatever the application's module does wrong; its text may quote anything.
        problem = f"CLAIMS: {path} cannot be imported ({type(error).__name__})."
        raise SetupError(problem) from error
    if not isinstance(found, ClaimVersions):
        raise SetupError(f"CLAIMS: {path} is no ClaimVersions.")
    return found
