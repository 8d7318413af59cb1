"""Settings: where a monitoring system reads this process's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.config import values as read
from chatkeep.config.reading import setting

if TYPE_CHECKING:
    from chatkeep.config.values import Secret

_HIGHEST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """An address of their own, because nobody who uses the chat has business there."""

    metrics_port: int | None = setting("METRICS_PORT", read.whole(1, _HIGHEST_PORT))
    metrics_host: str = setting("METRICS_HOST", read.plain_text, default="127.0.0.1")
    metrics_token: Secret | None = setting("METRICS_TOKEN", read.long_secret)


def metrics_problems(
    settings: MetricsSettings, *, port: int, workers: int, production: bool
) -> list[str]:
    """Return what is wrong with them taken together, a sentence each."""
    first = settings.metrics_port
    if first is None:
        return ["METRICS_TOKEN needs METRICS_PORT."] if settings.metrics_token else []
    last = first + workers - 1
    problems = []
    if last > _HIGHEST_PORT:
        problems.append("METRICS_PORT leaves no room for a port for each of WORKERS.")
    if first <= port <= last:
        problems.append(
            "METRICS_PORT must not be PORT: each of WORKERS takes the next port after it."
        )
    if (
        production
        and settings.metrics_host not in read.THIS_MACHINE
        and settings.metrics_token is None
    ):
        problems.append(
            "METRICS_TOKEN must be set in production where METRICS_HOST is not this machine:"
            " make one with `openssl rand -hex 32`."
        )
    return problems
