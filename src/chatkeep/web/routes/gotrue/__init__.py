"""`/auth/v1`: the routes of our own issuer, as an unmodified Supabase client expects them."""

from chatkeep.web.routes.gotrue.absent import OFFERED
from chatkeep.web.routes.gotrue.absent import router as absent

#: In this order: the last refuses every path that nobody else has.
ROUTERS = (*OFFERED, absent)
