"""Webhooks: other programs are told of what happens here, signed, and until they have heard.

What is told of is queued in the transaction in which it happens, so nothing is lost, and
nothing is told that was rolled back. It is told at least once, always under the same id.
"""

from chatkeep.webhooks.delivery import Webhooks
from chatkeep.webhooks.signing import new_secret, signature

__all__ = ["Webhooks", "new_secret", "signature"]
