"""Upstream providers that nobody here wrote, started on loopback for a test.

    with start_aimock(tmp_path) as peer:
        model = OpenAICompatibleModel(base_url=peer.base_url, api_key=peer.api_key)

`start_aimock` needs the packages of `tests/clients`, which `make test` installs;
`start_litellm` needs what `scripts/litellm-peer` installs. Both end what they started, by its
process id.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.free_ports import free_port
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent
AIMOCK = ROOT / "tests/clients/node_modules/.bin/llmock"
LITELLM = ROOT / ".cache/litellm-venv/bin/litellm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A running provider."""

    base_url: str
    api_key: str
    pid: int

    def received(self) -> list[dict[str, Any]]:
        """Return the bodies of the chat requests that aimock has got, oldest first."""
        journal = _get(f"{self.base_url}/_requests", self.api_key)
        return [one["body"] for one in journal if one["path"] == "/v1/chat/completions"]


def numbered(word: str, count: int) -> str:
    """Return *count* different words."""
    return " ".join(f"{word}{number}" for number in range(count))


def fixtures() -> list[dict[str, Any]]:
    """What aimock answers: the first whose words stand in the last message of the user.

    `long` speaks for about twenty seconds, `cut stream` and `disconnect` break off, `error
    429` and `error 500` refuse; `pay it` and `hand it on` ask for a tool, and say so when it has
    answered; whatever else is asked gets the short answer at the end.
    """
    answers: list[tuple[str, dict[str, Any]]] = [
        ("error 429", _error(429, "rate_limit_error", "rate_limit_exceeded")),
        ("error 500", _error(500, "server_error", None)),
        ("cut stream", {"response": {"content": numbered("cut", 100)}, "truncateAfterChunks": 5}),
        ("disconnect", {**_slowly("dis"), "disconnectAfterMs": 150}),
        ("weather tool", {"response": {"toolCalls": [_WEATHER]}}),
        ("think first", {"response": {"reasoning": "Let me see.", "content": "Seen."}}),
        ("unicode please", {"response": {"content": UNICODE}}),
        ("long", _slowly("word")),
    ]
    asked = [{"match": {"userMessage": words}, **answer} for words, answer in answers]
    return [*_asking("pay it", _PAY), *_asking("hand it on", _HAND_ON), *asked, _otherwise()]


SHORT = "This is the short answer of the mock upstream."
UNICODE = "Zażółć gęślą jaźń 👩‍👩‍👧‍👦 — ok"
_WEATHER = {"name": "get_weather", "arguments": '{"city":"Paris"}'}

_PAY = {"name": "pay", "arguments": '{"order":7}'}
_HAND_ON = {"name": "ask_cashier", "arguments": '{"input":"pay it"}'}


def _asking(words: str, call: dict[str, Any]) -> list[dict[str, Any]]:
    match = {"userMessage": words}
    return [
        {"match": {**match, "hasToolResult": True}, "response": {"content": f"Heard: {words}."}},
        {"match": {**match, "hasToolResult": False}, "response": {"toolCalls": [call]}},
    ]


def _otherwise() -> dict[str, Any]:
    return {"match": {}, "response": {"content": SHORT}}


def _slowly(word: str) -> dict[str, Any]:
    pace = {"ttft": 50, "tps": 60}
    return {"response": {"content": numbered(word, 300)}, "streamingProfile": pace}


def _error(status: int, type_: str, code: str | None) -> dict[str, Any]:
    error = {"message": "no", "type": type_, "code": code}
    return {"response": {"error": error, "status": status}}


@contextmanager
def start_aimock(folder: Path, *, latency_ms: int = 0, chunk_size: int = 8) -> Iterator[Peer]:
    """Run aimock with `fixtures()`; *folder* gets its files, *latency_ms* is between chunks."""
    if not AIMOCK.exists():
        message = f"{AIMOCK} is missing: `make test` installs it"
        raise FileNotFoundError(message)
    answers = folder / "aimock.json"
    answers.write_text(json.dumps({"fixtures": fixtures()}))
    port = free_port()
    command = [
        *("node", str(AIMOCK), "-h", "127.0.0.1", "-p", str(port), "-f", str(answers)),
        *("--latency", str(latency_ms), "--chunk-size", str(chunk_size), "--log-level", "warn"),
    ]
    environ = {"AIMOCK_API_KEYS": "testkey"}
    with _running(command, environ, folder / "aimock.log", f"{_at(port)}/health") as pid:
        yield Peer(base_url=f"{_at(port)}/v1", api_key="testkey", pid=pid)


def litellm_settings() -> dict[str, Any]:
    """What LiteLLM serves: a good model and one for each failure it can play."""
    played: dict[str, dict[str, Any]] = {
        "mock-fast": {"mock_response": SHORT},
        "mock-long": {"mock_response": numbered("word", 600)},
        "mock-rate-limited": {"mock_response": "litellm.RateLimitError"},
        "mock-internal-error": {"mock_response": "litellm.InternalServerError"},
        "mock-context-window": {"mock_response": "litellm.ContextWindowExceededError"},
        "mock-timeout": {"mock_timeout": True, "timeout": 1},
    }
    common: dict[str, Any] = {"model": "openai/gpt-4o-mini", "api_key": "none"}
    return {
        "model_list": [
            {"model_name": name, "litellm_params": common | how} for name, how in played.items()
        ],
        "litellm_settings": {"telemetry": False, "num_retries": 0, "request_timeout": 30},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": "sk-upstream-test"},
    }


@contextmanager
def start_litellm(folder: Path) -> Iterator[Peer]:
    """Run the LiteLLM proxy with canned answers; it takes about ten seconds to start."""
    settings = folder / "litellm.yaml"
    settings.write_text(json.dumps(litellm_settings()))  # JSON is YAML
    port = free_port()
    command = [
        *(str(LITELLM), "--config", str(settings), "--num_workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    ready = f"{_at(port)}/health/liveliness"
    with _running(command, environ, folder / "litellm.log", ready) as pid:
        yield Peer(base_url=_at(port), api_key="sk-upstream-test", pid=pid)


def _at(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextmanager
def _running(
    command: Sequence[str], environ: Mapping[str, str], log: Path, ready_url: str
) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=os.environ | environ, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, ready_url, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 -- our own peer
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                message = f"{process.args!r} did not become ready:\n{log.read_text()[-2000:]}"
                raise RuntimeError(message) from error
        time.sleep(0.05)


def _get(url: str, api_key: str) -> Any:  # noqa: ANN401 -- JSON
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api_key}"})  # noqa: S310 -- our own peer
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 -- as above
        return json.load(response)
