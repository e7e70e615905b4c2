"""What a client may not know of is answered as if it were not there: in the same words, and without its path."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.api.rest import Rest, open_rest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("hidden") / "data") as rest:
        yield rest


async def sent(rest: Rest, method: str, path: str, document: dict[str, Any], who: str) -> tuple[int, Any]:
    answer = await rest.send_json(method, path, document, who=who)
    return answer.status, json.loads(answer.body)


async def test_a_hidden_namespace_is_refused_as_one_that_does_not_exist(rest: Rest) -> None:
    hidden = (await rest.get("/groups/closed", who="root"))["id"]
    for there, absent in (("closed", "nowhere"), ("closed%2Fnew", "closed%2Fold"), ("root", "rooot"), (hidden, 4711)):
        told = [await rest.get(f"/namespaces/{one}", 404, who="stranger") for one in (there, absent)]
        assert told[0] == told[1]
    own = (await sent(rest, "POST", "/projects", {"path": "own"}, "stranger"))[1]["id"]
    for there, absent in ((hidden, 4711), ("closed", "nowhere")):
        moved = [
            await sent(rest, "PUT", f"/projects/{own}/transfer", {"namespace": one}, "stranger")
            for one in (there, absent)
        ]
        assert moved[0] == moved[1] and moved[0][0] == 404
    made = [
        await sent(rest, "POST", "/projects", {"path": "x", "namespace_id": one}, "stranger") for one in (hidden, 4711)
    ]
    assert made[0] == made[1] and made[0][0] == 404


async def test_an_old_path_does_not_tell_where_a_project_has_gone(rest: Rest) -> None:
    assert (await sent(rest, "PUT", "/projects/team%2Flib/transfer", {"namespace": "closed"}, "root"))[0] == 200
    team = (await rest.get("/groups/team"))["id"]
    for method, path, document in (
        ("POST", "/projects", {"path": "lib", "namespace_id": team}),
        ("PUT", "/projects/team%2Fapp", {"path": "lib"}),
    ):
        code, told = await sent(rest, method, path, document, "maintainer")
        assert code == 400 and "its old path still leads there" in told["message"]["path"][0]
        assert "closed" not in json.dumps(told)
    code, told = await sent(rest, "POST", "/groups", {"path": "lib", "parent_id": team}, "root")
    assert code == 400 and "closed" not in json.dumps(told)
