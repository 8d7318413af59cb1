"""`chatkeep users import`, as somebody runs it who moves here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.command_line import chatkeep

if TYPE_CHECKING:
    from tests.command_line import Done
    from tests.e2e.conftest import Settle

EXPORTS = Path(__file__).parents[1] / "fixtures" / "exports"
USERS = str(EXPORTS / "supabase-users.csv")


async def run(tmp_path: Path, *arguments: str) -> Done:
    """Run the command in a folder with nothing set."""
    return await chatkeep("users", "import", *arguments, cwd=tmp_path)


async def test_import_from_a_file(tmp_path: Path, settle: Settle) -> None:
    """A dry run, the run, and a second one that has nothing to do; each says what it did."""
    settle(tmp_path / ".chatkeep")
    identities = ("--identities", str(EXPORTS / "supabase-identities.csv"))
    said = await run(tmp_path, USERS, "--from", "supabase", *identities, "--dry-run")
    assert said.code == 0, said.err
    assert said.out.startswith("5 would be imported, 0 already here,\n7 would be skipped.\n")
    assert "another account has the address" in said.out
    report = tmp_path / "report.ndjson"
    done = await run(
        tmp_path, USERS, "--from", "supabase", *identities, "--json", "--report", str(report)
    )
    counts = json.loads(done.out)
    assert (counts["imported"], counts["skipped"], counts["dry_run"]) == (5, 7, False)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert {one["result"] for one in lines} == {"imported", "skipped"}
    assert len(lines) == 12
    again = json.loads((await run(tmp_path, USERS, "--from", "supabase", "--json")).out)
    assert (again["imported"], again["already_here"], again["skipped"]) == (0, 5, 7)


async def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    """Wrong options are an exit code of 2, a file that is none one line and 1."""
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for arguments, code, words in (
        (("--from", "supabase"), 2, "Name a file"),
        ((USERS, "--from", "supabase", "--database-url", "postgresql:///x"), 2, "Name a file"),
        (("--from", "auth0", "--database-url", "postgresql:///x"), 2, "is for --from better-auth"),
        ((USERS, "--from", "auth0", "--identities", USERS), 2, "is for --from supabase"),
        ((str(broken), "--from", "auth0"), 1, "is no JSON"),
        ((str(empty), "--from", "auth0"), 1, "There is nobody in it."),
        ((USERS, "--from", "supabase", "--report", "no/where"), 1, "No such file or directory"),
    ):
        done = await run(tmp_path, *arguments)
        assert (done.code, words in done.err) == (code, True), done.err
        assert "Traceback" not in done.err


async def test_report_is_there_before_anybody_is_taken_in(tmp_path: Path, settle: Settle) -> None:
    """A report that cannot be written stops the run, and one of a run that broke off stays."""
    settle(tmp_path / ".chatkeep")
    refused = await run(tmp_path, USERS, "--from", "supabase", "--report", "no/where")
    assert "The report cannot be written" in refused.err
    again = json.loads((await run(tmp_path, USERS, "--from", "supabase", "--json")).out)
    assert (again["imported"], again["already_here"]) == (5, 0)
