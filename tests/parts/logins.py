"""Clients that log in: each keeps what it stored for one login in a folder of that login, and goes on with it.

No method raises for what a client is refused: its outcome says whether it succeeded, and what it printed.
"""

import base64
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from . import raw
from .clients import PrivateHome
from .engines import Containerd, Dockerd
from .go_clients import CRANE, ORAS, build_go_client
from .processes import binary

CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CLIENTS = ("docker", "skopeo", "podman", "ctr", "oras", "crane", "Basic only", "POST only")
ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"}


@dataclass(frozen=True)
class Outcome:
    """What a client came to. `text`: everything that it printed."""

    done: bool
    text: str

    @classmethod
    def of(cls, completed: "subprocess.CompletedProcess[str]") -> "Outcome":
        return cls(completed.returncode == 0, completed.stdout + completed.stderr)


class LoginClient(Protocol):
    """A client with one folder for each login, which need not exist yet."""

    def login(self, folder: Path, host: str, user: str, secret: str) -> Outcome:
        """Logs in at HOST:PORT and stores whatever the client stores."""

    def pull(self, folder: Path, reference: str) -> Outcome:
        """Pulls HOST:PORT/NAME:TAG whole with what is stored, and keeps nothing of it."""

    def logout(self, folder: Path, host: str) -> Outcome:
        """Makes the client forget its login."""


@dataclass(frozen=True)
class Words:
    """Command lines of a client, with {folder}, {host}, {user}, {reference} and {layout} to fill in; the secret is its
    standard input. `push` is empty where a test pushes with none of this client."""

    login: str
    pull: str
    logout: str
    forget: str = ""
    push: str = ""


class Program:
    """A client that is a program. `run` is given its words, its standard input and the folder of the login."""

    def __init__(self, words: Words, run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
        self._words, self._run = words, run

    def login(self, folder: Path, host: str, user: str, secret: str) -> Outcome:
        return self._do(self._words.login, folder, secret, host=host, user=user)

    def pull(self, folder: Path, reference: str) -> Outcome:
        outcome = self._do(self._words.pull, folder, **_at(reference))
        if outcome.done and self._words.forget:
            self._do(self._words.forget, folder, **_at(reference))
        return outcome

    def logout(self, folder: Path, host: str) -> Outcome:
        return self._do(self._words.logout, folder, host=host)

    def push(self, folder: Path, layout: Path, reference: str) -> Outcome:
        """Pushes the image of a layout folder; docker pushes its own image of that name."""
        return self._do(self._words.push, folder, layout=str(layout), **_at(reference))

    def store(self, folder: Path, host: str, user: str, secret: str) -> None:
        """Writes a login as clients store it, without asking the registry whether it is accepted."""
        folder.mkdir(parents=True, exist_ok=True)
        pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
        for name in ("auth.json", "config.json"):
            (folder / name).write_text(json.dumps({"auths": {host: {"auth": pair}}}))

    def _do(self, line: str, folder: Path, secret: str = "", **given: str) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "auth.json").exists():  # podman pulls nothing where this file is missing
            (folder / "auth.json").write_text("{}")
        words = [word.format(folder=folder, **given) for word in line.split()]
        return Outcome.of(self._run(words, secret, folder))


def _at(reference: str) -> dict[str, str]:
    return {"reference": reference, "host": reference.partition("/")[0]}


def docker(engine: Dockerd) -> Program:
    words = Words(
        login="--config {folder} login --username {user} --password-stdin {host}",
        pull="--config {folder} pull --quiet {reference}",
        logout="--config {folder} logout {host}",
        forget="rmi --force {reference}",
        push="--config {folder} push {reference}",
    )
    return Program(words, lambda line, secret, folder: engine.run(*line, standard_input=secret, check=False))


def skopeo(directory: Path) -> Program:
    words = Words(
        login="login --tls-verify=false --authfile={folder}/auth.json --username={user} --password-stdin {host}",
        pull="--insecure-policy copy --src-tls-verify=false --src-authfile={folder}/auth.json"
        " docker://{reference} dir:{folder}/pulled",
        logout="logout --tls-verify=false --authfile={folder}/auth.json {host}",
        push="--insecure-policy copy --dest-tls-verify=false --dest-authfile={folder}/auth.json"
        " oci:{layout}:latest docker://{reference}",
    )
    return _of_home(words, [binary("skopeo", "skopeo")], PrivateHome(directory))


def podman(directory: Path) -> Program:
    words = Words(
        login="login --tls-verify=false --authfile={folder}/auth.json --username={user} --password-stdin {host}",
        pull="pull --quiet --tls-verify=false --authfile={folder}/auth.json {reference}",
        logout="logout --authfile={folder}/auth.json {host}",
        forget="rmi --force {reference}",
    )
    places = [f"--root={directory / 'root'}", f"--runroot={directory / 'run'}", f"--tmpdir={directory / 'libpod'}"]
    options = ["--storage-driver=vfs", "--events-backend=none", "--cgroup-manager=cgroupfs"]
    return _of_home(words, [binary("podman", "podman"), *places, *options], PrivateHome(directory / "private"))


def crane(program: Path, directory: Path) -> Program:
    words = Words(
        login="auth login --username={user} --password-stdin {host}",
        pull="pull --insecure --format=oci {reference} {folder}/pulled",
        logout="auth logout {host}",
        push="push --insecure {layout} {reference}",
    )
    return _of_home(words, [str(program)], PrivateHome(directory))


def oras(program: Path, directory: Path) -> Program:
    words = Words(
        login="login --plain-http --registry-config={folder}/config.json --username={user} --password-stdin {host}",
        pull="copy --from-plain-http --from-registry-config={folder}/config.json --to-oci-layout"
        " {reference} {folder}/pulled:latest",
        logout="logout --registry-config={folder}/config.json {host}",
        push="copy --from-oci-layout --to-plain-http --to-registry-config={folder}/config.json"
        " {layout}:latest {reference}",
    )
    return _of_home(words, [str(program)], PrivateHome(directory))


def regctl(program: Path, directory: Path) -> Program:
    words = Words(
        login="--host reg={host},tls=disabled registry login --user={user} --pass-stdin {host}",
        pull="--host reg={host},tls=disabled image copy {reference} ocidir://{folder}/pulled:latest",
        logout="registry logout {host}",
        push="--host reg={host},tls=disabled image copy ocidir://{layout}:latest {reference}",
    )
    return _of_home(words, [str(program)], PrivateHome(directory))


def _of_home(words: Words, argv: list[str], home: PrivateHome) -> Program:
    return Program(
        words,
        lambda line, secret, folder: home.run(
            [*argv, *line],
            standard_input=secret,
            check=False,
            DOCKER_CONFIG=str(folder),
            REGCTL_CONFIG=str(folder / "regctl.json"),
        ),
    )


class _Pair:
    """A client that stores the pair of user name and secret itself; a login is a file of it."""

    def login(self, folder: Path, host: str, user: str, secret: str) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        self._file(folder).write_text(f"{user}:{secret}")
        return Outcome(True, "")

    def logout(self, folder: Path, host: str) -> Outcome:
        self._file(folder).unlink()
        return Outcome(True, "")

    def _stored(self, folder: Path) -> str:
        file = self._file(folder)
        return file.read_text() if file.exists() else ""

    def _file(self, folder: Path) -> Path:
        return folder / "login"


class Ctr(_Pair):
    """ctr, which is given its login with each pull."""

    def __init__(self, engine: Containerd) -> None:
        self._engine = engine

    def pull(self, folder: Path, reference: str) -> Outcome:
        pair = self._stored(folder)
        outcome = Outcome.of(
            self._engine.pull("--plain-http", *(["--user", pair] if pair else []), reference, check=False)
        )
        if outcome.done:
            self._engine.forget(reference)
        return outcome


class BasicOnly(_Pair):
    """A simple client that sends its user name and secret with every request, and knows no tokens."""

    def login(self, folder: Path, host: str, user: str, secret: str) -> Outcome:
        super().login(folder, host, user, secret)
        answer = raw.get(f"http://{host}/v2/", self._headers(folder))
        return Outcome(answer.status == 200, answer.body.decode())

    def pull(self, folder: Path, reference: str) -> Outcome:
        return pull_raw(reference, self._headers(folder))

    def _headers(self, folder: Path) -> dict[str, str]:
        pair = self._stored(folder)
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"} if pair else {}


class PostOnly(_Pair):
    """A client of OAuth2: it posts its pair once, keeps the refresh token alone, and posts that for each image."""

    def login(self, folder: Path, host: str, user: str, secret: str) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        challenged = raw.get(f"http://{host}/v2/")
        form = {"grant_type": "password", "username": user, "password": secret, "access_type": "offline"}
        answer = self._post(dict(CHALLENGE.findall(challenged.headers["www-authenticate"])), form)
        if answer.status == 200:
            self._file(folder).write_text(json.loads(answer.body)["refresh_token"])
        return Outcome(answer.status == 200, answer.body.decode())

    def pull(self, folder: Path, reference: str) -> Outcome:
        refresh_token = self._stored(folder)
        headers = {}
        if refresh_token:
            challenged = raw.get(manifest_url(reference), ACCEPT)
            named = dict(CHALLENGE.findall(challenged.headers["www-authenticate"]))
            answer = self._post(named, {"grant_type": "refresh_token", "refresh_token": refresh_token})
            if answer.status != 200:
                return Outcome(False, answer.body.decode())
            headers = {"Authorization": f"Bearer {json.loads(answer.body)['access_token']}"}
        return pull_raw(reference, headers)

    @staticmethod
    def _post(named: dict[str, str], form: dict[str, str]) -> raw.RawResponse:
        more = {name: named[name] for name in ("service", "scope") if name in named}
        body = urlencode({**form, **more, "client_id": "test"}).encode()
        return raw.request("POST", named["realm"], FORM, body=body)


def every_client(directory: Path, dockerd: Dockerd, containerd: Containerd) -> dict[str, LoginClient]:
    """The clients by name; one daemon of each kind serves all logins. Raises PartFailed where one is missing.

    podman refuses a `directory` with a long path.
    """
    found: list[LoginClient] = [
        docker(dockerd),
        skopeo(directory / "skopeo"),
        podman(directory),
        Ctr(containerd),
        oras(build_go_client(ORAS), directory / "oras"),
        crane(build_go_client(CRANE), directory / "crane"),
        BasicOnly(),
        PostOnly(),
    ]
    return dict(zip(CLIENTS, found, strict=True))


def manifest_url(reference: str) -> str:
    host, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    return f"http://{host}/v2/{name}/manifests/{tag}"


def bearer_of(reference: str, user: str, secret: str) -> str:
    """A Bearer token for the pull of one image, requested as a client requests it after a challenge."""
    named = dict(CHALLENGE.findall(raw.get(manifest_url(reference), ACCEPT).headers["www-authenticate"]))
    pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
    query = urlencode({name: named[name] for name in ("service", "scope")})
    answer = raw.get(f"{named['realm']}?{query}", {"Authorization": f"Basic {pair}"})
    return str(json.loads(answer.body)["token"])


def pull_raw(reference: str, headers: dict[str, str]) -> Outcome:
    """Pulls an image of one platform with the same headers in each request."""
    url = manifest_url(reference)
    answer = raw.get(url, {**ACCEPT, **headers})
    if answer.status != 200:
        return Outcome(False, answer.body.decode())
    manifest = json.loads(answer.body)
    for descriptor in [manifest["config"], *manifest["layers"]]:
        blob = raw.get(f"{url.partition('/manifests/')[0]}/blobs/{descriptor['digest']}", headers)
        if blob.status != 200 or blob.digest != descriptor["digest"]:
            return Outcome(False, blob.body.decode(errors="replace"))
    return Outcome(True, "")
