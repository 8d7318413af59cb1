"""Codes of an authenticator app: RFC 6238 with SHA-1, six digits and steps of 30 seconds.

That is what every app can do (Google's ignores anything else). Pure: no clock, no database.
"""

from __future__ import annotations

import hmac
import io
from typing import Final

import pyotp
import segno

STEP_S: Final = 30
#: A code of the step before or after is good too: clocks differ (RFC 6238 section 5.2).
_DRIFT_STEPS: Final = 1


def new_secret() -> str:
    """Return a key of 160 bits in base32, as long as SHA-1's output (RFC 4226 section 4)."""
    return pyotp.random_base32(32)


def provisioning_uri(secret: str, *, account: str, issuer: str) -> str:
    """Return the `otpauth:` address that an app reads; *issuer* is shown above the code."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def qr_code(uri: str) -> str:
    """Return *uri* as a picture (SVG) that can stand in a `data:` address as it is."""
    drawn = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        drawn, kind="svg", xmldecl=False, scale=4, dark="black", light="white", nl=False
    )
    # What follows a "#" would be the fragment of the address.
    return drawn.getvalue().decode().replace("#000", "black").replace("#fff", "white")


def matching_step(secret: str, code: str, *, now_s: float, after: int) -> int | None:
    """Return the time step whose code this is, None for a wrong one.

    A step is good once: those up to *after* are not looked at (RFC 6238 section 5.2). Takes as
    long whichever matches.
    """
    generator = pyotp.TOTP(secret)
    current = int(now_s) // STEP_S
    found = None
    for step in range(current - _DRIFT_STEPS, current + _DRIFT_STEPS + 1):
        expected = generator.generate_otp(step)
        if hmac.compare_digest(expected.encode(), code.encode("utf-8", "replace")) and step > after:
            found = step
    return found
