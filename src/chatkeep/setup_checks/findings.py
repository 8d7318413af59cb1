"""The result of a check: what was examined, what was found, and what to do about problems."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check. None of its texts shows a secret."""

    name: str
    note: str = ""
    problems: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether there are no problems."""
        return not self.problems
