"""The reference says what the code does: the two are compared, in both directions."""

from __future__ import annotations

import importlib
import re
import tomllib
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from chatkeep import errors
from chatkeep.cli import _COMMANDS as COMMANDS
from chatkeep.config import Settings
from tests.api_document import DOCUMENT

if TYPE_CHECKING:
    from chatkeep.errors import ChatkeepError

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def error_classes() -> list[type[ChatkeepError]]:
    """List every error of the vocabulary."""
    declared = [one for one in vars(errors).values() if isinstance(one, type)]
    return [one for one in declared if issubclass(one, errors.ChatkeepError)]


def declared_settings() -> list[Field[Any]]:
    """List the fields that an operator can set."""
    return [one for one in fields(Settings) if one.metadata]


def sections(page: Path, level: int) -> dict[str, str]:
    """Return the text below each heading of *level* whose whole text is `code`."""
    pattern = rf"^{'#' * level} `([^`]+)`\n(.*?)(?=^#{{1,{level}}} |\Z)"
    return dict(re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of *page* may say after `#`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_alias(path: str, paths: set[str]) -> str:
    """Return under which path the reference explains a route that has several."""
    bare = path.removeprefix("/api").removeprefix("/auth")
    return f"/auth{bare}" if f"/auth{bare}" in paths else path


def as_written(value: object) -> str:
    """Return a default as an operator would write it in the environment."""
    match value:
        case None | ():
            return "not set"
        case bool():
            return "`on`" if value else "`off`"
        case tuple():
            return f"`{','.join(value)}`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def commands() -> dict[str, click.Command]:
    """Return every command by how it is called; a group stands for those in it."""
    found: dict[str, click.Command] = {}
    for name, place in COMMANDS.items():
        command = importlib.import_module(place).command
        if isinstance(command, click.Group):
            found |= {f"chatkeep {name} {one}": it for one, it in command.commands.items()}
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found[f"chatkeep {name}"] = command
    return found


def test_every_error_code_is_explained() -> None:
    """The reference has one heading for each code and none beside them."""
    explained = sections(REFERENCE / "errors.md", 3)
    assert set(explained) == {error.code for error in error_classes()}


@pytest.mark.parametrize("error", error_classes())
def test_error_status_is_as_explained(error: type[ChatkeepError]) -> None:
    """The explanation of a code begins with the status that goes with it."""
    text = sections(REFERENCE / "errors.md", 3)[error.code]
    assert text.strip().startswith(f"Status {error.status}.")


def test_every_setting_is_explained() -> None:
    """The reference has one heading for each setting and none beside them."""
    explained = sections(REFERENCE / "configuration.md", 3)
    assert set(explained) == {one.metadata["names"][0] for one in declared_settings()}


@pytest.mark.parametrize("setting", declared_settings(), ids=lambda one: one.name)
def test_setting_is_explained_with_its_default(setting: Field[Any]) -> None:
    """The explanation names the default and every other name of the setting."""
    name, *aliases = setting.metadata["names"]
    text = sections(REFERENCE / "configuration.md", 3)[name]
    assert f"Default: {as_written(setting.default)}." in text
    for alias in aliases:
        assert f"`{alias}`" in text


def test_example_environment_names_every_setting() -> None:
    """env.example has one line for each setting, commented out, and none beside them."""
    text = (ROOT / "env.example").read_text(encoding="utf-8")
    named = re.findall(r"^(.*?)([A-Z][A-Z0-9_]+)=", text, re.MULTILINE)
    assert sorted(named) == sorted(("#", one.metadata["names"][0]) for one in declared_settings())


def test_example_environment_shows_the_defaults() -> None:
    """Removing every `#` of env.example changes nothing but what is said explicitly."""
    text = (ROOT / "env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^#([A-Z][A-Z_]+)=(.*)$", text, re.MULTILINE))
    settings = Settings.from_env({name: value for name, value in shown.items() if value})
    assert replace(settings, environment_is_explicit=False) == Settings.from_env({})


def test_every_route_is_explained() -> None:
    """The reference has one heading for each documented route and none beside them."""
    paths = DOCUMENT["paths"]
    routes = {
        f"{method.upper()} {without_alias(path, set(paths))}"
        for path, methods in paths.items()
        for method in methods
    }
    assert set(sections(REFERENCE / "http.md", 3)) == routes


def test_every_command_is_explained() -> None:
    """The reference has one heading for each command and none beside them."""
    assert set(sections(REFERENCE / "cli.md", 3)) == set(commands())


@pytest.mark.parametrize("name", commands())
def test_every_option_is_explained(name: str) -> None:
    """The explanation of a command names its options and none beside them."""
    text = sections(REFERENCE / "cli.md", 3)[name]
    command = commands()[name]
    named = [one for one in command.params if isinstance(one, click.Option)]
    options = {option for one in named for option in one.opts}
    assert set(re.findall(r"^- `(--[a-z-]+)", text, re.MULTILINE)) == options


def test_every_dependency_is_justified() -> None:
    """The reference says why each runtime dependency is there, and of nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[^\w-]", one)[0] for one in project["dependencies"]}
    assert set(sections(REFERENCE / "dependencies.md", 3)) == wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file, and a heading in it, that exist."""
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_can_be_reached(page: Path) -> None:
    """Every page is linked from another one."""
    others = "".join(other.read_text(encoding="utf-8") for other in PAGES if other != page)
    assert page.name == "README.md" or re.search(rf"[(/]{re.escape(page.name)}[)#]", others)
