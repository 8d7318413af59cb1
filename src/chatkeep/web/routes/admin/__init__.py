"""`/api/admin`: people, their sessions and the installation, for administrators among people."""

from chatkeep.web.routes.admin import audit, operations, overview, people, sessions, usage

#: In this order, because paths are tried one after the other.
ROUTERS = (
    people.router,
    sessions.router,
    audit.router,
    operations.router,
    overview.router,
    usage.router,
    people.of_anybody,
)
