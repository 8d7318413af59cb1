"""What goes with the words of a message when they are erased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """What a message has beside its words.

    Of *file_ids*, its files, those go with it that nothing else has. A title of its conversation
    that nobody typed goes, too, if it is one of *titles*, or with None whatever it is.
    """

    file_ids: Sequence[str] = ()
    titles: Sequence[str] | None = ()

    @property
    def titles_sent(self) -> list[str] | None:
        """The titles as PostgreSQL is sent them."""
        return None if self.titles is None else list(self.titles)
