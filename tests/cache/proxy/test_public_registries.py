"""Images behind scripted registries that respond as public ones do; each behaviour has its source in tests/parts."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from cache.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, UpstreamInvalid, UpstreamUnavailable
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST
from cache.oci.names import RepositoryName, Tag
from cache.proxy.memory import Absences
from cache.proxy.repository import ProxiedRepository
from cache.repository import FoundManifest
from cache.upstream.egress import Egress
from cache.upstream.ledger import Ledger
from cache.upstream.logins import Logins
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Credential, Tokens
from cache.upstream.urls import origin_of
from cache.upstream.useless_heads import REMEMBERED, USELESS_AFTER, HeadKind, UselessHeads
from cache.values import CredentialId, Outcome, PageStart, Source
from tests.cache.proxy.bench import BLOB, CONTENT, MISS, ONE, TTL, TWO, Bench, content
from tests.cache.samples import APP, LATEST, WEB
from tests.parts import lies
from tests.parts.guarded import EXPIRED_AT_ECR, EXPIRED_AT_PUBLIC_ECR, Guarded, Redirecting, WithoutDigests
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.listings import ListingRegistry, google
from tests.parts.quirks import PAGE_OF_A_FRONT, REFUSED_HEADS, WITHOUT_REFERRERS

Open = Callable[..., ProxiedRepository]
OTHER = RepositoryName("acme/other")
ALICE = Credential("alice", "secret")
UNHURRIED = UpstreamTimings()
QUICK = UpstreamTimings(connect=1.0, read=1.0)
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": str(TWO.descriptor.digest), "size": len(TWO.raw)}],
    }
).encode()


@pytest.fixture
async def opened(bench: Bench) -> AsyncIterator[Open]:
    """`opened(upstream, image)` opens an image; the clients of one upstream and one user are one."""
    bench.shared.absences = Absences(timedelta(seconds=10))
    clients: dict[tuple[str, str, int], tuple[RegistryClient, Egress]] = {}

    def open_image(
        upstream: Liar,
        image: RepositoryName = APP,
        credential: Callable[[], Credential | None] = lambda: None,
        truthful: bool = False,
        logins: Logins | None = None,
        worker: int = 0,
        timings: UpstreamTimings = UNHURRIED,
        heads: UselessHeads | None = None,
        hosts: frozenset[str] = frozenset(),
    ) -> ProxiedRepository:
        user = credential()
        key = (upstream.url, user.username if user else "", worker)
        if key not in clients:
            origin, egress = origin_of(upstream.url), Egress(Reach(hosts, private_addresses=True, timings=timings))
            source = Source(origin, CredentialId(key[1]))
            tokens = Tokens(origin, frozenset(), credential, logins=logins)
            client = RegistryClient(source, upstream.url, egress, tokens, truthful_heads=truthful, heads=heads)
            clients[key] = client, egress
        return ProxiedRepository(bench.shared, clients[key][0], image)

    yield open_image
    for _, egress in clients.values():
        await egress.close()


def offer(upstream: Liar) -> Liar:
    upstream.offer_manifest("latest", OCI_MANIFEST, ONE.raw)
    upstream.offer_blob(CONTENT)
    return upstream


async def hold(bench: Bench, image: ProxiedRepository) -> None:
    """Cache the tag and the blob for an image."""
    assert (await image.manifest(LATEST)).manifest == ONE
    assert await content(await image.blob(BLOB)) == CONTENT
    await bench.landed()


def outcome(found: FoundManifest) -> Outcome:
    return found.status.outcome


async def blob_outcome(image: ProxiedRepository) -> Outcome:
    found = await image.blob(BLOB)
    assert await content(found) == CONTENT
    return found.status.outcome


# A HEAD is not the last word on what a GET would say.


@pytest.mark.parametrize("quirk", REFUSED_HEADS)
async def test_a_right_to_a_shared_blob_is_proved_by_get_where_head_says_less(
    quirk: str, bench: Bench, opened: Open, liar: Liar
) -> None:
    offer(liar)
    await hold(bench, opened(liar))
    liar.behave("/blobs/", REFUSED_HEADS[quirk], "HEAD")
    found = await opened(liar, WEB).blob(BLOB)
    assert (await content(found), found.status) == (CONTENT, MISS)
    proof = liar.requests.select(method="GET", path_contains=f"{WEB}/blobs/")
    assert [request.header("range") for request in proof] == ["bytes=0-0"]
    assert await blob_outcome(opened(liar, WEB)) is Outcome.HIT


@pytest.mark.parametrize("quirk", REFUSED_HEADS)
async def test_no_right_is_won_or_lost_by_a_head_that_proves_nothing(
    quirk: str, bench: Bench, opened: Open, liar: Liar
) -> None:
    offer(liar)
    await hold(bench, opened(liar))
    liar.behave("/", REFUSED_HEADS[quirk], "HEAD")
    liar.behave(f"{WEB}/blobs/", lies.refused(404), "GET")
    with pytest.raises(BlobUnknown):
        await opened(liar, WEB).blob(BLOB)
    bench.clock.advance(TTL)
    assert outcome(await opened(liar).manifest(LATEST)) is Outcome.REVALIDATED
    assert await blob_outcome(opened(liar)) is Outcome.HIT


@pytest.mark.parametrize("quirk", REFUSED_HEADS)
async def test_a_tag_whose_head_is_refused_is_found_and_seen_to_move(
    quirk: str, bench: Bench, opened: Open, liar: Liar
) -> None:
    offer(liar)
    liar.behave("/manifests/", REFUSED_HEADS[quirk], "HEAD")
    assert (await opened(liar).stat_manifest(LATEST)).descriptor == ONE.descriptor
    assert (await opened(liar).manifest(LATEST)).manifest == ONE
    liar.offer_manifest("latest", OCI_MANIFEST, TWO.raw)
    bench.clock.advance(TTL)
    found = await opened(liar).manifest(LATEST)
    assert (found.manifest, found.status) == (TWO, MISS)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_an_outage_that_a_head_meets_is_no_reason_for_a_get(
    status: int, bench: Bench, opened: Open, liar: Liar
) -> None:
    offer(liar)
    await hold(bench, opened(liar))
    liar.behave("/", lies.refused(status), "HEAD")
    gets = liar.requests.count(method="GET")
    with pytest.raises(UpstreamUnavailable):
        await opened(liar, WEB).stat_blob(BLOB)
    bench.clock.advance(TTL)
    assert outcome(await opened(liar).manifest(LATEST)) is Outcome.STALE
    assert liar.requests.count(method="GET") == gets


@pytest.mark.parametrize("status", [429, 500, 502, 503, None])
async def test_an_outage_that_a_proof_meets_is_no_reason_for_a_get(
    status: int | None, bench: Bench, opened: Open, liar: Liar
) -> None:
    offer(liar)
    await hold(bench, opened(liar, timings=QUICK))
    liar.behave("/", lies.refused(status) if status else lies.stalled(-1), "HEAD")
    gets = liar.requests.count(method="GET")
    for pull in (opened(liar, WEB).blob(BLOB), opened(liar, OTHER).manifest(ONE.descriptor.digest)):
        with pytest.raises(UpstreamUnavailable):
            await pull
    assert liar.requests.count(method="GET") == gets
    liar.honest()
    assert await blob_outcome(opened(liar)) is Outcome.HIT


@pytest.mark.parametrize("quirk", REFUSED_HEADS)
async def test_heads_that_prove_nothing_again_and_again_are_left_out_for_a_while(
    quirk: str, bench: Bench, opened: Open, liar: Liar
) -> None:
    now = [1000.0]
    offer(liar)
    heads = UselessHeads(lambda: now[0])
    await hold(bench, opened(liar, heads=heads))
    liar.behave("/", REFUSED_HEADS[quirk], "HEAD")

    async def requests_of_a_pull(number: int) -> list[str]:
        name = RepositoryName(f"acme/image{number}")
        assert await blob_outcome(opened(liar, name)) is Outcome.MISS
        assert outcome(await opened(liar, name).manifest(ONE.descriptor.digest)) is Outcome.MISS
        return [request.method for request in liar.requests.select(path_contains=str(name))]

    for number in range(USELESS_AFTER):
        assert await requests_of_a_pull(number) == ["HEAD", "GET"] * 2
    assert await requests_of_a_pull(10) == ["GET"] * 2
    bench.clock.advance(TTL)
    heads_sent = liar.requests.count(method="HEAD")
    assert outcome(await opened(liar).manifest(LATEST)) is Outcome.REVALIDATED
    assert liar.requests.count(method="HEAD") == heads_sent
    now[0] += REMEMBERED
    assert await requests_of_a_pull(11) == ["HEAD", "GET"] * 2
    assert await requests_of_a_pull(12) == ["GET"] * 2
    now[0] += REMEMBERED
    liar.honest()
    assert await requests_of_a_pull(13) == ["HEAD"] * 2
    assert await requests_of_a_pull(14) == ["HEAD"] * 2


async def test_a_head_that_may_cost_less_than_a_get_is_always_sent(opened: Open, liar: Liar) -> None:
    offer(liar)
    liar.behave("/manifests/", REFUSED_HEADS["405"], "HEAD")
    for number in range(2 * USELESS_AFTER):
        image = opened(liar, RepositoryName(f"acme/image{number}"), truthful=True)
        assert (await image.stat_manifest(LATEST)).descriptor == ONE.descriptor
    assert liar.requests.count(method="HEAD") == 2 * USELESS_AFTER


@pytest.mark.parametrize(
    ("stated", "passed_on"), [(None, "5"), ("0", "1"), ("17", "17"), ("86400", "60"), ("soon", "5")]
)
async def test_the_retry_after_of_an_outage_is_passed_on_within_bounds(
    stated: str | None, passed_on: str, opened: Open, liar: Liar
) -> None:
    liar.behave("/", lies.refused(503, "UNAVAILABLE", stated))
    for pull in (
        opened(liar).manifest(LATEST),
        opened(liar, WEB).stat_manifest(LATEST),
        opened(liar, OTHER).blob(BLOB),
        opened(liar, RepositoryName("acme/listed")).tags(None),
    ):
        with pytest.raises(UpstreamUnavailable) as caught:
            await pull
        assert caught.value.headers["Retry-After"] == passed_on


async def test_the_retry_after_of_a_token_service_s_outage_is_passed_on(opened: Open) -> None:
    with Guarded("Bearer") as registry:
        registry.front = lies.refused(503, "UNAVAILABLE", 17)
        with pytest.raises(UpstreamUnavailable) as caught:
            await opened(registry).manifest(LATEST)
        assert caught.value.headers["Retry-After"] == "17"


async def test_the_head_of_a_registry_that_tells_the_truth_costs_no_get(opened: Open, liar: Liar) -> None:
    for _ in range(2):
        with pytest.raises(ManifestUnknown):
            await opened(liar, truthful=True).stat_manifest(LATEST)
    assert [request.method for request in liar.requests.select()] == ["HEAD"]


async def test_heads_that_are_not_supported_open_no_circuit(opened: Open, liar: Liar) -> None:
    offer(liar)
    liar.behave("/", REFUSED_HEADS["501"], "HEAD")
    for _ in range(8):
        assert (await opened(liar).stat_blob(BLOB)).size == len(CONTENT)


async def test_a_check_where_no_digest_is_named_is_revalidated(bench: Bench, opened: Open) -> None:
    with WithoutDigests() as registry:
        offer(registry)
        await opened(registry).manifest(LATEST)
        bench.clock.advance(TTL)
        assert outcome(await opened(registry).manifest(LATEST)) is Outcome.REVALIDATED
        assert [request.status for request in registry.requests.select(method="GET")] == [200, 304]
        registry.behave("/", Lie(headers={"ETag": None}), "GET")
        bench.clock.advance(TTL)
        assert outcome(await opened(registry).manifest(LATEST)) is Outcome.REVALIDATED


# A registry behind redirects is the registry.


async def test_a_tag_that_is_gone_behind_a_redirect_is_unknown(bench: Bench, opened: Open, liar: Liar) -> None:
    offer(liar)
    with Redirecting(liar) as front:
        await opened(front).manifest(LATEST)
        gone = Tag("gone")
        for _ in range(3):
            with pytest.raises(ManifestUnknown):
                await opened(front).manifest(gone)
        assert front.requests.count(path_contains="gone") == 1
        del liar.manifests["latest"]
        bench.clock.advance(TTL)
        with pytest.raises(ManifestUnknown):
            await opened(front).manifest(LATEST)
        bench.clock.advance(TTL)
        liar.behave("/", lies.refused(503))
        with pytest.raises(UpstreamUnavailable):
            await opened(front).manifest(LATEST)


async def test_a_list_behind_a_redirect_is_read_to_its_end(opened: Open) -> None:
    """registry.k8s.io loses the query of a request, so its pages have the size that their host likes."""
    names = [f"v{number:03}" for number in range(230)]
    with ListingRegistry(google, names) as registry, Redirecting(registry) as front:
        found = await opened(front).tags(100)
        assert found.page.tags == names[:100]
        assert found.page.next is not None
        assert (await opened(front).tags(200, found.page.next)).page.tags == names[100:]


async def test_a_list_that_is_absent_behind_a_redirect_is_unknown(opened: Open, liar: Liar) -> None:
    liar.behave("/tags/list", lies.refused(404, "NAME_UNKNOWN"))
    with Redirecting(liar) as front, pytest.raises(NameUnknown):
        await opened(front).tags(None)


@pytest.mark.parametrize("status", [401, 403, 429, 503])
async def test_a_refusal_behind_a_redirect_leaves_what_is_held(
    status: int, bench: Bench, opened: Open, liar: Liar
) -> None:
    offer(liar)
    with Redirecting(liar) as front:
        await opened(front).manifest(LATEST)
        bench.clock.advance(TTL)
        liar.behave("/", lies.refused(status))
        found = await opened(front).manifest(LATEST)
        assert (found.manifest, outcome(found)) == (ONE, Outcome.STALE)


@pytest.fixture
def chosen_host(liar: Liar) -> Iterator[Liar]:
    """A host to which one image's owner has the registry redirect: it states what is asked for, and has none of it."""
    with Liar() as host:
        offer(host)
        host.behave("/", lies.flipped(0), "GET")
        liar.behave(f"{OTHER}/blobs/", lies.redirected(f"{host.url}/v2/{OTHER}/blobs/{BLOB}"))
        liar.behave(f"{OTHER}/manifests/", lies.redirected(f"{host.url}/v2/{OTHER}/manifests/latest"))
        yield host


@pytest.mark.parametrize("refused", ["", "HEAD"])
async def test_a_host_that_an_image_s_owner_chose_proves_no_right(
    refused: str, bench: Bench, opened: Open, liar: Liar, chosen_host: Liar
) -> None:
    await hold(bench, opened(offer(liar)))
    if refused:
        chosen_host.behave("/", lies.refused(405), refused)
    with pytest.raises(UpstreamInvalid):
        await content(await opened(liar, OTHER).blob(BLOB))
    with pytest.raises(UpstreamInvalid):
        await opened(liar, OTHER).manifest(ONE.descriptor.digest)


@pytest.mark.parametrize("refused", ["", "HEAD"])
async def test_a_host_that_an_image_s_owner_chose_lets_no_one_join_a_download(
    refused: str, opened: Open, liar: Liar, chosen_host: Liar
) -> None:
    offer(liar).behave(f"{APP}/blobs/", lie := lies.stalled(len(CONTENT) // 2))
    assert lie.hold is not None
    if refused:
        chosen_host.behave("/", lies.refused(405), refused)
    running = await opened(liar).blob(BLOB)
    with pytest.raises(UpstreamInvalid):
        await content(await opened(liar, OTHER).blob(BLOB))
    lie.hold.release()
    assert await content(running) == CONTENT


async def test_a_host_that_the_settings_name_proves_a_right(
    bench: Bench, opened: Open, liar: Liar, chosen_host: Liar
) -> None:
    named = frozenset({chosen_host.netloc})
    await hold(bench, opened(offer(liar), hosts=named))
    assert await content(await opened(liar, OTHER, hosts=named).blob(BLOB)) == CONTENT
    assert (await opened(liar, OTHER, hosts=named).manifest(ONE.descriptor.digest)).manifest == ONE


async def test_a_redirect_s_target_that_demands_a_token_gets_an_anonymous_one(opened: Open) -> None:
    with Guarded("Bearer", alice="other") as registry, Redirecting(registry, "vendor") as front:
        offer(registry).public = {f"vendor/{APP}", f"vendor/{WEB}"}  # type: ignore[attr-defined]
        for image in (APP, WEB):
            assert (await opened(front, image, lambda: ALICE).manifest(LATEST)).manifest == ONE
        registry.expire()
        assert await content(await opened(front, APP, lambda: ALICE).blob(BLOB)) == CONTENT
        sent = [request.header("authorization") or "" for request in registry.requests.select()]
        assert not any("Basic" in value for value in sent)
        with pytest.raises(ManifestUnknown, match="responded with 401"):
            await opened(front, OTHER, lambda: ALICE).manifest(LATEST)


async def test_useless_heads_behind_a_redirect_count_for_their_image_alone(opened: Open, liar: Liar) -> None:
    offer(liar)
    heads = UselessHeads()
    liar.behave("/manifests/", REFUSED_HEADS["405"], "HEAD")
    with Redirecting(liar) as front:
        for tag in (Tag(f"t{number}") for number in range(USELESS_AFTER)):
            liar.offer_manifest(str(tag), OCI_MANIFEST, ONE.raw)
            assert (await opened(front, heads=heads).stat_manifest(tag)).descriptor == ONE.descriptor
        assert heads.are_useless(HeadKind.MANIFEST, APP)
        assert not heads.are_useless(HeadKind.MANIFEST, WEB)


async def test_a_limit_of_a_redirect_s_target_is_none_of_the_upstream(opened: Open) -> None:
    with Guarded("Bearer", alice="other") as registry, Redirecting(registry, "vendor") as front:
        offer(registry).public = {f"vendor/{APP}", f"vendor/{WEB}"}  # type: ignore[attr-defined]
        registry.front = lies.refused(429, retry_after=86_400)
        with pytest.raises(UpstreamUnavailable, match="received too many requests"):
            await opened(front, APP).manifest(LATEST)
        registry.front = None
        assert (await opened(front, WEB).manifest(LATEST)).manifest == ONE


@pytest.mark.parametrize("quirk", WITHOUT_REFERRERS)
async def test_referrers_that_are_absent_in_other_words_come_from_the_fallback_tag(
    quirk: str, opened: Open, liar: Liar
) -> None:
    liar.behave("/referrers/", WITHOUT_REFERRERS[quirk])
    subject = ONE.descriptor.digest
    assert (await opened(liar).referrers(subject, None)).page.manifests == []
    liar.offer_manifest(f"sha256-{subject.hex}", OCI_INDEX, INDEX)
    assert len((await opened(liar, WEB).referrers(subject, None)).page.manifests) == 1


@pytest.mark.parametrize("status", [404, 429])
async def test_referrers_that_lead_to_a_web_page_come_from_the_fallback_tag(
    status: int, opened: Open, liar: Liar
) -> None:
    """As at ghcr.io: https://github.com/artifacthub/hub/issues/4785."""
    subject = ONE.descriptor.digest
    liar.offer_manifest(f"sha256-{subject.hex}", OCI_INDEX, INDEX)
    with Liar() as pages:
        liar.behave("/referrers/", lies.redirected(f"{pages.url}/-/v2/packages/x", 303))
        pages.behave("/-/", lies.html(status))
        assert len((await opened(liar).referrers(subject, None)).page.manifests) == 1


# Who said no, and why.


@pytest.mark.parametrize("expired", [None, EXPIRED_AT_ECR, Lie(status=401, body=b"", headers={})])
async def test_a_password_that_ran_out_is_an_outage_until_the_next_one(
    expired: Lie | None, bench: Bench, opened: Open
) -> None:
    password = ["secret"]
    with Guarded("Basic", alice="secret") as registry:
        offer(registry)
        registry.expired = expired

        def image(name: RepositoryName = APP) -> ProxiedRepository:
            return opened(registry, name, lambda: Credential("alice", password[0]))

        await hold(bench, image())
        registry.users = {"alice": "next"}
        bench.clock.advance(TTL)
        found = await image().manifest(LATEST)
        assert (found.manifest, outcome(found)) == (ONE, Outcome.STALE)
        assert "alice" in found.status.warning
        assert outcome(await image().manifest(ONE.descriptor.digest)) is Outcome.HIT
        assert await blob_outcome(image()) is Outcome.HIT
        with pytest.raises(UpstreamUnavailable, match="alice"):
            await image(WEB).manifest(LATEST)
        password[0] = "next"
        assert outcome(await image().manifest(LATEST)) is Outcome.REVALIDATED


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
async def test_an_image_that_the_registry_refuses_to_a_good_credential_is_lost(
    scheme: str, bench: Bench, opened: Open
) -> None:
    with Guarded(scheme, alice="secret") as registry:
        offer(registry)
        for name in (APP, WEB):
            await hold(bench, opened(registry, name, lambda: ALICE))
        registry.closed = {APP.text}
        bench.clock.advance(TTL)
        for reference in (LATEST, ONE.descriptor.digest):
            with pytest.raises(ManifestUnknown):
                await opened(registry, APP, lambda: ALICE).manifest(reference)
        with pytest.raises(BlobUnknown):
            await opened(registry, APP, lambda: ALICE).blob(BLOB)
        assert outcome(await opened(registry, WEB, lambda: ALICE).manifest(LATEST)) is Outcome.REVALIDATED


@pytest.mark.parametrize("expired", [None, EXPIRED_AT_ECR, EXPIRED_AT_PUBLIC_ECR, Lie(status=401, body=b"")])
async def test_a_dead_token_is_renewed_however_it_is_refused(expired: Lie | None, bench: Bench, opened: Open) -> None:
    with Guarded("Bearer", alice="secret") as registry:
        offer(registry)
        await hold(bench, opened(registry, APP, lambda: ALICE))
        registry.expired = expired
        registry.expire()
        bench.clock.advance(TTL)
        assert outcome(await opened(registry, APP, lambda: ALICE).manifest(LATEST)) is Outcome.REVALIDATED
        registry.expire()
        del registry.manifests["latest"]
        bench.clock.advance(TTL)
        with pytest.raises(ManifestUnknown):
            await opened(registry, APP, lambda: ALICE).manifest(LATEST)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_registry_that_hides_from_strangers_is_asked_for_its_challenge(status: int, opened: Open) -> None:
    with Guarded("Basic", alice="secret") as registry:
        offer(registry).hides = status  # type: ignore[attr-defined]
        assert (await opened(registry, APP, lambda: ALICE).manifest(LATEST)).manifest == ONE
        with pytest.raises(ManifestUnknown):
            await opened(registry).manifest(LATEST)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_what_no_registry_says_takes_nothing_and_is_not_remembered(
    status: int, bench: Bench, opened: Open, liar: Liar
) -> None:
    offer(liar)
    await hold(bench, opened(liar))
    headers = PAGE_OF_A_FRONT.headers
    liar.behave("/v2/", Lie(status=status, body=PAGE_OF_A_FRONT.body, headers=headers))
    bench.clock.advance(TTL)
    found = await opened(liar).manifest(LATEST)
    assert (found.manifest, outcome(found)) == (ONE, Outcome.STALE)
    for name in [RepositoryName(f"acme/unknown{number}") for number in range(8)]:
        with pytest.raises(ManifestUnknown, match=f"{liar.netloc} responded with {status}"):
            await opened(liar, name).manifest(LATEST)
    with pytest.raises(BlobUnknown, match=f"responded with {status}"):
        await opened(liar, WEB).blob(BLOB)
    liar.honest()
    assert (await opened(liar, RepositoryName("acme/unknown0")).manifest(LATEST)).manifest == ONE


async def test_a_refusal_is_remembered_more_briefly_than_an_absence(bench: Bench, opened: Open, liar: Liar) -> None:
    liar.behave(f"{APP}/", lies.refused(403, "DENIED"))
    for image in (APP, WEB):
        with pytest.raises(ManifestUnknown):
            await opened(liar, image).manifest(LATEST)
    liar.honest()
    offer(liar)
    bench.clock.advance(timedelta(seconds=3))
    assert (await opened(liar, APP).manifest(LATEST)).manifest == ONE
    with pytest.raises(ManifestUnknown):
        await opened(liar, WEB).manifest(LATEST)


async def test_what_is_remembered_is_refused_for_the_reason_that_the_upstream_had(
    bench: Bench, opened: Open, liar: Liar
) -> None:
    liar.behave(f"{APP}/", lies.refused(403, "DENIED"))
    for image, said in (
        (APP, f"refuses access to {APP} without a login"),
        (WEB, f"does not have this content in {WEB}"),
    ):
        reasons = []
        for _ in range(2):
            with pytest.raises(ManifestUnknown) as refused:
                await opened(liar, image).manifest(LATEST)
            reasons.append(refused.value.reason)
            bench.clock.advance(timedelta(seconds=1))
        assert said in reasons[0]
        assert reasons[1] == f"{reasons[0]} (said 1 s ago)"


# Some images do not speak for a registry.


async def test_images_that_fail_again_and_again_take_no_other_away(opened: Open, liar: Liar) -> None:
    """As kubelets do that pull broken images, and back off."""
    offer(liar)
    liar.behave("/v2/broken/", lies.refused(500))
    for number in range(40):
        with pytest.raises(UpstreamUnavailable):
            await opened(liar, RepositoryName(f"broken/image{number % 3}")).manifest(LATEST)
        assert (await opened(liar, RepositoryName(f"good/image{number}")).manifest(LATEST)).manifest == ONE


async def test_an_image_that_is_being_imported_takes_no_other_away(bench: Bench, opened: Open, liar: Liar) -> None:
    offer(liar)
    liar.behave("/v2/new/image/manifests/", lies.refused(404, "NOT_FOUND"), "HEAD")
    liar.behave("/v2/new/image/manifests/", lies.refused(503))
    for number in range(10):
        with pytest.raises(UpstreamUnavailable):
            await opened(liar, RepositoryName("new/image")).manifest(LATEST)
        assert (await opened(liar, RepositoryName(f"good/image{number}")).manifest(LATEST)).manifest == ONE
    liar.honest()
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await opened(liar, RepositoryName("new/image")).manifest(LATEST)).manifest == ONE
                return
            except UpstreamUnavailable as error:
                await asyncio.sleep(min(float(error.headers["Retry-After"]), 0.1))


async def test_a_list_that_is_slow_stops_no_manifest_of_its_image(opened: Open, liar: Liar) -> None:
    offer(liar)
    liar.behave("/tags/list", lies.stalled(-1))
    lists = (opened(liar, timings=QUICK).tags(10, PageStart(after=tag)) for tag in ("a", "b", "c", "d"))
    late = await asyncio.gather(*lists, return_exceptions=True)
    assert all(isinstance(error, UpstreamUnavailable) for error in late)
    assert liar.requests.count(path_contains="/tags/list") == 4
    assert (await opened(liar).manifest(LATEST)).manifest == ONE


@pytest.mark.parametrize("user", ["", "alice"])
async def test_a_firewall_s_page_before_the_token_service_is_no_refusal(user: str, bench: Bench, opened: Open) -> None:
    def credential() -> Credential | None:
        return ALICE if user else None

    with Guarded("Bearer", alice="secret") as registry:
        offer(registry).public = {APP.text}  # type: ignore[attr-defined]
        await opened(registry, APP, credential).manifest(LATEST)
        registry.expire()
        registry.front = PAGE_OF_A_FRONT
        bench.clock.advance(TTL)
        assert outcome(await opened(registry, APP, credential).manifest(LATEST)) is Outcome.STALE
        with pytest.raises(ManifestUnknown, match="responded with 403"):
            await opened(registry, WEB, credential).manifest(LATEST)
        registry.front = None
        assert outcome(await opened(registry, APP, credential).manifest(LATEST)) is Outcome.REVALIDATED


# A rejected password is not tried in a loop.


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
async def test_a_password_that_was_refused_is_presented_again_only_after_a_pause(
    scheme: str, opened: Open, tmp_path: Path
) -> None:
    """Docker Hub locks an account after some wrong ones: https://github.com/goharbor/harbor/issues/22569."""
    now, password, path = [1_000_000.0], ["old"], tmp_path / "limits.json"
    with Guarded(scheme, alice="secret") as registry:
        offer(registry)

        def worker() -> Open:
            """Opens images in a process of its own, which shares the ledger's file."""
            logins = Logins(Ledger(path, lambda: now[0]), Source(origin_of(registry.url), CredentialId("alice")))
            return partial(opened, registry, credential=lambda: login(password[0]), logins=logins, worker=len(workers))

        workers: list[Open] = []
        workers += [worker()]
        workers += [worker()]

        def presented() -> int:
            return sum("Basic" in (request.header("authorization") or "") for request in registry.requests.select())

        async def pull_everywhere() -> int:
            before = presented()
            for number in range(3):
                for open_image in workers:
                    with pytest.raises(UpstreamUnavailable, match="alice"):
                        await open_image(RepositoryName(f"acme/image{number}")).manifest(LATEST)
            return presented() - before

        assert await pull_everywhere() == 2
        for pause in (10, 20, 40):
            now[0] += pause - 1
            assert await pull_everywhere() == 0
            now[0] += 2
            assert await pull_everywhere() == 2
        password[0] = "secret"
        for open_image in workers:
            assert (await open_image(APP).manifest(LATEST)).manifest == ONE
        registry.expire()
        assert (await workers[0](WEB).manifest(LATEST)).manifest == ONE


async def test_pulls_at_the_same_time_present_an_unknown_password_once(opened: Open) -> None:
    with Guarded("Bearer", alice="secret") as registry:
        offer(registry)
        images = [opened(registry, RepositoryName(f"acme/{number}"), lambda: login("wrong")) for number in range(8)]
        found = await asyncio.gather(*(image.manifest(LATEST) for image in images), return_exceptions=True)
        assert all(isinstance(error, UpstreamUnavailable) for error in found)
        presented = [request for request in registry.requests.select() if request.header("authorization")]
        assert len(presented) == 2


async def test_a_token_service_that_refuses_one_image_stops_no_other(opened: Open) -> None:
    with Guarded("Bearer", alice="secret") as registry:
        offer(registry)
        registry.refused_scopes = {f"repository:{OTHER}:pull"}
        for image, served in ((OTHER, False), (APP, True)):
            if served:
                assert (await opened(registry, image, lambda: ALICE).manifest(LATEST)).manifest == ONE
            else:
                with pytest.raises(UpstreamUnavailable, match="alice"):
                    await opened(registry, image, lambda: ALICE).manifest(LATEST)


def login(password: str) -> Credential:
    return Credential("alice", password, f"version of {password}")
