"""People of a real Better Auth move here and sign in with the passwords they had there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import SetupError
from chatkeep.user_imports import Import, better_auth
from tests import identity_providers
from tests.gotrue_people import nobody, sign_in
from tests.identity_providers import INSTALLED, NOT_INSTALLED, PASSWORD

if TYPE_CHECKING:
    import aiohttp

    from tests.postgres_servers import Server
    from tests.serving import Node


async def test_people_of_a_real_better_auth_move_here(
    node: Node, postgres: Server, session: aiohttp.ClientSession
) -> None:
    """Straight from its tables; a second run takes in who came since, and nobody twice."""
    if not INSTALLED.exists():
        pytest.skip(NOT_INSTALLED)
    name = postgres.new_database()
    url = f"postgresql:///{name}?host={postgres.folder}&user=postgres"
    issuer = node.services.embedded
    async with identity_providers.better_auth(postgres, name, session) as server:
        ana = await server.sign_up()
        read = better_auth.arrivals(*better_auth.read_database(url))
        first = await Import(issuer, "better-auth", confirmed=True).run(read)
        bo = await server.sign_up()
        read = better_auth.arrivals(*better_auth.read_database(url))
        second = await Import(issuer, "better-auth", confirmed=True).run(read)
    postgres.drop_database(name)
    assert (first.count("imported"), second.count("imported")) == (1, 1)
    assert second.count("already_here") == 1
    for account in (ana, bo):
        for _ in range(2):
            answer = await sign_in(nobody(node), account.email, PASSWORD)
            assert answer.status == 200, answer.text
        assert answer.json["user"]["app_metadata"]["original_id"] == account.id
        assert (await sign_in(nobody(node), account.email, PASSWORD + "x")).status == 400


async def test_tables_that_are_not_there(postgres: Server) -> None:
    """One sentence says so, without the address."""
    name = postgres.new_database()
    with pytest.raises(SetupError, match="Better Auth cannot be read: relation"):
        better_auth.read_database(f"postgresql:///{name}?host={postgres.folder}&user=postgres")
    postgres.drop_database(name)
