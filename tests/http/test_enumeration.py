"""How long an answer takes does not tell either who has an account.

Pairs of a known and an unknown address are timed in turn, so that whatever else the machine does
meets both, and counted is in how many pairs the same one takes noticeably longer. Where neither
does, that is at most every second pair, whatever the machine is busy with: nearly all of them
are so by chance once in ten million times. Times of a machine that others share say little, so
what the processor has done for an answer is counted beside how long it took.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.gotrue_people import OURS_ALONE, PASSWORD
from tests.http.mailbox import newest_to

if TYPE_CHECKING:
    from tests.serving import Client, Node

PAIRS = 40
NEARLY_ALL = 36
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


@dataclass(frozen=True, slots=True)
class Timed:
    """How long an answer took by the clock, what the processor did for it, and what it said."""

    took_s: float
    worked_s: float
    said: tuple[int, bytes]


async def timed(caller: Client, path: str, body: dict[str, Any]) -> Timed:
    """Ask; return the answer and its times. The node is in this process, with all it hashes."""
    begun, begun_work = time.perf_counter(), time.process_time()
    answer = await caller.post(f"/auth/v1/{path}", body)
    took_s, worked_s = time.perf_counter() - begun, time.process_time() - begun_work
    return Timed(took_s, worked_s, (answer.status, answer.body))


def tells(longer: list[float], shorter: list[float]) -> bool:
    """Return whether of nearly every pair the one takes noticeably longer than the other."""
    pairs = zip(longer, shorter, strict=True)
    return sum(one - other > NOTICEABLE_S for one, other in pairs) >= NEARLY_ALL


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
    """The same status and body, and times of which none is told from the other."""
    caller = node.nobody()
    known = await known_address(node, caller)
    answers: dict[bool, list[Timed]] = {True: [], False: []}
    for turn in range(PAIRS):
        for is_known in (True, False) if turn % 2 else (False, True):
            email = known if is_known else new_address()
            answers[is_known].append(await timed(caller, path, {"email": email, **more}))
    everything = [*answers[True], *answers[False]]
    said = {(one.said[0], one.said[1] if same_body else b"") for one in everything}
    assert len(said) == 1
    for times in (
        {is_known: [one.took_s for one in found] for is_known, found in answers.items()},
        {is_known: [one.worked_s for one in found] for is_known, found in answers.items()},
    ):
        assert not tells(times[True], times[False]), times
        assert not tells(times[False], times[True]), times
