"""What the pages of the web chat are sent with: their policy, and files packed beforehand."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from chatkeep.web.routes import pages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving import Node

SCRIPT = "chat();\n" * 1000


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built web chat with a packed script and one that is not."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>chat")
    (tmp_path / "assets" / "app.js").write_text(SCRIPT)
    (tmp_path / "assets" / "app.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (tmp_path / "assets" / "small.js").write_text("s()")
    monkeypatch.setattr(pages, "_STATIC", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("static")
async def test_page_may_show_what_it_has_read_and_nothing_else_differs(node: Node) -> None:
    """Its policy is every answer's, and pictures from object URLs."""
    page = (await node.nobody().get("/c/abc")).headers["content-security-policy"]
    other = (await node.nobody().get("/api/config")).headers["content-security-policy"]
    assert page.replace(" blob:", "") == other
    assert page.count("blob:") == page.count("img-src 'self' data: blob:") == 1


@pytest.mark.usefixtures("static")
@pytest.mark.parametrize(
    ("taken", "packed"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.8", True),
        ("deflate, gzip ; q=0.001", True),
        ("identity", False),
        ("", False),
        ("gzip;q=0", False),
        ("br, gzip;q=0.000, deflate", False),
        ("x-gzip", False),
    ],
)
async def test_script_is_packed_for_who_takes_it(node: Node, taken: str, packed: bool) -> None:
    """Both are the same script to the browser, and caches keep them apart."""
    answer = await node.nobody().get("/assets/app.js", headers={"accept-encoding": taken})
    assert answer.status == 200
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert "accept-encoding" in answer.headers["vary"]
    assert "javascript" in answer.headers["content-type"]
    assert "immutable" in answer.headers["cache-control"]
    assert answer.text == SCRIPT


@pytest.mark.usefixtures("static")
async def test_person_who_mistypes_gets_a_page_and_a_program_a_problem(node: Node) -> None:
    """Both learn that nothing is there; what the surfaces say is for programs, whoever looks."""
    browser = node.nobody(accept="text/html,application/xhtml+xml,*/*;q=0.8")
    page = await browser.get("/setings")
    assert (page.status, page.text) == (404, "<!doctype html>chat")
    for client, path in (
        (browser, "/api/setings"),
        (browser, "/v1/setings"),
        (browser, "/auth/v1/setings"),
        (node.nobody(), "/setings"),
        (node.nobody(accept="application/json"), "/setings"),
    ):
        answer = await client.get(path)
        assert answer.status == 404
        assert "json" in answer.headers["content-type"]
    assert (await browser.post("/setings", {})).status == 404


@pytest.mark.usefixtures("static")
async def test_file_that_is_not_packed_is_sent_as_it_is(node: Node) -> None:
    """There is nothing to choose."""
    answer = await node.nobody().get("/assets/small.js", headers={"accept-encoding": "gzip"})
    assert answer.text == "s()"
    assert "content-encoding" not in answer.headers
