"""What may be done how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rate:
    """*burst* at once, refilled evenly at *burst* every *period_s* seconds.

    *shared*: counted together with the other processes, when there is a store for that.
    """

    burst: int
    period_s: float
    shared: bool = True

    @property
    def interval_s(self) -> float:
        """The seconds after which one more may come."""
        return self.period_s / self.burst


#: By client address; "chat" and "api" by user; "account_..." by account, see `Attempts`.
RATES: Final[dict[str, Rate]] = {
    "sign_up": Rate(200, 300),
    "token": Rate(600, 300),
    "user": Rate(600, 60),
    "authorize": Rate(600, 300),
    "otp": Rate(60, 300),
    "recover": Rate(60, 300),
    "verify": Rate(200, 300),
    "resend": Rate(60, 300),
    "factor": Rate(200, 300),
    "chat": Rate(300, 60),
    # Each request of a signed-in person: too many to ask another machine about each.
    "api": Rate(3000, 60, shared=False),
    # By user: each may read through thousands of messages.
    "search": Rate(120, 60),
    "import": Rate(30, 3600),
    "export": Rate(10, 3600),
    "shared": Rate(120, 60),
    # By client address: keys that nobody has. A request with one that is good is given back.
    "api_key": Rate(60, 300),
    # By user: each is a row.
    "api_key_made": Rate(30, 3600),
    "anonymous_chat": Rate(20, 300),
    # ASVS 6.3.1; NIST SP 800-63B section 5.2.2 allows a hundred wrong ones in a row.
    "account_password": Rate(10, 900),
    "account_code": Rate(10, 900),
    "account_mail": Rate(6, 3600),
    # However many addresses lead there. More than to one: a `+` may be part of a name.
    "account_mailbox": Rate(12, 3600),
    # So long at least lies between two mails to one address.
    "mail_pause": Rate(1, 60),
    "anonymous_sign_up": Rate(30, 3600),
}

#: How many of what may be going on at once, by user. A reader of an answer that another node
#: makes costs four reads of the database a second; a search has a connection to itself; a file
#: is in memory while it arrives, however slowly, and while it leaves in an export.
AT_ONCE: Final[dict[str, int]] = {"streams": 100, "searches": 4, "uploads": 20, "exports": 4}
