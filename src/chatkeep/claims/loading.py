"""The declaration of an application's claims, which CLAIMS names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.claims.declared import ClaimVersions
from chatkeep.claims.standard import STANDARD
from chatkeep.errors import SetupError
from chatkeep.import_paths import load_object

if TYPE_CHECKING:
    from chatkeep.config import Settings


def declared_versions(settings: Settings) -> ClaimVersions:
    """Return the versions that *settings* name, the standard ones if they name none.

    Raises:
        SetupError: as `load_versions`.
    """
    return STANDARD if settings.claims is None else load_versions(settings.claims)


def load_versions(path: str) -> ClaimVersions:
    """Return the versions at *path*.

    Raises:
        SetupError: there is nothing of the kind, or importing it failed.
    """
    found = load_object("CLAIMS", path)
    if not isinstance(found, ClaimVersions):
        raise SetupError(f"CLAIMS: {path} is no ClaimVersions.")
    return found
