"""How long an answer takes does not tell either who has an account.

Pairs of a known and an unknown address are timed in turn, so that whatever else the machine
does meets both. Compared are medians, and against how far two halves of the same kind are
apart by chance: a difference counts only beyond that, and beyond what a network hides.
"""

from __future__ import annotations

import time
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from tests.gotrue_people import OURS_ALONE, PASSWORD
from tests.http.mailbox import newest_to

if TYPE_CHECKING:
    from tests.serving import Client, Node

PAIRS = 30
#: Half of what checking a password takes, and far more than a look into a table.
NOTICEABLE_S = 0.008
_numbers = count()
NODE_SETTINGS = {**OURS_ALONE, "MAILER_AUTOCONFIRM": "off"}


def new_address() -> str:
    """Return an address that nobody has yet, as long as each other."""
    return f"timed-{next(_numbers):06}@example.com"


async def known_address(node: Node, caller: Client) -> str:
    """Return the address of somebody who has confirmed it."""
    email = new_address()
    await caller.post("/auth/v1/signup", {"email": email, "password": PASSWORD})
    code = (await newest_to(node, email, "confirmation")).code
    body = {"type": "signup", "email": email, "token": code}
    assert (await caller.post("/auth/v1/verify", body)).status == 200
    return email


async def timed(caller: Client, path: str, body: dict[str, Any]) -> tuple[float, int, bytes]:
    """Return how long an answer takes, its status and its body."""
    begun = time.perf_counter()
    answer = await caller.post(f"/auth/v1/{path}", body)
    return time.perf_counter() - begun, answer.status, answer.body


@pytest.mark.parametrize(
    ("path", "more", "same_body"),
    [
        ("token?grant_type=password", {"password": "wrong one"}, True),
        ("signup", {"password": "another long one"}, False),
        ("recover", {}, True),
        ("otp", {"create_user": False}, True),
        ("otp", {}, True),
        ("resend", {"type": "signup"}, True),
        ("verify", {"type": "email", "token": "000000"}, True),
    ],
    ids=str,
)
async def test_known_and_unknown_take_as_long(
    node: Node, path: str, more: dict[str, Any], same_body: bool
) -> None:
    """The same status and body, and medians that differ by less than anybody could notice."""
    caller = node.nobody()
    known = await known_address(node, caller)
    times: dict[bool, list[float]] = {True: [], False: []}
    said: dict[bool, set[tuple[int, bytes]]] = {True: set(), False: set()}
    for turn in range(PAIRS):
        for is_known in (True, False) if turn % 2 else (False, True):
            email = known if is_known else new_address()
            took, status, body = await timed(caller, path, {"email": email, **more})
            times[is_known].append(took)
            said[is_known].add((status, body if same_body else b""))
    assert said[True] == said[False]
    assert len(said[True]) == 1
    apart = abs(median(times[True]) - median(times[False]))
    by_chance = max(abs(median(one[::2]) - median(one[1::2])) for one in times.values())
    assert apart <= max(NOTICEABLE_S, 4 * by_chance), (apart, by_chance)
