"""The audit log: who did what to which account or session, from where, and what came of it.

Entries are only ever added. One that belongs to a change goes into its transaction
(`entry`, `of_change`), so that there is neither a change without its entry nor the reverse;
what was refused has no change to go with and is written by itself (`record`). Never a token,
a password, or what somebody said.
"""

from chatkeep.audit.chain import CHAIN_BINDING, held_head, keep_key, seal
from chatkeep.audit.entries import Outcome, Written, entry, of_change, record, write
from chatkeep.audit.notices import ALL_A_MINUTE, EACH_A_MINUTE, Notices
from chatkeep.audit.reading import AT_MOST, Entry, listed
from chatkeep.audit.retention import SHORTEST_DAYS, let_go
from chatkeep.audit.sealing import keep_chain
from chatkeep.audit.verifying import Break, Verification, is_head, verify

__all__ = [
    "ALL_A_MINUTE",
    "AT_MOST",
    "CHAIN_BINDING",
    "EACH_A_MINUTE",
    "SHORTEST_DAYS",
    "Break",
    "Entry",
    "Notices",
    "Outcome",
    "Verification",
    "Written",
    "entry",
    "held_head",
    "is_head",
    "keep_chain",
    "keep_key",
    "let_go",
    "listed",
    "of_change",
    "record",
    "seal",
    "verify",
    "write",
]
