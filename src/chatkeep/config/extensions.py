"""Settings: what an application hangs in front of, beside and behind the one who answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chatkeep.config import values as read
from chatkeep.config.reading import setting

_ON_FAILURE: Final = read.choice("refuse", "continue")


@dataclass(frozen=True, kw_only=True)
class ExtensionSettings:
    """Checks before and after the model, and retrieval: functions by their import paths."""

    before: str | None = setting("BEFORE", read.import_path)
    before_timeout_s: float = setting("BEFORE_TIMEOUT", read.number(0.1, 120), default=10.0)
    before_on_failure: str = setting("BEFORE_ON_FAILURE", _ON_FAILURE, default="refuse")
    after: str | None = setting("AFTER", read.import_path)
    after_timeout_s: float = setting("AFTER_TIMEOUT", read.number(0.1, 120), default=10.0)
    after_on_failure: str = setting("AFTER_ON_FAILURE", _ON_FAILURE, default="refuse")
    after_sees: str = setting("AFTER_SEES", read.choice("answer", "sentence"), default="answer")
    retriever: str | None = setting("RETRIEVER", read.import_path)
    retriever_timeout_s: float = setting("RETRIEVER_TIMEOUT", read.number(0.1, 120), default=10.0)
    retriever_on_failure: str = setting("RETRIEVER_ON_FAILURE", _ON_FAILURE, default="refuse")


def extension_problems(settings: ExtensionSettings, *, title_model: str | None) -> list[str]:
    """Return what is wrong with them taken together, a sentence each."""
    checks = [name for name in ("BEFORE", "AFTER") if getattr(settings, name.lower())]
    if title_model is None or not checks:
        return []
    return [f"TITLE_MODEL would hear and say what {' and '.join(checks)} did not check: unset it."]
