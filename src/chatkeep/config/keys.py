"""Settings: personal API keys."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.config import values as read
from chatkeep.config.reading import setting


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """How many API keys a person may have, for how long, and how lately they must sign in."""

    api_keys_per_user: int = setting("API_KEYS_PER_USER", read.whole(0, 200), default=20)
    # What ends everything of a person is remembered for 400 days: no key may outlive that.
    api_key_max_days: int = setting("API_KEY_MAX_DAYS", read.whole(1, 366), default=365)
    api_key_sign_in_age_s: int = setting("API_KEY_SIGN_IN_AGE", read.whole(0, 86_400), default=3600)
