"""Every request type of ChatKit x every id in it x every role: generated from the package.

The types are those of the union that the installed `chatkit` package reads requests with, and
the ids are the members of their schemas: a new type, or a new id in one, fails here until it
has a place. R01, R02 and R04 of the gateway's attacks are among the cells.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest
from chatkit.types import ChatKitReq
from pydantic import TypeAdapter
from pydantic.json_schema import PydanticJsonSchemaWarning

from tests.chatkit_client import ROUTE, Kit, done_items, said_by_user
from tests.gotrue_people import OURS_ALONE, nobody, sign_up
from tests.http.test_matrix import masked
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

with warnings.catch_warnings():  # of defaults that no JSON has
    warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
    SCHEMA: Final[dict[str, Any]] = TypeAdapter(ChatKitReq).json_schema()
DEFINITIONS: Final[dict[str, Any]] = SCHEMA["$defs"]
#: Members that name something which somebody has.
IDS: Final = {
    "thread_id": "thread",
    "item_id": "item",
    "item_ids": "item",
    "after": "item",
    "attachment_id": "file",
    "attachments": "file",
}
#: Members whose name says "id", and which are the client's own words.
WORDS: Final = {"id"}
#: Sound parameters of each type; ids are put in by their names.
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "threads.create": {"input": said_by_user("Hello", "")},
    "threads.add_user_message": {"thread_id": "", "input": said_by_user("Hello", "")},
    "threads.add_client_tool_output": {"thread_id": "", "result": {}},
    "threads.add_structured_input": {"thread_id": "", "item_id": "", "input": {}},
    "threads.retry_after_item": {"thread_id": "", "item_id": ""},
    "threads.custom_action": {
        "thread_id": "",
        "item_id": "",
        "action": {"type": "x", "payload": {}},
    },
    "threads.sync_custom_action": {
        "thread_id": "",
        "item_id": "",
        "action": {"type": "x", "payload": {}},
    },
    "threads.get_by_id": {"thread_id": ""},
    "threads.list": {"after": ""},
    "threads.update": {"thread_id": "", "title": "Another"},
    "threads.delete": {"thread_id": ""},
    "items.list": {"thread_id": "", "after": ""},
    "items.feedback": {"thread_id": "", "item_ids": "", "kind": "positive"},
    "attachments.create": {"name": "a.png", "size": 1, "mime_type": "image/png"},
    "attachments.delete": {"attachment_id": ""},
    "input.transcribe": {"audio_base64": "AAAA", "mime_type": "audio/webm"},
}
#: What Ana cannot do with what she has, and how she is told: nothing there waits for it, or
#: our own server has no such thing (R04: an action is nobody's until a server knows it).
NOT_FIT: Final = {
    "threads.add_client_tool_output": 409,
    "threads.add_structured_input": 400,
    "threads.custom_action": 400,
    "threads.sync_custom_action": 400,
    "input.transcribe": 400,
}
MALFORMED: Final = ("", "a\x00b", "../../etc/passwd", "' OR '1'='1", "💩", "x" * 5000)
SECRET: Final = "A secret of Ana alone"


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = DEFINITIONS[reference] if reference else schema
    return found


def _types() -> dict[str, dict[str, Any]]:
    """Every request type of the package, with the schema of its parameters."""
    found = {}
    for one in DEFINITIONS.values():
        kind = one.get("properties", {}).get("type", {}).get("const")
        if kind is not None and "params" in one["properties"]:
            found[kind] = _resolved(one["properties"]["params"])
    return found


def _names(schema: dict[str, Any]) -> Iterator[str]:
    """The members of *schema* that look like ids, those of members of members too."""
    for how in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(how, ()):
            yield from _names(_resolved(one))
    if "items" in schema:
        yield from _names(_resolved(schema["items"]))
    for name, member in schema.get("properties", {}).items():
        if re.search(r"(^|_)(ids?|after|before|attachments)$", name):
            yield name
        yield from _names(_resolved(member))


TYPES: Final = _types()
CELLS: Final = [
    (kind, name) for kind, schema in TYPES.items() for name in sorted(set(_names(schema)) - WORDS)
]


def test_every_type_of_the_package_is_here() -> None:
    """As the package's own union counts them; each has sound parameters."""
    mapping = SCHEMA["oneOf"] if "oneOf" in SCHEMA else SCHEMA["anyOf"]
    united = [one for part in mapping for one in (part.get("oneOf") or part.get("anyOf") or [part])]
    assert len(united) == len(TYPES) >= 16
    assert TYPES.keys() == EXAMPLES.keys()
    assert TYPES.keys() >= NOT_FIT.keys()


@pytest.mark.parametrize(("kind", "name"), CELLS)
def test_every_id_is_of_something(kind: str, name: str) -> None:
    """A new one must be given a kind, and with it a place in the matrix."""
    assert name in IDS, f"{kind}: of what is {name} the id?"


# --- people and what they have ------------------------------------------------------------------
#: The first node decides whose ids are bare, so every test has it.
NODE_SETTINGS = OURS_ALONE
pytestmark = pytest.mark.usefixtures("node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with a thread, its first item, and a file that is uploaded."""

    client: Client
    ids: dict[str, str]
    person_id: str = ""


async def join(node: Node) -> Person:
    """Return somebody new."""
    member = await sign_up(nobody(node))
    client = node.nobody(authorization=f"Bearer {member['access_token']}")
    kit = Kit(client)
    thread, events = await kit.create(SECRET)
    made = await kit.call("attachments.create", name="a.png", size=4, mime_type="image/png")
    path = f"/support/attachments/{made.json['id']}/upload"
    raw = {"content-type": "image/png"}
    assert (await client.call("PUT", path, data=b"\x89PNG", headers=raw)).status == 204
    ids = {"thread": thread, "item": done_items(events)[0]["id"], "file": made.json["id"]}
    return Person(client=client, ids=ids, person_id=str(member["user"]["id"]))


@pytest.fixture(scope="module")
async def ana(node: Node) -> Person:
    """Whose ids everybody tries."""
    return await join(node)


@pytest.fixture(scope="module")
async def strangers(node: Node) -> dict[str, Person]:
    """Everybody but the owner, by role."""
    from uuid import UUID  # noqa: PLC0415 -- for this line alone

    from chatkeep.administration import administrators  # noqa: PLC0415 -- as above

    other, admin, revoked = [await join(node) for _ in range(3)]
    await administrators.grant_role(
        node.services.embedded, UUID(admin.person_id), "admin", actor="operator"
    )
    key = {"apikey": node.services.embedded.supabase_keys.publishable}
    assert (await revoked.client.post("/auth/v1/logout", headers=key)).status == 204
    anonymous = Person(client=node.nobody(), ids=other.ids)
    return {"other": other, "admin": admin, "revoked": revoked, "anonymous": anonymous}


def filled(kind: str, ids: dict[str, str]) -> dict[str, Any]:
    """Return sound parameters of *kind*, with *ids* by the names of their members."""

    def put(value: Any, name: str = "") -> Any:  # noqa: ANN401 -- JSON can be anything
        if name == "attachments":
            return [ids[name]] if ids.get(name) else []
        if name == "item_ids":
            return [ids[name]]
        if isinstance(value, dict):
            return {key: put(one, key) for key, one in value.items()}
        return ids.get(name, value) if name in IDS else value

    params = {name: put(value, name) for name, value in EXAMPLES[kind].items()}
    return {"type": kind, "params": {k: v for k, v in params.items() if (k, v) != ("after", "")}}


def by_name(person: Person, kind: str) -> dict[str, str]:
    """Return what a person has, by the members that name it in requests of *kind*."""
    found = {name: person.ids[what] for name, what in IDS.items()}
    found["attachments"] = ""
    found["after"] = person.ids["thread" if kind == "threads.list" else "item"]
    return found


async def asked(person: Person, kind: str, ids: dict[str, str]) -> Answer:
    """Send a request as *person*; a stream is read to its end."""
    return await person.client.post(ROUTE, filled(kind, ids))


def never_was(value: str) -> str:
    """Return an id like *value* that nobody has."""
    return f"{value.partition('_')[0]}_{uuid4().hex}"


async def belongings(person: Person) -> list[bytes]:
    """Return what somebody has, as they are shown it."""
    ids = by_name(person, "")
    kinds = ("threads.get_by_id", "items.list")
    answers = [await asked(person, kind, {**ids, "after": ""}) for kind in kinds]
    answers.append(await person.client.get(f"/api/files/{person.ids['file']}"))
    assert {one.status for one in answers} == {200}
    return [one.body for one in answers]


# --- the matrix ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["other", "admin", "revoked", "anonymous"])
@pytest.mark.parametrize(("kind", "name"), CELLS)
async def test_id_of_another_is_as_one_that_never_was(
    ana: Person, strangers: dict[str, Person], kind: str, name: str, role: str
) -> None:
    """R01: among Ana's ids and among one's own; before any stream begins; nothing is harmed."""
    who = strangers[role]
    real = by_name(ana, kind)[name] or ana.ids["file"]
    before = await belongings(ana)
    for others in (by_name(ana, kind), by_name(who, kind)):
        exists = await asked(who, kind, {**others, name: real})
        missing = await asked(who, kind, {**others, name: never_was(real)})
        assert masked(exists) == masked(missing), (exists.text, missing.text)
        assert SECRET not in exists.text
        if role in {"revoked", "anonymous"}:
            assert (exists.status, exists.json["error"]) == (401, "Invalid or expired JWT token")
        elif name != "after":  # a place in a list is passed over where it is none
            assert exists.status == 404, exists.text
    assert await belongings(ana) == before


@pytest.mark.parametrize(("kind", "name"), CELLS)
async def test_malformed_id_is_refused_before_any_stream(
    strangers: dict[str, Person], kind: str, name: str
) -> None:
    """As JSON with a 4xx; a place in a list is passed over."""
    who = strangers["other"]
    for value in MALFORMED:
        if name in {"after", "attachments"} and not value:
            continue  # none
        answer = await asked(who, kind, {**by_name(who, kind), name: value})
        assert answer.status < 500, (value, answer.text)
        assert name == "after" or answer.status >= 400, (value, answer.text)
        assert "event-stream" not in answer.headers["content-type"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("role", ["owner", "revoked", "anonymous"])
async def test_owner_is_served_by_every_type_and_nobody_without_a_session(
    node: Node, strangers: dict[str, Person], kind: str, role: str
) -> None:
    """Types without any id too: all of them, whoever asks."""
    person = await join(node) if role == "owner" else strangers[role]
    answer = await asked(person, kind, by_name(person, kind))
    expected = NOT_FIT.get(kind, 200) if role == "owner" else 401
    assert answer.status == expected, answer.text


@pytest.mark.parametrize("kind", ["threads.create", "threads.add_user_message"])
@pytest.mark.parametrize(
    "options",
    [{"model": "not/offered"}, {"model": "FAKE/MODEL"}, {"tool_choice": {"id": "no-such-tool"}}],
    ids=json.dumps,
)
async def test_model_or_tool_that_is_not_offered_is_refused(
    start_limited: Node, kind: str, options: dict[str, Any]
) -> None:
    """R02: in every type that carries `inference_options`, and before the question is kept."""
    person = await join(start_limited)
    wish = filled(kind, by_name(person, kind))
    wish["params"]["input"]["inference_options"] = options
    answer = await person.client.post(ROUTE, wish)
    assert answer.status in {400, 422}
    listed = await Kit(person.client).items(person.ids["thread"])
    assert len(listed) == 2


@pytest.fixture
async def start_limited(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that offers one model."""
    offered = {"MODELS": "fake/model", "OPENAI_CHAT_MODEL": "fake/model"}
    started = await start_node(database.url, session, project, **{**OURS_ALONE, **offered})
    yield started
    await started.stop()


def test_types_that_carry_a_model_are_those_that_are_tried() -> None:
    """R02: a new type with `inference_options` must be tried above."""
    carrying = {
        kind for kind, schema in TYPES.items() if "inference_options" in json.dumps(_deep(schema))
    }
    assert carrying == {"threads.create", "threads.add_user_message"}


def _deep(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema* with its immediate members looked up."""
    return {name: _resolved(one) for name, one in schema.get("properties", {}).items()}
