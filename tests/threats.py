"""The threats that the tests answer, and what happens when a defence is taken away.

python -m tests.threats                  writes tests/THREATS.md from this table
python -m tests.threats --disarm WORD    takes away the defences whose names hold WORD, one at a time, in a copy of
                                         the project, and runs their tests, which must fail
python -m tests.threats --disarm all
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.faults.table import section

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "tests" / "THREATS.md"


@dataclass(frozen=True, slots=True)
class Disarm:
    """One change that takes a defence away: `old`, which stands once in `file`, becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Threat:
    """`disarm` is None where there is no line of code to remove, since nothing here does what would be dangerous."""

    name: str
    threat: str
    answer: str
    tests: tuple[str, ...]
    disarm: Disarm | None = None


THREATS = [
    Threat(
        "foreign token service",
        "An upstream names a token service of an attacker, who gets our password.",
        "A credential goes to the upstream's own origin and to the hosts named in `token_hosts`; else nothing is sent.",
        (
            "tests/cache/upstream/test_tokens.py::test_a_foreign_realm_sees_neither_credential_nor_request",
            "tests/e2e/test_lying_upstream.py::test_a_foreign_token_service_hears_nothing",
        ),
        Disarm("cache/upstream/tokens.py", "if not declared & self._token_hosts:", "if False:"),
    ),
    Threat(
        "credential on a redirect",
        "A redirect leads to another host, and the token goes along.",
        "Redirects are walked by hand, five at the most; the credential is dropped once the origin was left.",
        (
            "tests/cache/upstream/test_registry_client.py::test_the_credential_is_dropped_where_the_origin_changes",
            "tests/cache/upstream/test_registry_client.py::test_a_way_back_from_a_stranger_does_not_bring_the_credential_back",
            "tests/cache/upstream/test_registry_client.py::test_five_redirects_are_followed_and_no_more",
        ),
        Disarm(
            "cache/upstream/registry_client.py", "own = own and origin_of(url) == self.source.origin", "own = own or bool(url)"
        ),
    ),
    Threat(
        "redirect to plain http",
        "A redirect leaves TLS, and whoever listens reads or changes the bytes.",
        "From https only https is followed.",
        ("tests/cache/upstream/test_registry_client.py::test_a_redirect_from_https_to_http_is_not_followed",),
        Disarm(
            "cache/upstream/urls.py", 'if origin.scheme == "http" and urlsplit(url).scheme == "https":', "if False:"
        ),
    ),
    Threat(
        "addresses in a manifest",
        "A descriptor's `urls` make the gateway fetch from where an attacker wants.",
        "They are kept byte for byte and followed by nothing.",
        ("tests/security/test_read_path.py::test_addresses_in_a_manifest_are_not_visited",),
    ),
    Threat(
        "private networks",
        "A URL, a redirect or a name that changes its address leads into the operator's network.",
        "Every address of a name is checked for each new connection, and the connection goes to the checked one.",
        (
            "tests/cache/upstream/test_egress.py::test_a_name_that_leads_to_a_private_address_is_not_connected_to",
            "tests/cache/upstream/test_egress.py::test_one_private_address_among_public_ones_is_refused",
            "tests/cache/upstream/test_egress.py::test_the_addresses_of_every_new_connection_are_looked_up_anew",
            "tests/cache/upstream/test_resolver.py::test_an_address_that_hides_in_another_is_not_public",
        ),
        Disarm("cache/upstream/egress.py", "if not self.reach.private_addresses and", "if False and"),
    ),
    Threat(
        "proxies of the environment",
        "A variable of the environment sends all traffic and its tokens through a stranger.",
        "Only the proxy of the settings is used.",
        ("tests/cache/upstream/test_egress.py::test_a_proxy_in_the_environment_is_ignored",),
    ),
    Threat(
        "two kinds in one document",
        "A document is an image to one reader and an index to another.",
        "It must be exactly one of them, without equal keys, and of the media type it came with.",
        ("tests/cache/oci/test_manifest.py",),
        Disarm("cache/oci/manifest.py", "if index_keys and image_keys:", "if False:"),
    ),
    Threat(
        "pages for content",
        "An upstream, or a box in between, answers 200 with a page of HTML.",
        "A manifest must come as a manifest's media type, a blob never as HTML; nothing is stored.",
        (
            "tests/cache/upstream/test_registry_client.py::test_a_page_of_html_is_no_blob",
            "tests/e2e/test_lying_upstream.py::test_a_manifest_is_right_or_is_not_given",
        ),
        Disarm(
            "cache/upstream/registry_client.py", '(response.headers.get("content-type", "")) == "text/html":', "(str()) == '1':"
        ),
    ),
    Threat(
        "two names for one image",
        "Spellings of a name have entries of their own, and one is poisoned.",
        "A name is brought to one form before anything is looked up; the key holds origin and credential.",
        ("tests/e2e/test_first_pull.py::test_every_spelling_of_an_image_is_one_image",),
    ),
    Threat(
        "wrong bytes",
        "An upstream sends bytes that do not have the digest, and clients or the cache take them.",
        "The last 32 KiB of every response wait for the verdict; nothing gets its final name before it.",
        ("tests/e2e/test_lying_upstream.py::test_a_blob_is_right_or_does_not_complete",),
        Disarm("cache/download/flight.py", "end = min(end, limit - TAIL)", "end = min(end, limit)"),
    ),
    Threat(
        "wrong bytes in the cache",
        "What does not have its digest is stored and served from then on.",
        "A spool is committed only after its digest and length hold.",
        ("tests/cache/store/test_spool.py",),
        Disarm("cache/store/spool.py", "if self._hasher.hexdigest() != self._expected.hex:", "if False:"),
    ),
    Threat(
        "digests that are none",
        "A digest with a path, another algorithm or other letters names a file or a request.",
        "sha256 with 64 and sha512 with 128 lower-case digits; paths are made of these alone.",
        (
            "tests/cache/oci/test_digest.py",
            "tests/gateway/v2/test_bad_input.py::test_it_is_refused_with_a_code_and_a_reason",
        ),
        Disarm("cache/oci/digest.py", "if len(hex_) != length or not _HEX.fullmatch(hex_):", "if False:"),
    ),
    Threat(
        "paths that climb",
        "Dots, escapes or NUL in a path reach files or other requests.",
        "Names are checked against the grammar, escapes are refused on the raw path, files are named by digests.",
        (
            "tests/gateway/v2/test_bad_input.py::test_a_running_server_touches_nothing_for_any_of_them",
            "tests/gateway/v2/test_endpoint.py::test_no_other_escape_is_let_through",
        ),
        Disarm(
            "gateway/v2/endpoint.py",
            'if b"%" in raw_path and b"%" in raw_path.lower().replace(b"%3a", b""):',
            "if False:",
        ),
    ),
    Threat(
        "telling what is cached",
        "An answer tells somebody without a right that a blob or image is here.",
        "Without a link the upstream is asked with the asker's own credential, and refuses as it would without a cache.",
        (
            "tests/e2e/test_rights.py::test_an_image_that_the_upstream_does_not_show_is_unknown_though_its_bytes_are_here",
            "tests/security/test_read_path.py::test_what_is_here_and_what_is_not_are_refused_in_the_same_words",
        ),
        Disarm(
            "cache/proxy/blobs.py",
            "self._bytes_of_own_origin(link.digest) and await self._asking.shown(",
            "self._bytes_of_own_origin(link.digest) or await self._asking.shown(",
        ),
    ),
    Threat(
        "rights that were lost",
        "A credential loses an image, and the cache goes on serving it.",
        "A refusal of a fresh token revokes all links and pointers of the image.",
        ("tests/e2e/test_tags.py::test_a_credential_that_loses_an_image_loses_what_is_cached_of_it",),
        Disarm(
            "cache/proxy/upstream_calls.py",
            "if isinstance(error, AccessDenied) and self._client.has_credential:",
            "if False:",
        ),
    ),
    Threat(
        "private images for strangers",
        "What one group pulled with its credential is served to another.",
        "Links belong to origin and credential; a flight is joined for another image only after a proof of its own.",
        (
            "tests/e2e/test_tags.py::test_a_private_image_is_not_there_for_strangers",
            "tests/e2e/test_rights.py::test_a_running_download_is_not_joined_by_an_image_that_may_not",
        ),
        Disarm("cache/proxy/blobs.py", "if flight and self._image not in flight.images and not proved:", "if False:"),
    ),
    Threat(
        "credentials for the world",
        "An open group shows everybody what the server's own account may read.",
        "A configured credential serves a group with anonymous pull only where it is named.",
        (
            "tests/gateway/test_upstreams.py",
            "tests/e2e/test_tags.py::test_an_open_group_that_is_not_named_is_a_stranger",
        ),
        Disarm("gateway/upstreams.py", "or (not self.groups and not group.anonymous_pull)", "or not self.groups"),
    ),
    Threat(
        "open proxies by accident",
        "A server that is reached from outside serves everybody.",
        "Groups with anonymous pull are served only if all addresses are on loopback, unless the setting says otherwise.",
        (
            "tests/e2e/test_commands.py::test_strangers_are_served_beyond_loopback_only_if_the_settings_say_so",
            "tests/e2e/test_addresses.py::test_one_address_beyond_this_machine_closes_what_is_open_to_strangers",
        ),
        Disarm("gateway/auth/permissions.py", "if principal.kind is Kind.ANONYMOUS and not open_proxy:", "if False:"),
    ),
    Threat(
        "doors that open in a storm",
        "When the upstream is limited or down, the check of a right is skipped.",
        "Whatever is not a yes is a no: what was not linked before is not given.",
        ("tests/security/test_read_path.py::test_a_right_is_not_won_while_the_upstream_cannot_be_asked",),
        Disarm(
            "cache/proxy/blobs.py",
            "self._bytes_of_own_origin(link.digest) and await self._asking.shown(",
            "self._bytes_of_own_origin(link.digest) or await self._asking.shown(",
        ),
    ),
    Threat(
        "heads without end",
        "Headers, tokens or targets of any size take memory and time.",
        "32 KiB and 100 lines for a head, 8 KiB for a target and for Authorization.",
        ("tests/security/test_vectors.py::test_alone_it_is_answered_or_closed_as_the_table_says",),
        Disarm("gateway/server/request_head.py", "if len(target) > TARGET_LIMIT:", "if False:"),
    ),
    Threat(
        "documents without end",
        "A manifest of any size or depth takes memory and time.",
        "4 MiB while it is read, 1,000 descriptors, 64 levels.",
        (
            "tests/cache/upstream/test_registry_client.py::test_a_manifest_of_more_than_four_mebibytes_is_not_read_to_its_end",
            "tests/cache/oci/test_manifest.py",
        ),
        Disarm(
            "cache/upstream/registry_client.py", "raw = yield Read(response, SIZE_LIMIT)", "raw = yield Read(response, 1 << 40)"
        ),
    ),
    Threat(
        "bodies without end",
        "A client sends a body to a path that takes none, for ever.",
        "What is not wanted is read on within bounds of bytes and seconds, and then the connection ends.",
        (
            "tests/gateway/http/test_drain.py::test_a_body_without_end_is_read_up_to_the_limit",
            "tests/gateway/http/test_drain.py::test_a_push_of_a_big_body_to_a_proxied_name_gets_its_answer",
        ),
        Disarm("gateway/http/drain.py", "while not read_all and drained < self._limits.bytes:", "while not read_all:"),
    ),
    Threat(
        "bombs",
        "A small compressed body grows without bound when it is unpacked.",
        "Nothing on the request path unpacks: identity is asked for, and raw bytes are hashed, whatever they are.",
        ("tests/security/test_read_path.py::test_nothing_is_unpacked",),
        Disarm(
            "cache/upstream/egress.py",
            "async for part in response.aiter_raw():",
            "async for part in response.aiter_bytes():",
        ),
    ),
    Threat(
        "ranges without end",
        "A Range header of thousands of parts costs time for each.",
        "One range or the whole.",
        ("tests/gateway/http/test_conditional.py::test_ten_thousand_ranges_cost_no_more_than_two",),
    ),
    Threat(
        "patterns that explode",
        "A text makes a backtracking pattern run for ever.",
        "The patterns on foreign text have no nested repetition; the challenge parser is timed against a long one.",
        ("tests/cache/upstream/test_tokens.py::test_a_long_senseless_header_is_read_in_no_time",),
    ),
    Threat(
        "smuggled requests",
        "Two readers take one head for two different requests.",
        "What can be read in two ways is refused before the parser sees it, and the connection closed.",
        (
            "tests/security/test_vectors.py::test_alone_it_is_answered_or_closed_as_the_table_says",
            "tests/security/test_vectors.py::test_behind_a_proxy_no_more_is_handled_than_was_sent",
        ),
        Disarm("gateway/server/request_head.py", '_check_framing(checked, version == b"1.0")', "pass"),
    ),
    Threat(
        "names that clients call us",
        "Host or a forwarding header ends up in a link, or decides something.",
        "Links are made from `external_url` alone; no forwarding header is read.",
        (
            "tests/gateway/server/test_wire.py::test_nothing_that_a_client_calls_the_server_comes_back",
            "tests/e2e/test_discovery.py::test_tags_come_in_pages_whose_links_bear_the_external_url",
        ),
        Disarm(
            "gateway/v2/pull.py",
            'url = f"{options.external_url}/v2/',
            "url = f\"http://{request.headers['host']}/v2/",
        ),
    ),
    Threat(
        "virtual hosts by any name",
        "A client invents a Host, and reaches another tenant's images or finds its own words in a link.",
        "Host chooses among the configured names alone; links bear the name from the settings.",
        (
            "tests/e2e/test_addresses.py::test_a_host_that_is_not_configured_changes_nothing_and_never_comes_back",
            "tests/e2e/test_addresses.py::test_links_to_further_tags_stay_on_the_way_that_the_client_came",
        ),
        Disarm(
            "gateway/v2/root_selection.py",
            'self._hosts.get(host.lower().partition(b":")[0], self._main)',
            "next(iter(self._hosts.values()))",
        ),
    ),
    Threat(
        "a proxy to anywhere",
        "`?ns=` makes the gateway ask a host of the client's choice, inside the network or outside.",
        "It chooses among the configured upstreams alone; any other is NAME_UNKNOWN, and no address is made from it.",
        ("tests/e2e/test_addresses.py::test_a_namespace_reaches_what_is_configured_and_nothing_else",),
        Disarm(
            "gateway/v2/root_selection.py",
            "raise _unknown(namespace, self._upstreams)",
            "return next(iter(self._foreign.values()))",
        ),
    ),
    Threat(
        "an image of another registry",
        "A mirror of one registry is asked for another one's image by `?ns=`, and gives its own of that name.",
        "An address that belongs to one upstream refuses every `ns` that means another.",
        ("tests/e2e/test_addresses.py::test_an_address_of_one_upstream_answers_for_no_other_and_takes_nothing",),
        Disarm("gateway/v2/root_selection.py", "raise _unknown(namespace, [self._upstream])", "return self._app"),
    ),
    Threat(
        "HTTP/2",
        "Streams are reset by the thousand, or never end when their body fails.",
        "HTTP/1.x alone: no upgrade, no prior knowledge, no other protocol in the TLS handshake.",
        (
            "tests/security/test_vectors.py::test_alone_it_is_answered_or_closed_as_the_table_says",
            "tests/security/test_tls.py",
        ),
        Disarm(
            "gateway/server/tls.py", 'context.set_alpn_protocols(["http/1.1"])', 'context.set_alpn_protocols(["h2"])'
        ),
    ),
    Threat(
        "slow clients",
        "Heads, bodies or readers that trickle hold connections for ever.",
        "10 s for a head, 1 KiB/s over 30 s for a body, 60 s without progress for an answer, and a cap on connections.",
        ("tests/security/test_slow_clients.py", "tests/gateway/http/test_stalls.py"),
        Disarm(
            "gateway/http/stalls.py",
            "elif loop.time() - self._progress_at >= self._timeout - _CHECK_SECONDS:",
            "elif False:",
        ),
    ),
    Threat(
        "stale rights",
        "What a credential lost, or another never had, is served because the upstream is down and nobody can ask.",
        "An outage only ever keeps alive what was confirmed: a refusal takes links and pointers with it at once.",
        ("tests/e2e/test_freshness.py::test_an_outage_gives_nothing_back_that_a_refusal_took",),
        Disarm(
            "cache/proxy/upstream_calls.py",
            "await self._all.index.forget(self._source, self._image)",
            "pass",
        ),
    ),
    Threat(
        "around the gate",
        "A new image that a group still waits for is pulled by digest, or by the digests of its layers.",
        "What is part of nothing but manifests that are withheld is withheld too, by digest, HEAD and referrers.",
        (
            "tests/cache/proxy/test_gated.py::test_what_only_a_withheld_manifest_refers_to_is_withheld_and_what_is_shared_is_not",
            "tests/cache/proxy/test_gated.py::test_the_parts_of_a_withheld_index_are_withheld",
        ),
        Disarm("cache/proxy/gated.py", "if digest not in kept_back:", "if True:"),
    ),
    Threat(
        "young tags",
        "A tag is moved to something malicious, and pulled by everybody within minutes.",
        "A group may wait: a tag means what it meant before until the new digest is old enough, by this server's clock.",
        (
            "tests/cache/policy/test_gate.py::test_a_tag_in_its_cooldown_means_the_last_digest_that_is_old_enough",
            "tests/cache/proxy/test_gated.py::test_a_tag_that_moved_too_lately_is_answered_with_what_it_meant_before",
        ),
        Disarm("cache/policy/gate.py", "if now - since >= gate.cooldown:", "if True:"),
    ),
    Threat(
        "all at once",
        "Five hundred hostile sockets and an upstream that lies, for a minute.",
        "No wrong body completes, nothing foreign is sent anywhere, nothing is left open, and cached pulls go on.",
        ("tests/security/test_storm.py::test_a_storm_leaves_nothing_behind",),
        Disarm("cache/download/flight.py", "end = min(end, limit - TAIL)", "end = min(end, limit)"),
    ),
    Threat(
        "a worker dies",
        "One of the processes that serve is killed or falls over, and takes the others or their clients along.",
        "It is replaced at once; the others share the address, not the fate. Who dies at its start has to wait.",
        (
            "tests/gateway/processes/test_supervisor.py::test_connections_to_the_other_workers_notice_nothing_of_a_death",
            "tests/gateway/processes/test_supervisor.py::test_the_only_worker_is_replaced_too",
            "tests/gateway/processes/test_supervisor.py::test_a_worker_that_dies_at_its_start_is_started_again_after_a_pause",
        ),
        Disarm(
            "gateway/processes/worker_pool.py",
            "                        self._start_who_is_due()",
            "                        time.sleep(0)",
        ),
    ),
    Threat(
        "a filler dies",
        "The worker that brings a blob is killed in the midst of it, and those who follow elsewhere wait for ever.",
        "Its lease ends with it; another worker hashes what is there anew and asks for the rest.",
        (
            "tests/cache/download/test_shared_fill.py::test_a_live_follower_takes_a_killed_process_s_place",
            "tests/e2e/test_many_workers.py::test_a_killed_filler_costs_its_own_clients_their_answer_and_nobody_else",
        ),
        Disarm("cache/download/flight_thread.py", "if gone or now - tried > TAKE_AFTER:", "if gone:"),
    ),
    Threat(
        "several fillers",
        "Every worker fetches the same blob, and the upstream counts them all.",
        "One lease of the host for each source and digest; the others follow the file that its holder fills.",
        ("tests/cache/download/test_shared_fill.py::test_many_in_many_workers_follow_one",),
        Disarm("cache/lease/local.py", "if not try_lock_byte(descriptor, offset, shared=shared):", "if False:"),
    ),
    Threat(
        "another worker's unverified bytes",
        "Who follows the file of another process gets its end before the digest holds, or takes its loss for the end.",
        "The end waits for a mark that the inode carries and that is set after the digest held.",
        ("tests/cache/download/test_shared_fill.py::test_the_tail_waits_for_the_mark",),
        Disarm("cache/download/spool_watch.py", "done = marked(status)", "done = view.count == view.note.size"),
    ),
    Threat(
        "another image's right",
        "An image gets bytes without a right because another worker fetches them for an image that has it.",
        "Only the image for which was fetched is proved by the answer; any other asks for itself.",
        (
            "tests/cache/download/test_shared_fill.py::test_another_worker_s_answer_proves_the_right_of_its_own_image_alone",
            "tests/e2e/test_many_workers.py::test_an_image_without_the_right_gets_nothing_from_another_worker_either",
        ),
        Disarm("cache/download/flight.py", "and (self.proved or image != self.image)", "and bool(self.images)"),
    ),
    Threat(
        "a machine that stopped",
        "After a power loss a part has holes where bytes were in memory alone, and is gone on with.",
        "A part counts in the same run of the machine only, and all of it is hashed again.",
        (
            "tests/cache/download/test_shared_fill.py::test_what_was_in_memory_before_the_machine_stopped_is_not_relied_on",
        ),
        Disarm(
            "cache/download/leased_spool.py",
            "(view.note.source, view.note.boot) != (source, boot())",
            "view.note.source != source",
        ),
    ),
    Threat(
        "streams that break off",
        "An upstream resets, stalls or shortens a stream, or answers a request for the rest with something else.",
        "Three more tries, each for the rest or for the whole; halves that do not fit cost one new start.",
        ("tests/cache/download/test_resuming_fill.py",),
        Disarm("cache/download/resuming_fill.py", "ranged = fill.answered or not ranged", "ranged = True"),
    ),
    Threat(
        "streams that trickle",
        "An upstream sends a byte a second, and holds a spool, a thread and all its followers for a day.",
        "Less than 1 KiB/s over a minute ends a try, as 30 s without a byte do.",
        ("tests/cache/download/test_resuming_fill.py::test_a_trickle_is_ended_and_a_slow_stream_is_not",),
        Disarm("cache/download/retry.py", "if self._bytes < LEAST * (now - self._since):", "if self._bytes < 0:"),
    ),
    Threat(
        "a disk that is full or fails",
        "A blob that cannot be written is cut short, or wrong bytes before the failure are completed by right ones.",
        "Each client goes on over a stream of its own, hashed together with what it had; nothing is stored.",
        ("tests/cache/download/test_uncached.py", "tests/e2e/test_disk_full.py"),
        Disarm(
            "cache/download/uncached.py",
            "self._hash_beginning(self._beginning, hasher.update)",
            "hasher = self.digest.hasher()",
        ),
    ),
    Threat(
        "crashes in between",
        "A process dies between two steps of a fill and leaves part of a blob under its name.",
        "Written, hashed, marked, synced, renamed, synced, recorded, in this order; what was not renamed is no blob.",
        ("tests/e2e/test_crashes.py",),
    ),
    Threat(
        "orphans",
        "The first process is killed; its workers go on and hold the address and the data folder.",
        "The kernel ends them with their parent.",
        (
            "tests/gateway/processes/test_supervisor.py::test_workers_end_with_their_parent_and_leave_the_folder_and_the_port",
        ),
        Disarm("gateway/processes/worker.py", "    _end_with(post.parent)\n", "    int(post.parent)\n"),
    ),
    Threat(
        "descriptors run out",
        "More clients come than there are descriptors; the accept loop ends or turns without end.",
        "It pauses, and they wait in the backlog.",
        ("tests/gateway/processes/test_supervisor.py::test_a_worker_without_descriptors_waits_and_goes_on",),
        Disarm("gateway/server/acceptor.py", "            self._pause(error)\n", "            self.close()\n"),
    ),
    Threat(
        "a full disk at the start",
        "A server that was stopped does not start any more, because its databases cannot be opened.",
        "A ballast file is kept, which goes first; then go cached blobs, as few as are needed.",
        ("tests/gateway/processes/test_supervisor.py::test_on_a_full_disk_a_server_starts_and_serves_what_it_has",),
        Disarm("gateway/cli/folder.py", "    data_folder.make_room(data)\n", ""),
    ),
    Threat(
        "an upstream that hangs",
        "It accepts requests and answers none, until threads, connections and patience for all others are used up.",
        "Connections, name lookups and circuits belong to one upstream each; nothing is shared between two.",
        (
            "tests/e2e/test_broken_upstreams.py::test_an_upstream_that_hangs_under_three_hundred_requests_slows_no_other",
            "tests/cache/upstream/test_egress.py::test_a_name_that_hangs_ends_in_time_and_does_not_hold_up_another_upstream",
        ),
        Disarm(
            "cache/upstream/egress.py",
            "self._checked(await asyncio.wait_for(asyncio.shield(found), timeout))",
            "self._checked(await found)",
        ),
    ),
    Threat(
        "an upstream that is dead",
        "Every pull waits for its time limit, also those that the cache could answer.",
        "After three outages in a row a host is not asked; probes find out when it lives again.",
        (
            "tests/e2e/test_broken_upstreams.py::test_a_dead_upstream_is_refused_at_once_and_asked_again_by_itself",
            "tests/cache/upstream/test_circuit_breaker.py",
        ),
        Disarm(
            "cache/upstream/circuit_breaker.py",
            "if len(row) >= TRIP_AFTER else counted",
            "if len(row) >= 1000 else counted",
        ),
    ),
    Threat(
        "one image against all",
        "Somebody pulls an image that the upstream fails for again and again, so that the whole upstream is given up.",
        "What fails after the host was reached counts for the host once per image; alone, it closes only itself.",
        (
            "tests/e2e/test_broken_upstreams.py::test_an_image_that_fails_alone_takes_no_other_image_away",
            "tests/cache/upstream/test_circuit_breaker.py",
        ),
        Disarm("cache/upstream/circuit_breaker.py", "if of and of in circuit.row:", "if False:"),
    ),
    Threat(
        "limits used up for others",
        "An upstream's limit is reached, and every client's retry makes it longer, or a group takes all that is left.",
        "After a 429 nothing that counts is sent by any worker until the time it names; groups take turns.",
        (
            "tests/e2e/test_quota.py::test_a_herd_on_a_limit_that_is_used_up_sends_nothing_and_gets_all_that_is_cached",
            "tests/cache/upstream/test_ledger.py::test_a_pause_holds_for_every_process_at_once_and_for_no_other_credential",
            "tests/cache/proxy/test_queue.py",
        ),
        Disarm("cache/upstream/ledger.py", "self._refuse(known, ask, now)\n        self._pulling", "self._pulling"),
    ),
    Threat(
        "mirrors that learn or decide too much",
        "A mirror sees a credential, or says what an account may read, or moves a tag back that is cached.",
        "Mirrors are asked for anonymous sources alone, and for tags only while the upstream is silent and none is here.",
        (
            "tests/e2e/test_mirrors.py::test_pulls_with_a_credential_never_ask_a_mirror",
            "tests/e2e/test_mirrors.py::test_a_tag_that_is_cached_is_not_moved_by_a_mirror",
            "tests/cache/upstream/test_mirrors.py",
        ),
        Disarm("gateway/upstreams.py", "if not primary.source.credential.is_anonymous or not upstream.mirrors:", "if not upstream.mirrors:"),
    ),
    Threat(
        "answers that trickle",
        "A head, a token or a manifest arrives a byte at a time and holds its connection for ever.",
        "A head has 20 s from the connection on, and what is read as a whole has 20 s more.",
        (
            "tests/cache/upstream/test_egress.py::test_a_head_that_trickles_in_for_ever_ends",
            "tests/cache/upstream/test_egress.py::test_a_body_that_trickles_in_for_ever_ends",
        ),
        Disarm("cache/upstream/egress.py", 'until = getattr(_hurry, "until", None)', "return timeout"),
    ),
    Threat(
        "secrets that show",
        "A password or token is in a log, an error, a file of the data folder or a page.",
        "Errors and logs name hosts and users only; passwords at rest are sealed, and a whole run is searched for them.",
        ("tests/security/test_secrets.py",),
        Disarm(
            "gateway/keys/upstream_login.py",
            "sealed = sealer.seal(login.password, _context(group))",
            "sealed = login.password",
        ),
    ),
    Threat(
        "damaged cache file",
        "A crash, a disk or a person cuts, empties or removes a file of the cache, and clients get less than the whole.",
        "A file counts as here only with the size that was recorded when it was verified; else it is a miss, and fetched.",
        (
            "tests/cache/proxy/test_stored_blobs.py",
            "tests/e2e/test_damage.py::test_a_damaged_file_is_a_miss_and_is_repaired",
        ),
        Disarm("cache/proxy/stored_blobs.py", "if blob is not None and blob.size == size:", "if blob is not None:"),
    ),
    Threat(
        "bit rot",
        "Bytes of a cached file change without its size.",
        "`cache verify` and a slow reading in the background hold everything to its digest, quarantine and fetch again.",
        (
            "tests/cache/retention/test_scrub.py",
            "tests/e2e/test_damage.py::test_the_scrub_finds_and_heals_in_the_background",
        ),
        Disarm("cache/retention/scrub.py", "return pace.over or hasher.hexdigest() == digest.hex", "return True"),
    ),
    Threat(
        "evicted while it is read",
        "A file goes from under its readers, and takes room on the disk all the same.",
        "A reader holds a shared lock on its file, in whatever process; what is locked is passed over.",
        (
            "tests/cache/retention/test_sweep.py::test_what_somebody_reads_stays_until_it_is_closed",
            "tests/cache/retention/test_sweep.py::test_what_another_process_reads_stays",
        ),
        Disarm("cache/store/filesystem.py", "if not try_lock(descriptor):", "if False:"),
    ),
    Threat(
        "out of descriptors",
        "With no descriptor left a whole file looks unreadable, and is dropped and fetched again, or answered 500.",
        "That says nothing of the file: 503 with Retry-After, and nothing is dropped.",
        ("tests/cache/proxy/test_stored_blobs.py::test_a_want_of_descriptors_is_no_damage_and_said_so",),
        Disarm("cache/proxy/stored_blobs.py", "if is_exhausted(error):", "if False:"),
    ),
    Threat(
        "metrics for strangers",
        "Whoever reaches the server reads its metrics; or a loopback address is believed that a reverse proxy gave all.",
        "Without a token they are read where the server's own addresses are loopback; else a bearer token is wanted.",
        (
            "tests/gateway/test_ops.py::test_without_a_token_they_are_read_on_a_loopback_server_alone",
            "tests/gateway/test_ops.py::test_with_a_token_file_the_metrics_want_the_token",
            "tests/gateway/test_ops.py::test_an_empty_or_missing_token_file_lets_nobody_in",
        ),
        Disarm("gateway/ops.py", "        if not options.loopback_only:", "        if False:"),
    ),
    Threat(
        "empty metrics token",
        "The token file is empty or gone, and an empty token opens the metrics.",
        "A file without a token lets nobody in.",
        ("tests/gateway/test_ops.py::test_an_empty_or_missing_token_file_lets_nobody_in",),
        Disarm("gateway/ops.py", "    if not token:\n", "    if False:\n"),
    ),
    Threat(
        "names in labels",
        "Names of images or users become labels: the metrics tell them, and grow with every name that somebody invents.",
        "Labels come from enums and from configured upstreams.",
        ("tests/gateway/test_ops.py::test_pulls_count_what_came_and_what_went",),
    ),
    Threat(
        "forged log line",
        "A path, a query or a header holds line breaks or escapes of a terminal, and writes a line of its own.",
        "Values that are not printable are quoted; the path is logged as it came, with its escapes.",
        (
            "tests/gateway/test_ops.py::test_a_line_is_one_line_whatever_is_in_it",
            "tests/gateway/test_ops.py::test_nothing_that_a_client_sends_forges_a_line",
        ),
        Disarm(
            "gateway/observability/logs.py", "return text if text.isprintable() and not any", "return text if not any"
        ),
    ),
]


def page() -> str:
    rows = "\n".join(
        f"| {t.name} | {t.threat} | {t.answer} | {'<br>'.join(f'`{test}`' for test in t.tests)} | "
        f"{f'`{t.disarm.file}`' if t.disarm else 'nothing to remove'} |"
        for t in THREATS
    )
    return (
        "# Threats and the tests that answer them\n\n"
        "Written by `python -m tests.threats` from `tests/threats.py`. That a test can fail is shown by taking its defence\n"
        "away: `python -m tests.threats --disarm NAME` (or `all`) changes the file of the last column in a copy of the\n"
        "project and runs the tests of the row, at least one of which must then fail.\n\n"
        "| threat | what happens | answer | tests | taken away in |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n{section()}"
    )


def disarmed(threat: Threat) -> bool:
    """Whether the tests of a threat fail without its defence."""
    assert threat.disarm is not None
    with tempfile.TemporaryDirectory(prefix="disarmed-") as name:
        copy = Path(name) / "project"
        for folder in ("cache", "gateway", "tests"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        shutil.copy(ROOT / "README.md", copy)
        target = copy / threat.disarm.file
        target.write_text(target.read_text().replace(threat.disarm.old, threat.disarm.new))
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *threat.tests]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    print(f"{threat.name}: {(done.stdout.strip().splitlines() or ['nothing'])[-1]}", flush=True)
    return done.returncode == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disarm", metavar="WORD")
    word = parser.parse_args().disarm
    if word is None:
        PAGE.write_text(page())
        return 0
    chosen = [threat for threat in THREATS if threat.disarm and (word == "all" or word in threat.name)]
    survivors = [threat.name for threat in chosen if not disarmed(threat)]
    print(f"{len(chosen)} defences taken away; tests that did not notice: {', '.join(survivors) or 'none'}")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
