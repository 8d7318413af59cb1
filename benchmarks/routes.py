"""Requests a second of a signed-in JSON route, beside the same route that is open to all.

First a FastAPI application of one route, as other people write them: open, behind Chatkeep's
middleware, with Chatkeep as a dependency, with PyJWT, and with fastapi-users. A client sends
one token (ES256) again and again, to the open one too, which does not look at it: what
differs is who does, and not what is sent. Ours alone look whether it was revoked. Then
routes of our own server, beside its own open one. `cpu_us` is the processor time of the
server's process for one request, which sees less of what else the machine does than `per_s`;
PostgreSQL's, which has the same core, is not in it.
"""

from __future__ import annotations

import json
import statistics
import sys
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import uvloop
from joserfc.jwk import ECKey
from psycopg.conninfo import conninfo_to_dict

from benchmarks import peers, tokens
from benchmarks.figures import is_noisy, spread
from benchmarks.load import load, request_bytes
from benchmarks.postgres import postgresql
from benchmarks.processes import cpu_s
from benchmarks.stack import (
    BIN,
    LOAD_CORE,
    PASSWORD,
    chatkeep_process,
    free_port,
    pin,
    running,
    sign_up,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from chatkeep.embedded_postgresql.addresses import Addresses

SECRET = "a-secret-for-the-benchmark-of-48-bytes-in-length"
_CLIENTS = 32
_EMAIL = "bench@example.com"
_PEERS = {"PyJWT", "fastapi-users"}
_OWN = {"open": "/healthz", "user": "/auth/v1/user", "list": "/api/v1/chat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """One route of one server, with what signs the caller in."""

    name: str
    base: str
    path: str
    pid: int
    token: str | None = None

    def request(self) -> bytes:
        """Return the bytes that ask for it."""
        headers = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        # What clients send beside it.
        headers |= {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "bench"}
        return request_bytes(self.base + self.path, headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One route's turn."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


def measure(*, quick: bool) -> dict[str, object]:
    """Return medians over interleaved rounds, and ratios to the open route in the same round."""
    rounds, seconds = (4, 0.3) if quick else (11, 0.8)
    with _applications() as routes:
        found = _raced(routes, rounds, seconds)
    figures = _figures("app", found)
    with _own_server() as routes:
        own = _raced(routes, rounds, seconds)
    figures |= _figures("server", own)
    series = [[one.cpu_us for one in rounds] for rounds in (*found.values(), *own.values())]
    figures["spread"] = round(max(spread(values) for values in series), 2)
    figures["noisy"] = is_noisy(*series)
    return figures


def _raced(routes: Sequence[_Route], rounds: int, seconds: float) -> dict[str, list[_Round]]:
    found: dict[str, list[_Round]] = {one.name: [] for one in routes}
    for number in range(rounds + 1):
        for one in routes:
            took = _round(one, seconds)
            if number:  # the first warms up
                found[one.name].append(took)
    return found


def _round(one: _Route, seconds: float) -> _Round:
    before = cpu_s(one.pid)
    seen = uvloop.run(load(one.base, one.request(), clients=_CLIENTS, seconds=seconds))
    return _Round(
        per_s=seen.per_second,
        cpu_us=(cpu_s(one.pid) - before) / seen.requests * 1e6,
        p50_ms=seen.p50_ms,
        p99_ms=seen.p99_ms,
    )


def _figures(what: str, found: Mapping[str, Sequence[_Round]]) -> dict[str, object]:
    figures: dict[str, object] = {}
    for name, rounds in found.items():
        figures[f"{what}_{name}_per_s"] = round(statistics.median(one.per_s for one in rounds))
        cpu, late = (statistics.median(taken) for taken in _columns(rounds))
        figures[f"{what}_{name}_cpu_us"] = round(cpu, 1)
        figures[f"{what}_{name}_p99_ms"] = round(late, 2)
    for name in [name for name in found if name != "open"]:
        ratio = _paired(found, "open", name)
        figures[f"{what}_{name}_of_open"] = round(ratio, 3)
    for name in found.keys() & _PEERS:
        ratio = _paired(found, name, "middleware")
        figures[f"middleware_times_{name}"] = round(ratio, 2)
    return figures


def _columns(rounds: Sequence[_Round]) -> tuple[list[float], list[float]]:
    return [one.cpu_us for one in rounds], [one.p99_ms for one in rounds]


def _paired(found: Mapping[str, Sequence[_Round]], slow: str, fast: str) -> float:
    """Return how many times the processor time of *fast* is *slow*'s, in the same rounds."""
    pairs = zip(found[slow], found[fast], strict=True)
    return statistics.median(one.cpu_us / other.cpu_us for one, other in pairs)


@contextmanager
def _applications() -> Iterator[list[_Route]]:
    """Run the applications of one route; yield each with a token that it takes."""
    with ExitStack() as stack:
        addresses = stack.enter_context(postgresql())
        env = {
            "DATABASE_URL": str(addresses.app_url),
            "CHATKEEP_SECRET": SECRET,
            "PUBLIC_URL": "http://127.0.0.1:8000",
        }
        token = _token_of_ours(stack, env)
        ours = (("open", "open_route"), ("middleware", "middleware"), ("dependency", "dependency"))
        found = [
            _served(stack, name, f"benchmarks.applications:{app}", env, token=token)
            for name, app in ours
        ]
        if peers.has_peers():
            found += [_pyjwt(stack), _fastapi_users(stack, addresses)]
        yield found


def _token_of_ours(stack: ExitStack, env: Mapping[str, str]) -> str:
    """Return a token of the server whose database the applications share; it goes on running."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(BIN / "chatkeep"), "serve", "--port", str(port)]
    settings = {"RATE_LIMITS": "off", "LOG_LEVEL": "WARNING", **env}
    stack.enter_context(running(command, ready=f"{base}/readyz", env=settings))
    return sign_up(base)


def _served(
    stack: ExitStack,
    name: str,
    application: str,
    env: Mapping[str, str],
    *,
    token: str | None,
    programs: Path = BIN,
) -> _Route:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [
        *(str(programs / "uvicorn"), application, "--port", str(port), "--no-access-log"),
        *("--loop", "uvloop", "--http", "httptools", "--log-level", "warning"),
    ]
    process = stack.enter_context(running(command, ready=f"{base}/openapi.json", env=env))
    return _Route(name=name, base=base, path="/me", pid=process.pid, token=token)


def _pyjwt(stack: ExitStack) -> _Route:
    key = ECKey.generate_key("P-256")
    public = key.as_pem(private=False).decode()
    env, token = {"PUBLIC_KEY": public, "ISS": tokens.ISS}, tokens.access_token("ES256", key)
    application = "benchmarks.route_peers:pyjwt"
    return _served(stack, "PyJWT", application, env, token=token, programs=peers.BIN)


def _fastapi_users(stack: ExitStack, addresses: Addresses) -> _Route:
    about = conninfo_to_dict(str(addresses.admin_url))
    user, password = (urllib.parse.quote(str(about[part])) for part in ("user", "password"))
    host = urllib.parse.quote(str(about["host"]))
    env = {"DATABASE_URL": f"postgresql+asyncpg://{user}:{password}@/postgres?host={host}"}
    application = "benchmarks.fastapi_users_app:app"
    one = _served(stack, "fastapi-users", application, env, token=None, programs=peers.BIN)
    _post(f"{one.base}/auth/register", json.dumps({"email": _EMAIL, "password": PASSWORD}))
    form = urllib.parse.urlencode({"username": _EMAIL, "password": PASSWORD})
    answer = _post(f"{one.base}/auth/jwt/login", form, "application/x-www-form-urlencoded")
    return replace(one, token=answer["access_token"])


@contextmanager
def _own_server() -> Iterator[list[_Route]]:
    """Run our server; yield its routes."""
    with chatkeep_process() as (base, pid):
        token = sign_up(base)
        for _ in range(5):
            _post(f"{base}/api/v1/chat/start", "{}", token=token)
        yield [
            _Route(
                name=name, base=base, path=path, pid=pid, token=None if name == "open" else token
            )
            for name, path in _OWN.items()
        ]


def _post(
    url: str, body: str, content_type: str = "application/json", token: str | None = None
) -> Any:  # noqa: ANN401 -- JSON
    headers = {"content-type": content_type}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310 -- loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    pin(LOAD_CORE)
    print(json.dumps(measure(quick="--quick" in sys.argv)))
