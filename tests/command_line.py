"""The installed command, run as a person runs it, in an environment that says nothing else."""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.patience import FIRST_START_S, PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CHATKEEP = str(Path(sys.executable).parent / "chatkeep")
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


class Running:
    """A command that goes on; what it says is read all the time."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.process = process
        self.errors = errors.read_text
        self.out = ""
        self._grew = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        decoder = codecs.getincrementaldecoder("utf-8")()
        while piece := await self.process.stdout.read(1 << 16):
            async with self._grew:
                self.out += decoder.decode(piece)
                self._grew.notify_all()
        async with self._grew:
            self._grew.notify_all()

    async def says(self, text: str) -> str:
        """Wait until *text* was said; return all that was said until then."""
        became = "ended"
        try:
            async with asyncio.timeout(FIRST_START_S), self._grew:
                await self._grew.wait_for(lambda: text in self.out or self._reading.done())
        except TimeoutError:
            became = f"went on for {FIRST_START_S:g} s"
        said = f"it {became} and never said {text!r}:\n{self.out}\n{self.errors()}"
        assert text in self.out, said
        return self.out

    async def ends(self) -> int:
        """Wait until it has ended; return its exit code."""
        ended = asyncio.gather(asyncio.shield(self._reading), self.process.wait())
        try:
            async with asyncio.timeout(PATIENCE_S):
                return (await ended)[1]
        except TimeoutError:
            said = f"it did not end:\n{self.out}\n{self.errors()}"
            raise AssertionError(said) from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return *settings*, and of this process's environment what any program needs."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | dict(settings)


async def chatkeep(*arguments: str, cwd: Path, settings: Mapping[str, str] | None = None) -> Done:
    """Run `chatkeep` with *arguments* in the folder *cwd* to its end."""
    process = await asyncio.create_subprocess_exec(
        CHATKEEP,
        *arguments,
        cwd=cwd,
        env=environment(settings or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(code=process.returncode, out=out.decode(), err=err.decode())


@asynccontextmanager
async def serving(
    *arguments: str, cwd: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run `chatkeep serve` until the block ends; standard error goes to `errors.txt` in *cwd*.

    It is in a process group of its own, so that a test can press Ctrl-C on it.
    """
    with (cwd / "errors.txt").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(CHATKEEP, "serve", *arguments),
            cwd=cwd,
            env=environment(settings or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    running = Running(process, cwd / "errors.txt")
    try:
        yield running
    finally:
        if process.returncode is None:
            running.signal(signal.SIGTERM)
        try:
            await running.ends()
        finally:
            if process.returncode is None:
                running.signal(signal.SIGKILL)
