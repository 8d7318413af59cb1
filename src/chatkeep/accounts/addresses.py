"""The one spelling of an e-mail address: two spellings of one mailbox must not be two accounts."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from email_validator import EmailNotValidError, validate_email

from chatkeep.errors import EmailAddressInvalid

#: Here dots in a mailbox's name are none of it (support.google.com/mail/answer/7436150). At other
#: domains, also those that Google hosts, they are.
_DOTLESS: Final = frozenset({"gmail.com", "googlemail.com"})
_LONGEST: Final = 254  # RFC 5321 section 4.5.3.1.3


def normal_address(text: str) -> str:
    """Return the one spelling under which this e-mail address is kept.

    Lower case throughout: mailboxes that differ in case only do not exist in practice,
    and people do not remember how they typed it. The network is not asked, and `.test` is a
    domain like any other: it is there to try things with.

    Raises:
        EmailAddressInvalid: it cannot be an address.
    """
    if len(text) > _LONGEST:
        raise EmailAddressInvalid
    return _one_spelling(text)


def mailbox_of(address: str) -> str:
    """Return what most of the addresses have in common that lead to the mailbox of *address*.

    *address* is in its one spelling. Taken off is a sub-address (RFC 5233: what follows `+`), and
    the dots where they are known to mean nothing. For counting alone: at a domain whose `+` is a
    letter like others, two people have one such name, so it must never say whose an account is.
    """
    name, at, domain = address.rpartition("@")
    if not at:
        return address
    mailbox = name.partition("+")[0] or name
    if domain in _DOTLESS:
        mailbox, domain = mailbox.replace(".", ""), "gmail.com"
    return f"{mailbox}@{domain}"


# The last one only: a sign-in asks twice, to count the attempt and to find the account. To
# remember more would tell by time who was here lately.
@lru_cache(maxsize=1)
def _one_spelling(text: str) -> str:
    try:
        checked = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise EmailAddressInvalid from error
    return unicodedata.normalize("NFC", checked.normalized.lower())
