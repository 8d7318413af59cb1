"""Objects of an application, found by their import path (`package.module:name`)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from chatkeep.errors import SetupError


def load_object(setting: str, path: str) -> object:
    """Return what is at *path*, which *setting* names. The present folder is looked into last.

    Raises:
        SetupError: there is nothing, or importing it failed.
    """
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found: object = getattr(importlib.import_module(module), name)
    except SetupError:
        raise
    except Exception as error:
        # Whatever the application's module does wrong; its text may quote anything.
        problem = f"{setting}: {path} cannot be imported ({type(error).__name__})"
        raise SetupError(f"{problem}{_reason(error, module, name)}") from error
    return found


def _reason(error: Exception, module: str, name: str) -> str:
    """Return what to look at, as far as names alone say it."""
    match error:
        case ModuleNotFoundError(name=str(missing)):
            return f": there is no module {missing}, neither installed nor in {Path.cwd()}."
        case AttributeError(name=str(missing), obj=ModuleType(__name__=looked)) if looked == module:
            return f": {module} has no {missing}."
        case _:
            return f": `python -c 'from {module} import {name}'` says why."
