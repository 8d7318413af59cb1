"""Settings with which a server in production starts, and what a start says of bad ones."""

from __future__ import annotations

from typing import Any

import pytest

from chatkeep.config import Settings
from chatkeep.errors import SetupError

SECRET = "0123456789abcdef0123456789abcdef"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "PUBLIC_URL": "https://chat.example",
    "DATABASE_URL": "postgresql://chatkeep:pw@db.example/chat",
    "CHATKEEP_SECRET": SECRET,
}


def problems_of(environ: dict[str, str], **options: Any) -> tuple[str, ...]:  # noqa: ANN401 -- of `from_env`
    """Return what a start with *environ* would complain about."""
    with pytest.raises(SetupError) as refused:
        Settings.from_env(environ, **options)
    return refused.value.problems
