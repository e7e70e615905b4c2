"""Forged and malformed credentials at a running server: one refusal for all of them, at once, and nothing fetched."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.bearer_tokens import Backing, TokenService
from gateway.keys.sealing import Sealer
from gateway.keys.signing import SigningKeys
from gateway.namespaces.credentials import PREFIXES, CredentialKind, CredentialRef
from tests.parts import raw
from tests.parts.canaries import found_below, found_in, remember
from tests.parts.gateway import Gateway
from tests.parts.liar import Liar

from .kept import (
    Answer,
    Kept,
    basic,
    bearer,
    claims_of,
    request_by_get,
    request_by_post,
    request_by_refresh,
    scope,
    token_of,
)
from .tree import PASSWORD, Login, Planter, run

IMAGE = "ann/app/image"
TARGETS = ("/v2/", f"/v2/{IMAGE}/manifests/latest")
LONGEST = 2.0
"""Seconds for one refusal; what is expensive to check takes far longer, also on a fast machine."""

Signer = Callable[[bytes], bytes]
Change = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """The server, the key by which it signs, and the claims of a token that it issued."""

    server: Gateway
    key: Ed25519PrivateKey
    key_id: str
    claims: dict[str, Any]
    personal: Login
    ended: dict[str, Login]


async def _plant(planter: Planter) -> tuple[Login, dict[str, Login]]:
    await planter.user("adele", admin=True)
    ann, blocked = await planter.user("ann"), await planter.user("bill", blocked=True)
    project = await planter.project("ann/app")
    ended = {
        "expired": await planter.personal(ann, ["api"], expired=True),
        "revoked": await planter.personal(ann, ["api"], revoked=True),
        "is blocked": await planter.personal(blocked, ["api"]),
        "was finished": (await planter.job(project, ann, finished=True))[0],
        "another user name": Login(0, "somebody", (await planter.deploy(project.key, ["read_registry"])).secret),
    }
    return await planter.personal(ann, ["api"]), ended


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Setting]:
    server = Gateway(tmp_path_factory.mktemp("forged"), {"workers": 2})
    personal, ended = run(server.data, _plant)
    server.start()
    with Kept(server.port) as client:
        token = token_of(request_by_get(client, "ann", personal.secret, [scope(IMAGE)]))
    signing = SigningKeys(server.data / "keys").current(datetime.now(UTC))
    yield Setting(server, signing.private, signing.id, claims_of(token), personal, ended)
    server.kill()
    shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
    assert not any(shown.values()), f"secrets show in {shown}"


@pytest.fixture
def client(setting: Setting) -> Iterator[Kept]:
    with Kept(setting.server.port) as client:
        yield client


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make(header: object, claims: object, sign: Signer) -> str:
    parts = [encode(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)]
    signed = ".".join(parts)
    return f"{signed}.{encode(sign(signed.encode()))}"


def forged_tokens(setting: Setting, url: str) -> dict[str, str]:
    """Tokens of which none is the server's, by what is wrong with them. `url`: of keys that nobody may fetch."""
    ours, foreign = setting.key.sign, Ed25519PrivateKey.generate()
    public = setting.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = setting.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, claims, now = {"alg": "EdDSA", "typ": "JWT", "kid": setting.key_id}, setting.claims, int(time.time())
    own = claims["backing"]
    jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": setting.key_id,
        "x": encode(foreign.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)),
    }

    def by(secret: bytes) -> Signer:
        return lambda data: hmac.new(secret, data, hashlib.sha256).digest()

    def headed(sign: Signer, **more: object) -> str:
        return make(head | more, claims, sign)

    def claiming(**more: object) -> str:
        return make(head, {key: value for key, value in (claims | more).items() if value is not None}, ours)

    genuine = make(head, claims, ours)
    signed, _, signature = genuine.rpartition(".")
    wider = encode(json.dumps(claims | {"access": [*claims["access"], *claims["access"]]}).encode())
    found = {f"algorithm {name}": headed(lambda data: b"", alg=name) for name in ("none", "None", "NONE", "nOnE", "")}
    found |= {f"HS256 with {name}": headed(by(key), alg="HS256") for name, key in (("x", public), ("PEM", pem))}
    found |= {"HS256 with its text": headed(by(encode(public).encode()), alg="HS256")}
    found |= {f"algorithm {name!r}": headed(ours, alg=name) for name in ("eddsa", "Ed25519", None, 5, ["EdDSA"])}
    kids = ("../../../../dev/null", "/dev/null", "' UNION SELECT 'x'--", "", "x" * 4000, None, 5, ["x"], {"a": 1})
    found |= {f"kid {str(kid)[:30]!r}": headed(foreign.sign, kid=kid) for kid in kids}
    found |= {f"kid {str(kid)[:30]!r}, empty HMAC": headed(by(b""), kid=kid, alg="HS256") for kid in kids}
    found |= {
        "foreign key": headed(foreign.sign),
        "embedded key": headed(foreign.sign, jwk=jwk),
        "embedded key alone": make({"alg": "EdDSA", "jwk": jwk}, claims, foreign.sign),
        "keys elsewhere": headed(foreign.sign, jku=f"{url}/keys"),
        "keys elsewhere alone": make({"alg": "EdDSA", "jku": f"{url}/keys"}, claims, foreign.sign),
        "certificate elsewhere": headed(foreign.sign, x5u=f"{url}/certificate"),
        "certificate inside": headed(foreign.sign, x5c=[base64.b64encode(public).decode()]),
        "unknown extension": headed(ours, crit=["unknown"], unknown=1),
        "payload not encoded": headed(ours, crit=["b64"], b64=False),
        "empty list of extensions": headed(ours, crit=[]),
        "no signature": f"{signed}.",
        "no signature and no dot": signed,
        "half of the signature": f"{signed}.{signature[: len(signature) // 2]}",
        "signature of other claims": f"{signed.partition('.')[0]}.{wider}.{signature}",
        "other audience": claiming(aud="another"),
        "list of audiences": claiming(aud=["another", claims["aud"]]),
        "no audience": claiming(aud=None),
        "other issuer": claiming(iss="another"),
        "no issuer": claiming(iss=None),
        "expired": claiming(exp=now - 1, iat=now - 301, nbf=now - 301),
        "no expiry": claiming(exp=None),
        "expiry that is a text": claiming(exp=str(now + 300)),
        "expiry that is a truth": claiming(exp=True),
        "expiry without end": claiming(exp=10**30),
        "of the future": claiming(nbf=now + 100, iat=now + 100, exp=now + 400),
        "not yet": claiming(nbf=now + 100),
        "no time": claiming(iat=None),
        "no access": claiming(access=None),
        "access that is a text": claiming(access="repository:*:*"),
        "unknown credential": claiming(backing={**own, "ref": "personal:987654321"}),
        "unknown kind of credential": claiming(backing={**own, "ref": "root:1"}),
        "credential without its time": claiming(backing={"ref": own["ref"]}),
        "credential of another time": claiming(backing={**own, "made_at": "2020-01-01T00:00:00+00:00"}),
        "credential that is a number": claiming(backing=1),
        "claims that are a list": make(head, [claims], ours),
        "claims that are no JSON": make(head, b"\x00\xff", ours),
        "header that is a list": make([head], claims, ours),
        "header that is deep": make(b"[" * 1500 + b"]" * 1500, claims, ours),
        "claims that are deep": make(head, b"[" * 2500 + b"]" * 2500, ours),
        "five parts": f"{genuine}.{signature}.{signature}",
        "blanks inside": genuine.replace(".", " . "),
        "dots": "." * 5000,
        "one dot": ".",
        "two dots": "..",
        "nothing": "",
        "secret of a token": setting.personal.secret,
    }
    return found


def test_a_token_that_the_server_could_have_issued_is_accepted(client: Kept, setting: Setting) -> None:
    head = {"alg": "EdDSA", "typ": "JWT", "kid": setting.key_id}
    genuine = remember(make(head, setting.claims, setting.key.sign))
    assert client.send("GET", "/v2/", [bearer(genuine)]).status == 200


def test_every_forged_token_gets_the_same_refusal_at_once(client: Kept, setting: Setting, canary: Liar) -> None:
    wrong, bodies = [], set()
    for label, token in forged_tokens(setting, canary.url).items():
        for target in TARGETS:
            begun = time.monotonic()
            answer = client.send("GET", target, [bearer(token)])
            bodies.add(answer.body)
            challenged = (answer.header("www-authenticate") or "").startswith("Bearer realm=")
            right = answer.status == 401 and answer.code == "UNAUTHORIZED" and challenged
            if not right or time.monotonic() - begun > LONGEST:
                wrong.append(f"{label}: {answer}"[:400])
    assert wrong == []
    assert len(bodies) == 1


def test_a_token_of_another_installation_is_refused(client: Kept, setting: Setting, tmp_path: Path) -> None:
    service = TokenService(SigningKeys(tmp_path / "keys"), Sealer(tmp_path / "keys"))
    ref, now = CredentialRef(CredentialKind.PERSONAL_TOKEN, setting.personal.id), datetime.now(UTC)
    backing = Backing(ref, datetime.fromisoformat(setting.claims["backing"]["made_at"]))
    token = service.issue(backing, "ann", {IMAGE: frozenset({"pull"})}, now).text
    refused = [client.send("GET", target, [bearer(token)]) for target in TARGETS]
    refused.append(request_by_refresh(client, service.issue_refresh(backing), [scope(IMAGE)]))
    assert {(answer.status, answer.code) for answer in refused} == {(401, "UNAUTHORIZED")}


def test_bearer_and_refresh_tokens_do_not_stand_for_each_other(client: Kept, setting: Setting) -> None:
    answer = request_by_get(client, "ann", setting.personal.secret, [scope(IMAGE)], ("offline_token", "true"))
    document = json.loads(answer.body)
    token, refresh = remember(document["token"]), remember(document["refresh_token"])
    refused = [
        client.send("GET", "/v2/", [bearer(refresh)]),
        client.send("GET", "/jwt/auth?service=registry-gateway", [bearer(token)]),
        client.send("GET", "/jwt/auth?service=registry-gateway", [bearer(refresh)]),
        client.send("GET", "/v2/", [basic("ann", refresh)]),
        client.send("GET", "/v2/", [basic("ann", token)]),
        request_by_refresh(client, token, [scope(IMAGE)]),
        request_by_refresh(client, refresh[:-4], [scope(IMAGE)]),
        request_by_refresh(client, setting.personal.secret, [scope(IMAGE)]),
        request_by_refresh(client, "", [scope(IMAGE)]),
    ]
    assert [(answer.status, answer.code) for answer in refused] == [(401, "UNAUTHORIZED")] * len(refused)


@pytest.mark.parametrize(
    "value",
    [
        "Bearer " + "." * (1 << 20),
        "Bearer " + "A" * 70_000,
        "Basic " + "A" * 70_000,
        "Basic " + base64.b64encode(b"ann:" + b"x" * 20_000).decode(),
        "Bearer " + ".".join(["A" * 3000] * 3),
    ],
    ids=["a mebibyte of dots", "a long token", "a long secret", "a secret of 20,000 bytes", "long parts"],
)
def test_an_oversized_credential_is_refused_at_once(setting: Setting, value: str) -> None:
    answer = raw.get(f"{setting.server.url}/v2/", {"Authorization": value})
    assert answer.status in (400, 401, 431)
    assert answer.seconds < LONGEST
    assert len(answer.body) < 1000


SECRETS = {
    "wrong password": ("ann", "not-the-password"),
    "unknown user": ("nobody", "not-the-password"),
    "name of a path": ("ann/app", "not-the-password"),
    "empty name": ("", "not-the-password"),
    **{f"wrong {kind}": ("ann", f"{prefix}{'x' * 43}") for kind, prefix in PREFIXES.items()},
    "prefix alone": ("ann", PREFIXES[CredentialKind.PERSONAL_TOKEN]),
    "SQL": ("ann' OR '1'='1", "' OR '1'='1"),
    "zero bytes": ("ann\0", "not\0the-password"),
}


def test_wrong_and_unknown_secrets_get_equal_responses(client: Kept, setting: Setting) -> None:
    ways: list[Callable[[str, str], Answer]] = [
        lambda name, secret: client.send("GET", "/v2/", [basic(name, secret)]),
        lambda name, secret: request_by_get(client, name, secret, [scope(IMAGE)]),
        lambda name, secret: request_by_post(client, name, secret, [scope(IMAGE)]),
    ]
    for way in ways:
        answers = {label: way(*secret) for label, secret in SECRETS.items()}
        assert {answer.status for answer in answers.values()} == {401}, answers
        shown = {(answer.body, answer.header("www-authenticate")) for answer in answers.values()}
        assert len(shown) == 1, answers


def test_the_right_secret_of_an_ended_credential_is_told_why(client: Kept, setting: Setting) -> None:
    for words, login in setting.ended.items():
        for answer in (
            client.send("GET", "/v2/", [basic(login.username, login.secret)]),
            request_by_get(client, login.username, login.secret, [scope(IMAGE)]),
            request_by_post(client, login.username, login.secret, [scope(IMAGE)]),
        ):
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED"), (words, answer)
            assert words in answer.text, (words, answer)


def test_a_malformed_authorization_is_refused(client: Kept) -> None:
    values = ["Basic", "Basic !!!", "Basic YW5u", "Digest x", "Bearer", "bearer", "", "Basic " + "=" * 50, "Token x"]
    for value in values:
        for target in ("/v2/", "/jwt/auth?service=registry-gateway"):
            answer = client.send("GET", target, [("Authorization", value)])
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED"), (value, answer)
    two = client.send("GET", "/v2/", [basic("ann", PASSWORD), basic("ann", PASSWORD)])
    assert (two.status, two.code) == (401, "UNAUTHORIZED")
