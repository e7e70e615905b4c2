"""Quota report: how many pulls upstreams still allow each credential, and when they are used up or reset; pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from cache.upstream import allowance
from cache.upstream.allowance import UNKNOWN, Allowance, SavingMode
from cache.values import CredentialId, Registry, Source


@dataclass(frozen=True, slots=True)
class QuotaReport:
    """The quota of one credential at one upstream.

    `limit`, `remaining` and `window` (seconds) are None where the upstream states none. `source`: to whom the limit
    applies, as the upstream states. `resets_at`, `empty_at` and `told_at` are seconds since 1970, or None.
    """

    upstream: str
    credential: CredentialId
    limit: int | None
    remaining: int | None
    window: int | None
    source: str
    state: str
    resets_at: float | None
    empty_at: float | None
    told_at: float | None


def report_quota(
    upstreams: Mapping[str, Registry],
    known: Mapping[Source, Allowance],
    now: float,
    accounts: Mapping[str, CredentialId] | None = None,
) -> list[QuotaReport]:
    """Report every credential whose quota is known, every account, and one entry for an upstream that has none and has
    stated nothing yet.

    `upstreams`: registries by configured name. `accounts`: those that the settings give, by the same names.
    """
    accounts = accounts or {}
    reports: list[QuotaReport] = []
    for name, registry in sorted(upstreams.items()):
        stated = {source for source in known if source.registry == registry}
        own = {Source.at(registry, accounts[name])} if name in accounts else set()
        for source in sorted(stated | own, key=str) or [Source.at(registry)]:
            reports.append(_report(name, source.credential, known.get(source, UNKNOWN), now))
    return reports


def _report(upstream: str, credential: CredentialId, known: Allowance, now: float) -> QuotaReport:
    return QuotaReport(
        upstream=upstream,
        credential=credential,
        limit=known.limit,
        remaining=known.remaining,
        window=known.window,
        source=known.source,
        state=_state(known, now),
        resets_at=allowance.resets_at(known, now),
        empty_at=allowance.empty_at(known, now),
        told_at=known.told_at or None,
    )


def _state(known: Allowance, now: float) -> str:
    if known.until > now:
        return "pausing"
    if known.remaining is None:
        return "unknown"
    mode = allowance.saving_mode(known, now)
    return "enough is left" if mode is SavingMode.NONE else mode.value
