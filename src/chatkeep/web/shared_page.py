"""The page behind a shared link: whole and readable as the server writes it.

Its script, the chat's own renderer, then shows the answers' Markdown as the chat does. What
was said is escaped here and only ever read back as text, so that none of it is markup; the
policy of the page lets nothing run, load or be sent but that script and its colours.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from chatkeep.conversations.sharing import Said, Shown
    from chatkeep.errors import LinkEnded

#: The address is the key to it: it goes into no search, no cache, and to no other site.
UNSEEN: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex, nofollow",
}
_BUILT: Final = Path(__file__).parent / "static" / "templates" / "shared.html"
_SPEAKERS: Final = {"user": "Question", "assistant": "Answer"}
#: How the page looks where the web chat is not built.
_STYLE: Final = (
    "body{margin:0;font:16px/1.6 system-ui,sans-serif}main{max-width:44rem;margin:auto;"
    "padding:2rem 1rem}h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:.8rem;"
    "color:GrayText;margin:0}section{margin:1.5rem 0}.said{white-space:pre-wrap}"
    ".said,li{overflow-wrap:anywhere}.user .said{font-weight:600}"
)
_PLAIN: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="robots" content="noindex, nofollow"><meta name="color-scheme"'
    f' content="light dark"><title><!--title--></title><style>{_STYLE}</style></head>'
    "<body><!--shown--></body></html>"
)
_POLICY: Final = (
    "default-src 'none'; {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_POLICY_BUILT: Final = _POLICY.format(
    "script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:"
)
_POLICY_PLAIN: Final = _POLICY.format(
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)


def shown_page(shown: Shown) -> HTMLResponse:
    """Return the page that shows what a link shows."""
    title = shown.title or "Conversation"
    ends = f'<time datetime="{shown.expires_at.isoformat()}">{shown.expires_at:%Y-%m-%d}</time>'
    about = f'<p class="about">Somebody shared this chat. The link ends on {ends}.</p>'
    cut = '<p class="about">The beginning is left out.</p>' if shown.cut else ""
    said = "".join(_section(one) for one in shown.messages)
    return _answer(title, about + cut + said, status=200)


def ended_page(ended: LinkEnded) -> HTMLResponse:
    """Return the page of a link that shows nothing: one for every reason."""
    return _answer("This link has ended", f"<p>{escape(ended.detail)}</p>", status=ended.status)


def _section(one: Said) -> str:
    listed = "".join(
        f'<li><a rel="noopener noreferrer nofollow" href="{escape(url)}">{escape(url)}</a></li>'
        for url in one.sources
    )
    links = f'<ul class="links">{listed}</ul>' if listed else ""
    # What a person types is shown as typed, there as in the chat.
    written = "" if one.role == "user" else " data-markdown"
    return (
        f'<section class="{one.role}"><h2>{_SPEAKERS.get(one.role, "Note")}</h2>'
        f'<div class="said" dir="auto"{written}>{escape(one.text)}</div>{links}</section>'
    )


def _answer(title: str, body: str, *, status: int) -> HTMLResponse:
    built = _BUILT.is_file()
    page = _BUILT.read_text(encoding="utf-8") if built else _PLAIN
    shown = f"<main><h1>{escape(title)}</h1>{body}</main>"
    # In this order, and escaped: no title can name the other place.
    page = page.replace("<!--title-->", escape(title)).replace("<!--shown-->", shown)
    policy = _POLICY_BUILT if built else _POLICY_PLAIN
    return HTMLResponse(
        page, status_code=status, headers={**UNSEEN, "content-security-policy": policy}
    )
