"""Signing in with other providers: Google, GitHub, Apple, and any OpenID provider.

`Providers` are those of the settings, each a `Provider` that sends a browser away and says
who came back (`proofs.Proof`); `flows` are the sign-ins under way; `linking` decides which
account a proof is about. Nothing here knows HTTP or the shape of an answer.
"""

from chatkeep.providers.known import Providers, open_providers
from chatkeep.providers.proofs import Proof, Provider, Returned, Sent

__all__ = ["Proof", "Provider", "Providers", "Returned", "Sent", "open_providers"]
