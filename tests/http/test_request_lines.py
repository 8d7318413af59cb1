"""The line that the log has of each request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from tests.serving import Node


async def level_of(node: Node, caplog: pytest.LogCaptureFixture, path: str) -> int:
    """Ask for *path*; return the level of its line."""
    caplog.set_level(logging.DEBUG, "chatkeep.access")
    request_id = (await node.nobody().get(path)).headers["x-request-id"]
    (line,) = [one for one in caplog.records if vars(one).get("request_id") == request_id]
    return line.levelno


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_that_find_all_well_are_no_news(
    node: Node, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Platforms ask every few seconds, and nobody reads past that."""
    assert await level_of(node, caplog, path) == logging.DEBUG


async def test_probe_that_fails_is_news(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the line that somebody looks for."""

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(type(node.services.db), "execute", away)
    assert await level_of(node, caplog, "/readyz") == logging.INFO


async def test_every_other_request_is_told(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Also one that nothing answers."""
    for path in ("/api/models", "/auth/me", "/nowhere", "/healthz/more"):
        assert await level_of(node, caplog, path) == logging.INFO
