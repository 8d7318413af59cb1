"""The shape of the package: which way imports point, and how large anything may grow.

Every rule is a function from a source folder to a list of complaints, so that the rule
itself is tested on a small folder that breaks it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import chatkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rule = Callable[[list["Module"]], list[str]]

PACKAGE = Path(chatkeep.__file__).parent
MAP = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"

# From the bottom up. A name is a module or folder directly under the package; one that is
# not listed is a concept.
VOCABULARY = {
    *("errors", "config", "principal", "ids", "events", "patience", "request_origin"),
    *("metrics", "outages", "tracing"),
}
FOUNDATIONS = {
    "borrowing",
    "database_errors",
    "db",
    "pipelines",
    "rehearsals",
    "notifications",
    "tokens",
    "devices",
    "token_binding",
    "fetching",
    "kept_connections",
    "jwks",
    "discovery",
    "issuers",
    "llm",
    "sql",
}
SURFACES = {"web"}
PROGRAMS = {"cli", "server", "workers", "__main__"}
LAYERS = ("vocabulary", "foundations", "concepts", "surfaces", "programs")

WEB_FRAMEWORKS = {"fastapi", "starlette"}
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
DEEPEST_FOLDER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file: its dotted name and what it says."""

    name: str
    tree: ast.Module
    lines: int
    is_package: bool
    depth: int

    @property
    def part(self) -> str:
        """The file or folder directly under the package that this belongs to."""
        return ([*self.name.split("."), "", ""])[1]

    @property
    def layer(self) -> int:
        """How high it stands; see LAYERS."""
        return _layer_of(self.part)


@cache
def read_modules(package: Path) -> list[Module]:
    """Read every Python file below *package*."""
    modules = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        names = [package.name, *inside.with_suffix("").parts]
        is_package = names[-1] == "__init__"
        text = path.read_text(encoding="utf-8")
        modules.append(
            Module(
                name=".".join(names[:-1] if is_package else names),
                tree=ast.parse(text),
                lines=len(text.splitlines()),
                is_package=is_package,
                depth=len(inside.parts) - 1,
            )
        )
    return modules


def arrows_going_up(modules: list[Module]) -> list[str]:
    """Name each import of a module that stands higher than the importing one."""
    return [
        f"{module.name} ({LAYERS[module.layer]}) imports {target} ({LAYERS[_layer_of(part)]})"
        for module in modules
        if module.part  # the package itself re-exports and belongs to no layer
        for target, part in _imports_of_ours(module)
        if _layer_of(part) > module.layer
    ]


def circles(modules: list[Module]) -> list[str]:
    """Name each pair of parts that import each other, at any distance."""
    reached = {module.part: set[str]() for module in modules}
    for module in modules:
        reached[module.part] |= {part for _, part in _imports_of_ours(module)} - {module.part}
    for middle, further in reached.items():
        for parts in reached.values():
            if middle in parts:
                parts.update(further)
    return [f"{part} imports itself by a detour" for part in reached if part in reached[part]]


def web_framework_outside_web(modules: list[Module]) -> list[str]:
    """Name each import of FastAPI or Starlette outside `web/`."""
    return [
        f"{module.name} imports {target}"
        for module in modules
        if module.part != "web"
        for target in _imports(module)
        if target.split(".")[0] in WEB_FRAMEWORKS
    ]


def files_too_long(modules: list[Module]) -> list[str]:
    """Name each file that has become a folder's worth."""
    return [f"{module.name}: {module.lines}" for module in modules if module.lines > LONGEST_FILE]


def functions_too_long(modules: list[Module]) -> list[str]:
    """Name each function whose body, without its docstring, is too long to read at once."""
    return [
        f"{module.name}.{node.name}: {length}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := _lines_without_docstring(node)) > LONGEST_FUNCTION
    ]


def modules_without_docstring(modules: list[Module]) -> list[str]:
    """Name each module that does not open with what it is for."""
    return [module.name for module in modules if not ast.get_docstring(module.tree)]


def folders_too_deep(modules: list[Module]) -> list[str]:
    """Name each module that is too many folders down."""
    return [module.name for module in modules if module.depth > DEEPEST_FOLDER]


RULES: tuple[Rule, ...] = (
    arrows_going_up,
    circles,
    web_framework_outside_web,
    files_too_long,
    functions_too_long,
    modules_without_docstring,
    folders_too_deep,
)

DOC = '"""A module."""\n'
BROKEN: dict[Rule, tuple[str, str]] = {
    arrows_going_up: ("db.py", DOC + "from chatkeep.web import app\n"),
    circles: ("principal.py", DOC + "from chatkeep.errors import ChatkeepError\n"),
    web_framework_outside_web: ("runs.py", DOC + "import starlette.requests\n"),
    files_too_long: ("runs.py", DOC + "x = 1\n" * LONGEST_FILE),
    functions_too_long: ("runs.py", DOC + "def f():\n" + "    f()\n" * (LONGEST_FUNCTION + 1)),
    modules_without_docstring: ("runs.py", "x = 1\n"),
    folders_too_deep: ("web/routes/chat/pages/a.py", DOC),
}


@pytest.mark.parametrize("rule", RULES)
def test_package_keeps_its_shape(rule: Rule) -> None:
    """No module of the package breaks the rule."""
    assert rule(read_modules(PACKAGE)) == []


@pytest.mark.parametrize("rule", RULES)
def test_rule_sees_what_breaks_it(rule: Rule, tmp_path: Path) -> None:
    """A small package that breaks one rule is refused by that rule and by no other."""
    package = tmp_path / "chatkeep"
    name, text = BROKEN[rule]
    for path, content in {
        "__init__.py": DOC,
        "errors.py": DOC + "from chatkeep.principal import Principal\n",
        name: text,
    }.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(content, encoding="utf-8")
    assert [other for other in RULES if other(read_modules(package))] == [rule]


@pytest.mark.parametrize(
    ("layer", "parts"), [("vocabulary", VOCABULARY), ("foundations", FOUNDATIONS)]
)
def test_map_names_what_a_layer_has(layer: str, parts: set[str]) -> None:
    """The page for newcomers and the rule above agree."""
    (row,) = re.findall(rf"^\| {layer} \|(.*?)\|", MAP.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)(?:\.py|/)`", row)) == parts


def test_map_names_every_table() -> None:
    """Those that a migration makes and none takes away."""
    made = [
        found
        for path in sorted((PACKAGE / "sql" / "versions").glob("*.py"))
        for found in re.findall(
            r"^create table (?:if not exists )?(\w+)\.(\w+)", path.read_text(), re.MULTILINE
        )
    ]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", MAP.read_text(encoding="utf-8"), re.MULTILINE)
    named = [(schema, one) for schema, tables in rows for one in re.findall(r"`(\w+)`", tables)]
    assert len(made) > 30
    assert sorted(named) == sorted(made)


def _layer_of(part: str) -> int:
    for height, parts in ((0, VOCABULARY), (1, FOUNDATIONS), (3, SURFACES), (4, PROGRAMS)):
        if part in parts:
            return height
    return 2


def _imports_of_ours(module: Module) -> Iterator[tuple[str, str]]:
    for target in _imports(module):
        package, _, rest = target.partition(".")
        part = rest.split(".")[0]
        if package == "chatkeep" and part and part != "__version__":
            yield target, part


def _imports(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = _start_of(node, module)
            # `from package import name` may name a module, so both count.
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _start_of(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    up = node.level - 1 if module.is_package else node.level
    return ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])


def _lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    end = node.end_lineno or node.lineno
    length = end - node.lineno
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length
