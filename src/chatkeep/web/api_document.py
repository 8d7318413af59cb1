"""What the OpenAPI document says beyond what FastAPI reads from the routes.

Every operation says whether it takes a bearer token: through the dependency that names who
may call, so that the document cannot differ from the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from chatkeep.web import problems

if TYPE_CHECKING:
    from collections.abc import Callable


class _Bearer(SecurityBase):
    """Tells the document that an operation takes a bearer token, and does nothing else."""

    scheme_name = "bearer"
    model = HTTPBearer(bearerFormat="JWT", description="The caller's access token.")

    async def __call__(self) -> None:
        """Look at nothing."""


#: For the dependencies that read the caller's token.
TakesBearer = Annotated[None, Depends(_Bearer())]
#: For an operation that also answers callers without one.
BEARER_OPTIONAL: Final[dict[str, Any]] = {"security": [{}]}


def completed(generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the generated document with the body that every problem has."""
    document = generate()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = problems.PROBLEM_SCHEMA
    return document
