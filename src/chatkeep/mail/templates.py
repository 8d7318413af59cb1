"""The texts of mail: read when the server starts, and refused then if something is wrong.

A text is a file `<kind>.txt`, or `<kind>.<language>.txt`: lines `Subject:`, `Heading:`,
`Button:` and `Code:`, an empty line, then paragraphs; those after a line `---` are in small
type below the button and the code. `layout.html` is what all mails look like. Placeholders
are `$name` as in `string.Template`, and `$$` is a dollar. Files of MAIL_TEMPLATES replace
ours of the same name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final, get_args

from chatkeep.errors import SetupError
from chatkeep.mail.mails import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: Final[tuple[str, ...]] = get_args(Kind)
#: What a text may name. `$email` is whom the mail goes to.
IN_TEXTS: Final = frozenset(
    {"product", "home", "email", "new_email", "old_email", "provider", "factor"}
)
IN_LAYOUT: Final = frozenset(
    {"language", "subject", "preview", "product", "home", "heading", "content"}
)
LAYOUT: Final = "layout.html"
_OURS: Final = Path(__file__).parent / "templates"
_LINES: Final = frozenset({"Subject", "Heading", "Button", "Code"})
_NEEDED: Final = ("Subject", "Heading")
_FILE = re.compile(r"(?P<kind>[a-z_]+)(\.(?P<language>[a-z]{2,3}))?\.txt")
_LARGEST_BYTES: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What one kind of mail says. *before* and *after* are paragraphs around its button."""

    subject: Template
    heading: Template
    button: Template | None
    code: Template | None
    before: tuple[Template, ...]
    after: tuple[Template, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """Every text by kind and language ("" is the one for everybody), and the layout."""

    texts: Mapping[tuple[str, str], Text]
    layout: Template

    def text(self, kind: Kind, locale: str) -> tuple[Text, str]:
        """Return the text of *kind* for *locale* (RFC 5646) or for everybody, and its language."""
        language = locale.replace("_", "-").partition("-")[0].lower()
        if (kind, language) in self.texts:
            return self.texts[kind, language], language
        return self.texts[kind, ""], "en"


class _Broken(Exception):
    """What is wrong with a file, to follow its name."""


def load_templates(folder: Path | None) -> Templates:
    """Read our texts, and those of *folder* in their place.

    Raises:
        SetupError: one sentence for each file of *folder* that cannot be used.
    """
    problems: list[str] = []
    found = _read(_OURS, problems)
    if folder is not None:
        if not folder.is_dir():
            raise SetupError("MAIL_TEMPLATES must be a folder that can be read.")
        found |= _read(folder, problems)
    if problems:
        raise SetupError(*problems)
    layout = found.pop(LAYOUT)
    texts = {_key(name): _text(content) for name, content in found.items()}
    return Templates(texts=texts, layout=Template(layout))


def _read(folder: Path, problems: list[str]) -> dict[str, str]:
    """Return the checked content of each template in *folder*, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix != ".txt" and path.name != LAYOUT:
            continue
        try:
            found[path.name] = _checked(path)
        except _Broken as broken:
            problems.append(f"The mail template {path.name} {broken}.")
    return found


def _checked(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise _Broken("is too large")
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise _Broken("cannot be read as UTF-8") from None
    if path.name == LAYOUT:
        _require_names(content, IN_LAYOUT)
        if "content" not in Template(content).get_identifiers():
            raise _Broken("has no $content: the mails would be empty")
    else:
        match = _FILE.fullmatch(path.name)
        if match is None or match["kind"] not in KINDS:
            raise _Broken(f"is for no kind of mail: the kinds are {', '.join(KINDS)}")
        _require_names(content, IN_TEXTS)
        _text(content)
    return content


def _require_names(content: str, known: frozenset[str]) -> None:
    template = Template(content)
    if not template.is_valid():
        raise _Broken("has a $ that begins no name: write $$ for a dollar")
    if unknown := sorted(set(template.get_identifiers()) - known):
        offered = ", ".join(f"${name}" for name in sorted(known))
        raise _Broken(f"names ${unknown[0]}, which there is not: choose from {offered}")


def _key(name: str) -> tuple[str, str]:
    kind, *language = name.removesuffix(".txt").split(".")
    return kind, "".join(language)


def _text(content: str) -> Text:
    head, _, body = content.replace("\r\n", "\n").lstrip("\n").partition("\n\n")
    lines = {}
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if not colon or name not in _LINES or not value.strip():
            raise _Broken("must begin with lines such as `Subject: ...`, then an empty line")
        lines[name] = Template(value.strip())
    if missing := [name for name in _NEEDED if name not in lines]:
        raise _Broken(f"has no line `{missing[0]}: ...` at its beginning")
    paragraphs = [" ".join(one.split()) for one in re.split(r"\n\s*\n", body) if one.strip()]
    if not paragraphs:
        raise _Broken("says nothing below its first lines")
    middle = paragraphs.index("---") if "---" in paragraphs else len(paragraphs)
    return Text(
        subject=lines["Subject"],
        heading=lines["Heading"],
        button=lines.get("Button"),
        code=lines.get("Code"),
        before=tuple(map(Template, paragraphs[:middle])),
        after=tuple(map(Template, paragraphs[middle + 1 :])),
    )
