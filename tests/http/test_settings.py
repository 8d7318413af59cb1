"""A person's settings: read, changed, merged into answers, and seen everywhere at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from chatkeep import preferences
from tests.serving import until

if TYPE_CHECKING:
    from chatkeep.llm.model import Prompt
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node, Person, Stage

ROUTE = "/api/settings"
JSON = {"content-type": "application/json"}
FIELDS = {
    *("temperature", "top_p", "max_tokens", "system_prompt", "default_model", "display_name"),
    *("custom_instructions", "theme", "locale"),
}


async def ask(client: Client, **wishes: object) -> Answer:
    """Ask something, with *wishes* for this one answer."""
    message = {"role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    return await client.post("/api/chat", {"id": "chat", "message": message, **wishes})


async def prompted(client: Client, stage: Stage, **wishes: object) -> Prompt:
    """Return what the model is given when *client* asks something."""
    model = stage.play()
    answer = await ask(client, **wishes)
    assert answer.status == 200, answer.text
    return model.prompts[-1]


# --- read and change ----------------------------------------------------------------------------


async def test_settings_begin_without_a_wish(ana: Person) -> None:
    """Before anything is saved: version 0, no wish, and what that comes to."""
    answer = await ana.client.get(ROUTE)
    assert (answer.status, answer.headers["etag"]) == (200, '"0"')
    settings = answer.json
    assert settings["version"] == 0
    assert {name: settings[name] for name in FIELDS} == dict.fromkeys(FIELDS)
    assert settings["effective"]["model"] == "chatkeep/eliza"
    assert settings["policy"]["temperature"] == {"min": 0, "max": 2}
    assert settings["policy"]["locked"] == []


async def test_change_is_kept_field_by_field(ana: Person) -> None:
    """What is sent changes, null clears, the rest stays; each change has a version."""
    first = await ana.client.patch(ROUTE, {"temperature": 0.5, "display_name": "  Ana  "})
    assert (first.status, first.json["version"], first.headers["etag"]) == (200, 1, '"1"')
    second = await ana.client.patch(ROUTE, {"temperature": None, "theme": "dark"})
    kept = (await ana.client.get(ROUTE)).json
    assert kept == second.json
    assert (kept["temperature"], kept["theme"], kept["display_name"]) == (None, "dark", "Ana")
    assert kept["version"] == 2


async def test_change_of_nothing_is_no_change(ana: Person) -> None:
    """An empty change answers the settings as they are, under the same version."""
    await ana.client.patch(ROUTE, {"theme": "dark"})
    answer = await ana.client.patch(ROUTE, {})
    assert (answer.status, answer.json["version"]) == (200, 1)
    assert (await ana.client.patch(ROUTE, {"version": 7})).status == 412


async def test_settings_are_ones_own(ana: Person, bo: Person) -> None:
    """Ana's change is none of Bo's, and nobody can name somebody else's settings."""
    await ana.client.patch(ROUTE, {"system_prompt": "Secret", "temperature": 0.1})
    settings = (await bo.client.get(ROUTE)).json
    assert (settings["version"], settings["system_prompt"]) == (0, None)
    for field in ("id", "user_id", "owner"):
        answer = await bo.client.patch(ROUTE, {field: ana.id, "temperature": 2})
        assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)
    assert (await ana.client.get(ROUTE)).json["temperature"] == 0.1


async def test_settings_need_a_token(node: Node) -> None:
    """Without a token there are no settings."""
    nobody = node.nobody()
    assert (await nobody.get(ROUTE)).status == 401
    assert (await nobody.patch(ROUTE, {"theme": "dark"})).status == 401
    assert (await nobody.get("/api/models")).status == 401


# --- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [0, 1, 3])
@pytest.mark.parametrize("named", ["member", "header", "bare header"])
async def test_stale_version_is_refused(ana: Person, saved: int, named: str) -> None:
    """A change on top of what was read meanwhile changed is a 412, and does nothing."""
    for number in range(saved):
        await ana.client.patch(ROUTE, {"max_tokens": number + 1})

    async def change(version: int, theme: str) -> Answer:
        body: dict[str, object] = {"theme": theme}
        etag = {"header": f'"{version}"', "bare header": str(version)}
        if named == "member":
            return await ana.client.patch(ROUTE, {**body, "version": version})
        return await ana.client.patch(ROUTE, body, headers={"if-match": etag[named]})

    for wrong in {saved + 1, saved - 1, 0} - {saved, -1}:
        refused = await change(wrong, "light")
        assert (refused.status, refused.json["code"]) == (412, "precondition_failed")
    assert (await ana.client.get(ROUTE)).json["theme"] is None
    changed = await change(saved, "dark")
    assert (changed.status, changed.json["theme"]) == (200, "dark")
    assert changed.json["version"] == saved + 1


async def test_of_parallel_changes_one_wins(ana: Person) -> None:
    """Ten changes on top of one version: one is made, nine are told."""
    for version in (0, 1):
        answers = await asyncio.gather(
            *(
                ana.client.patch(ROUTE, {"max_tokens": number + 1, "version": version})
                for number in range(10)
            )
        )
        assert sorted(one.status for one in answers) == [200] + [412] * 9
        (winner,) = [one.json for one in answers if one.status == 200]
        assert (await ana.client.get(ROUTE)).json == winner


async def test_without_a_version_the_last_one_wins(ana: Person) -> None:
    """Parallel changes of different fields that name no version are all made."""
    fields = {"theme": "dark", "locale": "pt-BR", "max_tokens": 9, "temperature": 1, "top_p": 0.5}
    answers = await asyncio.gather(
        *(ana.client.patch(ROUTE, {name: value}) for name, value in fields.items())
    )
    assert {one.status for one in answers} == {200}
    kept = (await ana.client.get(ROUTE)).json
    assert {name: kept[name] for name in fields} == fields
    assert kept["version"] == 5


@pytest.mark.parametrize("if_match", ["x", '"x"', 'W/"0"', '"0", "1"', "-1", "9" * 30, "²"])
async def test_if_match_that_names_no_version_is_refused(ana: Person, if_match: str) -> None:
    """Anything but a version that was read is a 422."""
    answer = await ana.client.patch(ROUTE, {"theme": "dark"}, headers={"if-match": if_match})
    assert answer.status == 422


async def test_two_versions_that_disagree_are_refused(ana: Person) -> None:
    """`version` and `If-Match` may both be sent, when they say the same; `*` is any."""
    for version, if_match, status in ((0, '"0"', 200), (1, "*", 200), (2, '"1"', 422)):
        body = {"theme": "dark", "version": version}
        answer = await ana.client.patch(ROUTE, body, headers={"if-match": if_match})
        assert answer.status == status


# --- values -------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, ...]] = {
    "temperature": (-0.1, 2.1, True, "0.5", [1], {}),
    "top_p": (0, -1, 1.1, False, "1"),
    "max_tokens": (0, -1, 1.0, 1.5, True, "5", 2**40, 40_000),
    "system_prompt": (5, ["x"], "a\x00b", "x" * 20_001),
    "custom_instructions": (5, "a\x00b", "x" * 20_001),
    "default_model": ("", "a b", "a\r\nb", 5, ["a"], "x" * 300),
    "display_name": ("", " ", "a\nb", "\x1b[1m", "x" * 201, 5),
    "theme": ("blue", "Dark", 1, True),
    "locale": ("", "english", "../x", "en_US", "en-", 5),
    "version": (-1, "0", 1.0, True),
    **dict.fromkeys(("role", "is_admin", "quota", "plan", "api_base", "api_key"), ("x",)),
    **dict.fromkeys(("created_at", "updated_at", "effective", "policy"), ("x",)),
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in REFUSED.items() for value in values],
    ids=lambda one: ascii(one)[:30],
)
async def test_value_that_cannot_be_is_refused_by_field(
    ana: Person, field: str, value: object
) -> None:
    """A 422 names the field and never the value, and nothing of the change is kept."""
    answer = await ana.client.patch(ROUTE, {"display_name": "Kept not", field: value})
    assert (answer.status, answer.json["code"]) == (422, "validation_failed")
    assert [one["field"] for one in answer.json["errors"]] == [field]
    assert (await ana.client.get(ROUTE)).json["version"] == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "true"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "max_tokens"])
async def test_number_that_is_none_is_refused(ana: Person, field: str, number: str) -> None:
    """NaN, infinities and booleans are no numbers, in settings and in a request."""
    raw = f'{{"{field}": {number}}}'.encode()
    saved = await ana.client.call("PATCH", ROUTE, data=raw, headers=JSON)
    assert (saved.status, saved.json["errors"][0]["field"]) == (422, field)
    message = b'"message":{"role":"user","parts":[{"type":"text","text":"Hi"}]}'
    raw = b'{"id":"c",%s,"%s":%s}' % (message, field.encode(), number.encode())
    asked = await ana.client.call("POST", "/api/chat", data=raw, headers=JSON)
    assert (asked.status, asked.json["errors"][0]["field"]) == (422, field)


async def test_several_problems_are_told_together(ana: Person) -> None:
    """One answer names every field that is wrong."""
    body = {"temperature": 9, "theme": "x", "locale": "?"}
    errors = (await ana.client.patch(ROUTE, body)).json["errors"]
    assert {one["field"] for one in errors} == set(body)
    assert all(one["message"] for one in errors)


async def test_limits_are_allowed_values(ana: Person) -> None:
    """The ends of each range belong to it."""
    for body in (
        {"temperature": 0, "top_p": 1, "max_tokens": 1},
        {"temperature": 2, "top_p": 0.001, "max_tokens": 32768},
        {"system_prompt": "x" * 20_000, "locale": "zh-Hant-TW", "theme": "system"},
    ):
        assert (await ana.client.patch(ROUTE, body)).status == 200


# --- how an answer is made ----------------------------------------------------------------------


async def test_request_goes_before_profile_before_defaults(start: StartNode) -> None:
    """Each field on its own: the request's wish, else the person's, else the operator's."""
    node = await start(
        TEMPERATURE="0.1", TOP_P="0.2", MAX_TOKENS="30", SYSTEM_PROMPT="Default.", MODELS="a,b,c"
    )
    ana = node.person().client
    prompt = await prompted(ana, node.stage)
    settings = prompt.settings
    assert (settings.model, settings.temperature, settings.top_p) == ("a", 0.1, 0.2)
    assert (settings.max_tokens, prompt.messages[0].text) == (30, "Default.")
    await ana.patch(ROUTE, {"temperature": 0.0, "default_model": "b", "system_prompt": "Mine."})
    prompt = await prompted(ana, node.stage, max_tokens=50)
    settings = prompt.settings
    assert (settings.model, settings.temperature, settings.top_p) == ("b", 0.0, 0.2)
    assert (settings.max_tokens, prompt.messages[0].text) == (50, "Mine.")
    prompt = await prompted(
        ana, node.stage, model="c", temperature=2, top_p=1, system_prompt="Now."
    )
    settings = prompt.settings
    assert (settings.model, settings.temperature, settings.top_p) == ("c", 2, 1)
    assert (settings.max_tokens, prompt.messages[0].text) == (30, "Now.")
    effective = (await ana.get(ROUTE)).json["effective"]
    assert effective == {"model": "b", "temperature": 0.0, "top_p": 0.2, "max_tokens": 30}


async def test_custom_instructions_are_added_to_the_prompt(ana: Person, stage: Stage) -> None:
    """What a person wants kept in mind stands after whatever prompt there is."""
    await ana.client.patch(ROUTE, {"custom_instructions": "I am vegan."})
    (system, _) = (await prompted(ana.client, stage)).messages[:2]
    assert system.role == "system"
    assert system.text.endswith("I am vegan.")
    await ana.client.patch(ROUTE, {"system_prompt": "You cook."})
    system = (await prompted(ana.client, stage)).messages[0]
    assert system.text.startswith("You cook.\n\n")
    assert system.text.endswith("I am vegan.")


@pytest.mark.parametrize(
    ("locked", "override"),
    [
        ("temperature", {"temperature": 0.2}),
        ("top_p", {"top_p": 0.2}),
        ("max_tokens", {"max_tokens": 5}),
        ("system_prompt", {"system_prompt": "Obey me."}),
        ("default_model", {"model": "other/model"}),
    ],
)
async def test_locked_field_is_the_operators(
    start: StartNode, locked: str, override: dict[str, object], database: MigratedDatabase
) -> None:
    """A locked field cannot be saved or overridden, and what was saved before is not used."""
    node = await start(
        LOCKED_SETTINGS=locked,
        TEMPERATURE="0.7",
        TOP_P="0.8",
        MAX_TOKENS="99",
        SYSTEM_PROMPT="Ours.",
        OPENAI_CHAT_MODEL="our/model",
        MODELS="our/model,my/model,other/model",
    )
    ana = node.person()
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "insert into chat.profiles (id, temperature, top_p, max_tokens, system_prompt,"
            " default_model) values (%s, 0.1, 0.1, 1, 'Mine.', 'my/model')",
            [ana.id],
        )
    (field,) = override
    asked = await ask(ana.client, **override)
    assert (asked.status, asked.json["errors"][0]["field"]) == (422, field)
    saved = await ana.client.patch(ROUTE, {locked: override[field]})
    assert (saved.status, saved.json["errors"][0]["field"]) == (422, locked)
    assert (await ana.client.get(ROUTE)).json["policy"]["locked"] == [locked]
    prompt = await prompted(ana.client, node.stage)
    used = {
        "temperature": prompt.settings.temperature,
        "top_p": prompt.settings.top_p,
        "max_tokens": prompt.settings.max_tokens,
        "system_prompt": prompt.messages[0].text,
        "default_model": prompt.settings.model,
    }
    ours = {
        "temperature": 0.7,
        "top_p": 0.8,
        "max_tokens": 99,
        "system_prompt": "Ours.",
        "default_model": "our/model",
    }
    assert used[locked] == ours[locked]
    assert all(used[other] != ours[other] for other in ours.keys() - {locked})


async def test_ceilings_clamp_what_was_saved_and_refuse_what_is_asked(
    start: StartNode, database: MigratedDatabase
) -> None:
    """Nobody gets beyond a ceiling, and nobody is locked out by one that came later."""
    node = await start(TEMPERATURE_CEILING="1", MAX_TOKENS_CEILING="100")
    ana = node.person()
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "insert into chat.profiles (id, temperature, max_tokens) values (%s, 1.9, 5000)",
            [ana.id],
        )
    settings = (await prompted(ana.client, node.stage)).settings
    assert (settings.temperature, settings.max_tokens) == (1, 100)
    for beyond in ({"temperature": 1.1}, {"max_tokens": 101}):
        (field,) = beyond
        for answer in (await ask(ana.client, **beyond), await ana.client.patch(ROUTE, beyond)):
            assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)
    shown = (await ana.client.get(ROUTE)).json
    assert shown["policy"]["max_tokens"] == {"min": 1, "max": 100}
    assert (shown["temperature"], shown["effective"]["temperature"]) == (1.9, 1)


ODD_MODELS: list[Any] = [
    *("Good/model", "good/model ", " good/model", "good/model:online", "good/model:free"),
    *(
        "g\u043e\u043ed/model",
        "good/model\u200b",
        "good//model",
        "good/model/",
        "auto",
        "openrouter/auto",
    ),
    *("", ["good/model"], {"id": "good/model"}, 5, True, "good/model\n", "good/model,bad/model"),
]


@pytest.mark.parametrize("model", ODD_MODELS, ids=ascii)
async def test_model_must_be_on_the_list_letter_by_letter(listed: Node, model: object) -> None:
    """Nothing but the very ids that the operator lists is asked or saved."""
    ana = listed.person().client
    played = listed.stage.play()
    for answer, field in (
        (await ask(ana, model=model), "model"),
        (await ana.patch(ROUTE, {"default_model": model}), "default_model"),
    ):
        assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)
    assert played.prompts == []


@pytest.fixture
async def listed(start: StartNode) -> Node:
    """A node whose operator lists two models."""
    return await start(MODELS="good/model, other/model", OPENAI_CHAT_MODEL="other/model")


async def test_listed_models_can_be_chosen(listed: Node) -> None:
    """The list is told, and each of it can be asked and saved; null is no wish."""
    ana = listed.person().client
    assert (await ana.get("/api/models")).json == {
        "default": "other/model",
        "models": [
            {"id": "good/model", "name": "good/model"},
            {"id": "other/model", "name": "other/model"},
        ],
    }
    assert (await prompted(ana, listed.stage)).settings.model == "other/model"
    assert (await prompted(ana, listed.stage, model="good/model")).settings.model == "good/model"
    assert (await prompted(ana, listed.stage, model=None)).settings.model == "other/model"
    await ana.patch(ROUTE, {"default_model": "good/model"})
    assert (await prompted(ana, listed.stage)).settings.model == "good/model"


async def test_model_that_is_no_longer_offered_gives_way(
    listed: Node, database: MigratedDatabase
) -> None:
    """A saved model that left the list is the default from then on, not an error."""
    ana = listed.person()
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "insert into chat.profiles (id, default_model) values (%s, 'gone/model')", [ana.id]
        )
    assert (await prompted(ana.client, listed.stage)).settings.model == "other/model"
    assert (await ana.client.get(ROUTE)).json["effective"]["model"] == "other/model"


async def test_last_of_two_equal_members_is_the_one_that_is_checked(listed: Node) -> None:
    """A member sent twice cannot slip past the list."""
    raw = (
        b'{"id":"c","model":"good/model","model":"bad/model",'
        b'"message":{"role":"user","parts":[{"type":"text","text":"Hi"}]}}'
    )
    answer = await listed.person().client.call("POST", "/api/chat", data=raw, headers=JSON)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "model")


# --- seen everywhere ----------------------------------------------------------------------------


async def test_change_counts_for_the_next_request(ana: Person, stage: Stage) -> None:
    """On the node that changed it, the very next answer is made with the new value."""
    for number in range(20):
        await ana.client.patch(ROUTE, {"max_tokens": number + 1})
        assert (await prompted(ana.client, stage)).settings.max_tokens == number + 1


async def test_change_elsewhere_is_seen_at_once(
    node: Node, start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change on another node counts here by its news: the cache would know in an hour."""
    monkeypatch.setattr("chatkeep.preferences._TTL_S", 3600.0)
    other = await start()
    ana = node.person()
    there = ana.client.but(url=other.url)
    for number in range(20):
        assert (await there.get(ROUTE)).status == 200  # is in its cache now
        await ana.client.patch(ROUTE, {"max_tokens": number + 1})

        async def seen(wanted: int = number + 1) -> bool:
            return bool((await there.get(ROUTE)).json["max_tokens"] == wanted)

        await until(seen)


async def test_settings_erased_elsewhere_are_gone_at_once(
    node: Node, start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer is made with them on another node, which has them in its cache."""
    monkeypatch.setattr("chatkeep.preferences._TTL_S", 3600.0)
    other = await start()
    ana = node.person()
    there = ana.client.but(url=other.url)
    await ana.client.patch(ROUTE, {"custom_instructions": "Call me Ana."})
    assert (await there.get(ROUTE)).json["custom_instructions"] == "Call me Ana."
    erased = await ana.client.delete("/api/account/data?confirm=erase")
    assert erased.status == 200, erased.text

    async def gone() -> bool:
        return (await there.get(ROUTE)).json["custom_instructions"] is None

    await until(gone)


async def test_change_by_sql_is_seen_at_once(
    node: Node, ana: Person, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes the row (Supabase's data API, say): nodes are told, its version rises."""
    monkeypatch.setattr("chatkeep.preferences._TTL_S", 3600.0)
    await ana.client.patch(ROUTE, {"theme": "dark"})
    assert (await ana.client.get(ROUTE)).json["version"] == 1
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("update chat.profiles set theme = 'light' where id = %s", [ana.id])

    async def seen() -> bool:
        return bool((await ana.client.get(ROUTE)).json["theme"] == "light")

    await until(seen)
    assert (await ana.client.get(ROUTE)).json["version"] == 2
    assert (await ana.client.patch(ROUTE, {"theme": "dark", "version": 1})).status == 412


async def test_change_is_seen_when_no_news_come(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can listen (behind a pooler), a change counts after the cache's time."""
    now = [0.0]
    monkeypatch.setattr("chatkeep.preferences.time", SimpleNamespace(monotonic=lambda: now[0]))
    here, there = await start(), await start(DATABASE_POOLER="on")
    ana = here.person().client
    elsewhere = ana.but(url=there.url)
    await elsewhere.get(ROUTE)
    await ana.patch(ROUTE, {"theme": "dark"})
    assert (await elsewhere.get(ROUTE)).json["theme"] is None
    now[0] = preferences._TTL_S
    assert (await elsewhere.get(ROUTE)).json["theme"] == "dark"
