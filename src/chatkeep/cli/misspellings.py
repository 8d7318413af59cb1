"""Names in the environment that look like a setting and are none: a letter lost, two swapped.

Nobody reads such a name, so its setting keeps its default without a word. Only near misses
are told: the environment belongs to other programs too.
"""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING

from chatkeep.config import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIKENESS = 0.9
_NAMED_BY_PEOPLE = ("OIDC_", "SIGN_IN_", "UPSTREAM_")


def find_misspellings(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each name in *environ* that nearly names a setting.

    Not where that setting is set as well: then the name is somebody else's.
    """
    known = {
        name
        for one in fields(Settings)
        for name in one.metadata.get("names", ())
        if not name.startswith(_NAMED_BY_PEOPLE)  # any name may stand in these
    }
    meant = {
        name: get_close_matches(name, known, n=1, cutoff=_LIKENESS)
        for name in sorted(environ.keys() - known)
        if not name.startswith(_NAMED_BY_PEOPLE)
    }
    return [
        f"{name} is no setting: did you mean {near[0]}?"
        for name, near in meant.items()
        if near and near[0] not in environ
    ]
