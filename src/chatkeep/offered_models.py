"""Which models somebody can choose: what the operator names for them, else all that there are.

The one way from what somebody wishes to how they are answered, on every surface: what is not
offered to them, exactly as it is spelt, is refused here. Roles come from verified claims
(`Principal.roles`), never from what a person can write.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chatkeep.errors import Invalid, ModelNotOffered
from chatkeep.llm.model import ModelInfo
from chatkeep.llm.model_lists import ModelList
from chatkeep.llm.routing import RoutedModel
from chatkeep.policies import check_wishes, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chatkeep.errors import ChatkeepError
    from chatkeep.llm.breaker import State
    from chatkeep.llm.model import Model
    from chatkeep.policies import Choices, Policy
    from chatkeep.preferences import Profile
    from chatkeep.principal import Principal

#: The role of whoever is not signed in.
ANONYMOUS_ROLE = "anon"


class OfferedModels:
    """The lists of models, and who may choose what of them. Share one per process."""

    def __init__(
        self, model: Model, policy: Policy, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask nothing yet. *policy* is everybody's; ask `policy_for` for somebody's."""
        self.policy = policy
        self._routed = model if isinstance(model, RoutedModel) else None
        self._listing = ModelList(model.list_models, clock=clock)

    def policy_for(self, who: Principal | None) -> Policy:
        """Return what *who* is allowed; None: whoever is not signed in."""
        if not self.policy.for_roles:
            return self.policy
        roles = frozenset({ANONYMOUS_ROLE}) if who is None else who.all_roles
        return self.policy.seen_by(roles)

    async def listed(self, who: Principal | None) -> Sequence[ModelInfo]:
        """Return what *who* may ask, the default at least."""
        policy = self.policy_for(who)
        found = {one.id: one for one in await self._all()}
        if policy.models:
            return [found.get(name) or ModelInfo(id=name, name=name) for name in policy.models]
        default = policy.default_model
        if default in found:
            return list(found.values())
        return [ModelInfo(id=default, name=default), *found.values()]

    async def knows(self, who: Principal | None, model: str) -> bool:
        """Whether *model*, exactly as spelt, is offered to *who*.

        Where the operator names none and nobody has a list, any may be.
        """
        policy = self.policy_for(who)
        if policy.models or model == policy.default_model or not policy.allows(model):
            return policy.allows(model)
        found = await self._all()
        return any(one.id == model for one in found) or not self._has_lists(found)

    async def require(self, who: Principal | None, model: str) -> None:
        """Refuse a *model* that is not offered to *who*.

        Raises:
            ModelNotOffered: it is not.
        """
        if not await self.knows(who, model):
            raise ModelNotOffered

    async def check(self, who: Principal, wishes: Mapping[str, Any]) -> None:
        """Refuse what *wishes* of *who*, to be saved, ask beyond what they are allowed.

        Raises:
            Invalid: with `errors`, one `{"field", "message"}` for each.
        """
        check_wishes(wishes, self.policy_for(who))
        await self._check_model(who, wishes, "default_model")

    async def choose(
        self, who: Principal | None, profile: Profile, wishes: Mapping[str, Any]
    ) -> Choices:
        """Return how *who* is answered, who saved *profile* and *wishes* this now.

        A saved model that is no longer offered gives way to the default. Raises as `check`.
        """
        policy = self.policy_for(who)
        check_wishes(wishes, policy)
        await self._check_model(who, wishes, "model")
        saved = profile.default_model
        if saved is not None and wishes.get("model") is None and not await self.knows(who, saved):
            profile = replace(profile, default_model=None)
        return choose(profile, wishes, policy)

    def find(self, model: str) -> ModelInfo | None:
        """Find *model* in the lists as they were fetched last, without asking anybody."""
        return self._listing.find(model) if self._routed is None else self._routed.find(model)

    def candidates(self, model: str) -> Sequence[str]:
        """Return who may answer for *model*, as `find` takes them; itself, where it is no name."""
        if self._routed is None or model not in self._routed.names:
            return [model]
        return [f"{one.model}@{one.provider.name}" for one in self._routed.targets(model)]

    def bare(self, model: str) -> str:
        """Return *model* without the upstream that `candidates` may have put behind it."""
        return model if self._routed is None else self._routed.bare(model)

    def states(self) -> dict[str, State] | None:
        """Say how each provider fares; None where nothing but one model of ours is asked."""
        return None if self._routed is None else self._routed.states()

    def refusal(self, model: str) -> ChatkeepError | None:
        """Return why *model* cannot be asked now, where that is known beforehand."""
        return None if self._routed is None else self._routed.refusal(model)

    async def keep_known(self) -> None:
        """Keep the lists fresh until cancelled, for who needs `find`."""
        await (self._listing if self._routed is None else self._routed).keep_known()

    async def aclose(self) -> None:
        """Ask no more."""
        await self._listing.aclose()

    def _has_lists(self, found: Sequence[ModelInfo]) -> bool:
        """Whether anybody says what there is; *found* may be names of our own alone."""
        return bool(found) if self._routed is None else self._routed.has_lists

    async def _all(self) -> Sequence[ModelInfo]:
        if self._routed is None:
            return await self._listing.listed()
        return await self._routed.list_models()

    async def _check_model(
        self, who: Principal | None, wishes: Mapping[str, Any], field: str
    ) -> None:
        model = wishes.get(field)
        if model is not None and not await self.knows(who, str(model)):
            raise Invalid.of(field, "is not a model offered here")
