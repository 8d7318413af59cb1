"""Settings: several providers of models at once, and what their models are called here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from chatkeep.config import values as read
from chatkeep.config.reading import find_strays, read_setting, setting

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from chatkeep.config.settings import Settings
    from chatkeep.config.values import Secret

UpstreamKind = Literal["openrouter", "openai", "compatible"]

#: Those whose address and key have settings of their own.
PRESETS: Final = ("openrouter", "openai")
#: A model that fails is asked for elsewhere; a long list would only make people wait.
TARGETS_AT_MOST: Final = 5
#: Any model of any upstream, for a role.
ANY_MODEL: Final = "*"

#: What a model may be called.
MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_ROLE = re.compile(r"[^\s=;,]{1,100}")
_MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A provider of models. *models*: all that it serves; empty: it is asked for its list.

    Its time-outs are those of everybody where it has none of its own.
    """

    name: str
    connect_timeout_s: float
    first_byte_timeout_s: float
    between_chunks_timeout_s: float
    total_timeout_s: float
    url: str = ""
    api_key: Secret | None = None
    kind: UpstreamKind | None = None
    models: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""
        return prefix_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimit:
    """How much of one model: tokens in an answer, and answers begun in a minute."""

    max_tokens: int | None = None
    per_user: int | None = None
    total: int | None = None


def prefix_of(name: str) -> str:
    """Return how the names of the settings of upstream *name* begin."""
    return f"UPSTREAM_{name.upper().replace('-', '_')}"


def _routes(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read what names stand for: `name=model|model@upstream`, with commas between."""
    found: dict[str, tuple[str, ...]] = {}
    for one in read.words(text):
        name, _, said = one.partition("=")
        targets = tuple(target.strip() for target in said.split("|"))
        if not all(MODEL_ID.fullmatch(part) for part in (name.strip(), *targets)):
            raise read.Refused("must be like fast=gpt-4o-mini|llama-3.1-8b@groq")
        if name.strip() in found or len(set(targets)) != len(targets):
            raise read.Refused("must have each name, and each model of a name, once")
        if len(targets) > TARGETS_AT_MOST:
            raise read.Refused(f"must have at most {TARGETS_AT_MOST} models for a name")
        found[name.strip()] = targets
    return tuple(found.items())


def _roles(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read which models a role may ask: `role=model, model`, with semicolons between."""
    found: dict[str, tuple[str, ...]] = {}
    for one in _entries(text):
        role, _, said = one.partition("=")
        models = tuple(said.replace(",", " ").split())
        right = all(model == ANY_MODEL or MODEL_ID.fullmatch(model) for model in models)
        if not models or not right or not _ROLE.fullmatch(role.strip()):
            raise read.Refused("must be like pro=gpt-4o, o3; staff=*")
        if role.strip() in found:
            raise read.Refused("must have each role once")
        found[role.strip()] = models
    return tuple(found.items())


def _limits(text: str) -> tuple[tuple[str, ModelLimit], ...]:
    """Read limits of models: `model=max_tokens:4096 per_user:10 total:100`, semicolons between."""
    found: dict[str, ModelLimit] = {}
    for one in _entries(text):
        model, _, said = one.partition("=")
        limit = ModelLimit(**dict(_limit(part) for part in said.replace(",", " ").split()))
        if not MODEL_ID.fullmatch(model.strip()) or limit == ModelLimit():
            raise read.Refused(_LIKE_LIMITS)
        if model.strip() in found:
            raise read.Refused("must have each model once")
        found[model.strip()] = limit
    return tuple(found.items())


_LIKE_LIMITS: Final = "must be like gpt-4o=max_tokens:4096 per_user:10 total:100; o3=total:20"


def _limit(text: str) -> tuple[str, int]:
    name, _, value = text.partition(":")
    if name not in {"max_tokens", "per_user", "total"}:
        raise read.Refused(_LIKE_LIMITS)
    try:
        return name, read.whole(1, _MOST)(value)
    except read.Refused as refused:
        raise read.Refused(f"has a {name} that {refused}") from None


def _entries(text: str) -> list[str]:
    return [one.strip() for one in text.split(";") if one.strip()]


@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """Several providers of models at once, and what their models are called here."""

    upstream_names: tuple[str, ...] = setting("UPSTREAMS", read.names, default=())
    model_routes: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        "MODEL_ROUTES", _routes, default=()
    )
    models_for_roles: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        "MODELS_FOR_ROLES", _roles, default=()
    )
    model_limits: tuple[tuple[str, ModelLimit], ...] = setting("MODEL_LIMITS", _limits, default=())
    model_failures: int = setting("MODEL_FAILURES", read.whole(1, 1000), default=5)
    model_pause_s: float = setting("MODEL_PAUSE", read.number(0.1, 3600), default=30.0)
    #: What was said about those that UPSTREAMS names, by their names; see `upstreams_of`.
    said_of_upstreams: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()


_OWN_SETTINGS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "URL": ("url", read.web_address),
    "API_KEY": ("api_key", read.secret),
    "KIND": ("kind", read.choice("openrouter", "openai", "compatible")),
    "MODELS": ("models", read.words),
    "CONNECT_TIMEOUT": ("connect_timeout_s", read.number(0.1, 60)),
    "FIRST_BYTE_TIMEOUT": ("first_byte_timeout_s", read.number(0.1, 600)),
    "CHUNK_TIMEOUT": ("between_chunks_timeout_s", read.number(0.1, 600)),
    "TIMEOUT": ("total_timeout_s", read.number(1, 3600)),
}


def read_upstreams(
    names: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]:
    """Read UPSTREAM_<NAME>_URL and so on for each of *names*."""
    prefixes = tuple(f"{prefix_of(name)}_" for name in names)
    strays = find_strays(environ, _OWN_SETTINGS, every="UPSTREAM_.+_", begins=prefixes)
    found = []
    for name in names:
        said: dict[str, Any] = {}
        for ending, (member, parse) in _OWN_SETTINGS.items():
            own = f"{prefix_of(name)}_{ending}"
            if name in PRESETS and ending in {"URL", "API_KEY"}:
                if own in strays:
                    strays.discard(own)
                    instead = f"{name.upper()}_{'BASE_URL' if ending == 'URL' else ending}"
                    problems.append(f"{own} is no setting: it is {instead}.")
                continue
            read_setting(member, {"names": [own], "parse": parse}, environ, said, problems)
            strays.discard(own)
        found.append((name, tuple(said.items())))
    problems += [
        f"{name} is no setting of an upstream: there are {', '.join(_OWN_SETTINGS)}."
        if name.startswith(prefixes) and not _is_of_an_upstream(name)
        else f"{name} belongs to no name in UPSTREAMS."
        for name in sorted(strays)
    ]
    return tuple(found)


def _is_of_an_upstream(name: str) -> bool:
    return re.fullmatch(rf"UPSTREAM_(.+)_({'|'.join(_OWN_SETTINGS)})", name) is not None


def upstreams_of(settings: Settings) -> tuple[Upstream, ...]:
    """Return every provider that answers, in the order of UPSTREAMS.

    Without UPSTREAMS it is the one whose key is set, OpenRouter before OpenAI; with no key
    there is none.
    """
    if settings.upstream_names:
        said = dict(settings.said_of_upstreams)
        return tuple(_upstream(settings, name, dict(said[name])) for name in said)
    keys = {"openrouter": settings.openrouter_api_key, "openai": settings.openai_api_key}
    used = next((name for name, key in keys.items() if key is not None), None)
    return () if used is None else (_upstream(settings, used, {}),)


def _upstream(settings: Settings, name: str, said: dict[str, Any]) -> Upstream:
    known: dict[str, Any] = {
        "connect_timeout_s": settings.model_connect_timeout_s,
        "first_byte_timeout_s": settings.model_first_byte_timeout_s,
        "between_chunks_timeout_s": settings.model_between_chunks_timeout_s,
        "total_timeout_s": settings.model_total_timeout_s,
    }
    if name == "openrouter":
        known |= {"url": settings.openrouter_base_url, "api_key": settings.openrouter_api_key}
        known["kind"] = "openrouter"
    elif name == "openai":
        known |= {"url": settings.openai_base_url, "api_key": settings.openai_api_key}
    return Upstream(name=name, **(known | said))


def split_target(target: str, upstreams: Container[str]) -> tuple[str, str | None]:
    """Split `model@upstream`; without one of *upstreams* behind it, an `@` belongs to the model."""
    model, _, upstream = target.rpartition("@")
    return (model, upstream) if model and upstream in upstreams else (target, None)
