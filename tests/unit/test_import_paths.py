"""What an application's own module is refused with: which name to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from chatkeep.errors import SetupError
from chatkeep.import_paths import load_object

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (None, "tools", "there is no module {module}, neither installed nor in {folder}."),
        ("tolls = 1", "tools", "{module} has no tools."),
        ("import a_package_that_nobody_has", "tools", "no module a_package_that_nobody_has,"),
        ("raise ValueError('a secret')", "tools", "`python -c 'from {module} import tools'` says"),
        ("tools = None.nothing", "tools", "`python -c 'from {module} import tools'` says why."),
    ],
)
def test_refusal_says_what_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, name: str, said: str
) -> None:
    """The setting, the path and the missing name; nothing of what the module itself says."""
    module = f"shop_{uuid4().hex}"
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / f"{module}.py").write_text(content, encoding="utf-8")
    with pytest.raises(SetupError) as refused:
        load_object("TOOLS", f"{module}:{name}")
    (problem,) = refused.value.problems
    assert problem.startswith(f"TOOLS: {module}:{name} cannot be imported (")
    assert said.format(module=module, folder=tmp_path) in problem
    assert "a secret" not in problem


def test_refusal_of_our_own_keeps_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declaration that cannot work says itself what is wrong with it."""
    module = f"shop_{uuid4().hex}"
    monkeypatch.chdir(tmp_path)
    said = "from chatkeep.errors import SetupError\nraise SetupError('two versions', 'no claim')"
    (tmp_path / f"{module}.py").write_text(said, encoding="utf-8")
    with pytest.raises(SetupError) as refused:
        load_object("CLAIMS", f"{module}:versions")
    assert refused.value.problems == ("two versions", "no claim")
