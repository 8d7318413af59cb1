"""What would have been mailed, read as its receiver reads it: from development's outbox."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from chatkeep.mail.outbox import list_outbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.mail import Mail
    from tests.serving import Answer, Client, Node


async def mails_to(node: Node, address: str) -> list[Mail]:
    """Return the mails to *address*, newest first."""
    shown = await list_outbox(node.services.db, node.services.embedded.outgoing)
    return [one.mail for one in shown if one.mail.to == address]


async def newest_to(node: Node, address: str, kind: str) -> Mail:
    """Return the newest mail of *kind* to *address*; there must be one."""
    found = [one for one in await mails_to(node, address) if one.kind == kind]
    assert found, f"no mail of kind {kind} to {address}"
    return found[0]


def path_of(link: str | None) -> str:
    """Return the part of a mailed link that a request names."""
    parts = urlsplit(str(link))
    return f"{parts.path}?{parts.query}"


def secret_of(link: str | None) -> str:
    """Return the secret of a mailed link."""
    return parse_qs(urlsplit(str(link)).query)["token"][0]


async def open_and_press(caller: Client, link: str | None) -> Answer:
    """Open a mailed link and press the button of its page, as a person does in a browser."""
    page = await caller.get(path_of(link))
    if page.status != 200:
        return page
    fields = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', page.text))
    return await press(caller, {name: html.unescape(value) for name, value in fields.items()})


async def press(caller: Client, fields: Mapping[str, str], **headers: str) -> Answer:
    """Send the form of the page, with the headers that a browser adds."""
    added = {
        "sec-fetch-site": "same-origin",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    return await caller.call(
        "POST",
        "/auth/v1/verify",
        data=urlencode(fields).encode(),
        headers={"content-type": "application/x-www-form-urlencoded", **added},
    )


def landed(answer: Answer) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return where a redirect leads: the address, its query and its fragment."""
    assert answer.status == 303, answer.text
    parts = urlsplit(answer.headers["location"])
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    fragment = {
        name: values[0] for name, values in parse_qs(parts.fragment, keep_blank_values=True).items()
    }
    return f"{parts.scheme}://{parts.netloc}{parts.path}", query, fragment
