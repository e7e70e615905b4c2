"""Every upstream as it is configured: reached step by step, then asked as whoever pulls from it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.upstream.egress import FailureStage, stage_of
from cache.upstream.errors import AccessDenied, RateLimited, Unavailable, UpstreamError
from cache.upstream.probe import PingResult, RegistryProbe
from cache.upstream.registry_client import RegistryClient
from gateway.doctor.check import Check, failed, not_run, passed
from gateway.upstreams import Upstream

SKEW = 60.0
"""Seconds by which clocks may differ: tokens that live for minutes must not seem to be over, or not to have begun."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image by which an upstream is tried."""

    image: RepositoryName
    reference: Tag | Digest


@dataclass(frozen=True, slots=True)
class Examined:
    checks: list[Check]
    skew: float | None
    """Seconds that the upstream's clock is ahead of ours; None where it was not told."""


_REMEDIES = {
    FailureStage.NAME: "correct its url, or the name server of this machine",
    FailureStage.ADDRESS: "set private_addresses = true for it if it is meant to lie in a private network; else "
    "correct its url or the name server",
    FailureStage.CONNECTION: "see whether it is up, and whether a firewall or a missing proxy setting is in the way",
    FailureStage.TLS: "set ca_file to the PEM certificates of the authority that vouches for it; or correct its "
    "url, or the clock of this machine",
    FailureStage.ANSWER: "see whether its url is that of a registry, and what it says there",
}


async def examine_upstream(
    upstream: Upstream, clients: Sequence[RegistryClient], sample: Sample | None, now: Callable[[], datetime]
) -> Examined:
    """`clients`: one for each credential that is used there, at least one."""
    name = f"upstream {upstream.name}"
    stages = [] if upstream.proxy else [FailureStage.NAME, FailureStage.ADDRESS]
    stages += [FailureStage.CONNECTION, *([FailureStage.TLS] if upstream.url.startswith("https") else [])]
    try:
        greeting = await clients[0].probe().ping()
    except Unavailable as error:
        return Examined([*_unreached(name, [*stages, FailureStage.ANSWER], error)], None)
    skew = (greeting.date - now()).total_seconds() if greeting.date else None
    checks = [passed(f"{name}: {stage.value}", "as it should be") for stage in stages]
    if greeting.status not in (200, 401):
        detail = f"GET /v2/ was answered {greeting.status}, where a registry says 200 or 401"
        return Examined([*checks, failed(f"{name}: answer", detail, _REMEDIES[FailureStage.ANSWER])], skew)
    checks.append(passed(f"{name}: answer", f"GET /v2/ was answered {greeting.status}"))
    for client in clients:
        checks += await _examine_as(name, client, greeting, sample)
    return Examined(checks, skew)


def examine_clock(skews: Iterable[float | None]) -> Check:
    """By what the upstreams take for the time: where several do not agree with us, it is we who are wrong."""
    told = sorted((skew for skew in skews if skew is not None), key=abs)
    if not told:
        return not_run("clock", "no upstream that answers says what time it is")
    nearest = told[0]
    detail = f"{abs(nearest):.0f} s {'behind' if nearest > 0 else 'before'} the nearest upstream"
    if abs(nearest) > SKEW:
        return failed("clock", detail, "set the clock of this machine, by NTP")
    return passed("clock", detail)


def _unreached(name: str, stages: list[FailureStage], error: Unavailable) -> Iterable[Check]:
    reached = stage_of(error)
    reached = reached if reached in stages else FailureStage.ANSWER
    for place, stage in enumerate(stages):
        if stage is reached:
            yield failed(f"{name}: {stage.value}", error.reason, _REMEDIES[stage])
        elif place < stages.index(reached):
            yield passed(f"{name}: {stage.value}", "as it should be")
        else:
            yield not_run(f"{name}: {stage.value}", f"not reached: {reached.value} failed")


async def _examine_as(name: str, client: RegistryClient, greeting: PingResult, sample: Sample | None) -> list[Check]:
    whom = _whom(client)
    login, pull, quota = (f"{name}: {what} of {whom}" for what in ("login", "pull", "quota"))
    if sample is None:
        why = "no image of it is known: give one with --image"
        return [not_run(check, why) for check in (login, pull, quota)]
    examination = client.probe()
    authorization = None
    if greeting.challenge:
        try:
            authorization = await examination.authorization(sample.image, greeting.challenge)
        except UpstreamError as error:
            skipped = [not_run(check, "not reached: login failed") for check in (pull, quota)]
            return [failed(login, error.reason, _login_remedy(error, client)), *skipped]
    told = (
        "a token was given" if authorization else "none is asked for" if not greeting.challenge else "nothing to give"
    )
    return [passed(login, told), *await _examine_pull(pull, quota, examination, sample, authorization)]


async def _examine_pull(
    pull: str, quota: str, examination: RegistryProbe, sample: Sample, authorization: str | None
) -> list[Check]:
    what = f"HEAD of {sample.image}, {sample.reference}"
    try:
        found = await examination.head(sample.image, sample.reference, authorization)
    except UpstreamError as error:
        return [failed(pull, error.reason, _REMEDIES[FailureStage.ANSWER]), not_run(quota, "not reached: pull failed")]
    detail = f"{what} was answered {found.status}"
    if found.status == 429 or found.remaining == 0:
        left = "none" if found.remaining is None else str(found.remaining)
        return [
            passed(pull, detail),
            failed(
                quota,
                f"{left} of {found.limit or 'its'} pulls are left",
                "wait until its window is over, pull as an account with a higher limit (username, password_file), "
                "or let a longer ttl ask less often; what is cached is served meanwhile",
            ),
        ]
    limits = (
        f"{found.remaining} of {found.limit} pulls are left" if found.remaining is not None else "no limit is named"
    )
    if found.status != 200:
        remedy = "see whether this image exists there and the account may pull it; name another one with --image"
        return [failed(pull, detail, remedy), passed(quota, limits)]
    return [passed(pull, detail), passed(quota, limits)]


def _whom(client: RegistryClient) -> str:
    """The account, without what makes it a credential."""
    return client.source.credential.username or "nobody"


def _login_remedy(error: UpstreamError, client: RegistryClient) -> str:
    if isinstance(error, RateLimited):
        return "wait; its token service takes no more questions for now"
    if isinstance(error, AccessDenied):
        return "it shows nothing to strangers: set username and password_file, or the login of the group"
    if not client.source.credential.is_anonymous:
        return (
            "correct username and password_file of the upstream, or the login of the group (group update "
            "--upstream-username --upstream-password-file), and name its token service in token_hosts"
        )
    return "see whether its token service is up, and name it in token_hosts"
