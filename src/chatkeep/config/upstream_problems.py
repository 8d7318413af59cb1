"""What is wrong with the providers of models taken together, and with the names of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.config.upstreams import ANY_MODEL, PRESETS, prefix_of, split_target, upstreams_of

if TYPE_CHECKING:
    from chatkeep.config.settings import Settings
    from chatkeep.config.upstreams import Upstream


def upstream_problems(settings: Settings) -> list[str]:
    """Return what is wrong with the providers and the names of models, a sentence each."""
    upstreams = upstreams_of(settings)
    problems = _unusable(settings, upstreams)
    serving: dict[str, str] = {}
    for one in upstreams:
        for model in one.models:
            if model in serving:
                problems.append(
                    f"{one.prefix}_MODELS and {prefix_of(serving[model])}_MODELS both name"
                    f" {model}: only one can serve it."
                )
            serving[model] = one.name
    return problems + _route_problems(settings, upstreams) + _name_problems(settings, upstreams)


def _unusable(settings: Settings, upstreams: tuple[Upstream, ...]) -> list[str]:
    problems = []
    for one in upstreams if settings.upstream_names else ():
        if not one.url:
            problems.append(f"{one.prefix}_URL must be set, because UPSTREAMS names {one.name}.")
        if one.name in PRESETS and one.api_key is None:
            name = f"{one.name.upper()}_API_KEY"
            problems.append(f"{name} must be set, because UPSTREAMS names {one.name}.")
    if settings.upstream_names:
        keys = {"openrouter": settings.openrouter_api_key, "openai": settings.openai_api_key}
        problems += [
            f"UPSTREAMS must name {name}, because {name.upper()}_API_KEY is set."
            for name, key in keys.items()
            if key is not None and name not in settings.upstream_names
        ]
        problems += _nothing_to_ask(settings, upstreams[0])
    return problems


def _nothing_to_ask(settings: Settings, first: Upstream) -> list[str]:
    """Of the presets a good model is known; of another, whose models nobody named, none is."""
    if settings.default_model or settings.models or first.models or first.name in PRESETS:
        return []
    return [f"OPENAI_CHAT_MODEL must be set: nobody knows what to ask {first.name} for."]


def _route_problems(settings: Settings, upstreams: tuple[Upstream, ...]) -> list[str]:
    problems = []
    names = dict(settings.model_routes)
    if names and not upstreams:
        return ["MODEL_ROUTES needs UPSTREAMS, OPENROUTER_API_KEY or OPENAI_API_KEY."]
    for name, targets in settings.model_routes:
        for target in targets:
            model, upstream = split_target(target, {one.name for one in upstreams})
            if model in names and model != name:
                problems.append(
                    f"MODEL_ROUTES: {name} leads to {model}, which is itself a name there:"
                    " name a model."
                )
            if not _serves(model, upstream, upstreams):
                problems.append(f"MODEL_ROUTES: {name} leads to {target}, which nobody serves.")
    return problems


def _name_problems(settings: Settings, upstreams: tuple[Upstream, ...]) -> list[str]:
    """Names that people may choose, or that have limits, and that nobody can answer for."""
    if not upstreams:
        return []
    names = dict(settings.model_routes)
    in_roles = {model for _, models in settings.models_for_roles for model in models}
    said: dict[str, set[str]] = {
        "OPENAI_CHAT_MODEL": {settings.default_model} if settings.default_model else set(),
        "TITLE_MODEL": {settings.title_model} if settings.title_model else set(),
        "MODELS": set(settings.models),
        "MODELS_FOR_ROLES": in_roles - {ANY_MODEL},
        "MODEL_LIMITS": {model for model, _ in settings.model_limits},
    }
    return [
        f"{setting_name}: nobody serves {model}."
        for setting_name, models in said.items()
        for model in sorted(models)
        if model not in names and not _serves(model, None, upstreams)
    ]


def _serves(model: str, upstream: str | None, upstreams: tuple[Upstream, ...]) -> bool:
    """Whether *model* can be asked for, at *upstream* or at any: one with no list may have it."""
    asked = [one for one in upstreams if upstream in {None, one.name}]
    return any(not one.models or model in one.models for one in asked)
