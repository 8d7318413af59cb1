"""Rules, tokens, encoders, settings: nothing outside the process."""
