"""Settings: providers that people may sign in with: presets, and OpenID providers by name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chatkeep.config import values as read
from chatkeep.config.reading import find_strays, read_named, setting
from chatkeep.config.values import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["openid", "github", "apple"]

_GOOGLE: Final = "https://accounts.google.com"
_GITHUB: Final = "https://github.com"
_APPLE: Final = "https://appleid.apple.com"
#: Google publishes what it publishes on three hosts, and says so in its discovery document.
_HOSTS_OF_GOOGLE: Final = ("oauth2.googleapis.com", "www.googleapis.com")
_OPENID_SCOPES: Final = ("openid", "email", "profile")
_TITLES: Final = {"google": "Google", "github": "GitHub", "apple": "Apple"}
#: What Supabase's clients, and the identities of people, call something else.
_TAKEN_NAMES: Final = frozenset({*_TITLES, "email", "phone", "anonymous", "custom", "web3", "sso"})


def _private_key(text: str) -> Secret:
    """Read a private key of Apple's, whose lines may stand in one, with escaped breaks."""
    pem = text.replace("\\n", "\n").strip() + "\n"
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise read.Refused("must be the text of the .p8 file, a private key on P-256")
    return Secret(pem)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInProvider:
    """Somebody whose word is taken for who a person is.

    *issuer* is its exact name. Of *client_ids* the first is the one that this server asks
    as; ID tokens may be meant for any of them. *hosts* are those that its endpoints may be
    on beside its own. *team_id* and *key_id* are Apple's, whose *client_secret* is the
    private key that secrets are signed with.
    """

    name: str
    kind: Kind = "openid"
    title: str = ""
    issuer: str = ""
    client_ids: tuple[str, ...] = ()
    client_secret: Secret | None = None
    scopes: tuple[str, ...] = _OPENID_SCOPES
    hosts: tuple[str, ...] = ()
    team_id: str | None = None
    key_id: str | None = None

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""
        return f"SIGN_IN_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True, kw_only=True)
class SignInProviderSettings:
    """Providers that people may sign in with."""

    sign_in_google_client_id: tuple[str, ...] = setting(
        "SIGN_IN_GOOGLE_CLIENT_ID", read.words, default=()
    )
    sign_in_google_client_secret: Secret | None = setting(
        "SIGN_IN_GOOGLE_CLIENT_SECRET", read.secret
    )
    sign_in_google_issuer: str = setting(
        "SIGN_IN_GOOGLE_ISSUER", read.exact_web_address, default=_GOOGLE
    )
    sign_in_github_client_id: tuple[str, ...] = setting(
        "SIGN_IN_GITHUB_CLIENT_ID", read.words, default=()
    )
    sign_in_github_client_secret: Secret | None = setting(
        "SIGN_IN_GITHUB_CLIENT_SECRET", read.secret
    )
    sign_in_github_issuer: str = setting(
        "SIGN_IN_GITHUB_ISSUER", read.exact_web_address, default=_GITHUB
    )
    sign_in_apple_client_id: tuple[str, ...] = setting(
        "SIGN_IN_APPLE_CLIENT_ID", read.words, default=()
    )
    sign_in_apple_team_id: str | None = setting("SIGN_IN_APPLE_TEAM_ID", read.plain_text)
    sign_in_apple_key_id: str | None = setting("SIGN_IN_APPLE_KEY_ID", read.plain_text)
    sign_in_apple_private_key: Secret | None = setting("SIGN_IN_APPLE_PRIVATE_KEY", _private_key)
    sign_in_apple_issuer: str = setting(
        "SIGN_IN_APPLE_ISSUER", read.exact_web_address, default=_APPLE
    )
    sign_in_provider_names: tuple[str, ...] = setting("SIGN_IN_PROVIDERS", read.names, default=())
    manual_linking: bool = setting("MANUAL_LINKING", read.flag, default=True)
    #: Those that SIGN_IN_PROVIDERS names.
    named_sign_in_providers: tuple[SignInProvider, ...] = ()

    @property
    def sign_in_providers(self) -> tuple[SignInProvider, ...]:
        """Every provider that people may sign in with, the presets first."""
        presets = (_google(self), _github(self), _apple(self))
        return (*(one for one in presets if one.client_ids), *self.named_sign_in_providers)


def _google(settings: SignInProviderSettings) -> SignInProvider:
    return SignInProvider(
        name="google",
        title=_TITLES["google"],
        issuer=settings.sign_in_google_issuer,
        client_ids=settings.sign_in_google_client_id,
        client_secret=settings.sign_in_google_client_secret,
        hosts=_HOSTS_OF_GOOGLE if settings.sign_in_google_issuer == _GOOGLE else (),
    )


def _github(settings: SignInProviderSettings) -> SignInProvider:
    return SignInProvider(
        name="github",
        kind="github",
        title=_TITLES["github"],
        issuer=settings.sign_in_github_issuer,
        client_ids=settings.sign_in_github_client_id,
        client_secret=settings.sign_in_github_client_secret,
        scopes=("read:user", "user:email"),
    )


def _apple(settings: SignInProviderSettings) -> SignInProvider:
    return SignInProvider(
        name="apple",
        kind="apple",
        title=_TITLES["apple"],
        issuer=settings.sign_in_apple_issuer,
        client_ids=settings.sign_in_apple_client_id,
        client_secret=settings.sign_in_apple_private_key,
        scopes=("openid", "name", "email"),
        team_id=settings.sign_in_apple_team_id,
        key_id=settings.sign_in_apple_key_id,
    )


#: The settings of each preset, by how their names begin.
_OF_PRESETS: Final = {
    begins: tuple(
        name
        for one in fields(SignInProviderSettings)
        for name in one.metadata.get("names", ())
        if name.startswith(begins)
    )
    for begins in (f"SIGN_IN_{name.upper()}_" for name in _TITLES)
}
_NAMED_SETTINGS: Final = {
    "ISSUER": ("issuer", read.exact_web_address),
    "CLIENT_ID": ("client_ids", read.words),
    "CLIENT_SECRET": ("client_secret", read.secret),
    "SCOPES": ("scopes", read.path),
    "HOSTS": ("hosts", read.words),
    "TITLE": ("title", read.plain_text),
}


def named_sign_in_providers(
    names: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> tuple[SignInProvider, ...]:
    """Read SIGN_IN_<NAME>_ISSUER and so on for each of *names*."""
    if taken := sorted(_TAKEN_NAMES.intersection(names)):
        problems.append(f"SIGN_IN_PROVIDERS must not use the name {', '.join(taken)}.")
        return ()
    strays = _strays_of_presets(names, environ)
    problems += [f"{name} is no setting: there are {', '.join(strays[name])}." for name in strays]
    return read_named(
        _titled,
        _NAMED_SETTINGS,
        names,
        environ,
        problems,
        listed="SIGN_IN_PROVIDERS",
        elsewhere={*strays, *(name for there in _OF_PRESETS.values() for name in there)},
    )


def _strays_of_presets(
    names: tuple[str, ...], environ: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return what would be a setting of a preset and is none, and which there are.

    Of a preset that is not in use it is only what others have.
    """
    named = tuple(f"{SignInProvider(name=name).prefix}_" for name in names)  # github-at-work
    strays: dict[str, tuple[str, ...]] = {}
    for begins, there in _OF_PRESETS.items():
        used = (begins,) if environ.get(f"{begins}CLIENT_ID") else ()
        found = find_strays(environ, _NAMED_SETTINGS, every=begins, begins=used)
        strays |= {
            name: there for name in sorted(found.difference(there)) if not name.startswith(named)
        }
    return strays


def _titled(*, name: str, **said: Any) -> SignInProvider:  # noqa: ANN401 -- what was set of it
    """Return a provider, which is called by its name where nobody gave it a title."""
    return SignInProvider(name=name, **{"title": name.replace("-", " ").capitalize(), **said})


def sign_in_provider_problems(settings: SignInProviderSettings, *, production: bool) -> list[str]:
    """Return what is wrong with the providers, a sentence each."""
    problems = _lonely_settings(settings)
    for one in settings.sign_in_providers:
        problems += _missing(one)
        if one.kind == "openid" and "openid" not in one.scopes:
            problems.append(f"{one.prefix}_SCOPES must contain openid.")
        if production and not one.issuer.startswith("https://") and one.issuer:
            problems.append(f"{one.prefix}_ISSUER must be https in production.")
    issuers = [one.issuer for one in settings.sign_in_providers if one.issuer]
    if len(set(issuers)) != len(issuers):
        problems.append("Two providers to sign in with have the same issuer: name each once.")
    return problems


def _missing(provider: SignInProvider) -> list[str]:
    own, client_id = provider.prefix, f"{provider.prefix}_CLIENT_ID"
    needed: dict[str, object] = {f"{own}_ISSUER": provider.issuer, client_id: provider.client_ids}
    if provider.kind == "apple":
        needed[f"{own}_TEAM_ID"] = provider.team_id
        needed[f"{own}_KEY_ID"] = provider.key_id
        needed[f"{own}_PRIVATE_KEY"] = provider.client_secret
    else:
        needed[f"{own}_CLIENT_SECRET"] = provider.client_secret
    reason = (
        f"because {client_id} is" if provider.client_ids else f"because {provider.name} is named"
    )
    return [f"{name} must be set, {reason}." for name, value in needed.items() if not value]


def _lonely_settings(settings: SignInProviderSettings) -> list[str]:
    """What was set for a preset that is not in use."""
    said = {
        "SIGN_IN_GOOGLE_CLIENT_SECRET": settings.sign_in_google_client_secret,
        "SIGN_IN_GITHUB_CLIENT_SECRET": settings.sign_in_github_client_secret,
        "SIGN_IN_APPLE_TEAM_ID": settings.sign_in_apple_team_id,
        "SIGN_IN_APPLE_KEY_ID": settings.sign_in_apple_key_id,
        "SIGN_IN_APPLE_PRIVATE_KEY": settings.sign_in_apple_private_key,
    }
    used = {one.prefix for one in settings.sign_in_providers}
    return [
        f"{name} needs {'_'.join(name.split('_')[:3])}_CLIENT_ID."
        for name, value in said.items()
        if value and "_".join(name.split("_")[:3]) not in used
    ]
