"""Second factors: what a person proves besides a password or a mail.

A factor is enrolled (`enrolment`), challenged (`challenges`) and verified
(`verification`); a verified one raises the session to AAL2. `totp` and `ceremonies` know
how codes and authenticators work, and nothing of accounts; `recovery_codes` stand in for a
lost factor. Nothing here knows HTTP.
"""
