"""Development's outbox: what would have been sent, shown to whoever sits at this machine.

The links in it sign people in. So it is there only while nobody sends mail, never in
production, and answers only who reaches this server from this machine, by a name of this
machine, and not on behalf of a page from elsewhere; for everybody else it does not exist.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse

from chatkeep.errors import NotFound
from chatkeep.mail.outbox import Shown, list_outbox
from chatkeep.mail.rendering import rendered
from chatkeep.web.auth import Anybody
from chatkeep.web.hosts import is_this_machine, names_this_machine
from chatkeep.web.services import ServicesDep, services_of

if TYPE_CHECKING:
    from chatkeep.mail.rendering import Rendered
    from chatkeep.web.services import Services

router = APIRouter()


class OutboxMail(BaseModel):
    """Mail that would have been sent: what it says, and what it lets its reader do."""

    id: int
    queued_at: datetime
    kind: str
    to: str
    subject: str
    link: str | None
    code: str | None
    text: str
    html: str


class OutboxAnswer(BaseModel):
    """The newest mails of development's outbox, newest first."""

    mails: list[OutboxMail]


async def _sits_here(request: Request) -> None:
    """Let nobody else know that there is an outbox.

    A `Host` header is the client's word, so the connection must come from here as well; and
    a page of any site can make this machine's browser ask, so the origin must be ours.
    """
    services = services_of(request)
    if services.embedded.outgoing.place != "outbox" or services.settings.production:
        raise NotFound
    origins = request.headers.getlist("origin")
    from_here = all(is_this_machine(urlsplit(one).hostname) for one in origins)
    across = request.headers.get("sec-fetch-site") == "cross-site"
    peer = request.client.host if request.client else None
    if not (names_this_machine(request.headers) and is_this_machine(peer) and from_here) or across:
        raise NotFound


Here = Annotated[None, Depends(_sits_here)]


@router.get("/api/outbox", tags=["meta"])
async def outbox(services: ServicesDep, _here: Here, _: Anybody) -> OutboxAnswer:
    """List mail that would have been sent, newest first. In development, at this machine only."""
    return OutboxAnswer(
        mails=[
            OutboxMail(
                id=one.id,
                queued_at=one.at,
                kind=one.mail.kind,
                to=one.mail.to,
                subject=content.subject,
                link=one.mail.link,
                code=one.mail.code,
                text=content.text,
                html=content.html,
            )
            for one, content in await _mails(services)
        ]
    )


@router.get("/outbox", include_in_schema=False)
async def outbox_page(services: ServicesDep, _here: Here, _: Anybody) -> HTMLResponse:
    """Show the same as a page."""
    mails = await _mails(services)
    shown = "".join(_card(one, content) for one, content in mails) or _EMPTY
    page = _PAGE.replace("{style}", _STYLE).replace("{mails}", shown)
    return HTMLResponse(page, headers=_OF_PAGE)


@router.get("/outbox/{number}", include_in_schema=False)
async def outbox_mail(number: int, services: ServicesDep, _here: Here, _: Anybody) -> HTMLResponse:
    """Show one mail as a mail client would."""
    for one, content in await _mails(services):
        if one.id == number:
            # As a mail client does it: what is clicked opens beside the mail.
            html = content.html.replace("<head>", '<head><base target="_blank">', 1)
            return HTMLResponse(html, headers=_OF_MAIL)
    raise NotFound


async def _mails(services: Services) -> list[tuple[Shown, Rendered]]:
    outgoing, settings = services.embedded.outgoing, services.settings
    return [
        (
            one,
            rendered(
                one.mail, services.mail_templates, product=settings.mail_name, home=outgoing.home
            ),
        )
        for one in await list_outbox(services.db, outgoing)
    ]


def _card(one: Shown, content: Rendered) -> str:
    link, code = one.mail.link, one.mail.code
    actions = "" if link is None else f'<a class="open" href="{escape(link)}">Open the link</a>'
    actions += "" if code is None else f'<span class="code">{escape(code)}</span>'
    address = "" if link is None else f'<p class="link">{escape(link)}</p>'
    return (
        f'<article><header><h2>{escape(content.subject)}</h2><p class="meta">To'
        f" <b>{escape(one.mail.to)}</b> · {escape(one.mail.kind)} ·"
        f" <time>{one.at:%Y-%m-%d %H:%M:%S} UTC</time></p></header>"
        f'<div class="actions">{actions}</div>{address}'
        f"<details><summary>The whole mail</summary>"
        f'<iframe src="/outbox/{one.id}" loading="lazy"'
        ' sandbox="allow-popups allow-popups-to-escape-sandbox"'
        f' title="{escape(content.subject)}"></iframe>'
        f'<p class="meta"><a href="/outbox/{one.id}">As a page of its own</a></p>'
        "</details></article>"
    )


_EMPTY = """<section class="empty"><h2>No mail yet</h2>
<p>Sign up, ask for a magic link or forget a password, then load this page again.</p></section>"""

_STYLE = """
:root { --page: #f3f4f6; --card: #fff; --line: #e3e6ea; --text: #111827; --soft: #5b6472;
  --link: #1d4ed8; --code: #f7f8fa; }
@media (prefers-color-scheme: dark) { :root { --page: #111418; --card: #1b2027; --line: #2d343d;
  --text: #f1f4f8; --soft: #9aa5b3; --link: #8ab4ff; --code: #11151a; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/23px -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif }
main { max-width: 720px; margin: 0 auto; padding: 40px 16px 80px }
h1 { font-size: 24px; line-height: 32px; margin: 0 }
h2 { font-size: 17px; line-height: 24px; margin: 0 }
.lead { color: var(--soft); margin: 6px 0 28px }
article, .empty { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 20px 22px; margin: 0 0 16px }
.empty { text-align: center; padding: 56px 24px; color: var(--soft) }
.empty h2 { color: var(--text) }
.empty p { max-width: 420px; margin: 8px auto 0 }
.meta { color: var(--soft); font-size: 13px; line-height: 20px; margin: 4px 0 0;
  overflow-wrap: anywhere }
.actions { display: flex; flex-wrap: wrap; gap: 12px; align-items: center; margin-top: 14px }
.actions:empty { display: none }
.open { background: #2563eb; color: #fff; text-decoration: none; font-weight: 600;
  padding: 8px 16px; border-radius: 8px }
.code { font: 600 20px/26px ui-monospace, Menlo, Consolas, monospace; letter-spacing: 3px;
  background: var(--code); border: 1px solid var(--line); border-radius: 8px; padding: 6px 14px }
.link { font: 12px/18px ui-monospace, Menlo, Consolas, monospace; color: var(--soft);
  overflow-wrap: anywhere; margin: 12px 0 0 }
details { margin-top: 14px } summary { cursor: pointer; color: var(--link); font-size: 14px }
iframe { width: 100%; height: 560px; border: 1px solid var(--line); border-radius: 10px;
  margin-top: 12px; background: var(--page) }
a { color: var(--link) } :focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Outbox</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{style}</style></head><body><main>
<h1>Outbox</h1>
<p class="lead">Mail that would have been sent, newest first. It is here because SMTP_URL is not
set, in development and at this machine only. Load the page again to see what is new.</p>
{mails}
</main></body></html>"""


def _policy(style: str) -> dict[str, str]:
    """Return the headers of a page that may have this style, a frame of ours, and nothing else."""
    return {
        "cache-control": "no-store",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": (
            f"default-src 'none'; style-src {style}; frame-src 'self'; base-uri 'none';"
            " form-action 'none'; frame-ancestors 'self'"
        ),
    }


_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_OF_PAGE = _policy(f"'sha256-{_STYLE_HASH}'")
# A mail has its styles in attributes, and no mail client runs anything else.
_OF_MAIL = _policy("'unsafe-inline'")
