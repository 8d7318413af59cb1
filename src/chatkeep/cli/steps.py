"""Steps that take a moment, shown while they do: a spinner for people, whole lines for logs."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator


class Steps:
    """Where steps are shown. *quiet*: only people at a terminal see them."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._quiet = quiet and not self._is_terminal

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show *title* until the block ends, then how long it took."""
        began = time.perf_counter()
        if self._is_terminal:
            with self._spinner(title):
                yield
            self._write(f"\N{CHECK MARK} {title} {_took(began)}\n")
            return
        # Not one line in two parts: what others log meanwhile would be in the middle of it.
        self._write(f"{title} \N{HORIZONTAL ELLIPSIS}\n")
        try:
            yield
        except BaseException:
            self._write(f"{title}: failed\n")
            raise
        self._write(f"{title}: {_took(began)}\n")

    def say(self, text: str) -> None:
        """Show *text*, which nobody may miss: quiet or not."""
        self._put(f"{text}\n")

    @contextmanager
    def _spinner(self, title: str) -> Iterator[None]:
        from rich.console import Console  # noqa: PLC0415 -- only for a terminal

        shown = Console(file=self._stream).status(title, spinner="dots")
        with self._unread():
            shown.start()
        try:
            yield
        finally:
            with self._unread():
                shown.stop()

    def _write(self, text: str) -> None:
        if not self._quiet:
            self._put(text)

    def _put(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        with self._unread():
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()

    @contextmanager
    def _unread(self) -> Iterator[None]:
        """Where nobody reads, the terminal is gone or the disk full, the step is to happen."""
        try:
            yield
        except OSError:
            say_no_more(self._stream)


def say_no_more(stream: TextIO) -> None:
    """Let what *stream* could not write, and what follows, go nowhere.

    Else Python tries it once more when the process ends, and that fails the process.
    """
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _took(began: float) -> str:
    return f"{time.perf_counter() - began:.1f} s"
