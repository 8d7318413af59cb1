"""Passwords: what is taken for one, how it is checked, and the hashes that other servers made.

`checking` has the threads in which all of them are checked, `argon2_hashes` our own hashes and
others of their kind, `foreign_hashes` all that people bring who move here.
"""

from chatkeep.passwords.checking import Passwords, require_acceptable
from chatkeep.passwords.foreign_hashes import read_hash, require_importable

__all__ = ["Passwords", "read_hash", "require_acceptable", "require_importable"]
