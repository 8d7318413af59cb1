"""What is kept of the session at a provider with which one of ours began, to end with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSession:
    """By the ID token: of whom at which *issuer* (its exact name), and since when by its clock.

    *name* is what the issuer calls the session (`sid`); None if it does not say.
    """

    issuer: str
    subject: str
    name: str | None
    issued_at: datetime


def columns_of(begun_with: ProviderSession | None) -> tuple[object, ...]:
    """Return what a row keeps of it: issuer, subject, name and when; null is none."""
    if begun_with is None:
        return None, None, None, None
    return begun_with.issuer, begun_with.subject, begun_with.name, begun_with.issued_at
