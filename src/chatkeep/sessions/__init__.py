"""Sessions: where somebody is signed in, at our own issuer and at others, until it ends."""
