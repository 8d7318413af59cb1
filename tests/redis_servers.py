"""A Redis of a test's own, where one is installed: killed, held up and started again by pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.free_ports import free_port
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")

needs_redis = pytest.mark.skipif(
    PROGRAM is None, reason="redis-server is not installed; scripts/apt-packages installs it"
)


class RedisServer:
    """One server process at an address that stays the same when it is started again."""

    def __init__(self, folder: str, *, encrypted: bool = False) -> None:
        # One that no connection is given while it is killed: not even that of who looks for it.
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = {"port": str(self.port)}
        if encrypted:
            certificate, key = certify(Path(folder))
            self.url = f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={certificate}"
            self._options = {
                "port": "0",
                "tls-port": str(self.port),
                "tls-auth-clients": "no",
                "tls-cert-file": certificate,
                "tls-key-file": key,
                "tls-ca-cert-file": certificate,
            }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        assert PROGRAM is not None
        said = {**self._options, "bind": "127.0.0.1", "save": "", "dir": self._folder}
        options = [text for name, value in said.items() for text in (f"--{name}", value)]
        self._process = subprocess.Popen([PROGRAM, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hold_up(self) -> None:
        """Let it take connections and answer nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def let_go(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Lend a plain client, for what an operator or attacker does.

        Its answers have no type: the library gives one for its two kinds of client at once.
        """
        with redis.Redis.from_url(self.url) as opened:
            yield opened

    def _answers(self) -> bool:
        try:
            with self.client() as opened:
                return bool(opened.ping())
        except redis.ConnectionError:
            return False


def certify(folder: Path) -> tuple[str, str]:
    """Write a certificate for 127.0.0.1 that is its own authority, and its key; return where."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return str(folder / "certificate.pem"), str(folder / "key.pem")


@contextmanager
def running_redis(*, encrypted: bool = False) -> Iterator[RedisServer]:
    """Run a server for a while."""
    folder = tempfile.mkdtemp(prefix="chatkeep-redis-")
    server = RedisServer(folder, encrypted=encrypted)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
