"""Every id of every operation x every role: generated from the OpenAPI document.

An id stands in the path, in the query or in the body. For each of them Ana has a real one;
somebody else must be answered as for one that never was, byte for byte, whatever else of the
request is theirs. A name that looks like an id and is of no kind below fails a test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import UUID, uuid4

import psycopg
import pytest

from chatkeep.administration import administrators
from tests.api_document import DOCUMENT
from tests.gotrue_people import OURS_ALONE, nobody, sign_up, signed_in
from tests.http.test_matrix import BODIES, QUERIES, masked
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

LOOKS_LIKE_AN_ID: Final = re.compile(
    r"(^|_)(ids?|token|cursor|before|after|conversation)$|[a-z]Ids?$"
)
#: What each name is the id of.
KINDS: Final = {
    "conversation_id": "conversation",
    "conversation": "conversation",
    "message_id": "message",
    "messageId": "message",
    "head_id": "message",
    "run_id": "run",
    "share_id": "share",
    "file_id": "file",
    "attachment_id": "file",
    "session_id": "session",
    "key_id": "key",
    "factor_id": "factor",
    "passkey_id": "passkey",
    "identity_id": "identity",
    "user_id": "person",
    "response_id": "response",
    "previous_response_id": "response",
    "item_id": "item",
    "cursor": "cursor",
    "before": "message",
    "after": "item",
}
#: Names that are of another kind, or of none, in one place.
OF_ITS_OWN: Final = {
    ("POST /api/chat", "id"): "conversation",
    ("GET /v1/responses/{response_id}/input_items", "after"): "input item",
    ("GET /auth/v1/admin/audit", "before"): None,  # a number
    ("GET /api/admin/audit", "before"): None,
    ("POST /auth/v1/admin/users", "id"): "person",
    ("PUT /auth/v1/admin/users/{user_id}", "id"): None,  # read, and never believed
}
#: Not ids of anything that somebody has: the caller's own words, and secrets, each with
#: tests of its own.
NO_IDS: Final = {
    *("client_message_id", "challenge_id", "starting_after"),
    *("token", "refresh_token", "access_token", "id_token", "logout_token"),
}
#: With an id that nobody has, each of these makes something under it.
MAKES: Final = {"POST /api/chat", "POST /auth/v1/admin/users"}
#: An administrator may end anybody's session here, as documented.
ENDS_ANY: Final = "/session/revoke"
MALFORMED: Final = ("%00", "..%2F..%2Fetc%2Fpasswd", "'%20OR%20'1'='1", "%F0%9F%92%A9", "x" * 300)
SECRET: Final = "A secret of Ana alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One id of one operation: where it stands, and what it is the id of."""

    operation: str
    place: str
    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.operation} [{self.place} {self.name}]"

    async def call(self, client: Client, value: str, others: dict[str, str]) -> Answer:
        """Send the operation with *value* as this id, and *others* for all else."""
        method, _, path = self.operation.partition(" ")
        address = path
        for name in re.findall(r"{(\w+)}", path):
            mine = self.place == "path" and name == self.name
            found = value if mine else others.get(_kind(self.operation, name) or "", "x")
            address = address.replace(f"{{{name}}}", _in_path(path, name, found))
        if self.place == "query":
            address += f"?{self.name}={_in_path(path, self.name, value)}&q=secret"
        else:
            address += QUERIES.get(path, "")
        body = BODIES.get((method, _template(path)))
        if self.place == "body":
            said = _in_path(path, self.name, value.replace("%00", "\x00"))
            body = {**(body or {}), self.name: said}
            if self.name == "previous_response_id":
                del body["conversation"]  # one of the two says what goes on
        return await client.call(method, address, json=_filled(body, others))


def _template(path: str) -> str:
    """The path as the application has it, where it says more than the document."""
    found = [key[1] for key in BODIES if re.sub(r":path}", "}", key[1]) == path]
    return found[0] if found else path


def _in_path(path: str, name: str, value: str) -> str:
    is_openai = path.startswith("/v1/") and name in {"conversation_id", "conversation"}
    return f"conv_{value}" if is_openai else value


def _filled(body: Any, others: dict[str, str]) -> Any:  # noqa: ANN401 -- JSON can be anything
    if isinstance(body, dict):
        return {name: _filled(value, others) for name, value in body.items()}
    if isinstance(body, str):
        return body.replace("{id}", others.get("conversation", "x"))
    return body


def _members(schema: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for how in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(how, ()):
            yield from _members(one)
    yield from schema.get("properties", {})


def _names() -> Iterator[tuple[str, str, str]]:
    """Every (operation, place, name) that looks like an id."""
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            for one in re.findall(r"{(\w+)}", path):
                yield name, "path", one
            for one in operation.get("parameters", ()):
                if one["in"] == "query" and LOOKS_LIKE_AN_ID.search(one["name"]):
                    yield name, "query", one["name"]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for one in sorted(set(_members(content["schema"]))):
                    if LOOKS_LIKE_AN_ID.search(one):
                        yield name, "body", one


def _kind(operation: str, name: str) -> str | None:
    if (operation, name) in OF_ITS_OWN:
        return OF_ITS_OWN[operation, name]
    return KINDS.get(name)


NAMES: Final = list(_names())
CELLS: Final = [
    Cell(operation=operation, place=place, name=name, kind=kind)
    for operation, place, name in NAMES
    if (kind := _kind(operation, name)) is not None
]
#: Whatever is one person's own: their content, their devices, their keys.
PERSONAL: Final = [
    one for one in CELLS if "/admin/" not in one.operation and one.kind not in {"cursor", "person"}
]


@pytest.mark.parametrize(("operation", "place", "name"), NAMES)
def test_every_id_is_of_a_kind(operation: str, place: str, name: str) -> None:
    """A new one must be given a kind here, and with it a place in the matrix."""
    del place
    known = name in KINDS or name in NO_IDS or (operation, name) in OF_ITS_OWN
    assert known or name == "model", f"{operation}: of what is {name} the id?"


def test_lists_name_nothing_that_is_gone() -> None:
    """Each name, and each operation, is the document's."""
    operations = {one[0] for one in NAMES}
    assert {one[2] for one in NAMES} >= KINDS.keys() | NO_IDS
    assert operations >= MAKES | {operation for operation, _ in OF_ITS_OWN}
    assert {one.kind for one in CELLS} == {*KINDS.values(), *OF_ITS_OWN.values()} - {None}


# --- people and what they have ------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)  # the first node decides whose ids are bare
async def node(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node whose only issuer is its own, so that people have factors, keys and devices."""
    started = await start_node(database.url, session, project, **OURS_ALONE)
    yield started
    await started.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody, and one of everything by its id."""

    client: Client
    ids: dict[str, str]


async def join(node: Node, database: MigratedDatabase) -> Person:
    """Return somebody new who has one of everything."""
    member = await sign_up(nobody(node))
    client = node.nobody(authorization=f"Bearer {member['access_token']}")
    auth = signed_in(nobody(node), member)
    ids = {"person": str(member["user"]["id"]), **await _talk(client)}
    ids["identity"] = (await auth.get("/auth/v1/user")).json["identities"][0]["identity_id"]
    factor = await auth.post("/auth/v1/factors", {"factor_type": "totp", "friendly_name": "f"})
    ids["factor"] = factor.json["id"]
    ids["session"] = (await client.get("/api/sessions")).json["sessions"][0]["id"]
    key = await client.post("/api/keys", {"name": "k", "scopes": ["chat"]})
    ids["key"] = key.json["id"]
    headers = {"content-type": "image/png"}
    file = await client.call("POST", "/api/files?name=a.png", data=b"\x89PNG", headers=headers)
    ids["file"] = file.json["id"]
    ids["passkey"] = _passkey(database, ids["person"])
    return Person(client=client, ids=ids)


async def _talk(client: Client) -> dict[str, str]:
    """A conversation with an answer, a link to it, and an answer of `/v1`."""
    conversation = (await client.post("/api/v1/chat/start", {})).json["conversation_id"]
    said = await client.post(
        "/api/v1/chat/message", {"conversation_id": conversation, "message": SECRET}
    )
    share = await client.post(f"/api/v1/chat/{conversation}/shares", {})
    response = await client.post("/v1/responses", {"model": "fake/model", "input": SECRET})
    await client.post("/api/v1/chat/start", {})
    listed = await client.get("/api/v1/chat?limit=1")
    return {
        "conversation": conversation,
        "message": said.json["message_id"],
        "run": said.json["run_id"],
        "share": share.json["id"],
        "response": response.json["id"],
        "item": (await client.get(f"/v1/conversations/conv_{conversation}/items")).json["data"][0][
            "id"
        ],
        "input item": (await client.get(f"/v1/responses/{response.json['id']}/input_items")).json[
            "data"
        ][0]["id"],
        "cursor": quote(listed.json["next_cursor"]),
    }


def _passkey(database: MigratedDatabase, person: str) -> str:
    passkey = str(uuid4())
    with psycopg.connect(database.admin_url) as admin:
        columns = admin.execute(
            "select column_name, data_type from information_schema.columns where table_name ="
            " 'webauthn_credentials' and is_nullable = 'NO' and column_default is null"
        ).fetchall()
        known: dict[str, object] = {"user_id": person, "id": passkey}
        like: dict[str, object] = {"bytea": passkey.encode(), "bigint": 0, "integer": 0}
        values = {name: known.get(name, like.get(kind, "x")) for name, kind in columns}
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        admin.execute(
            f"insert into chatkeep.webauthn_credentials ({names}) values ({marks})",  # noqa: S608
            list(values.values()),
        )
    return passkey


@pytest.fixture(scope="module")
async def ana(node: Node, database: MigratedDatabase) -> Person:
    """Whose ids everybody tries."""
    return await join(node, database)


@pytest.fixture(scope="module")
async def strangers(node: Node, database: MigratedDatabase) -> dict[str, Person]:
    """Everybody but the owner, by role; each has one of everything too."""
    other, admin, revoked = [await join(node, database) for _ in range(3)]
    await administrators.grant_role(
        node.services.embedded, UUID(admin.ids["person"]), "admin", actor="operator"
    )
    out = await revoked.client.post(
        "/auth/v1/logout", headers={"apikey": node.services.embedded.supabase_keys.publishable}
    )
    assert out.status == 204
    return {
        "other": other,
        "admin": admin,
        "revoked": revoked,
        "anonymous": Person(client=node.nobody(), ids=other.ids),
    }


def never_was(value: str) -> str:
    """Return an id shaped like *value* that nobody has."""
    fresh = iter(uuid4().hex * 4)
    return re.sub(r"[0-9a-f]", lambda _: next(fresh), value, count=64) if value else value


async def belongings(person: Person) -> list[bytes]:
    """Return what somebody has, as their own routes show it."""
    conversation = person.ids["conversation"]
    paths = (
        f"/api/v1/chat/{conversation}/export",
        *("/api/v1/chat", "/api/v1/shares", "/api/keys", "/api/settings"),
        f"/api/files/{person.ids['file']}",
        f"/v1/responses/{person.ids['response']}",
    )
    answers = [await person.client.get(path) for path in paths]
    assert {one.status for one in answers} == {200}
    return [one.body for one in answers]


@dataclass(slots=True, kw_only=True)
class Kept:
    """What Ana had when somebody last tried her ids; nobody may ever change it."""

    seen: list[bytes]


@pytest.fixture(scope="module")
async def kept(ana: Person) -> Kept:
    """What she has before anybody tries."""
    return Kept(seen=await belongings(ana))


# --- the matrix ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["other", "admin", "revoked", "anonymous"])
@pytest.mark.parametrize("cell", PERSONAL, ids=str)
async def test_id_of_another_is_as_one_that_never_was(
    ana: Person, strangers: dict[str, Person], kept: Kept, cell: Cell, role: str
) -> None:
    """To everybody but its owner, among Ana's ids and among their own; and nothing is harmed."""
    if role == "admin" and cell.operation.endswith(ENDS_ANY):
        pytest.skip("it is theirs to do")
    who = strangers[role]
    real = ana.ids[cell.kind]
    for others in (ana.ids, who.ids):
        exists = await cell.call(who.client, real, others)
        missing = await cell.call(who.client, never_was(real), others)
        assert SECRET.encode() not in exists.body
        assert exists.status < 500, exists.text
        if role in {"revoked", "anonymous"} and "anonymous" not in _roles(cell):
            assert exists.status in {401, 403}, exists.text
        if cell.operation in MAKES and role != "revoked":
            assert exists.status in {401, 403, 404, 200}
        else:
            assert masked(exists) == masked(missing), (exists.text, missing.text)
    before, kept.seen = kept.seen, await belongings(ana)
    assert kept.seen == before


def _roles(cell: Cell) -> set[str]:
    """Who may call without being signed in."""
    method, _, path = cell.operation.partition(" ")
    security = DOCUMENT["paths"][path][method.lower()].get("security", [])
    return {"anonymous"} if {} in security else set()


@pytest.mark.parametrize("cell", PERSONAL, ids=str)
async def test_malformed_id_is_refused_or_not_there(
    strangers: dict[str, Person], cell: Cell
) -> None:
    """Never a failure of ours, and never anything of anybody's."""
    who = strangers["other"]
    for value in MALFORMED:
        answer = await cell.call(who.client, value, who.ids)
        assert answer.status < 500, (value, answer.text)
        assert answer.status not in {200, 201} or cell.operation in {
            *MAKES,
            "POST /api/chat/{conversation_id}/stop",
        }, (value, answer.text)


#: What Ana cannot do with what she has: it is in another state, or needs more than an id.
NOT_FIT: Final = {
    "POST /api/v1/chat/{conversation_id}/continue": {409},  # the answer is whole
    "DELETE /api/v1/chat/{conversation_id}/queue/{run_id}": {409},  # nor does it wait
    "POST /support/attachments/{attachment_id}/upload": {400, 413},
    "PUT /support/attachments/{attachment_id}/upload": {400, 413},
    "POST /auth/v1/factors/{factor_id}/verify": {400, 404, 422},
    "DELETE /auth/v1/user/identities/{identity_id}": {422},  # it is the only one
}


@pytest.mark.parametrize("cell", PERSONAL, ids=str)
async def test_owner_reaches_what_is_theirs_and_nothing_that_is_not(
    node: Node, database: MigratedDatabase, cell: Cell
) -> None:
    """The same request that refuses everybody else serves its owner."""
    person = await join(node, database)
    if cell.operation.partition(" ")[2].startswith("/auth/v1/"):
        key = node.services.embedded.supabase_keys.publishable
        person = Person(client=person.client.but(apikey=key), ids=person.ids)
    missing = await cell.call(person.client, never_was(person.ids[cell.kind]), person.ids)
    served = await cell.call(person.client, person.ids[cell.kind], person.ids)
    fits = NOT_FIT.get(cell.operation, {200, 201, 204})
    assert served.status in fits, served.text
    if cell.operation not in MAKES:
        assert missing.status >= 400 or missing.status == 204 or missing.json == {"stopped": None}


@pytest.mark.parametrize("cell", [one for one in CELLS if "/api/admin/" in one.operation], ids=str)
@pytest.mark.parametrize("role", ["other", "revoked", "anonymous"])
async def test_administration_tells_nobody_who_exists(
    ana: Person, strangers: dict[str, Person], cell: Cell, role: str
) -> None:
    """Whoever is no administrator is refused alike for people who exist and who do not."""
    who = strangers[role]
    real = ana.ids.get(cell.kind, "")
    exists = await cell.call(who.client, real, ana.ids)
    missing = await cell.call(who.client, never_was(real), ana.ids)
    assert exists.status in {401, 403}
    assert masked(exists) == masked(missing)


@pytest.mark.parametrize("cell", [one for one in CELLS if one.kind == "cursor"], ids=str)
async def test_cursor_of_another_shows_ones_own(
    ana: Person, strangers: dict[str, Person], cell: Cell
) -> None:
    """A place in somebody else's list is a place in one's own, or refused."""
    who = strangers["other"]
    answer = await cell.call(who.client, ana.ids["cursor"], who.ids)
    assert answer.status in {200, 400, 401, 403, 422}, answer.text
    assert ana.ids["conversation"] not in answer.text
