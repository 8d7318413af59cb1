"""Several providers of models: their settings, read together and checked together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chatkeep.config import Settings
from chatkeep.config.upstreams import ModelLimit, upstreams_of
from chatkeep.errors import SetupError
from chatkeep.llm.choice import choose_model, default_model_id
from chatkeep.llm.routing import RoutedModel
from chatkeep.policies import Policy
from tests.settings import PRODUCTION

KEY = "sk-nobody-may-see-this"
GROQ = {
    "UPSTREAMS": "openai,groq",
    "OPENAI_API_KEY": KEY,
    "UPSTREAM_GROQ_URL": "https://api.groq.example/openai/v1/",
    "UPSTREAM_GROQ_API_KEY": f"{KEY}-2",
}


def test_without_names_one_provider_answers_as_ever() -> None:
    """OpenRouter goes before OpenAI, and without a key there is none."""
    both = {"OPENROUTER_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    for environ, names in ((both, ["openrouter"]), ({"OPENAI_API_KEY": KEY}, ["openai"]), ({}, [])):
        assert [one.name for one in upstreams_of(Settings.from_env(environ))] == names


def test_each_provider_has_its_own_address_key_models_and_time_outs() -> None:
    """What it has not said of its own is everybody's."""
    settings = Settings.from_env(
        {
            **GROQ,
            "MODEL_CHUNK_TIMEOUT": "7",
            "UPSTREAM_GROQ_FIRST_BYTE_TIMEOUT": "3",
            "UPSTREAM_GROQ_MODELS": "llama-3.1-8b, llama-3.3-70b",
            "UPSTREAM_OPENAI_TIMEOUT": "20",
        }
    )
    openai, groq = upstreams_of(settings)
    assert (openai.url, openai.api_key) == ("https://api.openai.com/v1", KEY)
    assert (openai.total_timeout_s, openai.first_byte_timeout_s) == (20, 60)
    assert (groq.url, groq.api_key) == ("https://api.groq.example/openai/v1", f"{KEY}-2")
    assert (groq.first_byte_timeout_s, groq.between_chunks_timeout_s) == (3, 7)
    assert groq.models == ("llama-3.1-8b", "llama-3.3-70b")
    assert KEY not in repr(settings)


def test_names_roles_and_limits_are_read() -> None:
    """Each in its own short form."""
    settings = Settings.from_env(
        {
            **GROQ,
            "MODEL_ROUTES": "fast = llama@groq | gpt-4o-mini, gpt-4o=gpt-4o@openai",
            "MODELS_FOR_ROLES": "pro=gpt-4o, fast ; staff=*",
            "MODEL_LIMITS": "gpt-4o=max_tokens:100 per_user:2; fast=total:9",
        }
    )
    assert settings.model_routes == (
        ("fast", ("llama@groq", "gpt-4o-mini")),
        ("gpt-4o", ("gpt-4o@openai",)),
    )
    assert settings.models_for_roles == (("pro", ("gpt-4o", "fast")), ("staff", ("*",)))
    assert settings.model_limits == (
        ("gpt-4o", ModelLimit(max_tokens=100, per_user=2)),
        ("fast", ModelLimit(total=9)),
    )


@pytest.mark.parametrize(
    ("more", "default"),
    [
        ({"UPSTREAMS": "groq,openai", "UPSTREAM_GROQ_MODELS": "llama"}, "llama"),
        ({"UPSTREAMS": "openai,groq"}, "gpt-4o-mini"),
        ({"MODELS": "a,b"}, "a"),
        ({"OPENAI_CHAT_MODEL": "c"}, "c"),
    ],
)
def test_default_is_what_is_said_else_the_first_that_there_is(
    more: dict[str, str], default: str
) -> None:
    """Of a provider that nobody knows, its own list says."""
    assert default_model_id(Settings.from_env({**GROQ, **more})) == default


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"UPSTREAMS": "groq"}, "UPSTREAM_GROQ_URL must be set, because UPSTREAMS names groq."),
        ({"UPSTREAMS": "openai"}, "OPENAI_API_KEY must be set, because UPSTREAMS names openai."),
        ({"UPSTREAMS": "Groq"}, "UPSTREAMS must list different names"),
        ({"UPSTREAMS": "openai,openai"}, "UPSTREAMS must list different names"),
        ({"UPSTREAM_GROQ_URL": "https://x.example"}, "UPSTREAM_GROQ_URL belongs to no name in"),
        ({**GROQ, "UPSTREAM_GORQ_API_KEY": KEY}, "UPSTREAM_GORQ_API_KEY belongs to no name in"),
        ({**GROQ, "UPSTREAM_GROQ_APIKEY": KEY}, "UPSTREAM_GROQ_APIKEY is no setting of an"),
        ({**GROQ, "UPSTREAM_OPENAI_URL": "https://x.example"}, "UPSTREAM_OPENAI_URL is no setting"),
        ({**GROQ, "OPENROUTER_API_KEY": KEY}, "UPSTREAMS must name openrouter, because OPENROUTER"),
        ({**GROQ, "UPSTREAM_GROQ_URL": "groq.example"}, "UPSTREAM_GROQ_URL must be an address"),
        ({**GROQ, "UPSTREAM_GROQ_TIMEOUT": "0"}, "UPSTREAM_GROQ_TIMEOUT must be a number from"),
        ({**GROQ, "UPSTREAM_GROQ_KIND": "azure"}, "UPSTREAM_GROQ_KIND must be openrouter or"),
        (
            {**GROQ, "UPSTREAM_GROQ_MODELS": "m", "UPSTREAM_OPENAI_MODELS": "m"},
            "UPSTREAM_GROQ_MODELS and UPSTREAM_OPENAI_MODELS both name m",
        ),
        (
            {**GROQ, "UPSTREAMS": "groq,openai"},
            "OPENAI_CHAT_MODEL must be set: nobody knows what to ask groq for.",
        ),
        ({"MODEL_ROUTES": "a=b"}, "MODEL_ROUTES needs UPSTREAMS"),
        ({**GROQ, "MODEL_ROUTES": "a=b,a=c"}, "MODEL_ROUTES must have each name"),
        ({**GROQ, "MODEL_ROUTES": "a=b|b"}, "MODEL_ROUTES must have each name"),
        ({**GROQ, "MODEL_ROUTES": "a=b|"}, "MODEL_ROUTES must be like fast="),
        ({**GROQ, "MODEL_ROUTES": "a"}, "MODEL_ROUTES must be like fast="),
        ({**GROQ, "MODEL_ROUTES": "a=b\r\nX-Evil: 1"}, "MODEL_ROUTES must be like fast="),
        ({**GROQ, "MODEL_ROUTES": "a=1|2|3|4|5|6"}, "MODEL_ROUTES must have at most 5 models"),
        ({**GROQ, "MODEL_ROUTES": "a=b,c=a"}, "MODEL_ROUTES: c leads to a, which is itself"),
        (
            {**GROQ, "UPSTREAM_GROQ_MODELS": "m", "MODEL_ROUTES": "a=other@groq"},
            "MODEL_ROUTES: a leads to other@groq, which nobody serves.",
        ),
        (
            {"UPSTREAMS": "openai", "UPSTREAM_OPENAI_MODELS": "m", "MODELS": "m,gone"},
            "MODELS: nobody serves gone.",
        ),
        (
            {"UPSTREAMS": "openai", "UPSTREAM_OPENAI_MODELS": "m", "TITLE_MODEL": "gone"},
            "TITLE_MODEL: nobody serves gone.",
        ),
        ({"MODELS_FOR_ROLES": "pro"}, "MODELS_FOR_ROLES must be like pro="),
        ({"MODELS_FOR_ROLES": "pro=a;pro=b"}, "MODELS_FOR_ROLES must have each role once."),
        ({"MODELS_FOR_ROLES": "pro=a b\u0441\u0441"}, "MODELS_FOR_ROLES must be like pro="),
        ({"MODEL_LIMITS": "a=max_tokens"}, "MODEL_LIMITS has a max_tokens that must be a whole"),
        ({"MODEL_LIMITS": "a=per_user:0"}, "MODEL_LIMITS has a per_user that must be a whole"),
        ({"MODEL_LIMITS": "a=often:3"}, "MODEL_LIMITS must be like gpt-4o="),
        ({"MODEL_LIMITS": "a="}, "MODEL_LIMITS must be like gpt-4o="),
        ({"MODEL_LIMITS": "a=total:1;a=total:2"}, "MODEL_LIMITS must have each model once."),
        (
            {**PRODUCTION, **GROQ, "UPSTREAM_GROQ_URL": "http://groq.example"},
            "UPSTREAM_GROQ_URL must be https in production",
        ),
    ],
)
def test_what_is_wrong_is_named(environ: dict[str, str], problem: str) -> None:
    """At the start, by the setting's name, and without a key in it."""
    with pytest.raises(SetupError) as refused:
        Settings.from_env(environ)
    found = refused.value.problems
    assert any(one.startswith(problem) for one in found), found
    assert KEY not in "".join(found)


def test_example_of_the_guide_is_a_good_setting() -> None:
    """Its blocks, taken together, are read without a complaint, and mean what it says."""
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "use-several-models.md"
    blocks = re.findall(r"^```ini\n(.*?)^```", guide.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    environ = dict(line.split("=", 1) for line in lines)
    assert len(environ) == len(lines) > 8
    for others in ({}, PRODUCTION):
        settings = Settings.from_env({**others, **environ})
        assert [one.name for one in upstreams_of(settings)] == ["openai", "groq", "basement"]
        model = choose_model(settings)
        assert isinstance(model, RoutedModel)
        asked = {
            name: [(one.model, one.provider.name) for one in model.targets(name)]
            for name in ("fast", "gpt-4o", "qwen3-32b", "gpt-4o-mini")
        }
        assert asked == {
            "fast": [("llama-3.1-8b-instant", "groq"), ("gpt-4o-mini", "openai")],
            "gpt-4o": [("gpt-4o", "openai")],
            "qwen3-32b": [("qwen3-32b", "basement")],
            "gpt-4o-mini": [("gpt-4o-mini", "openai")],
        }
        policy = Policy.of(settings, default_model=default_model_id(settings))
        assert policy.default_model == "gpt-4o-mini"
        assert policy.seen_by({"pro"}).models == ("gpt-4o", "gpt-4o-mini", "fast")
        assert policy.seen_by({"staff"}).models == ()
        assert policy.longest == {"gpt-4o": 4096}


def test_provider_in_a_private_network_needs_no_https() -> None:
    """Such as a model server beside this one."""
    beside = {"UPSTREAM_GROQ_URL": "http://10.0.0.7:8000/v1"}
    assert upstreams_of(Settings.from_env({**PRODUCTION, **GROQ, **beside}))[1].name == "groq"
