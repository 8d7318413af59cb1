"""What is said of a change of factors: an entry in the audit log, and a mail to the person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from chatkeep import audit
from chatkeep.mail import Mail, queued

if TYPE_CHECKING:
    from chatkeep.accounts import User
    from chatkeep.db import Query
    from chatkeep.issuance import EmbeddedIssuer, Here

_NAMES = {
    "totp": "authenticator app",
    "webauthn": "security key",
    "recovery_code": "recovery codes",
    "passkey": "passkey",
}


def changed(
    issuer: EmbeddedIssuer,
    user: User,
    kind: Literal["factor_added", "factor_removed"],
    *,
    factor_type: str,
    name: str | None,
) -> list[Query[Any]]:
    """Return the statement that tells the person by mail, if they have an address."""
    if not user.email:
        return []
    said = _NAMES[factor_type] + (f" “{name}”" if name else "")
    mail = Mail(kind=kind, to=user.email, user_id=issuer.user_id_of(user.id), factor=said)
    return [queued(mail, issuer.outgoing)]


def entry(
    issuer: EmbeddedIssuer,
    action: str,
    here: Here,
    *,
    outcome: Literal["succeeded", "refused"] = "succeeded",
    reason: str | None = None,
    **details: object,
) -> Query[Any]:
    """Return the statement that writes *action* of the person *here* into the audit log."""
    return audit.entry(
        action,
        outcome=outcome,
        reason=reason,
        user_id=here.session.user_id,
        issuer=issuer.issuer.name,
        session_id=here.session.id,
        details=details,
    )
