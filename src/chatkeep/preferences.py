"""A person's chat settings: the rows of `chat.profiles`, cached for seconds.

Never inside a token, and never another person's: the database shows only the caller's
row. A change is seen at once on this node, on the others when PostgreSQL tells them, and
after `_TTL_S` if that notification is lost.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from chatkeep.db import as_user
from chatkeep.errors import PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chatkeep.db import Database

_TTL_S = 5.0
_CACHED_AT_MOST = 50_000
_CHANGED_ELSEWHERE = "Your settings were changed elsewhere. Read them again and retry."


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a person has chosen; None is "no wish". *version* 0: never saved."""

    version: int = 0
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    system_prompt: str | None = None
    default_model: str | None = None
    custom_instructions: str | None = None
    display_name: str | None = None
    theme: str | None = None
    locale: str | None = None


NO_PROFILE = Profile()
_FIELDS = tuple(one.name for one in fields(Profile) if one.name != "version")


class Preferences:
    """Profiles of everybody, read through a small cache."""

    def __init__(self, db: Database, *, tell_others: Callable[[str], None] | None = None) -> None:
        """Read and write through *db*.

        *tell_others* is called with whose profile was changed here: a way beside NOTIFY.
        """
        self._db = db
        self._tell_others = tell_others
        self._cache: OrderedDict[str, tuple[float, Profile]] = OrderedDict()
        self._changes = 0

    async def get_profile(self, user_id: str) -> Profile:
        """Return *user_id*'s profile, at most `_TTL_S` seconds old."""
        cached = self._cache.get(user_id)
        if cached is not None and cached[0] > time.monotonic():
            return cached[1]
        changes = self._changes
        profile = await _read(self._db, user_id)
        # A change that arrived while we read may be newer than what we read.
        if changes == self._changes:
            self._keep(user_id, profile)
        return profile

    async def change_profile(
        self, user_id: str, wishes: Mapping[str, Any], *, expected_version: int | None
    ) -> Profile:
        """Save the named fields (None clears one) and return the whole profile.

        Raises:
            PreconditionFailed: *expected_version* is not the present one.
        """
        if not wishes:
            return await self._unchanged(user_id, expected_version)
        profile = await _write(self._db, user_id, wishes, expected_version)
        self.tell_of_change(user_id)
        return profile

    def tell_of_change(self, user_id: str) -> None:
        """Drop what is cached of *user_id*, here and wherever *tell_others* reaches."""
        self.forget(user_id)
        if self._tell_others is not None:
            self._tell_others(user_id)

    def forget(self, user_id: str) -> None:
        """Drop what is cached of *user_id*, because it changed."""
        self._changes += 1
        self._cache.pop(user_id, None)

    def forget_all(self) -> None:
        """Drop everything, because changes may have been missed."""
        self._changes += 1
        self._cache.clear()

    async def _unchanged(self, user_id: str, expected: int | None) -> Profile:
        profile = await _read(self._db, user_id)
        if expected not in {None, profile.version}:
            raise PreconditionFailed(_CHANGED_ELSEWHERE)
        return profile

    def _keep(self, user_id: str, profile: Profile) -> None:
        self._cache[user_id] = (time.monotonic() + _TTL_S, profile)
        self._cache.move_to_end(user_id)
        if len(self._cache) > _CACHED_AT_MOST:
            self._cache.popitem(last=False)


async def _read(db: Database, user_id: str) -> Profile:
    rows = await db.fetch(
        as_user(user_id),
        """
        select version, temperature, top_p, max_tokens, system_prompt, default_model,
               custom_instructions, display_name, theme, locale
        from chat.profiles where id = %s
        """,
        [user_id],
        row=Profile,
    )
    return rows[0] if rows else NO_PROFILE


async def _write(
    db: Database, user_id: str, wishes: Mapping[str, Any], expected: int | None
) -> Profile:
    """Insert or change the row in one statement; `named` says which fields were sent."""
    values = {field: wishes.get(field) for field in _FIELDS}
    rows = await db.fetch(
        as_user(user_id),
        """
        insert into chat.profiles as kept
          (id, temperature, top_p, max_tokens, system_prompt, default_model,
           custom_instructions, display_name, theme, locale)
        select %(id)s, %(temperature)s, %(top_p)s, %(max_tokens)s, %(system_prompt)s,
               %(default_model)s, %(custom_instructions)s, %(display_name)s, %(theme)s, %(locale)s
        where %(expected)s::int is null or %(expected)s::int = 0
           or exists (select from chat.profiles where id = %(id)s)
        on conflict (id) do update set
          temperature = case when 'temperature' = any(%(named)s)
            then excluded.temperature else kept.temperature end,
          top_p = case when 'top_p' = any(%(named)s) then excluded.top_p else kept.top_p end,
          max_tokens = case when 'max_tokens' = any(%(named)s)
            then excluded.max_tokens else kept.max_tokens end,
          system_prompt = case when 'system_prompt' = any(%(named)s)
            then excluded.system_prompt else kept.system_prompt end,
          default_model = case when 'default_model' = any(%(named)s)
            then excluded.default_model else kept.default_model end,
          custom_instructions = case when 'custom_instructions' = any(%(named)s)
            then excluded.custom_instructions else kept.custom_instructions end,
          display_name = case when 'display_name' = any(%(named)s)
            then excluded.display_name else kept.display_name end,
          theme = case when 'theme' = any(%(named)s) then excluded.theme else kept.theme end,
          locale = case when 'locale' = any(%(named)s) then excluded.locale else kept.locale end
        where %(expected)s::int is null or kept.version = %(expected)s::int
        returning version, temperature, top_p, max_tokens, system_prompt, default_model,
                  custom_instructions, display_name, theme, locale
        """,
        {**values, "id": user_id, "named": list(wishes), "expected": expected},
        row=Profile,
    )
    if not rows:
        raise PreconditionFailed(_CHANGED_ELSEWHERE)
    return rows[0]
