"""Signing in at our own issuer: each way to show who one is, and where a browser goes then."""
