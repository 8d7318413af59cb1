"""Titles of conversations: made from what was said first, and what of a model's may be one."""

from __future__ import annotations

import re
import unicodedata

from chatkeep.llm.eliza_script import INTRODUCTION

_LONGEST = 60
#: A title is made from a beginning; looking further would only take time.
_LOOKED_AT = 2000
_CODE = re.compile(r"```.*?(```|$)", re.DOTALL)
# No quantifier here can run past the next bracket: "[[[[…" must not take quadratic time.
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_LINE_MARK = re.compile(r"^[ \t]*(#{1,6}|>|[-*+]|\d{1,3}[.)])[ \t]+", re.MULTILINE)
# Marks around words, not within them: snake_case and 2*3 stay. Each looks back past its own
# kind, so that it is tried once for a row of marks: "****…", too, would take quadratic time.
_WORD_MARK = re.compile(r"`+|~~+|\|+|(?<![\w*])[*_]+(?=\w)|(?<=[^\W_]|[.!?])[*_]+(?!\w)")
_WORD_MARKS = "`~|*_"
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_SENTENCE = re.compile(r".{5,}?([.!?](?=\s|$)|[。？！])")  # noqa: RUF001 -- full-width marks end sentences too
_GREETING = re.compile(
    r"(hi|hey|hello|yo|good (morning|evening|afternoon)|hallo|hola|bonjour|ciao|salut|moin)"
    r"( there| again| everyone| all)?",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"!?\[([^\[\]]*)\]\(\S*")
_TAG = re.compile(r"<[^<>]*>")
_LABEL = re.compile(r"[#*\s]*title\s*:[*\s]*", re.IGNORECASE)
_QUOTES = " \"'`“”„‘’«»「」"  # noqa: RUF001 -- quotation marks are meant
_AFTER_GREETING = re.compile(r"[\s.!,]*$|\s*[.!,]+\s*|\s+(?=[^\W\dA-Z])")


def title_from(question: str, answer: str = "") -> str | None:
    """Return a short title for an exchange, None when nothing said names a subject.

    The question's first sentence, cut at a word after 60 characters; a mere greeting says
    nothing, so then the answer's first sentence is taken, but for how the built-in model
    introduces itself.
    """
    for text in (question, answer.removeprefix(INTRODUCTION)):
        subject = _without_greeting(_plain(text[:_LOOKED_AT]))
        if any(character.isalnum() for character in subject):
            return _cut(_first_sentence(subject))
    return None


def cleaned(said: str) -> str | None:
    """Return the title in what a model *said* when it was asked for one; None if there is none.

    One line of text: no markup, nothing that is not seen, 60 characters at most.
    """
    for line in said[:_LOOKED_AT].splitlines():
        seen = "".join(one for one in line if one == " " or unicodedata.category(one)[0] != "C")
        plain = _TAG.sub("", _ADDRESS.sub(r"\1", _without_label(seen.strip())))
        text = _plain(plain).strip(_QUOTES).rstrip(".。")
        if any(character.isalnum() for character in text):
            return _cut(text)
    return None


def _without_label(line: str) -> str:
    label = _LABEL.match(line)
    return line[label.end() :] if label else line


def _plain(text: str) -> str:
    # Most of it is in hardly any question, and to look for its beginning takes no time.
    if "```" in text:
        text = _CODE.sub(" ", text)
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "\n" in text or not text[:1].isalpha():
        text = _LINE_MARK.sub("", text)
    if any(mark in text for mark in _WORD_MARKS):
        text = _WORD_MARK.sub("", text)
    if "  " in text or not text.isprintable():  # no other space is printable
        text = _SPACE.sub(" ", text)
    return text.strip()


def _without_greeting(text: str) -> str:
    greeting = _GREETING.match(text)
    rest = greeting and _AFTER_GREETING.match(text, greeting.end())
    if not rest:
        return text
    begun = text[rest.end() :]
    return begun[:1].upper() + begun[1:]


def _first_sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return (found.group() if found else text).rstrip(".。")


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    shortened = text[:_LONGEST].rsplit(" ", 1)[0].rstrip(",;:-–—")  # noqa: RUF001 -- an en dash is meant
    return f"{shortened}…"
