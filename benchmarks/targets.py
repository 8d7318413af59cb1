"""What each figure must be, and which of them say something on another machine.

Names are those of a benchmark's JSON. Ratios of work done in turn in one run hold on any
machine; times and rates do not, and are never compared between machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sense = Literal["<=", ">="]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, and what it must be. *steady*: a ratio, compared with the committed results."""

    figure: str
    sense: Sense
    bound: float
    steady: bool = True

    def is_met(self, value: float) -> bool:
        """Whether *value* is as it must be."""
        return value <= self.bound if self.sense == "<=" else value >= self.bound

    def worsening(self, before: float, now: float) -> float:
        """Return by which part *now* is worse than *before*; negative is better."""
        if not before or not now:
            return 0.0
        return now / before - 1 if self.sense == "<=" else before / now - 1


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What the capacity page reckons with, *said* as it stands there in the row of *figure*.

    Round, and no less than what was measured: *value*, in the figure's own unit.
    """

    benchmark: str
    figure: str
    value: float
    said: str


TARGETS: dict[str, list[Target]] = {
    "tokens": [
        Target("HS256_ours_of_floor", "<=", 1.3),
        Target("RS256_ours_of_floor", "<=", 1.1),
        Target("ES256_ours_of_floor", "<=", 1.1),
        Target("EdDSA_ours_of_floor", "<=", 1.1),
        Target("seen_before_with_revocation_us", "<=", 2, steady=False),
    ],
    "routes": [
        Target("app_middleware_of_open", ">=", 0.95),
        Target("middleware_times_fastapi-users", ">=", 8),
    ],
    "database": [
        Target("profile_ours_of_bare", "<=", 1.4),
        Target("store_ours_of_bare", "<=", 1.2),
        Target("profile_orm_of_ours", ">=", 4),
        Target("store_orm_of_ours", ">=", 1.5),
    ],
    "growth": [
        Target("history_largest_of_smallest", "<=", 2.5),
        Target("list_largest_of_smallest", "<=", 2.5),
        Target("deep_history_of_first", "<=", 1.2),
        Target("deep_list_of_first", "<=", 1.2),
        Target("search_rare_of_single_row", "<=", 5),
        Target("search_common_ms", "<=", 50, steady=False),
    ],
    "revocation": [Target("others_refuse_after_p99_ms", "<=", 50, steady=False)],
    "turn": [
        Target("chatkeep_added_p50_ms", "<=", 1.2, steady=False),
        Target("per_s_times_litellm", ">=", 8),
    ],
    "stream": [
        Target("apart_chatkeep_chunks_per_s", ">=", 45_000, steady=False),
        Target("apart_times_litellm", ">=", 20),
        Target("burst_times_litellm", ">=", 20),
        Target("first_chatkeep_added_p50_ms", "<=", 2, steady=False),
    ],
    "streams": [
        Target("chatkeep_open_streams", ">=", 2000, steady=False),
        Target("chatkeep_open_kib_each", "<=", 40, steady=False),
        Target("chatkeep_open_first_token_p99_ms", "<=", 200, steady=False),
        Target("chatkeep_open_other_route_times_idle", "<=", 2, steady=False),
        Target("chatkeep_reading_cpu", "<=", 0.9, steady=False),
        Target("chatkeep_reading_first_token_p99_ms", "<=", 50, steady=False),
        # What nobody sees who reads along.
        Target("chatkeep_reading_late_p99_ms", "<=", 100, steady=False),
        Target("chatkeep_reading_kept_every_ms", "<=", 350, steady=False),
    ],
    "logins": [
        Target("log_ins_per_core_s", ">=", 45, steady=False),
        Target("loop_late_p99_ms", "<=", 5, steady=False),
    ],
    "start": [
        Target("chatkeep_start_s", "<=", 3, steady=False),
        Target("chatkeep_idle_mib", "<=", 120, steady=False),
    ],
}

RECKONED: list[Reckoned] = [
    Reckoned("tokens", "ES256_ours_us", 70, "0.07 ms"),
    Reckoned("tokens", "seen_before_with_revocation_us", 2, "2 µs"),
    Reckoned("routes", "server_list_cpu_us", 500, "0.5 ms"),
    Reckoned("database", "profile_ours_us", 150, "0.15 ms"),
    Reckoned("turn", "chatkeep_cpu_ms", 2, "2 ms"),
    Reckoned("stream", "apart_chatkeep_us_a_chunk", 22, "0.022 ms"),
    Reckoned("logins", "server_cpu_ms", 21, "21 ms"),
    Reckoned("streams", "chatkeep_open_kib_each", 38.5, "38 KiB"),
    Reckoned("streams", "chatkeep_reading_cpu", 0.9, "0.9 of it"),
    Reckoned("streams", "chatkeep_reading_below_cpu", 0.21, "a fifth of a core"),
    Reckoned("database", "store_ours_us", 1000, "1 ms, flush included"),
    Reckoned("database", "turn_us", 3000, "3 ms, flushes included"),
    Reckoned("growth", "history_1e7_ms", 2, "2 ms, pages not in memory included"),
    Reckoned("growth", "1e7_gib", 17, "17 GiB"),
    Reckoned("start", "chatkeep_idle_mib", 120, "120 MB"),
]
