"""Applications of one route, as other people write them: open, and signed in with Chatkeep.

Everybody here and in `benchmarks.route_peers` has the same FastAPI, the same route and the
same answer; what differs is who says who is calling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request

from chatkeep import ChatkeepMiddleware, SignedIn

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def _nobody_asked() -> FastAPI:
    app = FastAPI()

    @app.get("/me")
    async def me(request: Request) -> dict[str, str]:
        who = request.scope["state"].get("chatkeep_principal")
        return {"id": "nobody" if who is None else who.user_id}

    return app


def _as_dependency() -> FastAPI:
    app = FastAPI()

    @app.get("/me")
    async def me(who: SignedIn) -> dict[str, str]:
        return {"id": who.user_id}

    return app


#: The limit: nobody looks at who calls.
open_route: ASGIApp = _nobody_asked()
#: The very same application behind our middleware.
middleware: ASGIApp = ChatkeepMiddleware(_nobody_asked(), required=True, public=["/openapi.json"])
#: Who calls as a parameter of the route, without the middleware.
dependency: ASGIApp = _as_dependency()
