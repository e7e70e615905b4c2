"""Webhooks as values: where they may send to, how one stands after failures, and when a delivery is tried again."""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.webhooks.cause import Cause, caused_by, current_cause
from gateway.webhooks.envelope import Envelopes
from gateway.webhooks.event import RegistryEvent, Trigger
from gateway.webhooks.schedule import ATTEMPTS, FIRST_DELAY, LONGEST_DELAY, delay_after
from gateway.webhooks.signing import parse_key, sign
from gateway.webhooks.webhook import (
    DISABLING,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    TOLERATED,
    AlertStatus,
    Webhook,
    WebhookInvalid,
    check_url,
    names_private_address,
)

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
HOOK = Webhook(1, "uid", None, "https://hooks.example.com:8443/a?secret=1", frozenset({Trigger.PUSH}), NOW)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/x?y=z", "http://192.0.2.7:8080/", "https://[2001:4860::8]/"]
)
def test_a_url_of_the_web_is_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "ftp://a.example/",
            "https://",
            "https://user@a.example/",
            "https://:p@a.example/",
            "https://a.example/#x",
        ),
        *("https://a.example/ x", "https://a.example/\r\nX: y", "https://ä.example/", "https://a.example:0/"),
        f"https://a.example/{'a' * 2048}",
        "https://a.example:99999/",
        "https://1.2.3.999/",
    ],
)
def test_what_is_no_plain_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        check_url(url)
    assert refused.value.attribute == "url" and (not url or url not in str(refused.value))


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://127.0.0.1/", True),
        ("http://[::1]/", True),
        ("http://169.254.169.254/latest", True),
        ("http://10.0.0.1:8080/", True),
        ("http://[::ffff:10.0.0.1]/", True),
        ("http://8.8.8.8/", False),
        ("http://a.example/", False),
    ],
)
def test_an_address_that_is_not_public_is_recognised(url: str, private: bool) -> None:
    assert names_private_address(url) is private


def test_failures_in_a_row_bring_pauses_that_grow_and_in_the_end_disable_a_webhook() -> None:
    hook, pauses = HOOK, []
    for _ in range(DISABLING):
        assert hook.status(NOW) is not AlertStatus.DISABLED
        hook = hook.failed(NOW)
        pauses.append(hook.disabled_until and hook.disabled_until - NOW)
    assert pauses[: TOLERATED - 1] == [None] * (TOLERATED - 1)
    assert pauses[TOLERATED - 1 : TOLERATED + 2] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-2] == LONGEST_PAUSE and pauses[-1] is None
    assert hook.status(NOW) is AlertStatus.DISABLED
    assert hook.succeeded().status(NOW) is AlertStatus.EXECUTABLE


def test_a_pause_ends_by_the_clock() -> None:
    paused = replace(HOOK, failures=TOLERATED - 1).failed(NOW)
    assert paused.status(NOW) is AlertStatus.TEMPORARILY_DISABLED
    assert paused.status(NOW + FIRST_PAUSE) is AlertStatus.EXECUTABLE


def test_delays_double_with_a_random_half_up_to_a_longest_one_and_then_end() -> None:
    for attempts in range(1, ATTEMPTS):
        least, most = delay_after(attempts, 0.0), delay_after(attempts, 1.0)
        assert least is not None and most is not None
        assert least == most / 2 and most == min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempts - 1))
    assert delay_after(ATTEMPTS, 0.5) is None


def test_a_signature_is_that_of_the_standard() -> None:
    key = b"k" * 32
    token = f"whsec_{b64encode(key).decode()}"
    assert parse_key(token) == key
    version, _, signature = sign(parse_key(token), "msg_1", 1700000000, b'{"a":1}').partition(",")
    expected = hmac.new(key, b'msg_1.1700000000.{"a":1}', hashlib.sha256).digest()
    assert version == "v1" and b64decode(signature) == expected


@pytest.mark.parametrize("text", ["", "secret", "whsec_", "whsec_###", f"whsec_{b64encode(b'short').decode()}"])
def test_a_signing_token_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        parse_key(text)
    assert refused.value.attribute == "signing_token"


def test_an_envelope_is_that_of_distribution() -> None:
    cause = Cause("r1", "192.0.2.7", "registry.example.com", "PUT", "docker/27", "alice")
    digest = f"sha256:{'a' * 64}"
    pushed = RegistryEvent(7, NOW, Trigger.PUSH, "team/app", 3, "v1", digest, "application/x", 42, cause)
    deleted = RegistryEvent(8, NOW, Trigger.DELETE, "team/app", 3, None, None)
    first, second = json.loads(Envelopes("https://registry.example.com/", "rg-1").write([pushed, deleted]))["events"]
    again = json.loads(Envelopes("https://registry.example.com", "rg-1").write([pushed]))["events"][0]
    assert first.pop("id") == again["id"] != second["id"]
    assert first == {
        "timestamp": "2025-03-04T05:06:07.000Z",
        "action": "push",
        "target": {
            "mediaType": "application/x",
            "size": 42,
            "digest": digest,
            "length": 42,
            "repository": "team/app",
            "url": f"https://registry.example.com/v2/team/app/manifests/{digest}",
            "tag": "v1",
        },
        "request": {
            "id": "r1",
            "addr": "192.0.2.7",
            "host": "registry.example.com",
            "method": "PUT",
            "useragent": "docker/27",
        },
        "actor": {"name": "alice"},
        "source": {"addr": "registry.example.com", "instanceID": "rg-1"},
    }
    assert (second["action"], second["target"]) == ("delete", {"repository": "team/app"})


def test_a_cause_is_known_within_its_block_alone_and_asked_for_when_it_is_needed() -> None:
    asked: list[int] = []

    def cause() -> Cause:
        asked.append(1)
        return Cause("one")

    with caused_by(cause):
        assert not asked
        assert current_cause().request_id == "one"
    assert current_cause() == Cause() and asked == [1]


def test_what_a_client_sends_is_cut() -> None:
    found = Cause.of("PUT", {"user-agent": "a" * 1000, "host": "h"}, None, None, "b" * 1000)
    assert (len(found.user_agent), found.host, len(found.actor)) == (255, "h", 255)
