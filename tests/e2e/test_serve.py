"""`chatkeep serve`: one command from nothing to a server, and nothing lost on the way out."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from chatkeep.data_folder import DataFolder
from chatkeep.embedded_postgresql.cluster import attach
from chatkeep.embedded_postgresql.postmaster import is_running, read_postmaster
from tests.command_line import CHATKEEP, Running, chatkeep, environment, serving
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.postgres_servers import MigratedDatabase

READY = "is ready"
ANY_PORT = ("--port", "0")
#: Python imports it before anything else.
SWALLOWED = """
import multiprocessing, signal, sys

class Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

class Finder:
    def find_spec(self, name, *_):
        if name in ("chatkeep.server", "chatkeep.workers") and not multiprocessing.parent_process():
            Deleted()

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """Also by what tests start that are run under `nohup`, or in the background, themselves."""
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGHUP, hung_up)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as session:
        yield session


async def address(server: Running) -> str:
    """Wait until the server is ready and return the address that it tells people to open."""
    out = await server.says("Stop ")
    found = re.search(r"Open +(http\S+)", out)
    assert found is not None, out
    return found[1]


async def token(home: Path, user: str) -> dict[str, str]:
    """Return the headers of *user*."""
    done = await chatkeep("token", "--user", user, cwd=home)
    assert done.code == 0, done.err
    return {"authorization": f"Bearer {done.out.strip()}"}


async def ask(
    http: aiohttp.ClientSession, base: str, who: dict[str, str], text: str
) -> dict[str, str]:
    """Begin a conversation with *text* and return the answer's body."""
    async with http.post(f"{base}/api/v1/chat/start", json={}, headers=who) as answer:
        conversation_id = (await answer.json())["conversation_id"]
    body = {"conversation_id": conversation_id, "message": text}
    async with http.post(f"{base}/api/v1/chat/message", json=body, headers=who) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, str] = await answer.json()
        return found


async def history(
    http: aiohttp.ClientSession, base: str, who: dict[str, str], chat: str
) -> list[str]:
    """Return what is kept of a conversation."""
    async with http.get(f"{base}/api/v1/chat/{chat}", headers=who) as answer:
        assert answer.status == 200, await answer.text()
        return [one["content"] for one in (await answer.json())["messages"]]


def postgresql_of(home: Path) -> int | None:
    """Return the number of the PostgreSQL process that runs in the data folder, if one does."""
    data = home / ".chatkeep" / "postgresql"
    found = read_postmaster(data)
    return found.pid if found is not None and is_running(found.pid, data) else None


async def test_from_nothing_to_an_answer_and_back_tomorrow(
    home: Path, http: aiohttp.ClientSession
) -> None:
    """A first start makes everything, says where it is, and what was said is there later."""
    async with serving(*ANY_PORT, cwd=home) as server:
        base = await address(server)
        assert re.search(r"Starting PostgreSQL: \d+\.\d s\n", server.out)
        assert str(home / ".chatkeep") in server.out
        assert "chatkeep/eliza" in server.out
        ana = await token(home, "ana")
        answer = await ask(http, base, ana, "I feel tired")
        assert answer["message"]
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
        assert "Stopping PostgreSQL" in server.out
    assert postgresql_of(home) is None
    assert stat.S_IMODE((home / ".chatkeep").stat().st_mode) & 0o067 == 0
    async with serving("--port", base.rpartition(":")[2], cwd=home) as server:
        assert await address(server) == base
        kept = await history(http, base, ana, answer["conversation_id"])
        assert kept[-2:] == ["I feel tired", answer["message"]]
    assert (home / "errors.txt").read_text().count("Traceback") == 0


async def test_killed_server_starts_again_with_everything(
    settled: Path, http: aiohttp.ClientSession
) -> None:
    """After kill -9 the same command starts, though PostgreSQL was left behind."""
    async with serving(*ANY_PORT, cwd=settled) as server:
        base = await address(server)
        ana = await token(settled, "ana")
        answer = await ask(http, base, ana, "I feel tired")
        server.signal(signal.SIGKILL)
        await server.ends()
    left_behind = postgresql_of(settled)
    assert left_behind is not None
    async with serving("--port", base.rpartition(":")[2], cwd=settled) as server:
        await address(server)
        assert postgresql_of(settled) not in {None, left_behind}
        kept = await history(http, base, ana, answer["conversation_id"])
        assert kept[-2:] == ["I feel tired", answer["message"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_what_a_terminal_says_reaches_all_and_ends_in_order(
    settled: Path, number: signal.Signals
) -> None:
    """The whole process group gets Ctrl-C, or hears that the terminal is closed.

    PostgreSQL is stopped by us, and after us.
    """
    async with serving(*ANY_PORT, "--workers", "2", cwd=settled) as server:
        await address(server)
        os.killpg(server.process.pid, number)
        assert await server.ends() == 0
        assert "Stopping PostgreSQL" in server.out
    log = (settled / ".chatkeep" / "postgresql.log").read_text()
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log
    errors = (settled / "errors.txt").read_text()
    assert "Traceback" not in errors
    assert "error" not in errors.lower()


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("Starting PostgreSQL", signal.SIGINT),
        ("Preparing", signal.SIGTERM),
        ("Starting the server", signal.SIGINT),
    ],
)
async def test_signal_while_it_starts_leaves_nothing_running(
    home: Path, step: str, number: signal.Signals
) -> None:
    """Whoever changes their mind during the first start gets everything stopped again."""
    async with serving(*ANY_PORT, cwd=home) as server:
        await server.says(step)
        server.signal(number)
        assert await server.ends() == 0
        assert READY not in server.out
    assert postgresql_of(home) is None
    assert "Traceback" not in (home / "errors.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_command_that_is_stopped_leaves_nothing_running(
    home: Path, number: signal.Signals
) -> None:
    """Where a command had to start PostgreSQL, that ends with it, whoever stops it."""
    process = await asyncio.create_subprocess_exec(
        *(CHATKEEP, "migrate"), cwd=home, env=environment({}), stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(PATIENCE_S):
        while postgresql_of(home) is None:  # noqa: ASYNC110 -- another process has no event of ours
            await asyncio.sleep(0.01)
        process.send_signal(number)
        assert await process.wait() == 130
    assert postgresql_of(home) is None


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_signal_that_python_swallows_stops_it_all_the_same(
    settled: Path, workers: str
) -> None:
    """What a signal raises in a `__del__` or a weak reference's callback comes to nothing."""
    (settled / "sitecustomize.py").write_text(SWALLOWED, encoding="utf-8")
    settings = {"PYTHONPATH": str(settled)}
    async with serving(*ANY_PORT, "--workers", workers, cwd=settled, settings=settings) as server:
        assert await server.ends() == 0
        assert "Stopped before it was ready" in server.out
        assert READY not in server.out
    assert postgresql_of(settled) is None
    assert "KeyboardInterrupt" in (settled / "errors.txt").read_text()


@asynccontextmanager
async def being_answered(
    http: aiohttp.ClientSession, base: str, who: dict[str, str]
) -> AsyncIterator[tuple[str, aiohttp.ClientResponse]]:
    """Ask in a new conversation; lend its id and the stream, of which the beginning has come."""
    async with http.post(f"{base}/api/v1/chat/start", json={}, headers=who) as made:
        chat = (await made.json())["conversation_id"]
    body = {"conversation_id": chat, "message": "I feel tired"}
    headers = {**who, "accept": "text/event-stream"}
    async with http.post(f"{base}/api/v1/chat/message", json=body, headers=headers) as answer:
        await answer.content.readline()
        yield chat, answer


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_running_answer_ends_before_the_server_does(
    settled: Path, http: aiohttp.ClientSession, workers: str
) -> None:
    """SIGTERM lets a stream end, also when every process gets it (systemd), and keeps it."""
    async with serving(*ANY_PORT, "--workers", workers, cwd=settled) as server:
        base = await address(server)
        ana = await token(settled, "ana")
        async with being_answered(http, base, ana) as (chat, answer):
            everybody = [server.process.pid, *children_of(server.process.pid)]
            for pid in everybody:
                os.kill(pid, signal.SIGTERM)
            said = await answer.content.read()
        assert b"event: done" in said
        assert await server.ends() == 0
    async with serving("--port", base.rpartition(":")[2], cwd=settled) as server:
        await address(server)
        assert len((await history(http, base, ana, chat))[-1]) > 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_terminal_that_is_said_to_be_closed_again_hurries_nobody(
    settled: Path, http: aiohttp.ClientSession, workers: str
) -> None:
    """The system says so, and then a shell: an answer that is being read still ends."""
    async with serving(*ANY_PORT, "--workers", workers, cwd=settled) as server:
        base = await address(server)
        ana = await token(settled, "ana")
        async with being_answered(http, base, ana) as (_, answer):
            os.killpg(server.process.pid, signal.SIGHUP)
            await server.says("Stopping: ")
            os.killpg(server.process.pid, signal.SIGHUP)
            said = await answer.content.read()
        assert b"event: done" in said
        assert await server.ends() == 0
    assert postgresql_of(settled) is None


async def test_nohup_is_heeded(settled: Path, http: aiohttp.ClientSession) -> None:
    """Who was told to survive the terminal goes on serving."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with serving(*ANY_PORT, cwd=settled) as server:
            base = await address(server)
            os.killpg(server.process.pid, signal.SIGHUP)
            async with http.get(f"{base}/readyz") as answer:
                assert answer.status == 200
    finally:
        signal.signal(signal.SIGHUP, before)


@asynccontextmanager
async def silent_provider() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A model's provider that takes a question and never says a word; and when it was asked."""
    asked = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()  # until the other side has hung up, body and all
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", asked


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_second_signal_does_not_wait(
    settled: Path, http: aiohttp.ClientSession, workers: str
) -> None:
    """Whoever asks twice gets the server stopped, with an answer still running."""
    async with silent_provider() as (provider, asked):
        settings = {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": provider,
            "DRAIN_SECONDS": "600",
        }
        async with serving(
            *ANY_PORT, "--workers", workers, cwd=settled, settings=settings
        ) as server:
            base = await address(server)
            ana = await token(settled, "ana")
            asking = asyncio.create_task(ask(http, base, ana, "Hello?"))
            await asyncio.wait_for(asked.wait(), PATIENCE_S)
            server.signal(signal.SIGTERM)
            await server.says("Stopping: ")
            server.signal(signal.SIGTERM)
            assert await server.ends() == 0
            assert "Stopping PostgreSQL" in server.out
            with pytest.raises(aiohttp.ClientError):
                await asking
    assert "Traceback" not in (settled / "errors.txt").read_text()


async def test_workers_share_the_port_and_are_replaced(
    settled: Path, http: aiohttp.ClientSession
) -> None:
    """Several processes serve; one that dies is replaced, and all end with the first."""
    async with serving(*ANY_PORT, "--workers", "2", cwd=settled) as server:
        base = await address(server)
        before = children_of(server.process.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while len(set(children_of(server.process.pid)) - {before[0]}) < 2:  # noqa: ASYNC110 -- another process has no event of ours
                await asyncio.sleep(0.05)
        async with http.get(f"{base}/readyz", headers={"connection": "close"}) as answer:
            assert answer.status == 200
        everybody = children_of(server.process.pid)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
    assert not any(is_alive(pid) for pid in everybody)


async def test_workers_end_with_a_killed_parent(settled: Path) -> None:
    """Nobody goes on serving when the process that looks after them was killed."""
    async with serving(*ANY_PORT, "--workers", "2", cwd=settled) as server:
        await address(server)
        workers = children_of(server.process.pid)
        server.signal(signal.SIGKILL)
        await server.process.wait()
        async with asyncio.timeout(PATIENCE_S):
            while any(is_alive(pid) for pid in workers):  # noqa: ASYNC110 -- as above
                await asyncio.sleep(0.05)


async def test_taken_port_is_one_line_before_anything_is_made(home: Path) -> None:
    """The port is the first thing that is tried, so a second start touches nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await chatkeep("serve", "--port", str(port), cwd=home)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"chatkeep: Port {port} on 127.0.0.1 is taken by another program:"
        " choose another with --port.\n"
    )
    assert not (home / ".chatkeep").exists()


async def test_data_folder_in_use_is_one_line(settled: Path) -> None:
    """A second server on the same folder names the first one, which goes on undisturbed."""
    async with serving(*ANY_PORT, cwd=settled) as server:
        await address(server)
        before = postgresql_of(settled)
        done = await chatkeep("serve", *ANY_PORT, cwd=settled)
        assert done.code == 1
        assert done.err == (
            f"chatkeep: The data folder {settled / '.chatkeep'} is in use by process"
            f" {server.process.pid}.\n"
        )
        assert postgresql_of(settled) == before


async def test_other_postgresql_version_is_one_line(settled: Path) -> None:
    """A folder of another PostgreSQL is named, and stays as it is."""
    version = settled / ".chatkeep" / "postgresql" / "PG_VERSION"
    version.write_text("17\n")
    done = await chatkeep("serve", *ANY_PORT, cwd=settled)
    assert done.code == 1
    assert one_line(done.err).startswith("chatkeep: ")
    assert "PostgreSQL 17" in done.err
    assert version.read_text() == "17\n"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"DATABASE_URL": "postgresql://a:hunter2@127.0.0.1:1/x"}, "Cannot reach the database"),
        ({"DATABASE_URL": "postgresql://a:hunter2%zz@127.0.0.1/x"}, "DATABASE_URL"),
        ({"HOST": "192.0.2.1"}, "not an address of this machine"),
        ({"PORT": "eighty"}, "PORT must be a whole number"),
    ],
)
async def test_what_cannot_be_served_is_one_line(
    home: Path, settings: dict[str, str], says: str
) -> None:
    """No traceback, no secret, no success."""
    done = await chatkeep(
        "serve", *([] if "PORT" in settings else ANY_PORT), cwd=home, settings=settings
    )
    assert done.code == 1
    assert says in one_line(done.err)
    assert "hunter2" not in done.err


async def test_all_bad_settings_are_told_together(home: Path) -> None:
    """The environment and `.env.local` are read together; the environment wins."""
    (home / ".env.local").write_text('PORT="eighty"\nTEMPERATURE=7\nRATE_LIMITS=perhaps\n')
    done = await chatkeep("serve", cwd=home, settings={"RATE_LIMITS": "off"})
    assert done.code == 1
    assert [line.split()[1] for line in done.err.splitlines()] == ["PORT", "TEMPERATURE"]


async def test_other_secret_is_one_line(home: Path) -> None:
    """Data that was made with another secret is not served with this one."""
    one, other = (
        {"CHATKEEP_SECRET": "0123456789abcdef" * 2},
        {"CHATKEEP_SECRET": "fedcba9876543210" * 2},
    )
    async with serving(*ANY_PORT, cwd=home, settings=one) as server:
        await address(server)
    done = await chatkeep("serve", *ANY_PORT, cwd=home, settings=other)
    assert done.code == 1
    assert "CHATKEEP_SECRET" in one_line(done.err)
    assert postgresql_of(home) is None


async def test_database_that_does_not_isolate_is_refused(settled: Path) -> None:
    """A server does not start where the policies of a table have been switched off."""
    import psycopg  # noqa: PLC0415 -- this test alone alters the database behind the server

    async with serving(*ANY_PORT, cwd=settled) as server:
        await address(server)
        addresses = attach(DataFolder(settled / ".chatkeep"))
        with psycopg.connect(addresses.admin_url) as connection:
            connection.execute("alter table chat.messages no force row level security")
    done = await chatkeep("serve", *ANY_PORT, cwd=settled)
    assert done.code == 1
    assert "Row-level security is not forced on chat.messages" in one_line(done.err)


async def test_database_of_ones_own_with_a_login_that_may_nothing(
    home: Path, http: aiohttp.ClientSession, database: MigratedDatabase
) -> None:
    """With DATABASE_URL no PostgreSQL is started, and a narrow login suffices to serve."""
    async with serving(*ANY_PORT, cwd=home, settings={"DATABASE_URL": database.url}) as server:
        base = await address(server)
        assert "Starting PostgreSQL" not in server.out
        assert f"PostgreSQL database {database.name}" in server.out
        async with http.get(f"{base}/readyz") as answer:
            assert answer.status == 200
    assert not (home / ".chatkeep" / "postgresql").exists()


def one_line(err: str) -> str:
    """Return what was said, which must be one line."""
    (line,) = err.splitlines()
    return line


def children_of(pid: int) -> list[int]:
    """Return the worker processes of a server."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(one): Path(f"/proc/{one}/cmdline").read_bytes() for one in found}
    return [one for one, command in commands.items() if b"spawn_main" in command]


def is_alive(pid: int) -> bool:
    """Whether process *pid* runs (one that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
