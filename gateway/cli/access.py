"""`access`: the decision about a request before anybody makes it, with the rule that decides."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName, Tag, is_tag
from gateway.auth.access import Access, stored_principal
from gateway.auth.decisions import Decision, Refusal
from gateway.auth.matrix import Action
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind
from gateway.cli.folder import open_existing
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import DEPLOY_TOKENS, JOBS, PERSONAL_TOKENS, Refused, refuse
from gateway.cli.session import Session, with_session
from gateway.directory.directory import Directory
from gateway.directory.places import Located
from gateway.inspection.protection import find_protection
from gateway.namespaces.credentials import CredentialKind, CredentialRef, hash_secret
from gateway.processes.urls import configured_urls
from gateway.settings.tables import Settings
from gateway.wiring.reach import open_proxy_allowed

app = plain_app()

FROM_STDIN = "-"
_LISTS = {CredentialKind.PERSONAL_TOKEN: PERSONAL_TOKENS, CredentialKind.DEPLOY_TOKEN: DEPLOY_TOKENS}


@app.command()
@with_session
def explain(
    session: Session,
    action: Annotated[
        Action, typer.Argument(metavar="pull|push|delete|admin|know|delete-tag|manage", help="What is to be done.")
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="A project, a group, or an image.")],
    user: Annotated[str | None, typer.Option("--user", metavar="U", help="With the password of this user.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="ID", help="With this token: ID, deploy:ID, job:ID, oidc:ID; - reads its secret."
        ),
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Without a login.")] = False,
) -> None:
    """Print whether somebody may do something now, and the rule that decides; exit code 1 if not."""
    if [user is not None, token is not None, anonymous].count(True) != 1:
        raise typer.BadParameter("name one party: --user, --token or --anonymous")
    decision = asyncio.run(_decide(session.settings, action, path, user, token))
    document = {"allowed": decision.allowed, "reason": decision.reason}
    session.print(document, lambda: print(f"allowed: {decision.reason}") if decision.allowed else None)
    if not decision.allowed:
        if session.as_json:
            raise typer.Exit(1)
        refuse(f"refused: {decision.reason}")


async def _decide(settings: Settings, action: Action, path: str, user: str | None, token: str | None) -> Decision:
    async with open_existing(settings) as database:
        directory = Directory(database, list(settings.upstreams))
        principal = await _principal(directory, user, token)
        located = (await _locate(directory, path)).at(datetime.now(UTC))
        access = Access(directory, open_proxy_allowed(settings, configured_urls(settings)))
        now = datetime.now(UTC)
        decision = await access.decide(principal, action, located, now)
        if decision.allowed and not located.problem:
            found = await find_protection(database, access, principal, action, located, _tag_of(path), now)
            if found is not None:
                return Decision(False, found, Refusal.DENIED)
    if located.problem and decision.allowed and action is not Action.ADMIN:
        return Decision(False, located.problem, Refusal.HIDDEN)
    return decision


async def _principal(directory: Directory, user: str | None, token: str | None) -> Principal:
    """The party that the options name. Raises Refused."""
    if user is not None:
        found = await directory.find_user(user)
        if found is None:
            raise Refused(f"there is no user {user!r}: `registry-gateway user list` shows those there are")
        return Principal(PrincipalKind.USER, found.name, found, ref=CredentialRef(CredentialKind.PASSWORD, found.id))
    if token is None:
        return ANONYMOUS
    ref = await _ref_of(directory, token)
    credential = None if ref is None else await directory.credential(ref)
    if ref is None or credential is None:
        if token == FROM_STDIN:
            raise Refused(
                "no token has the secret on standard input: tokens are shown once, when they are created, and an ID "
                "token is known when it has logged in"
            )
        if ref is not None and ref.kind is CredentialKind.ID_TOKEN_LOGIN:
            raise Refused(f"there is no login {token!r} by an ID token: the log names those that began")
        shown = _LISTS.get(ref.kind if ref else CredentialKind.PERSONAL_TOKEN, JOBS)
        raise Refused(f"there is no token {token!r}: `registry-gateway {shown}` shows those there are")
    return await stored_principal(directory, ref, credential)


async def _ref_of(directory: Directory, token: str) -> CredentialRef | None:
    if token == FROM_STDIN:
        found = await directory.credential_of_hash(hash_secret(sys.stdin.readline().strip()))
        return found and found[0]
    try:
        ref = CredentialRef.parse(token if ":" in token else f"{CredentialKind.PERSONAL_TOKEN}:{token}")
    except ValueError:
        raise Refused(
            f"{token!r} is not a token: write its ID, deploy:ID, job:ID or oidc:ID, or - for its secret"
        ) from None
    return None if ref.kind is CredentialKind.PASSWORD else ref


def _tag_of(path: str) -> Tag | None:
    """The tag of an image that was typed; None where there is none, or something else."""
    text = path.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return Tag(text) if is_tag(text) else None


async def _locate(directory: Directory, path: str) -> Located:
    """Find the group, project or image of a path, without its tag or digest. Raises Refused."""
    before, slash, last = path.partition("@")[0].rpartition("/")
    path = f"{before}{slash}{last.partition(':')[0]}"
    if (group := await directory.find_group_place(path)) is not None:
        return Located(path, group)
    try:
        return await directory.locate(RepositoryName.parse(path))
    except NameInvalid as error:
        raise Refused(f"{path!r} is not a path: {error.detail}") from error
