"""Names in the environment that look like a setting and are none: a letter lost, two swapped.

Nobody reads such a name, so its setting keeps its default without a word. Only near misses
are told: the environment belongs to other programs too.
"""

from __future__ import annotations

import re
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING

from chatkeep.config import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIKENESS = 0.9
#: What these have under names that people chose was checked when the settings were read.
_UNDER_A_NAME = re.compile(
    r"UPSTREAM_.+|(OIDC|SIGN_IN)_.+_"
    r"(ISSUER|AUDIENCE|CLIENT_ID|CLIENT_SECRET|JWKS_URL|ROLES_CLAIM|SCOPES|HOSTS|TITLE)"
)


def find_misspellings(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each name in *environ* that nearly names a setting.

    Not where that setting is set as well: then the name is somebody else's.
    """
    known = {name for one in fields(Settings) for name in one.metadata.get("names", ())}
    meant = {
        name: get_close_matches(name, known, n=1, cutoff=_LIKENESS)
        for name in sorted(environ.keys() - known)
        if not _UNDER_A_NAME.fullmatch(name)
    }
    return [
        f"{name} is no setting: did you mean {near[0]}?"
        for name, near in meant.items()
        if near and near[0] not in environ
    ]
