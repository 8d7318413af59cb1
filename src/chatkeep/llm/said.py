"""The words of a model's answer, put together and fit to be stored.

Pieces that arrived together are one, and a character that a provider has cut in two is one
again. Pure: nothing here knows how they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatkeep.events import ReasoningDelta, TextDelta

    Kind = type[TextDelta | ReasoningDelta]

_FIRST_HALF = "\ud800"
_LAST_HALF = "\udbff"


class Said:
    """Text and reasoning that came together, neighbours of a kind joined."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[tuple[Kind, list[str]]] = []

    def add(self, kind: Kind, text: str) -> None:
        """Take what was said next."""
        if self._pieces and self._pieces[-1][0] is kind:
            self._pieces[-1][1].append(text)
        else:
            self._pieces.append((kind, [text]))

    def events(self, halves: Halves) -> Iterator[TextDelta | ReasoningDelta]:
        """Yield what there is, in order."""
        for kind, texts in self._pieces:
            text = "".join(texts)
            if halves.may_come:
                text = halves.joined(kind, text)
            if text := _without_nul(text):
                yield kind(text=text)


class Halves:
    """Characters that came as two surrogates, one at the end of a piece, one in the next.

    As by a provider that cuts its text where JavaScript counts. Until something odd has come,
    none of that `may_come`, and nobody needs to look.
    """

    __slots__ = ("_kept", "may_come")

    def __init__(self) -> None:
        self.may_come = False
        self._kept: dict[Kind, str] = {}

    def joined(self, kind: Kind, text: str) -> str:
        """Return *text* with the half before it, and without one at its end."""
        text = self._kept.pop(kind, "") + text
        if _FIRST_HALF <= text[-1:] <= _LAST_HALF:
            self._kept[kind] = text[-1]
            text = text[:-1]
        return _mended(text)


def storable(text: str) -> str:
    """Return what names something, or is written for a tool, fit to be stored."""
    return _without_nul(_mended(text))


def _without_nul(text: str) -> str:
    """Drop NUL, which PostgreSQL cannot store."""
    return text.replace("\0", "") if "\0" in text else text


def _mended(text: str) -> str:
    """Put surrogates together; what is left alone becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
