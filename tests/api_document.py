"""The OpenAPI document of the whole server: to make it takes a second."""

from __future__ import annotations

from typing import Any, Final

from chatkeep.config import Settings
from chatkeep.web.app import create_app

DOCUMENT: Final[dict[str, Any]] = create_app(Settings.from_env({})).openapi()
