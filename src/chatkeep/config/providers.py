"""OpenID providers, of which there may be several: their settings, by the name of each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from chatkeep.config.reading import read_named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

    from chatkeep.config.values import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdProvider:
    """An OpenID provider whose access tokens are taken.

    *issuer* is its exact name; *audience* what its tokens for us say they are for.
    *roles_claim* is the path to the claim that has a person's roles.
    """

    name: str
    issuer: str = ""
    audience: str = ""
    client_id: str | None = None
    client_secret: Secret | None = None
    jwks_url: str | None = None
    roles_claim: tuple[str, ...] = ("roles",)

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""
        own = "" if self.name == "oidc" else f"_{self.name.upper().replace('-', '_')}"
        return f"OIDC{own}"


OPENID = "oidc_"
_TAKEN_NAMES = frozenset({"supabase", "better-auth", "embedded", "oidc", "development"})


def openid_settings(kind: type[Any]) -> list[Field[Any]]:
    """Return the settings that each OpenID provider has of its own."""
    found = [one for one in fields(kind) if one.name.startswith(OPENID)]
    return [one for one in found if one.name != "oidc_issuers"]


def named_providers(
    kind: type[Any], names: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> tuple[OpenIdProvider, ...]:
    """Read OIDC_<NAME>_ISSUER and so on for each of *names*."""
    if taken := sorted(_TAKEN_NAMES.intersection(names)):
        problems.append(f"OIDC_ISSUERS must not use the name {', '.join(taken)}.")
        return ()
    settings = {one.metadata["names"][0]: one for one in openid_settings(kind)}
    own = {
        name.removeprefix("OIDC_"): (one.name.removeprefix(OPENID), one.metadata["parse"])
        for name, one in settings.items()
    }
    return read_named(
        OpenIdProvider,
        own,
        names,
        environ,
        problems,
        listed="OIDC_ISSUERS",
        elsewhere=settings,
    )
