"""Models that answer: the protocol, and one adapter per kind of provider."""
