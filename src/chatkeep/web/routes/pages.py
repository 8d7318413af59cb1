"""The web chat: static files built from `web/`, and its page for every path it owns."""

from __future__ import annotations

from mimetypes import guess_type
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from chatkeep.errors import NotFound
from chatkeep.web.api_document import ApiDocument
from chatkeep.web.auth import Anybody
from chatkeep.web.content_encoding import takes_gzip

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent.parent / "static"
#: As every answer's, and `blob:`: pictures that the page itself has read are shown from there.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'"
)
_FOR_EVER = "public, max-age=31536000, immutable"
_NOT_BUILT = """<!doctype html><html lang="en"><title>Chatkeep</title>
<h1>The server runs, its web chat is not built</h1>
<p>Run <code>make install</code> in the source folder, then load this page again.</p></html>"""


@router.get("/")
@router.get("/c/{_rest:path}")
@router.get("/settings")
@router.get("/settings/{_rest:path}")
@router.get("/admin")
@router.get("/admin/{_rest:path}")
@router.get("/new-password")
@router.get("/sign-in")
@router.get("/sign-up")
async def page(_: Anybody) -> Response:
    """Return the web chat; it reads the path itself."""
    return _chat(200)


def missing_page() -> Response:
    """Return the web chat where nothing is: it says so, and leads on."""
    return _chat(404)


def _chat(status: int) -> Response:
    index = _STATIC / "index.html"
    if not index.is_file():
        return HTMLResponse(_NOT_BUILT, status_code=status)
    headers = {"cache-control": "no-cache", "content-security-policy": _POLICY}
    return FileResponse(index, status_code=status, headers=headers)


@router.get("/docs")
@router.get("/docs/")
async def api_page(request: Request, _: Anybody) -> Response:
    """Return the page that shows the API."""
    return _file(request, "docs/index.html", "no-cache")


@router.get("/openapi.json")
async def api_document(request: Request, _: Anybody) -> Response:
    """Return the OpenAPI document."""
    document: ApiDocument = request.app.state.api_document
    return await document.answer(request)


@router.get("/assets/{name:path}")
async def asset(name: Annotated[str, InPath()], request: Request, _: Anybody) -> Response:
    """Return a built file; its name changes when its content does."""
    return _file(request, f"assets/{name}", _FOR_EVER)


@router.get("/docs/{name:path}")
async def docs_file(name: Annotated[str, InPath()], request: Request, _: Anybody) -> Response:
    """Return a file of the API page."""
    return _file(request, f"docs/{name}", "no-cache")


@router.get("/{name}.{suffix}")
async def root_file(
    name: Annotated[str, InPath()], suffix: Annotated[str, InPath()], request: Request, _: Anybody
) -> Response:
    """Return what browsers ask for at the root: icons, the manifest.

    Only names with a dot, so that this hides no method of a route such as `/logout`.
    """
    return _file(request, f"{name}.{suffix}", "public, max-age=3600")


def _file(request: Request, name: str, cache: str) -> Response:
    """Return a file below the static folder, and nothing else; packed, for who takes that."""
    path = _found(name)
    if path is None:
        raise NotFound
    headers = {"cache-control": cache}
    packed = _found(f"{name}.gz")
    if packed is None:
        return FileResponse(path, headers=headers)
    headers["vary"] = "accept-encoding"
    if not takes_gzip(request):
        return FileResponse(path, headers=headers)
    headers["content-encoding"] = "gzip"
    return FileResponse(packed, headers=headers, media_type=guess_type(path)[0])


def _found(name: str) -> Path | None:
    try:
        path = (_STATIC / name).resolve()
        found = path.is_relative_to(_STATIC) and path.is_file() and not name.endswith("/")
    except (ValueError, OSError):  # a NUL, or longer than any name can be
        return None
    return path if found else None
