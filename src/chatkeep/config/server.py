"""Settings: the process itself: where it listens, its database, its limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chatkeep.config import values as read
from chatkeep.config.reading import setting

if TYPE_CHECKING:
    from chatkeep.config.values import Environment, Secret

#: Of each process, which listens, and asks whether the database is there.
_CONNECTIONS_BESIDE_THE_POOL: Final = 3


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The process itself: where it listens, its database, its limits."""

    environment: Environment = setting(
        "ENVIRONMENT", read.environment, "NODE_ENV", default="development"
    )
    host: str = setting("HOST", read.plain_text, default="127.0.0.1")
    port: int = setting("PORT", read.whole(1, 65535), default=8000)
    workers: int = setting("WORKERS", read.whole(1, 64), default=1)
    public_url: str | None = setting("PUBLIC_URL", read.web_address)
    data_folder: Path = setting("CHATKEEP_DATA", read.folder, default=Path(".chatkeep"))
    secret: Secret | None = setting("CHATKEEP_SECRET", read.long_secret)
    database_url: Secret | None = setting("DATABASE_URL", read.database_url, "SUPABASE_DB_URL")
    database_admin_url: Secret | None = setting("DATABASE_ADMIN_URL", read.database_url)
    database_listen_url: Secret | None = setting("DATABASE_LISTEN_URL", read.database_url)
    database_pool_size: int = setting("DATABASE_POOL_SIZE", read.whole(1, 200), default=10)
    database_pooler: bool = setting("DATABASE_POOLER", read.flag, default=False)
    redis_url: Secret | None = setting("REDIS_URL", read.redis_url)
    redis_timeout_s: float = setting("REDIS_TIMEOUT", read.number(0.005, 5), default=0.05)
    rate_limits: bool = setting("RATE_LIMITS", read.flag, default=True)
    trusted_proxies: tuple[str, ...] = setting("TRUSTED_PROXIES", read.networks, default=())
    cors_origins: tuple[str, ...] = setting("CORS_ORIGINS", read.origins, default=())
    max_body_bytes: int = setting("MAX_BODY_BYTES", read.whole(1024, 64 << 20), default=1 << 20)
    log_level: str = setting("LOG_LEVEL", str.upper, default="INFO")
    drain_s: int = setting("DRAIN_SECONDS", read.whole(0, 600), default=10)

    @property
    def database_connections(self) -> int:
        """How many connections to PostgreSQL all processes of such a server make."""
        return self.workers * (self.database_pool_size + _CONNECTIONS_BESIDE_THE_POOL)
