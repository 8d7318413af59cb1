"""Two spellings of one mailbox are one account, and nobody's is remembered for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from email_validator import validate_email

from chatkeep.accounts import addresses, mailbox_of, normal_address
from chatkeep.errors import EmailAddressInvalid

if TYPE_CHECKING:
    from email_validator import ValidatedEmail


@pytest.mark.parametrize("text", ["Ana@Example.COM", "ana@example.com", "ANA@example.com"])
def test_case_makes_no_other_address(text: str) -> None:
    """Nobody remembers how they typed it."""
    assert normal_address(text) == "ana@example.com"


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("Ana+shop@Example.com", "ana@example.com"),
        ("ana+a+b@example.com", "ana@example.com"),
        ("a.na@example.com", "a.na@example.com"),
        ("A.N.A+x@gmail.com", "ana@gmail.com"),
        ("an.a@GoogleMail.com", "ana@gmail.com"),
        ("+ana@example.com", "+ana@example.com"),
    ],
)
def test_addresses_of_one_mailbox_are_counted_as_one(text: str, mailbox: str) -> None:
    """Without the sub-address, and at Google without dots; elsewhere dots are part of a name."""
    assert mailbox_of(normal_address(text)) == mailbox


def test_what_is_no_address_is_counted_as_it_is() -> None:
    """A guest is counted by an id."""
    assert mailbox_of("0199f1c2-7a6e-7b1f-9d3c-5a0e6f0d2b11") == (
        "0199f1c2-7a6e-7b1f-9d3c-5a0e6f0d2b11"
    )


def test_what_is_no_address_is_refused_each_time() -> None:
    """Also when it is the one that was asked for last, and however long it is."""
    for text in ("nobody", "nobody", "a" * 255 + "@example.com", "a" * 255 + "@example.com"):
        with pytest.raises(EmailAddressInvalid):
            normal_address(text)


def test_the_last_address_alone_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in has it looked at once; who was here before cannot be told by time."""
    looked_at = []

    def watched(text: str, *, check_deliverability: bool, test_environment: bool) -> ValidatedEmail:
        looked_at.append(text)
        return validate_email(
            text, check_deliverability=check_deliverability, test_environment=test_environment
        )

    monkeypatch.setattr(addresses, "validate_email", watched)
    for name in ("watched1", "watched1", "watched2", "watched1"):
        assert normal_address(f"{name}@example.com") == f"{name}@example.com"
    assert looked_at == [f"watched{number}@example.com" for number in (1, 2, 1)]
