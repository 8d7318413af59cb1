"""Titles of conversations, made from what was said first. Never asks a model."""

from __future__ import annotations

import re

_LONGEST = 60
_MARKUP = re.compile(r"```.*?(```|$)|[`*_#>~|]+|!?\[([^\]]*)\]\([^)]*\)", re.DOTALL)
_SPACE = re.compile(r"\s+")
_SENTENCE = re.compile(r"(.+?[.!?。？！])(\s|$)")  # noqa: RUF001 -- full-width marks end sentences too
_GREETING = re.compile(
    r"(hi|hey|hello|yo|good (morning|evening|afternoon)|hallo|hola|bonjour|ciao|salut|moin)"
    r"( there| again| everyone)?[\s.!,]*",
    re.IGNORECASE,
)


def title_from(question: str, answer: str = "") -> str | None:
    """Return a short title for an exchange, None when nothing said names a subject.

    The question's first sentence, cut at a word after 60 characters; a mere greeting says
    nothing, so then the answer's first sentence is taken.
    """
    for text in (question, answer):
        plain = _SPACE.sub(" ", _MARKUP.sub(r"\2", text)).strip()
        subject = _GREETING.sub("", plain, count=1).strip() if _GREETING.match(plain) else plain
        if subject:
            return _cut(_first_sentence(subject))
    return None


def _first_sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return (found.group(1) if found else text).rstrip(".。")


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    shortened = text[:_LONGEST].rsplit(" ", 1)[0].rstrip(",;:-–—")  # noqa: RUF001 -- an en dash is meant
    return f"{shortened}…"
