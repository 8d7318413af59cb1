"""Settings: who administers, and how lately they must have signed in."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.config import values as read
from chatkeep.config.reading import setting


@dataclass(frozen=True, kw_only=True)
class AdministrationSettings:
    """Who administers, and how lately they must have signed in."""

    admin_roles: tuple[str, ...] = setting("ADMIN_ROLES", read.words, default=("admin",))
    admin_sign_in_age_s: int = setting("ADMIN_SIGN_IN_AGE", read.whole(60, 86_400), default=3600)
