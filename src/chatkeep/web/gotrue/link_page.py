"""The page that a link from a mail shows: one button, which uses the link up.

Programs that guard mailboxes open every link of a mail before its reader does. They open
this page and no harm is done: only a press of the button, in the page of this very server,
sends the form.
"""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse, Response

_TITLES: Final = {
    "signup": ("Confirm your address", "Confirm"),
    "invite": ("Accept the invitation", "Accept"),
    "magiclink": ("Sign in", "Sign in"),
    "email": ("Sign in", "Sign in"),
    "recovery": ("Choose a new password", "Continue"),
    "email_change": ("Confirm the change of your address", "Confirm"),
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="stylesheet" href="verify.css">
</head>
<body>
<main>
<h1>{title}</h1>
<p>One press, and you go on to <strong>{where}</strong>.</p>
<form method="post" action="verify">
<input type="hidden" name="token" value="{token}">
<input type="hidden" name="type" value="{kind}">
<input type="hidden" name="redirect_to" value="{redirect_to}">
<button type="submit" autofocus>{button}</button>
</form>
<p><small>You did not ask for this? Close the page: nothing happens.</small></p>
</main>
</body>
</html>
"""
STYLE: Final = """body { margin: 0; min-height: 100vh; display: grid; place-items: center;
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 24rem; padding: 2rem; text-align: center; }
h1 { font-size: 1.5rem; }
strong { overflow-wrap: anywhere; }
button { font: inherit; font-weight: 600; padding: .75rem 2rem; border: 0; border-radius: .5rem;
  color: #fff; background: #1f5fbf; cursor: pointer; }
button:focus-visible { outline: 3px solid #8ab4f8; outline-offset: 2px; }
small { color: GrayText; }
"""


def link_page(*, kind: str, token: str, redirect_to: str) -> Response:
    """Return the page for a link of *kind*, which leads to *redirect_to*: a permitted address."""
    title, button = _TITLES[kind]
    target = urlsplit(redirect_to)
    web = target.scheme in {"http", "https"}
    goes_to = f"{target.scheme}://{target.netloc}" if web else f"{target.scheme}:"
    body = _PAGE.format(
        title=escape(title),
        button=escape(button),
        where=escape(target.netloc or redirect_to),
        token=escape(token),
        kind=escape(kind),
        redirect_to=escape(redirect_to),
    )
    headers = {
        "cache-control": "no-store",
        # A browser holds the redirect after a form against form-action too (CSP level 3).
        "content-security-policy": (
            "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none';"
            f" form-action 'self' {goes_to}"
        ),
        # So that the form says which page it is of; others are told nothing.
        "referrer-policy": "same-origin",
    }
    return HTMLResponse(body, headers=headers)
