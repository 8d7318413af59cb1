"""Mail to people: what it says, how it waits, and how it is sent.

Whoever has something to say to a person puts `queued(mail, issuer.outgoing)` into the
transaction of what it is about, so that there is neither a change without its mail nor
mail about what was rolled back. Nothing here decides who is written to, or how often.
"""

from chatkeep.mail.mails import Kind, Mail
from chatkeep.mail.outgoing import Outgoing, Queued, outgoing_mail, queued

__all__ = ["Kind", "Mail", "Outgoing", "Queued", "outgoing_mail", "queued"]
