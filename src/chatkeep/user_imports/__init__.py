"""People who move here from another server, with their ids, passwords and identities.

`supabase`, `better_auth` and `auth0` read what those servers export into `Arrival`s;
`importing` takes them in. Reading trusts nothing, and taking in a second time changes nothing.
"""

from chatkeep.user_imports.arrivals import Arrival, Identity, Skipped
from chatkeep.user_imports.importing import Import, Outcome, Report

__all__ = ["Arrival", "Identity", "Import", "Outcome", "Report", "Skipped"]
