"""What the accounts say of people whose tokens lack a claim."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from chatkeep.claims import accounts_source
from tests.signing_in import open_test_issuer, sign_up

if TYPE_CHECKING:
    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase


@pytest.mark.parametrize("primary", [True, False])
async def test_only_people_of_this_server_are_known(
    db: Database, database: MigratedDatabase, primary: bool
) -> None:
    """By the id that they have here; the same id bare or prefixed is somebody else's."""
    issuer = await open_test_issuer(db, primary=primary)
    grants = [await sign_up(issuer) for _ in range(2)]
    issuer.close()
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            'update chatkeep.users set user_metadata = \'{"role": "admin"}\','
            " app_metadata = jsonb_build_object('companyId', 'of ' || email)"
        )
    bare = [str(grant.user.id) for grant in grants]
    prefixed = [f"embedded:{one}" for one in bare]
    known, strangers = (bare, prefixed) if primary else (prefixed, bare)
    source = accounts_source(db, issuer.issuer)
    others = [str(uuid4()), f"supabase:{bare[0]}", "ana", "", bare[0].upper(), f"{{{bare[0]}}}"]
    assert await source([*known, *strangers, *others]) == {
        user_id: {"companyId": f"of {grant.user.email}", "email": grant.user.email}
        for user_id, grant in zip(known, grants, strict=True)
    }
    assert await source(others) == {}
