"""The providers of the settings, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep.providers.apple import AppleProvider
from chatkeep.providers.github import GitHubProvider
from chatkeep.providers.openid import OpenIdProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chatkeep.config import Settings, SignInProvider
    from chatkeep.config.sign_in_providers import Kind
    from chatkeep.providers.proofs import Provider

_KINDS: Final[Mapping[Kind, Callable[..., Provider]]] = {
    "openid": OpenIdProvider,
    "github": GitHubProvider,
    "apple": AppleProvider,
}
#: How Supabase's clients mark a provider that they do not know by name.
_CUSTOM: Final = "custom:"


class Providers:
    """Who may be signed in with. One per process; `close` it at the end."""

    def __init__(self, providers: Iterable[Provider] = ()) -> None:
        """Know *providers* by their names."""
        self._by_name = {one.name: one for one in providers}

    def __iter__(self) -> Iterator[Provider]:
        """Go through them in the order of the settings."""
        return iter(self._by_name.values())

    def find(self, name: str) -> Provider | None:
        """Return the provider that a client calls *name*, if there is one."""
        return self._by_name.get(name.removeprefix(_CUSTOM))

    def find_issuer(self, issuer: str | None) -> Provider | None:
        """Return the provider whose exact name is *issuer*, if there is one."""
        return next((one for one in self if one.issuer == issuer), None)

    async def close(self) -> None:
        """Stop whatever they do in the background."""
        for one in self:
            await one.close()


def open_providers(settings: Settings) -> Providers:
    """Return the providers of *settings*. Nothing is fetched yet."""
    return Providers(_opened(one, settings) for one in settings.sign_in_providers)


def _opened(provider: SignInProvider, settings: Settings) -> Provider:
    return _KINDS[provider.kind](
        provider,
        redirect_uri=f"{settings.base_url}/auth/v1/callback",
        public_only=settings.production,
    )
