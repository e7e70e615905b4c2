"""CI/CD variables to set in GitLab, with which its jobs use a project of this server and a deploy token of it."""

import base64
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from gateway.auth.exposure import is_loopback
from gateway.cli.folder import open_existing
from gateway.cli.input_file import InputFile, input_file
from gateway.cli.password_file import read_password
from gateway.cli.refusals import Refused
from gateway.db import credentials, paths, projects
from gateway.db.connection import Connection
from gateway.namespaces.ci_variables import access_variables, registry_host
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import DeployToken, Scope, hash_secret
from gateway.namespaces.node import PathEntry, prefixes_of
from gateway.namespaces.project import RegistryAccess
from gateway.settings.tables import Settings

FROM_STDIN = Path("-")
WHERE = "Settings > CI/CD > Variables"
"""The page of a project in GitLab where the variables are set."""


@dataclass(frozen=True, slots=True)
class GitlabOptions:
    """The project whose variables are printed for GitLab, and the file with the secret of its deploy token."""

    project: Annotated[
        str | None,
        typer.Option("--project", metavar="P", help="Print the CI/CD variables of this project; for gitlab-ci."),
    ] = None
    token_file: Annotated[
        InputFile | None,
        typer.Option(
            "--token-file",
            parser=input_file,
            metavar="F",
            help="The file with the secret of a deploy token of it; - reads it from stdin.",
        ),
    ] = None


async def gitlab_variables(settings: Settings, path: str, url: str, secret: str | None) -> tuple[dict[str, str], str]:
    """Make the variables of a project and the text that explains and lists them. Raises Refused, ProjectUnknown.

    `url`: by which jobs reach the registry. `secret`: that of a deploy token; without it the text says how to make one.
    """
    host = registry_host(url)
    async with open_existing(settings) as database, database.read() as connection:
        project = await projects.get(connection, path)
        if project.registry is RegistryAccess.DISABLED:
            raise Refused(
                f"the container registry of project {project.path!r} is disabled: "
                f"`registry-gateway project update {project.path} --registry enabled` enables it"
            )
        way = await paths.find_all(connection, prefixes_of(project.path))
        username = "" if secret is None else await _username(connection, secret, way, datetime.now(UTC))
    login = None if secret is None else (username, secret)
    variables = access_variables(host, project, way, login)
    if login is not None:
        variables["DOCKER_AUTH_CONFIG"] = docker_auth_config(host, *login)
    lines = [
        f"# CI/CD variables for jobs that use {project.path}; to be set in GitLab at {WHERE}, of type Variable.",
        *_notes(project.path, url, host, secret is not None),
        *(f"{name}={value}" for name, value in variables.items()),
    ]
    return variables, "".join(f"{line}\n" for line in lines)


def read_secret(file: InputFile | None) -> str | None:
    """Read the secret of a token, for `-` from standard input; None if no file is given. Raises Refused."""
    if file is None or file.path != FROM_STDIN:
        return read_password(file)
    secret = (getpass("deploy token: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not secret:
        raise Refused("standard input is empty: write the secret of the deploy token to it")
    return secret


def docker_auth_config(host: str, username: str, secret: str) -> str:
    """Write the login as docker's configuration in one line without spaces, so that GitLab can mask it.

    A runner looks the login up by the text before the first slash of an image's name, for which `host` and `host:443`
    are two registries: a name that is usually written without its port is given in both spellings.
    """
    login = {"auth": base64.b64encode(f"{username}:{secret}".encode()).decode()}
    auths = dict.fromkeys([host, host.removesuffix(":443")], login)
    return json.dumps({"auths": auths}, separators=(",", ":"))


def _notes(path: str, url: str, host: str, complete: bool) -> list[str]:
    """The comments above the variables."""
    notes = []
    if complete:
        notes += [
            "# Mask those that end in _PASSWORD, and DOCKER_AUTH_CONFIG, with which the runner pulls what `image:` and",
            "# `services:` name. A protected variable reaches the jobs of protected branches and tags only.",
        ]
    else:
        scopes = " ".join(f"--scope {scope}" for scope in (Scope.READ_REGISTRY, Scope.WRITE_REGISTRY))
        notes += [
            "# The login is missing. Create a deploy token, and give its secret, which is shown once, to this command:",
            f"#   registry-gateway deploy-token create --project {path} --name gitlab-ci {scopes}",
            f"#   registry-gateway client-config gitlab-ci --project {path} --token-file -",
            "# It then prints the user names, the passwords and DOCKER_AUTH_CONFIG as well.",
        ]
    if url.startswith("http://") and not is_loopback(host.rpartition(":")[0].strip("[]")):
        notes.append(f'# It is plain http: the dockerd of the runner, and that of a service, needs "{host}" in')
        notes.append('# "insecure-registries".')
    return notes


async def _username(connection: Connection, secret: str, way: list[PathEntry], now: datetime) -> str:
    """Find the user name of a deploy token, and check that the project's jobs can use it. Raises Refused."""
    found = await credentials.find_by_hash(connection, hash_secret(secret))
    remedy = "`registry-gateway deploy-token create` makes one, and shows its secret once"
    if found is None:
        raise Refused(f"no token has this secret: {remedy}")
    ref, token = found
    if not isinstance(token, DeployToken):
        raise Refused(f"{ref} is no deploy token, and would end with a user or a job: {remedy}")
    if ending := find_ending(token, now):
        raise Refused(f"deploy token {token.id} {ending}: {remedy}")
    if token.node not in {entry.key for entry in way}:
        owner = (await paths.get_of(connection, token.node)).path
        raise Refused(
            f"deploy token {token.id} belongs to {owner}, not to {way[-1].path} or a group above it: {remedy}"
        )
    return token.username
