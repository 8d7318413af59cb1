"""The OpenAPI document is correct and complete: schemathesis finds nothing that it does not say."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.api_document import DOCUMENT
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.serving import Node, Person

#: For each operation; `make requests` takes more.
EXAMPLES = os.environ.get("EXAMPLES", "3")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# Rules that no schema can express (a cursor of the list, a version that is still the newest,
# a number within the operator's policy) refuse what looks sound; what is wrong may be too large.
SOUND = ["2xx", "302", "303", "400", "401", "403", "404", "409", "412", "422"]
WRONG = ["400", "401", "403", "404", "405", "409", "413", "415", "422", "431"]
CONFIGURATION = f"""
[checks]
positive_data_acceptance.expected-statuses = {json.dumps(SOUND)}
negative_data_rejection.expected-statuses = {json.dumps(WRONG)}

# With another method the last word is an id of a neighbouring route, and no sound one.
[[operations]]
include-path-regex = "^/api/sessions/revoke-"
checks.unsupported_method.enabled = false

# GET is the page of the web chat that stands at the same address.
[[operations]]
include-path = "/sign-in"
checks.unsupported_method.enabled = false
"""
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


@pytest.mark.timeout(900)  # half a minute on a machine that has nothing else to do
@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing", "stateful"])
async def test_document_says_all_that_happens(
    node: Node, ana: Person, tmp_path: Path, phases: str
) -> None:
    """Generated requests meet no 5xx and no status, type, header or shape that is not described."""
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        *("--config-file", configuration, "run", f"{node.url}/openapi.json"),
        *("--header", f"Authorization: {ana.client.headers['authorization']}"),
        *("--phases", phases, "--max-examples", EXAMPLES),
        *("--request-timeout", str(PATIENCE_S)),
        # One worker: Python 3.11 cannot parse in two threads at once, as hypothesis does.
        *("--seed", "1", "--generation-database", "none", "--workers", "1", "--no-color"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_explains_itself(name: str) -> None:
    """Each has a summary, a description and a tag, and every answer and parameter is described."""
    operation = OPERATIONS[name]
    assert 5 < len(operation["summary"]) < 100
    assert operation["description"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    assert operation["operationId"]
    assert all(one["description"] for one in operation["responses"].values())
    for parameter in operation.get("parameters", ()):
        assert parameter.get("description") or parameter["name"] in {"limit", "format"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_says_who_may_call(name: str) -> None:
    """A bearer is asked for exactly where there is a 401; optional where anonymous chat is."""
    operation = OPERATIONS[name]
    security = operation.get("security", [])
    assert ({"bearer": []} in security) == ("401" in operation["responses"]) or not security
    assert ({} in security) == (
        name in {"POST /api/chat", "GET /api/chat/{conversation_id}/stream"}
    )
    assert "security" not in DOCUMENT


def test_ids_of_operations_are_their_own() -> None:
    """Clients that are generated name their functions by these."""
    ids = [one["operationId"] for one in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)


def test_schemas_have_names_of_their_own() -> None:
    """Clients that are generated name their types by these; two alike are told by their files."""
    assert [name for name in DOCUMENT["components"]["schemas"] if "__" in name] == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_errors_have_the_shape_of_their_surface(name: str) -> None:
    """Problems everywhere; under `/auth/v1` and `/v1` also what the clients of each expect."""
    for status, response in OPERATIONS[name]["responses"].items():
        if status[0] in "45":
            content = response["content"]
            if "/auth/v1/" in name:
                assert content["application/json"]["schema"]["required"] == ["code"]
            elif " /v1/" in name:
                assert content["application/json"]["schema"]["required"] == ["error"]
            else:
                schema = content["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503"})


def test_nothing_of_the_framework_shows() -> None:
    """FastAPI's own wording of a 422 is not ours, so it is not described."""
    assert not {"HTTPValidationError", "ValidationError"} & DOCUMENT["components"]["schemas"].keys()
    assert "HTTPValidationError" not in str(DOCUMENT["paths"])
    assert DOCUMENT["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
