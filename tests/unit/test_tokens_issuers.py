"""The table of issuers: whose token it is, who it speaks for, and how long we remember."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from chatkeep.config import PUBLISHED_SECRETS
from chatkeep.errors import (
    SetupError,
    TokenExpired,
    TokenInvalid,
    TokenNotActive,
    TokenWrongAudience,
)
from chatkeep.issuers import (
    Issuer,
    Issuers,
    StaticKeys,
    check_shared_secret,
    embedded_issuer,
    supabase_issuer,
)
from chatkeep.tokens import KeySet, public_key, read
from tests import forge
from tests.forge import ISS, NOW, RULES, SECRET, claims, header, key_set

OTHER = "https://other.example"
OTHER_SECRET = b"another-secret-of-at-least-32-bytes"


def an_issuer(**changes: object) -> Issuer:
    """Return the issuer that the forger plays: a secret and an ES256 key."""
    issuer = Issuer(
        name="supabase",
        preset="supabase",
        rules=RULES,
        secret=StaticKeys(key_set("HS256")),
        keys=StaticKeys(key_set("ES256")),
        primary=True,
    )
    return replace(issuer, **changes)  # type: ignore[arg-type]


def another_issuer() -> Issuer:
    """Return a second issuer with keys of its own under the same key id."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = public_key(private.public_key(), algorithm="ES256", kid="key-ES256")
    return Issuer(
        name="other",
        preset="supabase",
        rules=replace(RULES, iss=OTHER),
        secret=StaticKeys(KeySet.of_secret(OTHER_SECRET)),
        keys=StaticKeys(KeySet([key])),
    )


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        """Start at the forger's now."""
        self.now = float(NOW)

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def table(*issuers: Issuer, clock: Clock | None = None, **more: Any) -> Issuers:  # noqa: ANN401 -- whatever a table takes
    """Return a table whose clock stands at the forger's now."""
    return Issuers(issuers or (an_issuer(),), clock=clock or Clock(), **more)


async def refuse(issuers: Issuers, token: str, error: type[TokenInvalid] = TokenInvalid) -> None:
    """Expect *token* to be refused with exactly *error*."""
    with pytest.raises(TokenInvalid) as refused:
        await issuers.authenticate(token)
    assert type(refused.value) is error


async def test_principal_says_who_and_from_whom() -> None:
    """Every claim that a principal tells stands where the issuer put it."""
    said = claims(email_verified=True, name="Ana", picture="https://x.example/a.png", jti="t1")
    who = await table().authenticate(forge.forge(payload=said, algorithm="ES256"))
    assert (who.user_id, who.subject, who.issuer) == (said["sub"], said["sub"], "supabase")
    assert (who.session_id, who.token_id) == (said["session_id"], "t1")
    assert (who.email, who.email_verified) == ("ana@example.com", True)
    assert (who.name, who.picture) == ("Ana", "https://x.example/a.png")
    assert (who.role, who.aal, who.credential) == ("authenticated", "aal1", "bearer")
    assert who.issued_at == datetime.fromtimestamp(NOW, UTC)
    assert who.expires_at == datetime.fromtimestamp(NOW + 3600, UTC)
    assert who.claims == said


async def test_token_need_not_say_when_it_was_issued() -> None:
    """`iat` is optional, and then nobody knows."""
    who = await table().authenticate(forge.forge(payload=claims(iat=...)))
    assert who.issued_at is None


async def test_names_are_looked_for_in_user_metadata() -> None:
    """Where an issuer keeps names among what people write themselves, they are found."""
    issuer = supabase_issuer(project_url=None, jwt_secret=SECRET.decode(), production=True)
    more = {"full_name": 7, "name": "Ana", "avatar_url": "https://x.example/a.png"}
    for metadata, name in ((more, "Ana"), ({}, None), (None, None), ("Ana", None)):
        token = forge.forge(payload=claims(user_metadata=metadata))
        assert (await table(issuer).authenticate(token)).name == name


class Closing(StaticKeys):
    """Keys that know whether they were let go of."""

    closed = False

    async def close(self) -> None:
        """Take note."""
        self.closed = True


async def test_closing_closes_every_source_of_keys() -> None:
    """Nothing goes on fetching once the table is closed, whichever issuers have keys."""
    keys = Closing(KeySet())
    await table(replace(another_issuer(), keys=None), an_issuer(keys=keys)).close()
    assert keys.closed
    await table(another_issuer()).close()


async def test_claims_of_a_principal_cannot_be_written() -> None:
    """A principal is shared by every request of its token, so nobody may change it."""
    who = await table().authenticate(forge.forge())
    with pytest.raises(TypeError):
        who.claims["sub"] = "bo"  # type: ignore[index]


@pytest.mark.parametrize(
    "more",
    [
        {"role": "admin"},
        {"is_admin": True},
        {"user_metadata": {"role": "admin", "aal": "aal2", "email_verified": True}},
        {"app_metadata.role": "admin"},
        {"user_metadata.email_verified": True},
        {"email_verified": "true"},
        {"email_verified": 1},
        {"aal": "AAL2"},
        {"aal": ["aal2"]},
    ],
)
async def test_claims_raise_nobody(more: dict[str, object]) -> None:
    """No claim makes more of a person than an ordinary, unverified one."""
    who = await table().authenticate(forge.forge(payload=claims(**more)))
    assert (who.role, who.aal, who.email_verified) == ("authenticated", "aal1", False)


@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "x" * 1025, "", 7, ["Ana"], {"x": 1}, None])
async def test_text_that_cannot_be_kept_counts_as_absent(text: object) -> None:
    """A name that no database could hold locks nobody out, and goes no further."""
    who = await table().authenticate(
        forge.forge(payload=claims(name=text, email=text, picture=text))
    )
    assert (who.name, who.email, who.picture) == (None, None, None)


async def test_joined_emoji_and_persian_names_are_kept() -> None:
    """What joins letters is invisible, yet part of how a name is spelled."""
    for name in ("👩\u200d🚀 Ana", "\u0645\u06cc\u200c\u0631\u0648\u062f"):
        who = await table().authenticate(forge.forge(payload=claims(name=name)))
        assert who.name == name


@pytest.mark.parametrize("session", ["", 1, ["s"], {"s": 1}, "a\x00", "x" * 256, " s"])
async def test_session_id_that_is_no_sound_name_is_refused(session: object) -> None:
    """A session that could not be ended by its id is not taken."""
    await refuse(table(), forge.forge(payload=claims(session_id=session)))


@pytest.mark.parametrize(("session_id", "token_id"), [("s1", None), (None, "t1"), ("s1", "t1")])
async def test_ids_that_a_token_has_are_its_only_ones(
    session_id: str | None, token_id: str | None
) -> None:
    """One id is enough to revoke by; none is made up beside it."""
    said = claims(session_id=session_id, jti=token_id or ...)
    who = await table().authenticate(forge.forge(payload=said))
    assert (who.session_id, who.token_id) == (session_id, token_id)


@pytest.mark.parametrize("level", ["aal1", "aal2"])
async def test_level_of_assurance_is_the_issuers(level: str) -> None:
    """How somebody signed in is what the issuer says it is."""
    assert (await table().authenticate(forge.forge(payload=claims(aal=level)))).aal == level


async def test_token_without_ids_gets_one_that_its_twin_shares() -> None:
    """What is to be revoked is named by what was signed, never by the signature."""
    issuers = table()
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    said = claims(session_id=...)
    token = forge.forge(payload=said, algorithm="ES256")
    signing_input, _, text = token.rpartition(".")
    signature = forge.unsegment(text)
    s = (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    twin = f"{signing_input}.{forge.segment(signature[:32] + s)}"
    who, same = await issuers.authenticate(token), await issuers.authenticate(twin)
    assert who.token_id == hashlib.sha256(signing_input.encode()).hexdigest()
    assert same == who


async def test_secret_and_published_keys_work_side_by_side() -> None:
    """While a project moves from one to the other, both kinds of token are its own."""
    issuers = table()
    for algorithm in ("HS256", "ES256"):
        assert await issuers.authenticate(forge.forge(algorithm=algorithm))


@pytest.mark.parametrize("kid", [..., "anything", "key-ES256"])
async def test_shared_secret_has_any_key_id(kid: object) -> None:
    """There is at most one secret, so a token signed with it may call it what it likes."""
    assert await table().authenticate(forge.forge(header("HS256", kid=kid)))


async def test_public_key_is_no_secret_in_the_mixed_table() -> None:
    """With a secret and published keys in use, a public key still signs nothing."""
    for form in (b"-----BEGIN PUBLIC KEY-----", forge.document(forge.jwk("ES256"))):
        for kid in ("key-ES256", ..., "x"):
            head = header("HS256", kid=kid)
            await refuse(table(), forge.forge(head, sign=forge.hmac_signer(form)))


async def test_algorithm_without_a_key_source_is_refused() -> None:
    """An issuer with a secret only takes nothing else, and the other way round."""
    await refuse(table(an_issuer(keys=None)), forge.forge(algorithm="ES256"))
    await refuse(table(an_issuer(secret=None)), forge.forge())


async def test_keys_never_cross_issuers() -> None:
    """What one issuer signed is worth nothing under the name of another."""
    issuers = table(an_issuer(), another_issuer())
    await refuse(issuers, forge.forge(payload=claims(iss=OTHER), algorithm="ES256"))
    await refuse(issuers, forge.forge(payload=claims(iss=OTHER)))
    await refuse(issuers, forge.forge(sign=forge.hmac_signer(OTHER_SECRET)))
    foreign = forge.forge(payload=claims(iss=OTHER), sign=forge.hmac_signer(OTHER_SECRET))
    assert (await issuers.authenticate(foreign)).issuer == "other"


@pytest.mark.parametrize("iss", ["https://nobody.example", ..., None, 1, [ISS], {}, ""])
async def test_token_of_nobody_we_know_is_refused(iss: object) -> None:
    """An issuer that is not in the table is not asked about."""
    await refuse(table(), forge.forge(payload=claims(iss=iss)))


async def test_issuer_without_address_takes_what_is_nobody_elses() -> None:
    """With the secret alone, `iss` is not known: any but the others' will do."""
    alone = an_issuer(rules=replace(RULES, iss=None), keys=None)
    issuers = table(alone, another_issuer())
    for iss in (..., ISS, "supabase"):
        who = await issuers.authenticate(forge.forge(payload=claims(iss=iss)))
        assert who.issuer == "supabase"
    await refuse(issuers, forge.forge(payload=claims(iss=OTHER)))
    for odd in (None, 1, [OTHER]):
        await refuse(issuers, forge.forge(payload=claims(iss=odd)))


async def test_same_subject_at_two_issuers_is_two_people() -> None:
    """Only the primary issuer's ids stand bare."""
    issuers = table(an_issuer(), another_issuer())
    here = await issuers.authenticate(forge.forge(payload=claims(sub="ana")))
    said = claims(sub="ana", iss=OTHER)
    there = await issuers.authenticate(
        forge.forge(payload=said, sign=forge.hmac_signer(OTHER_SECRET))
    )
    assert (here.user_id, there.user_id) == ("ana", "other:ana")
    assert (here.subject, there.subject) == ("ana", "ana")


@pytest.mark.parametrize(
    "subject", ["other:ana", "supabase:ana", "later:ana", "urn:uuid:6f0f", "a:"]
)
async def test_bare_subject_that_looks_prefixed_is_refused(subject: str) -> None:
    """A primary issuer cannot name somebody at another one, of today or of tomorrow."""
    await refuse(table(an_issuer(), another_issuer()), forge.forge(payload=claims(sub=subject)))


@pytest.mark.parametrize("subject", ["auth0|1", "A:b", "1:2", ":x", "a b:c", "x" * 33 + ":y"])
async def test_bare_subject_that_could_be_no_prefix_is_taken(subject: str) -> None:
    """Only what an issuer could be called counts as a prefix."""
    assert (await table().authenticate(forge.forge(payload=claims(sub=subject)))).user_id == subject


async def test_prefixed_subject_may_look_like_anything() -> None:
    """Behind its own prefix an issuer can be mistaken for no other."""
    issuers = table(an_issuer(primary=False))
    who = await issuers.authenticate(forge.forge(payload=claims(sub="other:ana")))
    assert who.user_id == "supabase:other:ana"


@pytest.mark.parametrize("token", ["0fOyRVonMqRyD20kP9Qi", "", "a" * 9000, "é", "\ud800", "x y"])
async def test_opaque_token_is_none_of_the_tables(token: str) -> None:
    """A credential without dots is no signed token, whoever else may know it."""
    await refuse(table(), token)


# --- what is remembered -----------------------------------------------------------------------


async def test_token_seen_before_is_not_verified_again() -> None:
    """The second time costs a look-up: the very same principal comes back."""
    issuers, token = table(), forge.forge()
    assert await issuers.authenticate(token) is await issuers.authenticate(token)


async def test_remembered_token_ends_when_it_expires() -> None:
    """Memory does not outlive `exp` and the leeway by a moment."""
    clock = Clock()
    issuers, token = table(clock=clock), forge.forge()
    await issuers.authenticate(token)
    clock.now = NOW + 3600 + RULES.leeway_s - 0.001
    assert await issuers.authenticate(token)
    clock.now = NOW + 3600 + RULES.leeway_s
    await refuse(issuers, token, TokenExpired)


async def test_replaced_keys_empty_the_memory() -> None:
    """A key that was taken away is gone at once, for tokens seen before, too."""
    keys = StaticKeys(key_set("ES256"))
    issuers, token = table(an_issuer(keys=keys)), forge.forge(algorithm="ES256")
    await issuers.authenticate(token)
    keys.replace(KeySet())
    await refuse(issuers, token)
    keys.replace(key_set("ES256"))
    assert await issuers.authenticate(token)


async def test_given_keys_can_be_asked_for_directly() -> None:
    """Given keys are a source of keys like any other: they find what they have."""
    keys = StaticKeys(key_set("ES256"))
    here = read(forge.forge(algorithm="ES256")).header
    assert await keys.find(here) == (keys.current(), keys.current().find(here))
    with pytest.raises(TokenInvalid):
        await keys.find(read(forge.forge(header("ES256", kid="other"))).header)


async def test_memory_is_bounded() -> None:
    """However many tokens come, only so many are kept, the oldest going first."""
    issuers = table(max_verified=10)
    tokens = [forge.forge(payload=claims(sub=f"user-{number}")) for number in range(50)]
    for token in tokens:
        await issuers.authenticate(token)
    assert len(issuers._verified) == 10
    for number in (0, 45, 49):
        assert (await issuers.authenticate(tokens[number])).user_id == f"user-{number}"


async def test_memory_is_bounded_for_large_tokens() -> None:
    """Tokens that are full of what their people wrote about themselves displace each other."""
    issuers = table(max_verified_bytes=20_000)
    written: dict[str, object] = {"user_metadata": {"notes": [{}] * 1000}}
    tokens = [forge.forge(payload=claims(sub=f"user-{number}", **written)) for number in range(9)]
    for token in [*tokens, *tokens]:
        await issuers.authenticate(token)
    assert sum(one.token_bytes for one in issuers._verified.values()) <= 20_000
    assert 0 < len(issuers._verified) < 9
    for token in tokens:
        await asyncio.gather(issuers.authenticate(token), issuers.authenticate(token))
    assert issuers._verified_bytes == sum(one.token_bytes for one in issuers._verified.values())


async def test_refused_token_is_not_remembered() -> None:
    """A flood of bad tokens takes no room."""
    issuers = table()
    for number in range(50):
        token = forge.forge(payload=claims(sub=f"user-{number}", aud="other"))
        await refuse(issuers, token, TokenWrongAudience)
    assert not issuers._verified


async def test_tokens_that_begin_alike_are_different_people() -> None:
    """Same header, same first claims, even the same claims in other words: each its own."""
    issuers = table()
    for number in range(200):
        said = {**claims(sub=...), "sub": f"user-{number}"}
        token = forge.forge(payload=said)
        assert (await issuers.authenticate(token)).user_id == f"user-{number}"
        longer = token[:-1] + ("A" if token[-1] != "A" else "E")
        await refuse(issuers, longer)


async def test_each_of_many_requests_at_once_gets_its_own_user() -> None:
    """A thousand requests of a hundred people at once, and nobody is anybody else."""
    issuers = table()
    tokens = {
        f"user-{number}": forge.forge(payload=claims(sub=f"user-{number}")) for number in range(100)
    }
    asked = [name for name in tokens for _ in range(10)]
    found = await asyncio.gather(*(issuers.authenticate(tokens[name]) for name in asked))
    assert [who.user_id for who in found] == asked


# --- how it is set up -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuers", "problem"),
    [
        ((an_issuer(), replace(another_issuer(), name="supabase")), "same name"),
        ((an_issuer(), replace(another_issuer(), rules=RULES)), "same iss"),
        ((an_issuer(), replace(another_issuer(), primary=True)), "primary"),
        ((an_issuer(name="Supa:base"),), "name"),
        ((an_issuer(name=""),), "name"),
    ],
)
def test_issuers_that_cannot_be_told_apart_are_refused(
    issuers: tuple[Issuer, ...], problem: str
) -> None:
    """A table in which a token could belong to two is not made."""
    with pytest.raises(SetupError, match=problem):
        Issuers(issuers)


def test_two_issuers_without_address_are_refused() -> None:
    """Only one can be "whoever is none of the others"."""
    nameless = replace(RULES, iss=None)
    pair = (an_issuer(rules=nameless), replace(another_issuer(), rules=nameless))
    with pytest.raises(SetupError, match="same iss"):
        Issuers(pair)


def test_table_lists_its_issuers() -> None:
    """The issuers can be gone through, in order."""
    assert [one.name for one in table(an_issuer(), another_issuer())] == ["supabase", "other"]


async def test_supabase_with_its_secret_only() -> None:
    """With no address there are no published keys, and the audience is still checked."""
    issuer = supabase_issuer(
        project_url=None, jwt_secret=SECRET.decode(), production=True, primary=True
    )
    issuers = table(issuer)
    assert (await issuers.authenticate(forge.forge())).name == "Ana Example"
    await refuse(issuers, forge.forge(algorithm="ES256"))
    for role in ("anon", "service_role"):
        key = claims(role=role, sub=..., aud=..., session_id=..., iss="supabase")
        await refuse(issuers, forge.forge(payload=key))


def test_supabase_with_its_address_expects_that_issuer() -> None:
    """The address says what `iss` is and where the keys are."""
    issuer = supabase_issuer(
        project_url="https://ref.supabase.co/", jwt_secret=None, production=True
    )
    assert issuer.rules.iss == "https://ref.supabase.co/auth/v1"
    assert issuer.keys.url == "https://ref.supabase.co/auth/v1/.well-known/jwks.json"  # type: ignore[union-attr]
    assert issuer.secret is None


def test_supabase_on_ones_own_machine_is_plain_http() -> None:
    """Outside production the project may be the one that `supabase start` runs."""
    issuer = supabase_issuer(
        project_url="http://127.0.0.1:54321",
        jwt_secret="super-secret-jwt-token-with-at-least-32-characters-long",
        production=False,
    )
    assert issuer.rules.iss == "http://127.0.0.1:54321/auth/v1"


def test_supabase_needs_something_to_verify_with() -> None:
    """Neither address nor secret, or keys over plain HTTP in production, is a mistake."""
    for url, secret, production, problem in (
        (None, None, False, "SUPABASE_PROJECT_URL, SUPABASE_JWT_SECRET"),
        ("http://x.example", None, True, "SUPABASE_PROJECT_URL must be https"),
        (None, "short", False, "SUPABASE_JWT_SECRET: .*32 bytes"),
        (None, "", False, "SUPABASE_JWT_SECRET: .*32 bytes"),
        (None, "super-secret-jwt-token-with-at-least-32-characters-long", True, "published"),
    ):
        with pytest.raises(SetupError, match=problem):
            supabase_issuer(project_url=url, jwt_secret=secret, production=production)


async def test_embedded_issuer_takes_its_own_tokens_only() -> None:
    """Our own tokens say what they are, and end when they say."""
    keys = StaticKeys(key_set("ES256"))
    base = ISS.removesuffix("/auth/v1")
    issuers = table(embedded_issuer(base_url=base, keys=keys, primary=True))
    assert await issuers.authenticate(forge.forge(algorithm="ES256"))
    await refuse(issuers, forge.forge(header("ES256", typ=...), algorithm="ES256"))
    await refuse(issuers, forge.forge())
    late = forge.forge(payload=claims(iat=NOW - 60, exp=NOW), algorithm="ES256")
    await refuse(issuers, late, TokenExpired)


async def test_servers_whose_clocks_differ_take_each_others_tokens() -> None:
    """One that was signed just now, by a clock five seconds ahead; the end is exact."""
    keys = StaticKeys(key_set("ES256"))
    base = ISS.removesuffix("/auth/v1")
    issuers = table(embedded_issuer(base_url=base, keys=keys, primary=True))
    for ahead_s, error in (
        (0, None),
        (1, None),
        (5, None),
        (6, TokenNotActive),
        (60, TokenNotActive),
    ):
        token = forge.forge(payload=claims(iat=NOW + ahead_s), algorithm="ES256")
        if error is None:
            assert await issuers.authenticate(token)
        else:
            await refuse(issuers, token, error)


@pytest.mark.parametrize("production", [False, True])
@pytest.mark.parametrize(
    "secret",
    [
        *("", "short", "x" * 31, "é" * 15, " " * 40, "\t" * 40, "x" * 64, "secret" * 8),
        *(f" {SECRET.decode()}", f"{SECRET.decode()}\n", "changeme" * 4),
    ],
)
def test_weak_shared_secret_is_refused(secret: str, production: bool) -> None:
    """Short, blank, padded or repetitive secrets are refused everywhere, and not quoted."""
    problems = check_shared_secret(secret, production=production)
    assert problems
    assert not secret.strip() or all(secret not in problem for problem in problems)


def test_published_secret_is_refused_in_production_only() -> None:
    """Supabase's default for one's own machine stays good for that."""
    for secret in PUBLISHED_SECRETS:
        assert check_shared_secret(secret, production=False) == []
        assert check_shared_secret(secret, production=True) != []


def test_sound_shared_secret_is_taken() -> None:
    """A random secret has nothing wrong with it."""
    assert check_shared_secret(SECRET.decode(), production=True) == []
