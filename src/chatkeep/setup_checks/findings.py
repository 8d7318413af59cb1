"""What was looked at, how it is, and what to do where that is not good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. No text of it shows a secret."""

    name: str
    note: str = ""
    problems: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to do."""
        return not self.problems
