"""The data folder: closed to others, one secret for ever, one process at a time."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from chatkeep import data_folder
from chatkeep.data_folder import DataFolder, InUse, prepare
from chatkeep.errors import SetupError
from chatkeep.setup_checks.doctor import examine_folder

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from chatkeep.data_folder import prepare
with prepare(Path(sys.argv[1])).locked(sys.argv[2], "http://127.0.0.1:1234"):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the folder is going to be."""
    return tmp_path / "below" / "data"


def held_by_another(path: Path, use: str) -> subprocess.Popen[str]:
    """Start a process that holds the folder until its input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, use],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    return holder


def mode(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_and_secret_are_closed_to_others(path: Path) -> None:
    """Only the account that runs the server may look inside; git does not take it either."""
    folder = prepare(path)
    folder.secret()
    assert (mode(path), mode(folder.secret_file)) == (0o700, 0o600)
    assert (path / ".gitignore").read_text() == "*\n"
    assert folder.problems() == []


def test_open_folder_is_closed(path: Path) -> None:
    """A folder that others may read is closed at the start, and doctor names an open one."""
    path.mkdir(parents=True)
    path.chmod(0o755)
    assert data_folder.DataFolder(path).problems()
    assert mode(prepare(path).path) == 0o700


def test_secret_is_made_once(path: Path) -> None:
    """However many ask at the same time, all get the one secret, then and later."""
    folder = prepare(path)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: folder.secret(), range(32)))
    assert len(found) == 1
    assert found == {prepare(path).secret()}
    assert len(bytes.fromhex(found.pop())) == 32
    assert not list(path.glob(".secret-*"))


def test_lost_secret_is_not_replaced(path: Path) -> None:
    """Where data is that opens with no other secret, a new one would only hide the loss."""
    folder = prepare(path)
    folder.postgresql.mkdir()
    with pytest.raises(SetupError, match="missing"):
        folder.secret()


def test_damaged_secret_is_refused(path: Path) -> None:
    """Half a secret is no secret."""
    folder = prepare(path)
    folder.secret_file.write_text("abc\n")
    with pytest.raises(SetupError, match="damaged"):
        folder.secret()


def test_folder_of_a_server_is_refused_at_once(path: Path) -> None:
    """The second user learns which process has the folder, and where it serves."""
    holder = held_by_another(path, "server")
    try:
        folder = prepare(path)
        found = folder.holder()
        assert found is not None
        assert (found.pid, found.address) == (holder.pid, "http://127.0.0.1:1234")
        with pytest.raises(InUse, match=f"in use by process {holder.pid}"), folder.locked("server"):
            pass
    finally:
        holder.communicate()
    assert folder.holder() is None


def test_folder_of_a_killed_server_is_free(path: Path) -> None:
    """The lock ends with its process, however that ends."""
    holder = held_by_another(path, "server")
    holder.kill()
    holder.communicate()
    with prepare(path).locked("command"):
        pass


def test_command_is_waited_for(path: Path) -> None:
    """A command gives the folder back soon, so a server waits for it."""
    holder = held_by_another(path, "command")
    with ThreadPoolExecutor(1) as pool:

        def lock() -> None:
            with prepare(path).locked("server"):
                pass

        locking = pool.submit(lock)
        assert not locking.done()
        holder.communicate()
        locking.result(timeout=10)


def test_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A file in the way is said, not thrown; doctor says it before a start does."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="is no folder"):
        prepare(tmp_path / "file" / "data")
    folder = DataFolder(tmp_path / "file" / "deeper" / "data")
    assert f"{tmp_path / 'file'} is no folder" in examine_folder(folder).problems[0]


@pytest.mark.parametrize("below", ["", "deeper/data"])
def test_link_that_leads_nowhere_is_named(tmp_path: Path, below: str) -> None:
    """As one to a disk that is not mounted: nothing is there, and nothing can be made."""
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    folder = DataFolder(tmp_path / "link" / below)
    said = f"{tmp_path / 'link'} leads to {tmp_path / 'disk' / 'data'}, which is not there"
    with pytest.raises(SetupError, match=said):
        prepare(folder.path)
    assert said in examine_folder(folder).problems[0]


def test_folder_where_nothing_may_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the folder above, which is there, and not the one that nobody could own yet."""
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    folder = DataFolder(tmp_path / "below" / "data")
    with pytest.raises(SetupError, match=f"may not write in {tmp_path}: name another with --data"):
        prepare(folder.path)
    assert f"may not write in {tmp_path}" in examine_folder(folder).problems[0]


def test_folder_that_cannot_be_looked_at_is_one_sentence(tmp_path: Path) -> None:
    """Whoever only asks what is there is told the same way, by doctor as a finding."""
    folder = DataFolder(tmp_path / ("x" * 300))
    with pytest.raises(SetupError, match="cannot be used"):
        folder.has(folder.postgresql)
    assert "cannot be used" in examine_folder(folder).problems[0]
