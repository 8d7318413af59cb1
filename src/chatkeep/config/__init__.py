"""Settings: the only reader of the environment.

Each has a heading in `docs/reference/configuration.md`. Nothing reads the environment later.
"""

from chatkeep.config.contradictions import LOCKABLE, LOG_LEVELS, PUBLISHED_SECRETS
from chatkeep.config.providers import OpenIdProvider
from chatkeep.config.reading import read_environment
from chatkeep.config.settings import Settings
from chatkeep.config.sign_in_providers import SignInProvider
from chatkeep.config.values import Environment, Secret

__all__ = [
    "LOCKABLE",
    "LOG_LEVELS",
    "PUBLISHED_SECRETS",
    "Environment",
    "OpenIdProvider",
    "Secret",
    "Settings",
    "SignInProvider",
    "read_environment",
]
