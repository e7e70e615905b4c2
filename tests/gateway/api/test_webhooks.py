"""Webhooks: how they are made, what they are told of, and that no secret of theirs is told to anybody."""

import asyncio
import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.api.webhooks import ATTEMPTS
from gateway.audit.event import EventKind, Subject
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from gateway.wiring.webhooks import telling_webhooks
from tests.gateway.api.rest import REPOSITORIES, URL, Rest, open_rest
from tests.gateway.asgi import Client, scope_of
from tests.gateway.v2.pushing import ROOTS
from tests.parts.canaries import found_below, remember
from tests.parts.ports import HOST
from tests.parts.receiver import Receiver, receiving

PROJECT, GROUP, SERVER = "/projects/team%2Fapp", "/groups/team", ""
NAME = "team/app/web"
PLACES = {PROJECT: "maintainer", GROUP: "root", SERVER: "root"}
KEY = b"a key of thirty-two bytes length"


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data", webhooks={"private_hosts": [HOST]}) as rest:
        yield rest


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def make(rest: Rest, url: str, place: str = PROJECT, **document: Any) -> Any:
    answer = await rest.send_json("POST", f"{place}/hooks", {"url": url, **document}, who=PLACES[place])
    assert answer.status == 201, answer.body
    return json.loads(answer.body)


async def delivered(rest: Rest, path: str) -> Any:
    """The events of a webhook, once all are delivered."""
    for _ in range(400):
        found = await rest.get(path)
        if {event["status"] for event in found} == {"delivered"}:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("they are not delivered")


def actions(receiver: Receiver) -> list[tuple[str, str | None]]:
    """What a receiver was told: the action, and the tag or the digest."""
    events = [event for request in receiver.requests for event in request.events]
    return [(event["action"], event["target"].get("tag") or event["target"].get("digest")) for event in events]


@pytest.mark.parametrize("place", PLACES)
async def test_a_webhook_is_made_shown_changed_and_deleted(rest: Rest, place: str) -> None:
    who = PLACES[place]
    made = await make(rest, "https://hooks.example.com/x", place, name="ci", token="t0ken", registry_pull_events=True)
    assert (made["url"], made["name"], made["token_present"]) == ("https://hooks.example.com/x", "ci", True)
    assert made["enable_ssl_verification"] and made["registry_push_events"] and made["registry_pull_events"]
    assert (made["alert_status"], made["disabled_until"]) == ("executable", None)
    assert ("registry_cache_fill_events" in made) is (place == SERVER)
    assert "t0ken" not in json.dumps(made) and "token" not in made
    one = f"{place}/hooks/{made['id']}"
    assert await rest.get(one, who=who) == made and await rest.get(f"{place}/hooks", who=who) == [made]
    changed = await rest.send_json("PUT", one, {"registry_push_events": False}, who=who)
    assert json.loads(changed.body) == {**made, "registry_push_events": False}
    moved = await rest.send_json("PUT", one, {"url": "https://other.example.com/"}, who=who)
    assert json.loads(moved.body)["token_present"] is False, "the token was meant for another receiver"
    assert (await rest.call("DELETE", one, who=who)).status == 204
    assert await rest.get(one, 404, who=who) == {"message": "404 Hook Not Found"}
    kinds = [EventKind.CREATE, EventKind.UPDATE, EventKind.DELETE]
    noted = [event for kind in kinds for event in rest.noted(kind) if event.subject is Subject.WEBHOOK]
    assert [event.event for event in noted] == [kinds[0], kinds[1], kinds[1], kinds[2]]
    assert "t0ken" not in repr(noted) and "/x" not in repr(noted)


async def test_a_webhook_of_one_place_is_none_of_another(rest: Rest) -> None:
    made = await make(rest, "https://hooks.example.com/", GROUP)
    for place in (PROJECT, SERVER):
        await rest.get(f"{place}/hooks/{made['id']}", 404, who="root")
        assert await rest.get(f"{place}/hooks", who="root") == []
    for id in ("x", "999999", "0"):
        await rest.get(f"{GROUP}/hooks/{id}", 404, who="root")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"url": "ftp://a.example/"},
        {"url": "https://user:pw@a.example/"},
        {"url": "http://169.254.169.254/latest/meta-data"},
        {"url": "http://[::1]:9000/"},
        {"url": "https://a.example/", "signing_token": "short"},
        {"url": "https://1.2.3.999/"},
        {"url": "https://a.example/", "token": "gehe\N{LATIN SMALL LETTER I WITH DIAERESIS}m"},
        {"url": "https://a.example/", "registry_push_events": "perhaps"},
        {"url": "https://a.example/", "name": "a" * 256},
    ],
)
async def test_bad_values_are_refused(rest: Rest, document: dict[str, Any]) -> None:
    answer = await rest.send_json("POST", f"{PROJECT}/hooks", document)
    assert answer.status == 400, answer.body
    assert await rest.get(f"{PROJECT}/hooks") == []


async def test_a_place_has_so_many_webhooks_and_no_more(rest: Rest) -> None:
    for _ in range(100):
        await make(rest, "https://hooks.example.com/")
    answer = await rest.send_json("POST", f"{PROJECT}/hooks", {"url": "https://hooks.example.com/"})
    assert answer.status == 400 and b"100 webhooks already" in answer.body


async def test_pushes_and_deletions_are_told_with_who_and_how_and_are_signed(rest: Rest, receiver: Receiver) -> None:
    signing = f"whsec_{b64encode(KEY).decode()}"
    await make(rest, receiver.url, token="t0ken", signing_token=signing)
    async with telling_webhooks(rest.services, URL):
        digest = await rest.surface.push_image(NAME, "v1")
        [request] = await receiver.wait_for(1)
        id = await rest.id_of(NAME)
        headers = [("User-Agent", "curl/8"), ("X-Request-Id", "one")]
        await rest.call("DELETE", f"{PROJECT}{REPOSITORIES}/{id}/tags/v1", who="developer", headers=headers)
        [_, second] = await receiver.wait_for(2)
    [pushed] = request.events
    assert pushed["action"] == "push" and pushed["actor"] == {"name": "maintainer"}
    assert pushed["request"]["method"] == "PUT" and pushed["request"]["addr"] == "127.0.0.1"
    target = pushed["target"]
    assert (target["repository"], target["tag"], target["digest"]) == (NAME, "v1", digest)
    assert target["url"] == f"{URL}/v2/{NAME}/manifests/{digest}" and target["size"] == target["length"] > 0
    assert target["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert request.headers["content-type"] == "application/vnd.docker.distribution.events.v1+json"
    assert (request.headers["x-gitlab-token"], request.headers["x-gitlab-event"]) == ("t0ken", "Registry Push Hook")
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    [deleted] = second.events
    assert (deleted["action"], deleted["actor"], deleted["target"]["tag"]) == ("delete", {"name": "developer"}, "v1")
    assert deleted["target"]["digest"] == digest and "url" not in deleted["target"]
    assert (deleted["request"]["method"], deleted["request"]["useragent"]) == ("DELETE", "curl/8")
    assert second.headers["webhook-id"] != request.headers["webhook-id"]


async def test_every_way_to_delete_is_told_of(rest: Rest, receiver: Receiver) -> None:
    await make(rest, receiver.url, GROUP)
    one = f"{PROJECT}{REPOSITORIES}"
    async with telling_webhooks(rest.services, URL):
        digest = await rest.surface.push_image(NAME, "v1", "v2")
        await rest.surface.call("DELETE", f"{NAME}/manifests/v2", who="maintainer")
        await rest.surface.call("DELETE", f"{NAME}/manifests/{digest}", who="maintainer")
        layer = await rest.surface.push_blob(NAME, b"alone")
        await rest.surface.call("DELETE", f"{NAME}/blobs/{layer}", who="maintainer")
        await rest.call("DELETE", f"{one}/{await rest.id_of(NAME)}")
        await rest.surface.push_image("team/app/other", "v3")
        await rest.call("DELETE", PROJECT, who="root")
        await receiver.wait_for(9)
    told = actions(receiver)
    assert told[:6] == [
        ("push", "v1"),
        ("push", "v2"),
        ("delete", "v2"),
        ("delete", "v1"),
        ("delete", digest),
        ("delete", layer),
    ]
    assert told[6:] == [("delete", None), ("push", "v3"), ("delete", None)]
    repositories = [event["target"]["repository"] for request in receiver.requests[6:] for event in request.events]
    assert repositories == [NAME, "team/app/other", "team/app/other"]


async def test_a_restored_tag_and_the_same_push_again_are_pushes(rest: Rest, receiver: Receiver) -> None:
    await make(rest, receiver.url)
    async with telling_webhooks(rest.services, URL):
        await rest.surface.push_image(NAME, "v1")
        await rest.surface.push_image(NAME, "v1")
        tag = f"{PROJECT}{REPOSITORIES}/{await rest.id_of(NAME)}/tags/v1"
        await rest.call("DELETE", tag)
        assert (await rest.call("POST", f"{tag}/restore")).status < 300
        await receiver.wait_for(4)
    assert actions(receiver) == [("push", "v1"), ("push", "v1"), ("delete", "v1"), ("push", "v1")]


async def test_who_wants_what_is_told_that_and_no_more(rest: Rest) -> None:
    async with receiving() as pushes, receiving() as pulls, receiving() as elsewhere, receiving() as everywhere:
        await make(rest, pushes.url, registry_delete_events=False)
        await make(rest, pulls.url, GROUP, registry_push_events=False, registry_pull_events=True)
        answer = await rest.send_json("POST", "/projects/team%2Flib/hooks", {"url": elsewhere.url})
        assert answer.status == 201
        await make(rest, everywhere.url, SERVER)
        async with telling_webhooks(rest.surface.services, URL):
            await rest.surface.push_image(NAME, "v1")
            await everywhere.wait_for(1)
            digest = (await rest.surface.call("GET", f"{NAME}/manifests/v1", who="reporter")).headers[
                "docker-content-digest"
            ]
            [pulled] = await pulls.wait_for(1)
            await rest.surface.call("DELETE", f"{NAME}/manifests/v1", who="maintainer")
            await everywhere.wait_for(2)
    assert actions(pushes) == [("push", "v1")] and elsewhere.requests == []
    [event] = pulled.events
    assert (event["action"], event["target"]["digest"], event["target"]["tag"]) == ("pull", digest, "v1")
    assert event["actor"] == {"name": "reporter"} and event["request"]["method"] == "GET"


async def test_what_no_webhook_is_told_of_is_not_written(rest: Rest) -> None:
    await make(rest, "https://hooks.example.com/", registry_push_events=False, registry_delete_events=False)
    await rest.surface.push_image(NAME, "v1")
    async with rest.database() as database, database.read() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM webhook_events")).scalar_one() == 0


async def test_what_happens_while_nobody_tells_of_it_is_told_later(rest: Rest, receiver: Receiver) -> None:
    await make(rest, receiver.url)
    await rest.surface.push_image(NAME, "v1")
    assert receiver.requests == []
    async with telling_webhooks(rest.services, URL):
        await receiver.wait_for(1)
    assert actions(receiver) == [("push", "v1")]


async def test_a_sample_does_not_tell_what_a_name_leads_to_within_the_network(rest: Rest) -> None:
    said = []
    for host in ("localhost", "nowhere.invalid"):  # one leads to loopback, the other one nowhere
        made = await make(rest, f"http://{host}/")
        refused = await rest.call("POST", f"{PROJECT}/hooks/{made['id']}/test/registry_push_events")
        said.append((refused.status, refused.body.replace(host.encode(), b"HOST")))
    assert said[0] == said[1] and said[0][0] == 422 and b"webhooks.private_hosts" in said[0][1]


async def test_a_sample_is_sent_at_once_and_a_success_enables_a_webhook_again(rest: Rest, receiver: Receiver) -> None:
    made = await make(rest, receiver.url)
    one = f"{PROJECT}/hooks/{made['id']}"
    async with rest.database() as database, database.write() as connection:
        await connection.exec_driver_sql("UPDATE webhooks SET failures = 40")
    assert (await rest.get(one))["alert_status"] == "disabled"
    receiver.status = 500
    refused = await rest.call("POST", f"{one}/test/registry_push_events")
    assert refused.status == 422 and b"responded with 500" in refused.body
    receiver.status = 204
    assert (await rest.call("POST", f"{one}/test/registry_delete_events")).status == 201
    assert (await rest.get(one))["alert_status"] == "executable"
    assert [request.events[0]["action"] for request in receiver.requests] == ["push", "delete"]
    assert receiver.requests[0].events[0]["target"]["repository"] == "team/app/sample"
    for trigger in ("push_events", "registry_cache_fill_events"):
        assert (await rest.call("POST", f"{one}/test/{trigger}")).status == 400


async def test_what_a_webhook_was_sent_is_listed_and_sent_again(rest: Rest, receiver: Receiver) -> None:
    made = await make(rest, receiver.url)
    events = f"{PROJECT}/hooks/{made['id']}/events"
    async with telling_webhooks(rest.services, URL):
        await rest.surface.push_image(NAME, "v1", "v2")
        await receiver.wait_for(2)
        second, first = await delivered(rest, events)
        assert (first["trigger"], first["attempts"], first["response_status"]) == ("registry_push_events", 1, "200")
        assert json.loads(first["request_data"])["events"][0]["target"]["tag"] == "v1"
        assert (await rest.get(events, per_page=1, pagination="keyset", cursor=second["id"])) == [first]
        assert (await rest.call("POST", f"{events}/{first['id']}/resend")).status == 201
        [*_, again] = await receiver.wait_for(3)
    assert again.headers["webhook-id"] == receiver.requests[0].headers["webhook-id"] == first["message_id"]
    assert (await rest.call("POST", f"{events}/999999/resend")).status == 404
    await rest.get(f"{PROJECT}/hooks/999999/events", 404)


async def test_no_secret_of_a_webhook_lies_anywhere_in_the_clear(rest: Rest, receiver: Receiver) -> None:
    token, signing = remember("a-token-that-is-secret"), remember(f"whsec_{b64encode(KEY).decode()}")
    made = await make(rest, receiver.url, token=token, signing_token=signing)
    async with telling_webhooks(rest.services, URL):
        await rest.surface.push_image(NAME, "v1")
        await receiver.wait_for(1)
    rest.services.audit.flush()
    for path in ("hooks", f"hooks/{made['id']}", f"hooks/{made['id']}/events"):
        assert token not in json.dumps(await rest.get(f"{PROJECT}/{path}"))
    assert not any(found_below(rest.services.folder.data).values())


@pytest.mark.parametrize("who", ["developer", "reporter"])
async def test_who_may_not_look_after_a_place_sees_no_webhook_of_it(rest: Rest, who: str) -> None:
    made = await make(rest, "https://hooks.example.com/secret-path")
    for place in (PROJECT, GROUP, SERVER):
        for path in ("/hooks", f"/hooks/{made['id']}", f"/hooks/{made['id']}/events"):
            await rest.get(f"{place}{path}", 403, who=who)
    answer = await rest.send_json("POST", f"{PROJECT}/hooks", {"url": "https://a.example/"}, who=who)
    assert answer.status == 403
    await rest.get(f"{GROUP}/hooks", 403, who="maintainer")


async def test_attempts_by_hand_are_limited(rest: Rest) -> None:
    app = create_app(rest.services, ROOTS, RegistryOptions(open_proxy=True))
    headers = [("PRIVATE-TOKEN", rest.tokens["maintainer"])]

    async def again(path: str) -> int:
        target = f"/api/v4/projects/team%2Fapp/hooks/4711/{path}"
        return (await Client(scope_of("POST", target, headers), [b""]).request(app)).status

    assert [await again("events/1/resend") for _ in range(ATTEMPTS)] == [404] * ATTEMPTS
    assert [await again("events/1/resend"), await again("test/registry_push_events")] == [429, 429]
