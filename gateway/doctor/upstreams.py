"""Upstream checks: connect step by step, then log in and pull with each credential that is used."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.upstream.egress import FailureStage, stage_of
from cache.upstream.errors import AccessDenied, CredentialRefused, RateLimited, Unavailable, UpstreamError
from cache.upstream.probe import PingResult, RegistryProbe
from cache.upstream.registry_client import RegistryClient
from gateway.doctor.check import Check, Remedy, failed, not_run, passed, warned
from gateway.keys.password_command import PasswordCommand
from gateway.keys.upstream_secrets import certificate_end, read_headers
from gateway.upstreams import Upstream

CERTIFICATE_NOTICE = timedelta(days=14)
"""How long before its end a client certificate is reported."""

SKEW = 60.0
"""Seconds by which clocks may differ: tokens are valid for minutes, by the clock of their issuer."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with which an upstream is tried."""

    image: RepositoryName
    reference: Tag | Digest


@dataclass(frozen=True, slots=True)
class UpstreamChecks:
    """Checks of one upstream.

    `skew`: seconds that its clock is ahead of this machine's; None if its responses have no Date.
    """

    checks: list[Check]
    skew: float | None


_REMEDIES = {
    FailureStage.NAME: "correct its url, or the name server of this machine",
    FailureStage.ADDRESS: "where it is not meant to lie in a private network, correct its url, or the name server of "
    "this machine",
    FailureStage.CONNECTION: "see whether it is up, and whether a firewall or a missing proxy setting is in the way",
    FailureStage.TLS: "set ca_file to the PEM certificates of the authority that vouches for it; or correct its "
    "url, or the clock of this machine",
    FailureStage.RESPONSE: "see whether its url is that of a registry, and what it returns",
}


@dataclass(frozen=True, slots=True)
class WrongPing:
    """What is wrong with the response to a ping, and what to do."""

    detail: str
    remedy: str


def remedy_of(error: Unavailable) -> str:
    """What to do where an upstream cannot be reached."""
    return _REMEDIES[stage_of(error)]


def wrong_ping(ping: PingResult) -> WrongPing | None:
    """What is wrong with the response to a ping; None where it is that of a registry."""
    if ping.status in (200, 401):
        return None
    detail = f"GET /v2/ returned {ping.status}, where a registry returns 200 or 401"
    return WrongPing(detail, _REMEDIES[FailureStage.RESPONSE])


async def examine_upstream(
    upstream: Upstream, clients: Sequence[tuple[RegistryClient, Sample | None]], now: Callable[[], datetime]
) -> UpstreamChecks:
    """Check one upstream. `clients`: one for each credential that is used there, at least one, and what it pulls."""
    name = f"upstream {upstream.name}"
    stages = [] if upstream.proxy else [FailureStage.NAME, FailureStage.ADDRESS]
    stages += [FailureStage.CONNECTION, *([FailureStage.TLS] if upstream.url.startswith("https") else [])]
    own = _examine_secrets(upstream, now()) + await _examine_command(upstream)
    try:
        ping = await clients[0][0].probe().ping()
    except Unavailable as error:
        return UpstreamChecks([*own, *_unreached(name, [*stages, FailureStage.RESPONSE], error)], None)
    skew = (ping.date - now()).total_seconds() if ping.date else None
    checks = [*own, *(passed(f"{name}: {stage.value}", "as it should be") for stage in stages)]
    if (wrong := wrong_ping(ping)) is not None:
        return UpstreamChecks([*checks, failed(f"{name}: answer", wrong.detail, wrong.remedy)], skew)
    checks.append(passed(f"{name}: answer", f"GET /v2/ returned {ping.status}"))
    for client, sample in clients:
        checks += await _examine_as(name, client, ping, sample)
    return UpstreamChecks(checks, skew)


def _examine_secrets(upstream: Upstream, now: datetime) -> list[Check]:
    """Check the files that hold what is shown to an upstream, before anything is sent."""
    checks: list[Check] = []
    if upstream.client_cert and upstream.client_key:
        checks.append(_examine_certificate(upstream.name, upstream.client_cert, upstream.client_key, now))
    if upstream.headers:
        name = f"upstream {upstream.name}: fixed headers"
        try:
            found = read_headers(upstream.name, upstream.headers)
            checks.append(passed(name, ", ".join(found)))
        except Unavailable as error:
            checks.append(failed(name, error.reason, "correct the file that the header names"))
    return checks


async def _examine_command(upstream: Upstream) -> list[Check]:
    if not upstream.password_command:
        return []
    name = f"upstream {upstream.name}: password command"
    command = PasswordCommand(upstream.name, upstream.username, upstream.password_command)
    try:
        await asyncio.to_thread(command)
    except Unavailable as error:
        return [failed(name, error.reason, "run it as the user of the server, with the environment of the server")]
    return [passed(name, "it printed a password")]


def _examine_certificate(upstream: str, cert: Path, key: Path, now: datetime) -> Check:
    name = f"upstream {upstream}: client certificate"
    remedy = "set client_cert and client_key to PEM files of one certificate, whose key has no passphrase"
    try:
        expires = certificate_end(cert, key)
    except (OSError, ValueError) as error:
        return failed(name, f"{cert} or {key} cannot be used ({getattr(error, 'strerror', None) or error})", remedy)
    day = f"{expires:%Y-%m-%d}"
    if expires <= now:
        return failed(name, f"it expired on {day}", "renew the certificate")
    if expires - now < CERTIFICATE_NOTICE:
        return warned(name, f"it expires on {day}", "renew the certificate")
    return passed(name, f"it is valid until {day}")


def examine_clock(skews: Iterable[float | None]) -> Check:
    """Compare this machine's clock with the upstreams'; the check fails if no upstream agrees with it."""
    known = sorted((skew for skew in skews if skew is not None), key=abs)
    if not known:
        return not_run("clock", "no reachable upstream sends a Date")
    nearest = known[0]
    detail = f"{abs(nearest):.0f} s {'behind' if nearest > 0 else 'before'} the nearest upstream"
    if abs(nearest) > SKEW:
        return failed("clock", detail, "set the clock of this machine, by NTP")
    return passed("clock", detail)


def _unreached(name: str, stages: list[FailureStage], error: Unavailable) -> Iterable[Check]:
    reached = stage_of(error)
    reached = reached if reached in stages else FailureStage.RESPONSE
    for place, stage in enumerate(stages):
        if stage is reached:
            yield failed(f"{name}: {stage.value}", error.reason, _REMEDIES[stage])
        elif place < stages.index(reached):
            yield passed(f"{name}: {stage.value}", "as it should be")
        else:
            yield not_run(f"{name}: {stage.value}", f"not reached: {reached.value} failed")


async def _examine_as(name: str, client: RegistryClient, ping: PingResult, sample: Sample | None) -> list[Check]:
    login, pull, quota = (f"{name}: {_with_account(what, client)}" for what in ("login", "pull", "quota"))
    if sample is None:
        account = client.source.credential.username
        why = f"no image of it was pulled {f'as {account}' if account else 'without an account'}"
        return [not_run(check, why, Remedy.NAME_IMAGE) for check in (login, pull, quota)]
    probe = client.probe()
    authorization = None
    if ping.challenge:
        try:
            authorization = await probe.authorization(sample.image, ping.challenge)
            if authorization is not None and authorization.startswith("Basic "):
                await _log_in(client, probe, authorization)
        except UpstreamError as error:
            skipped = [not_run(check, "not reached: login failed") for check in (pull, quota)]
            return [failed(login, error.reason, _login_remedy(error, client)), *skipped]
    if not ping.challenge:
        detail = "no login is required"
    elif not authorization:
        detail = "there is no credential to log in with"
    else:
        detail = "the password was accepted" if authorization.startswith("Basic ") else "a token was issued"
    return [passed(login, detail), *await _examine_pull(pull, quota, probe, sample, authorization)]


async def _log_in(client: RegistryClient, probe: RegistryProbe, authorization: str) -> None:
    """Present a password, where no token service checks it. Raises CredentialRefused."""
    status = (await probe.ping(authorization)).status
    if status in (400, 401, 403):
        user = client.source.credential.username
        raise CredentialRefused(f"{client.host} refuses user {user} ({status}): the password is wrong, or has expired")


async def _examine_pull(
    pull: str, quota: str, probe: RegistryProbe, sample: Sample, authorization: str | None
) -> list[Check]:
    what = f"HEAD of {sample.image}, {sample.reference}"
    try:
        found = await probe.head(sample.image, sample.reference, authorization)
    except UpstreamError as error:
        remedy = _REMEDIES[FailureStage.RESPONSE]
        return [failed(pull, error.reason, remedy), not_run(quota, "not reached: pull failed")]
    detail = f"{what} returned {found.status}"
    if found.status == 429 or found.remaining == 0:
        left = "none" if found.remaining is None else str(found.remaining)
        return [
            passed(pull, detail),
            failed(
                quota,
                f"{left} of {found.limit or 'its'} pulls are left",
                "wait until its window is over, pull as an account with a higher limit (username, password_file), "
                "or set a longer ttl, so that tags are revalidated less often; cached content is served meanwhile",
            ),
        ]
    limits = (
        f"{found.remaining} of {found.limit} pulls are left" if found.remaining is not None else "no limit is stated"
    )
    if found.status != 200:
        return [failed(pull, detail, Remedy.NAME_OTHER_IMAGE), passed(quota, limits)]
    return [passed(pull, detail), passed(quota, limits)]


def _with_account(what: str, client: RegistryClient) -> str:
    account = client.source.credential.username
    return f"{what} of {account}" if account else f"anonymous {what}"


def _login_remedy(error: UpstreamError, client: RegistryClient) -> str | Remedy:
    if isinstance(error, RateLimited):
        return "wait: its token service accepts no more requests for now"
    if isinstance(error, AccessDenied):
        return "anonymous pull is not allowed there: set username and password_file, or the login of the group"
    if not client.source.credential.is_anonymous:
        return Remedy.CORRECT_LOGIN
    return "see whether its token service is up"
