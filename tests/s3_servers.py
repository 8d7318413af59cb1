"""An S3 server that nobody here wrote (s3rver), on loopback, ended by its process id.

It is among the packages of `tests/clients`, which `make test` installs.
"""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.free_ports import free_port
from tests.patience import PATIENCE_S
from tests.peers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S3RVER = ROOT / "tests/clients/node_modules/.bin/s3rver"
BUCKET = "chatkeep-tests"
#: The only keys that s3rver knows.
KEY = "S3RVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server; its objects are files in *folder*."""

    url: str
    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a server of ours that keeps its files there."""
        return {
            "FILES_S3_BUCKET": BUCKET,
            "FILES_S3_ENDPOINT": self.url,
            "FILES_S3_ACCESS_KEY_ID": KEY,
            "FILES_S3_SECRET_ACCESS_KEY": KEY,
        }

    def objects(self) -> list[bytes]:
        """Return what is in each object."""
        return [path.read_bytes() for path in self._files()]

    def spoil(self) -> None:
        """Change every object behind everybody's back."""
        for path in self._files():
            path.write_bytes(b"x" + path.read_bytes()[1:])

    def _files(self) -> list[Path]:
        return sorted((self.folder / BUCKET).rglob("*._S3rver_object"))


@contextmanager
def start_s3(folder: Path, port: int | None = None) -> Iterator[S3Server]:
    """Run s3rver with one empty bucket; *folder* keeps its objects."""
    if not S3RVER.exists():
        message = f"{S3RVER} is missing: `make test` installs it"
        raise FileNotFoundError(message)
    port = port or free_port()
    folder.mkdir(exist_ok=True)
    command = [
        *(str(S3RVER), "--directory", str(folder), "--address", "127.0.0.1", "--silent"),
        *("--port", str(port), "--configure-bucket", BUCKET),
    ]
    with (folder.parent / "s3rver.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_listening(process, port)
        yield S3Server(url=f"http://127.0.0.1:{port}", folder=folder)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                message = "s3rver did not become ready"
                raise RuntimeError(message) from error
        time.sleep(0.05)
