"""How an answer is made: the operator's policy, the person's profile, the request.

Defaults of the policy < profile < request; then the policy has the last word. What a
request asks beyond the policy is refused, naming the field; what a profile saved before
the policy changed is clamped, so that nobody is locked out of chatting.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from chatkeep.config.upstreams import ANY_MODEL, MODEL_ID
from chatkeep.errors import Invalid
from chatkeep.llm.model import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from chatkeep.config import Settings
    from chatkeep.llm.model import Tool
    from chatkeep.preferences import Profile

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator allows. *models* empty: any model.

    *for_roles* has the models of each role that has its own; *longest* how many tokens an
    answer of a model may have.
    """

    default_model: str
    models: tuple[str, ...] = ()
    for_roles: tuple[tuple[str, tuple[str, ...]], ...] = ()
    longest: Mapping[str, int] = field(default_factory=dict)
    system_prompt: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    temperature_ceiling: float = 2.0
    max_tokens_ceiling: int = 32_768
    locked: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings, *, default_model: str) -> Policy:
        """Return the policy that *settings* describe."""
        return cls(
            default_model=default_model,
            models=settings.models,
            for_roles=settings.models_for_roles,
            longest={
                model: limit.max_tokens
                for model, limit in settings.model_limits
                if limit.max_tokens
            },
            system_prompt=settings.system_prompt,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            temperature_ceiling=settings.temperature_ceiling,
            max_tokens_ceiling=settings.max_tokens_ceiling,
            locked=frozenset(settings.locked_settings),
        )

    def seen_by(self, roles: Collection[str]) -> Policy:
        """Return the policy for somebody with *roles*.

        Those that have models of their own open these and no others, together. The default is
        everybody's where it is among them, else the first of them.
        """
        own = [models for role, models in self.for_roles if role in roles]
        if not own:
            return self
        models = tuple(dict.fromkeys(model for models in own for model in models))
        if ANY_MODEL in models:
            return replace(self, models=())
        default = self.default_model if self.default_model in models else models[0]
        return replace(self, models=models, default_model=default)

    def ranges(self) -> dict[str, dict[str, float]]:
        """Return the lowest and highest value of each number a person may choose."""
        return {
            "temperature": {"min": 0, "max": self.temperature_ceiling},
            "top_p": {"min": 0, "max": 1},
            "max_tokens": {"min": 1, "max": self.max_tokens_ceiling},
        }

    def allows(self, model: str) -> bool:
        """Whether *model*, exactly as spelt, may be asked."""
        return model in self.models if self.models else bool(MODEL_ID.fullmatch(model))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How one answer will be made.

    *tools* are those that the client runs; with any, ours are not offered. *alone*: no
    instructions but *system_prompt* count, whoever wrote them into the conversation.
    """

    settings: ModelSettings
    system_prompt: str | None
    tools: Sequence[Tool] = ()
    alone: bool = False


def check_wishes(wishes: Mapping[str, Any], policy: Policy) -> None:
    """Refuse what *wishes* (from a request, or to be saved) ask beyond *policy*.

    Raises:
        Invalid: with `errors`, one `{"field", "message"}` for each.
    """
    problems = [
        {"field": field, "message": message}
        for field, value in wishes.items()
        if value is not None and (message := _problem(field, value, policy))
    ]
    if problems:
        raise Invalid(f"{problems[0]['field']}: {problems[0]['message']}", errors=problems)


def choose(profile: Profile, wishes: Mapping[str, Any], policy: Policy) -> Choices:
    """Merge *profile* and *wishes* under *policy*. Raises `Invalid` as `check_wishes`."""
    check_wishes(wishes, policy)
    model = _model(profile, wishes, policy)
    longest = policy.longest.get(model)
    if longest is not None and (wishes.get("max_tokens") or 0) > longest:
        raise Invalid.of("max_tokens", f"must be from 1 to {longest} for this model")
    temperature = _pick("temperature", wishes, profile.temperature, policy.temperature, policy)
    max_tokens = _pick("max_tokens", wishes, profile.max_tokens, policy.max_tokens, policy)
    max_tokens = _at_most(max_tokens, policy.max_tokens_ceiling)
    if longest is not None:
        max_tokens = min(longest, max_tokens or longest)
    return Choices(
        settings=ModelSettings(
            model=model,
            temperature=_at_most(temperature, policy.temperature_ceiling),
            top_p=_pick("top_p", wishes, profile.top_p, policy.top_p, policy),
            max_tokens=max_tokens,
        ),
        system_prompt=_system_prompt(profile, wishes, policy),
        alone="system_prompt" in policy.locked,
    )


def _problem(field: str, value: object, policy: Policy) -> str | None:
    """Say what is wrong with *value*, None when it is within the policy."""
    name = "default_model" if field == "model" else field
    if name in policy.locked:
        return "is set by the operator and cannot be changed"
    if name == "default_model":
        return None if policy.allows(str(value)) else "is not a model offered here"
    limits = policy.ranges().get(name)
    if limits is None or not isinstance(value, int | float):
        return None
    if name == "top_p" and value == 0:
        return "must be greater than 0"
    if limits["min"] <= value <= limits["max"]:
        return None
    return f"must be from {limits['min']:g} to {limits['max']:g}"


def _pick(
    field: str, wishes: Mapping[str, Any], saved: _Value, default: _Value, policy: Policy
) -> _Value:
    if field in policy.locked:
        return default
    wish: _Value = wishes.get(field)  # type: ignore[assignment]  # schemas checked its type
    if wish is not None:
        return wish
    return default if saved is None else saved


def _at_most(value: _Value, ceiling: _Value) -> _Value:
    return value if value is None or value <= ceiling else ceiling  # type: ignore[operator]  # numbers


def _model(profile: Profile, wishes: Mapping[str, Any], policy: Policy) -> str:
    wish = wishes.get("model")
    if wish is not None:
        return str(wish)
    saved = profile.default_model
    if saved is None or "default_model" in policy.locked or not policy.allows(saved):
        return policy.default_model
    return saved


def _system_prompt(profile: Profile, wishes: Mapping[str, Any], policy: Policy) -> str | None:
    chosen = _pick("system_prompt", wishes, profile.system_prompt, policy.system_prompt, policy)
    if profile.custom_instructions and "custom_instructions" not in policy.locked:
        wish = f"The person asks you to keep this in mind:\n{profile.custom_instructions}"
        return f"{chosen}\n\n{wish}" if chosen else wish
    return str(chosen) if chosen else None
