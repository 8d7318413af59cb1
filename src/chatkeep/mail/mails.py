"""What a person is written about. How it looks is the business of the templates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: The first seven ask for something, and carry a link, a code, or both; the others tell.
Kind = Literal[
    "confirmation",
    "magic_link",
    "recovery",
    "invitation",
    "email_change_current",
    "email_change_new",
    "reauthentication",
    "password_changed",
    "email_changed",
    "new_sign_in",
    "factor_added",
    "factor_removed",
    "identity_linked",
    "test",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail to one person. *link* and *code* let whoever has them act as that person.

    *user_id* is our id of that person, for the audit log. The rest is named in the text where
    the kind has a place for it: the address that an account is about to have or had before,
    the device of a sign-in, the provider of an identity, the name of a factor.

    Raises:
        ValueError: a line break or another control character in an address: it would become
            a header of its own.
    """

    kind: Kind
    to: str
    link: str | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)
    locale: str = "en"
    user_id: str | None = None
    new_email: str | None = None
    old_email: str | None = None
    device: str | None = None
    provider: str | None = None
    factor: str | None = None

    def __post_init__(self) -> None:
        if not self.to.isprintable() or self.to.count("@") < 1:
            raise ValueError("an address has an @ and no control characters")

    @property
    def asks(self) -> bool:
        """Whether it lets its reader do something, and so is worth nothing once that expired."""
        return self.link is not None or self.code is not None
