"""Codes of authenticator apps, by the vectors of RFC 6238, and what their picture holds."""

from __future__ import annotations

import base64
import io

import pytest
import segno

from chatkeep.factors import totp

SECRET = base64.b32encode(b"12345678901234567890").decode()
# RFC 6238 appendix B, SHA-1, of whose eight digits six are shown.
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


@pytest.mark.parametrize(("now_s", "code"), VECTORS)
def test_published_codes_are_right(now_s: int, code: str) -> None:
    """Each is the code of its step."""
    assert totp.matching_step(SECRET, code, now_s=now_s, after=0) == now_s // 30


@pytest.mark.parametrize(
    ("away_s", "good"), [(-61, False), (-30, True), (0, True), (30, True), (61, False)]
)
def test_clocks_may_differ_by_a_step(away_s: int, good: bool) -> None:
    """A code of the step before or after is good, and none further away."""
    now_s, code = 1111111111 // 30 * 30, "050471"
    found = totp.matching_step(SECRET, code, now_s=now_s + away_s, after=0)
    assert (found is not None) == good


def test_step_is_good_once() -> None:
    """What was taken, and what is older, is not looked at."""
    step = 1111111111 // 30
    for after, good in ((step - 1, True), (step, False), (step + 1, False)):
        found = totp.matching_step(SECRET, "050471", now_s=1111111111, after=after)
        assert (found == step) == good


def test_secrets_differ_and_are_long() -> None:
    """160 bits, as RFC 4226 asks for."""
    assert len({totp.new_secret() for _ in range(100)}) == 100
    assert len(base64.b32decode(totp.new_secret())) == 20


def test_picture_holds_the_address_and_no_fragment() -> None:
    """The SVG is the code of the address, drawn without a character that a `data:` URL ends at."""
    uri = totp.provisioning_uri(SECRET, account="ana@example.com", issuer="A & B")
    drawn = totp.qr_code(uri)
    again = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(again, kind="svg", xmldecl=False)
    assert drawn.startswith("<svg")
    assert not set("#%") & set(drawn)
    assert uri.startswith("otpauth://totp/A%20%26%20B:ana%40example.com?secret=")
