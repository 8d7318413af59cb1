"""What one person has used, and what they may use apart from everybody else, for administrators."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.budgets.administered import OwnLimits, finding
from chatkeep.budgets.overview import UsedOnDay, used_daily
from chatkeep.db import ADMIN, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOf:
    """A person's days, the newest first; *limits* are None where they have none of their own."""

    by_day: tuple[UsedOnDay, ...]
    limits: OwnLimits | None


async def read_usage(db: Database, user_id: str, *, days: int) -> UsageOf:
    """Return what *user_id* has used in the last *days* with today, and their own limits.

    Raises:
        Unavailable: the database is away.
    """
    by_day, limits = await db.fetch_all(
        ADMIN, used_daily(user_id, days=days), finding("user", user_id)
    )
    return UsageOf(by_day=tuple(by_day), limits=limits[0] if limits else None)
