"""The data folder: where a server that was given nothing else keeps everything.

It holds the server's secret, the embedded PostgreSQL and a lock; only the account that
runs the server may look inside. Nothing here knows what PostgreSQL is.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chatkeep.config import Secret
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Use = Literal["server", "command"]

_SECRET_BYTES = 32
_POLL_S = 0.05
#: How long one waits for a command that uses the folder; a server is not waited for.
_COMMAND_WAIT_S = 15.0


class InUse(SetupError):
    """Another process uses the data folder; *holder* says which and for what."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self.holder = holder
        super().__init__(f"The data folder {folder} is in use by process {holder.pid}.")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the folder; *address* is where a server is reached."""

    pid: int
    use: Use
    address: str = ""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder that `prepare` has made, with what it holds. *path* is absolute."""

    path: Path

    @property
    def postgresql(self) -> Path:
        """Where the embedded PostgreSQL keeps its files."""
        return self.path / "postgresql"

    @property
    def secret_file(self) -> Path:
        """The server's secret, as hexadecimal text that also fits CHATKEEP_SECRET."""
        return self.path / "secret"

    def secret(self) -> Secret:
        """Return the folder's secret, which is made the first time, once.

        Raises:
            SetupError: it is unreadable, or gone while data made with it is there.
        """
        with _readable(self.path):
            with suppress(FileNotFoundError):
                return self._stored_secret()
            if self.postgresql.exists():
                raise SetupError(
                    f"{self.secret_file} is missing, and the data beside it opens with no other"
                    " secret: restore it from a backup."
                )
            self._make_secret()
            return self._stored_secret()

    def _stored_secret(self) -> Secret:
        text = self.secret_file.read_text(encoding="ascii", errors="replace").strip()
        if len(text) < 2 * _SECRET_BYTES:
            raise SetupError(f"{self.secret_file} is damaged: restore it from a backup.")
        return Secret(text)

    def _make_secret(self) -> None:
        """Write it elsewhere, then link it: it is whole or not there, and the first one wins."""
        draft = self.path / f".secret-{secrets.token_hex(8)}"
        self._write(draft, secrets.token_hex(_SECRET_BYTES) + "\n")
        with suppress(FileExistsError):
            os.link(draft, self.secret_file)
        draft.unlink()
        folder = os.open(self.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _write(self, file: Path, text: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            self.give(file)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)

    def give(self, file: Path) -> None:
        """Let *file*, which root made, belong to the folder's owner like everything else."""
        if os.geteuid() == 0:
            owner = self.path.stat()
            os.chown(file, owner.st_uid, owner.st_gid)

    @contextmanager
    def locked(self, use: Use, address: str = "") -> Iterator[None]:
        """Hold the folder for this process alone, until the end of the block.

        Others can read *use* and *address*. The lock ends with the process, however that
        ends. Waits for a short-lived command.

        Raises:
            InUse: a server has it, or a command does not give it back.
        """
        with _readable(self.path):
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            self.give(self.path / "lock")
        try:
            self._acquire(descriptor)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {use} {address}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + _COMMAND_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                holder = _holder(descriptor)
                is_server = holder.use == "server" and _is_alive(holder.pid)
                if is_server or time.monotonic() > deadline:
                    raise InUse(self.path, holder) from error
            except OSError as error:
                raise SetupError(
                    f"The data folder {self.path} cannot be locked ({error.strerror}): choose one"
                    " on a local disk with --data."
                ) from error
            time.sleep(_POLL_S)

    def holder(self) -> Holder | None:
        """Return who has the folder locked now, None when nobody has.

        Raises:
            SetupError: this account may not look.
        """
        if not self.has(self.path / "lock"):
            return None
        with _readable(self.path):
            descriptor = os.open(self.path / "lock", os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(descriptor)
        finally:
            os.close(descriptor)
        return None

    def has(self, path: Path) -> bool:
        """Whether *path*, the folder itself or something in it, is there.

        Raises:
            SetupError: this account may not look.
        """
        with _readable(self.path):
            return path.exists()

    def obstacle(self) -> str | None:
        """Return why the folder, which is not there, cannot be made; None when it can."""
        above = self.path
        while not above.exists() and not above.is_symlink():
            above = above.parent
        if not above.exists():
            why = f"{above} leads to {above.readlink()}, which is not there"
        elif not above.is_dir():
            why = f"{above} is no folder"
        elif not os.access(above, os.W_OK | os.X_OK):
            why = f"this account may not write in {above}"
        else:
            return None
        return f"The data folder {self.path} cannot be made, {why}: name another with --data."

    def problems(self) -> list[str]:
        """Return what is wrong with who may look into the folder: none, it is hoped.

        Raises:
            SetupError: this account may not look.
        """
        found = []
        for path, allowed in ((self.path, 0o710), (self.secret_file, 0o600)):
            with _readable(self.path), suppress(FileNotFoundError):
                mode = stat.S_IMODE(path.stat().st_mode)
                if mode & ~allowed & 0o077:
                    found.append(f"Others may look into {path}: run chmod go-rwx '{path}'.")
        return found


def prepare(path: Path) -> DataFolder:
    """Make the folder at *path* if it is not there, closed to everybody else.

    Raises:
        SetupError: it cannot be made or used, and why.
    """
    folder = DataFolder(path.expanduser().absolute())
    with _readable(folder.path):
        if not folder.path.exists() and (obstacle := folder.obstacle()) is not None:
            raise SetupError(obstacle)
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.path.stat().st_mode)
        # The group's x may stand for an access control list of ours: see embedded_account.
        if mode & 0o067:
            folder.path.chmod(0o700)
        ignore = folder.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")
            folder.give(ignore)
    return folder


def _holder(descriptor: int) -> Holder:
    """Who has the lock. Nobody is named for a moment: it has just been taken."""
    words = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").split()
    pid, use, address = [*words, "", "", ""][:3]
    return Holder(
        int(pid) if pid.isdigit() else 0, "server" if use == "server" else "command", address
    )


def _is_alive(pid: int) -> bool:
    """Whether *pid* runs: the lock file may still name its last holder for a moment."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise SetupError(
            f"The data folder {path} belongs to another account ({error.filename}: permission"
            " denied): run as that account or choose another folder with --data."
        ) from error
    except OSError as error:
        raise SetupError(f"The data folder {path} cannot be used: {error.strerror}.") from error
