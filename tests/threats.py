"""The threats that the tests cover, and a command that removes each defence to show that its tests then fail.

python -m tests.threats                  writes tests/THREATS.md from this table
python -m tests.threats --disarm WORD    removes the defences whose names contain WORD, one at a time, in a copy of
                                         the project, and runs their tests, which must then fail
python -m tests.threats --disarm all     does this for every defence
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

from tests.faults.table import section

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "tests" / "THREATS.md"

PUBLIC = "tests/cache/proxy/test_public_registries.py"
IDENTITY = "tests/gateway/directory/test_identity.py"
RIGHTS = "tests/gateway/v2/test_rights.py"
PERMISSIONS = "tests/gateway/auth/test_permissions.py"
PASSWORD_LOGINS = "tests/gateway/auth/test_password_logins.py"
AUTHORISATION = "tests/security/test_authorisation.py"
UPLOADS = "tests/gateway/v2/test_uploads.py"
MANIFESTS = "tests/gateway/v2/test_manifests.py"
PUSHED_DOCUMENTS = "tests/gateway/v2/test_pushed_documents.py"
COLLECTOR = "tests/gateway/registry/test_collector.py"
NATIVE_NAMES = "tests/gateway/v2/test_native_names.py"
CATALOG = "tests/gateway/v2/test_catalog.py"
OLD_NAMES = "tests/gateway/v2/test_old_names.py"
OLD_PATHS = "tests/gateway/directory/test_old_paths.py"
MOVES = "tests/gateway/db/test_moves.py"
LONG_PUSHES = "tests/gateway/v2/test_long_pushes.py"
AUDIT_FILE = "tests/gateway/audit/test_file.py"
AUDIT_LOG = "tests/gateway/audit/test_log.py"
AUDIT_EVENTS = "tests/gateway/api/test_audit_events.py"
WEBHOOKS = "tests/gateway/api/test_webhooks.py"
RATE_LIMITS = "tests/gateway/api/test_rate_limits.py"
NOTIFIER = "tests/gateway/notifications/test_notifier.py"
VIRTUAL_CLIENTS = "tests/gateway/virtual/test_clients.py"
EGRESS = "tests/cache/upstream/test_egress.py"
TURNS = "tests/gateway/notifications/test_turns.py"
POSTING = "tests/cache/upstream/test_posting.py"
AUDITED = "tests/gateway/v2/test_audited.py"
REST = "tests/gateway/api"
WEB = "tests/gateway/web"
LOG_LINES = "tests/gateway/observability/test_log_lines.py"
REST_USERS = "tests/gateway/api/test_users.py"
REST_TOKENS = "tests/gateway/api/test_personal_tokens.py"
ID_TOKENS = "tests/gateway/v2/test_id_tokens.py"
CLEANUP = "tests/gateway/registry/test_cleanup.py"
CLEANER = "tests/gateway/registry/test_cleaner.py"
PROTECTION = "tests/gateway/v2/test_protection.py"
CHAINED = "tests/cache/proxy/test_chained.py"
VIRTUAL = "tests/gateway/api/test_virtual_registries.py"
GITLAB = "tests/gateway/v2/test_gitlab.py"
PROTECTION_RULES = "tests/gateway/namespaces/test_protection.py"


@dataclass(frozen=True, slots=True)
class Disarm:
    """A change that removes a defence: `old`, which occurs once in `file`, is replaced by `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Threat:
    """A threat, its defence and its tests. `disarm` is None if no code does the dangerous thing: no line to remove."""

    name: str
    threat: str
    defence: str
    tests: tuple[str, ...]
    disarm: Disarm | None = None


THREATS = [
    Threat(
        "foreign token service",
        "An upstream names an attacker's token service, which receives our password.",
        "A credential is sent only to the upstream's own origin and to the hosts in `token_hosts`.",
        (
            "tests/cache/upstream/test_tokens.py::test_a_foreign_realm_sees_neither_credential_nor_request",
            "tests/e2e/test_lying_upstream.py::test_a_foreign_token_service_hears_nothing",
        ),
        Disarm("cache/upstream/tokens.py", "if at_stake and not declared & self._token_hosts:", "if False:"),
    ),
    Threat(
        "another host through the proxy",
        "An upstream behind an outbound proxy, which checks no address, redirects into the network or names a token service there.",
        "Each request goes to the upstream's own host, or to one in `token_hosts` or `redirect_hosts`.",
        (
            "tests/cache/upstream/test_egress.py::test_behind_a_proxy_nothing_is_sent_to_another_host",
            "tests/e2e/test_reach.py::test_what_is_not_named_is_not_reached_through_the_proxy",
        ),
        Disarm("cache/upstream/egress.py", "if not self._reach.allows(origin.host, origin.port):", "if False:"),
    ),
    Threat(
        "certificate or header elsewhere",
        "The target of a redirect, or a token service elsewhere, is shown our client certificate or a fixed header.",
        "Both go to the upstream's own origin, over connections of their own, until a redirect leaves it.",
        ("tests/e2e/test_reach.py::test_certificate_and_fixed_headers_go_to_the_upstream_alone",),
        Disarm(
            "cache/upstream/egress.py",
            "return identity if identity and not redirected and origin_of(url) == identity.origin else None",
            "return identity",
        ),
    ),
    Threat(
        "certificate for an open group",
        "Everybody may pull from a group, and the server's certificate or fixed headers open private images to it.",
        "They are an account: only groups to which it is lent show them, and content belongs to that account.",
        ("tests/e2e/test_reach.py::test_a_group_that_does_not_use_the_account_shows_nothing",),
        Disarm(
            "gateway/upstreams.py",
            "if not upstream.has_identity or not upstream.lends_to(group):",
            "if not upstream.has_identity:",
        ),
    ),
    Threat(
        "two accounts at one registry",
        "Two upstreams name one registry, with accounts of one user name or none, and one shows what only the other may.",
        "The credential of a source holds the name of the upstream whose account it is.",
        ("tests/gateway/test_upstreams.py::test_accounts_of_two_upstreams_at_one_registry_are_two_sources",),
        Disarm("gateway/upstreams.py", "CredentialId(self.account, upstream=self.name)", "CredentialId(self.account)"),
    ),
    Threat(
        "headers shown by a command",
        "`config show` or a refused setting prints the secret in a fixed header.",
        "Only the names of headers are shown, and the paths of values that lie in files.",
        ("tests/gateway/settings/test_load.py",),
        Disarm("gateway/settings/keys.py", 'if key[-1:] != ("headers",):', "if True:"),
    ),
    Threat(
        "a slow password command",
        "A password is refused while the command that prints the next one runs, and the whole worker waits for it.",
        "To note a refusal waits for nothing; only threads that need the password wait for the command.",
        (
            "tests/gateway/keys/test_password_command.py::test_a_password_is_refused_at_once_also_while_the_command_runs",
        ),
        Disarm(
            "gateway/keys/password_command.py",
            "self._lock = threading.Lock()",
            "self._lock = self._obtaining = threading.RLock()",
        ),
    ),
    Threat(
        "output of a command",
        "A command for a password fails, and its output, a secret, goes to the log, to a client or to `doctor`.",
        "A failure names the reason alone; what the command prints, its errors too, is neither kept nor shown.",
        (
            "tests/gateway/keys/test_password_command.py::test_a_command_that_fails_is_named_without_its_output",
            "tests/e2e/test_reach.py::test_a_password_comes_from_a_command",
        ),
        Disarm(
            "gateway/keys/password_command.py",
            "ended with status {status}; what it printed is not shown",
            "ended with status {status}: {output!r}",
        ),
    ),
    Threat(
        "a shared password at rest",
        "The password that a command printed lies in a file for all workers, and whoever gets that file has it.",
        "It is sealed with the key file, for its command alone, readable by its user alone, and deleted at a start.",
        (
            "tests/gateway/keys/test_password_command.py::test_a_shared_password_is_sealed_and_ends_with_its_server",
            "tests/e2e/test_reach.py::test_a_command_is_run_once_for_all_workers_of_a_server",
        ),
        Disarm(
            "gateway/keys/shared_secret.py",
            "self._sealer.seal(secret, self._context).encode()",
            "secret.encode()",
        ),
    ),
    Threat(
        "a command that never ends",
        "A command for a password hangs, floods its output, or leaves children behind, and pulls wait for it.",
        "It has 15 s and 64 KiB; then it and its children are killed, and it rests for a moment.",
        ("tests/gateway/keys/test_password_command.py",),
        Disarm("gateway/keys/password_command.py", "if len(output) > _OUTPUT_LIMIT:", "if False:"),
    ),
    Threat(
        "credential on a redirect",
        "A redirect leads to another host, which receives the token.",
        "The client follows at most five redirects itself, and drops the credential once a redirect leaves the origin.",
        (
            "tests/cache/upstream/test_registry_client.py::test_the_credential_is_dropped_where_the_origin_changes",
            "tests/cache/upstream/test_registry_client.py::test_a_way_back_from_a_stranger_does_not_bring_the_credential_back",
            "tests/cache/upstream/test_registry_client.py::test_five_redirects_are_followed_and_no_more",
        ),
        Disarm(
            "cache/upstream/exchange.py",
            "own = own and origin_of(url) == self._source.origin",
            "own = own or bool(url)",
        ),
    ),
    Threat(
        "bytes fetched before a gate decides",
        "What a group withholds is fetched ahead from the upstream, and stored, before its gate refuses the manifest.",
        "Where a group has pins or a cooldown, blobs are fetched ahead only once its gate has let the manifest through.",
        ("tests/e2e/test_gate.py::test_no_layer_byte_precedes_a_refusal",),
        Disarm("gateway/repositories.py", "ahead=bool(client) and not withholds", "ahead=True"),
    ),
    Threat(
        "surplus bytes on a kept connection",
        "An upstream sends more than a response, and the surplus becomes the response to the next request.",
        "A connection is kept only while neither the library nor the system holds a byte beyond the last response.",
        (
            "tests/cache/upstream/test_kept_connections.py::test_a_response_whose_end_is_not_certain_closes_its_connection",
            "tests/cache/upstream/test_kept_connections.py::test_a_body_where_none_may_be_is_not_the_next_response",
            "tests/cache/upstream/test_kept_connections.py::test_bytes_after_a_blob_are_not_the_next_response",
            "tests/cache/upstream/test_kept_connections.py::test_what_arrives_between_two_requests_is_no_response",
            "tests/cache/upstream/test_kept_connections.py::test_what_arrives_before_the_first_request_is_no_response",
        ),
        Disarm(
            "cache/upstream/kept_connections.py",
            "return self._recent() and is_silent(self._inner)",
            "return True",
        ),
    ),
    Threat(
        "a body where none may be",
        "The body of a response to HEAD arrives late, behind the next request, and becomes its response.",
        "After a response without a body a connection rests for a moment.",
        (
            "tests/cache/upstream/test_kept_connections.py::test_a_response_without_body_leaves_time_for_one_that_comes_all_the_same",
        ),
        Disarm("cache/upstream/kept_connections.py", "(QUIET if self._bodiless else 0.0)", "0.0"),
    ),
    Threat(
        "a kept connection of another credential",
        "What follows a response to one credential becomes a response to another.",
        "Connections are pooled by origin and credential.",
        ("tests/cache/upstream/test_kept_connections.py::test_no_connection_serves_two_credentials",),
        Disarm("cache/upstream/connection_pools.py", "origin.port, request.extensions[CREDENTIAL])", "origin.port)"),
    ),
    Threat(
        "documents in tiny chunks",
        "An upstream sends a document in chunks of two bytes, and reading it holds the event loop for seconds.",
        "A body that is read as a whole is refused once it has arrived in too many pieces for its bytes.",
        ("tests/cache/upstream/test_egress.py::test_a_body_in_a_flood_of_small_pieces_is_refused",),
        Disarm("cache/upstream/egress.py", "if count > PIECES + size // LEAST_PIECE:", "if False:"),
    ),
    Threat(
        "spaces in a refusal",
        "A 429 whose text is 64 KiB of spaces holds the interpreter for minutes while a delay is sought in it.",
        "Expressions for texts of upstreams take each character once, or a bounded number of times.",
        ("tests/cache/upstream/test_allowance.py::test_a_delay_is_sought_in_linear_time",),
        Disarm("cache/upstream/allowance.py", r"\s*+[:=]?\s*+", r"\s*[:=]?\s*"),
    ),
    Threat(
        "scopes without bound",
        "The target of redirects names another scope of 100 KB for each request, and a token is kept for each.",
        "A scope that another registry names has a limit of characters; beyond it no token is requested.",
        ("tests/cache/upstream/test_tokens.py::test_no_token_is_kept_for_a_scope_of_any_length",),
        Disarm("cache/upstream/guests.py", " or len(scope) > SCOPE_LIMIT", ""),
    ),
    Threat(
        "responses that are left open",
        "An exchange fails, or is given up, between a response and its body: each keeps a connection, until none is left.",
        "What carries out an exchange closes all responses that it leaves open, unless it ends well.",
        (
            "tests/cache/upstream/test_flow.py::test_a_flow_that_fails_leaves_no_response_open",
            "tests/cache/upstream/test_flow.py::test_a_flow_that_is_cancelled_leaves_no_response_open",
        ),
        Disarm("cache/upstream/flow.py", "            await response.aclose()", "            pass"),
    ),
    Threat(
        "a kept connection that ended",
        "An upstream closes or resets kept connections, or sends noise, and clients' requests fail.",
        "A request that a kept connection fails is sent once more over a new one.",
        (
            "tests/cache/upstream/test_kept_connections.py::test_a_request_that_a_kept_connection_fails_is_sent_over_a_new_one",
        ),
        Disarm(
            "cache/upstream/kept_connections.py",
            "_BROKEN = (httpcore2.ReadError, httpcore2.WriteError, httpcore2.RemoteProtocolError)",
            "_BROKEN = ()",
        ),
    ),
    Threat(
        "kept connections without bound",
        "Many groups with logins of their own leave idle connections until descriptors run out.",
        "Few idle connections are kept for a pool, the least recently used pools are given up, and a timer closes them.",
        (
            "tests/cache/upstream/test_kept_connections.py::test_connections_of_credentials_that_are_not_used_are_closed",
        ),
        Disarm("cache/upstream/connection_pools.py", "if len(self._pools) > POOLS:", "if False:"),
    ),
    Threat(
        "credential over a token redirect",
        "A token service redirects to another host, which receives our password.",
        "The credential stays at the origin that the registry named, and does not come back once a redirect has left it.",
        (
            "tests/cache/upstream/test_tokens.py::test_a_redirect_to_another_host_carries_no_credential_even_where_it_is_known",
            "tests/e2e/test_token_services.py::test_a_token_service_may_redirect_and_the_credential_goes_to_no_other_host",
        ),
        Disarm("cache/upstream/tokens.py", "own = own and origin_of(url) == first", "own = True"),
    ),
    Threat(
        "token redirect to a stranger",
        "A token service redirects to a host that nobody named, which issues tokens in its place.",
        "Each target of a redirect is checked as the realm itself.",
        ("tests/cache/upstream/test_tokens.py::test_a_redirect_is_checked_as_a_realm_is",),
        Disarm(
            "cache/upstream/tokens.py", "host = self._check_realm(url, at_stake=credential is not None)", "host = host"
        ),
    ),
    Threat(
        "refusals that repeat the credential",
        "A token service writes our password into the reason of its refusal, and every client can read it.",
        "A reason that repeats the password, or what was sent of it, is left out.",
        ("tests/cache/upstream/test_tokens.py::test_the_error_says_what_the_refusal_says_but_never_the_credential",),
        Disarm("cache/upstream/refusals.py", 'shown.startswith("<") or repeats', 'shown.startswith("<")'),
    ),
    Threat(
        "demands after a token has expired",
        "A registry demands nothing that helps when a token has expired, and its images count as refused.",
        "The demand that led to a token is met again before the refusal is believed.",
        (
            "tests/cache/upstream/test_tokens.py::"
            "test_after_a_token_has_expired_a_challenge_that_leads_nowhere_is_not_the_last_word",
            "tests/e2e/test_token_services.py::test_a_token_that_expired_is_renewed_whatever_the_registry_demands_then",
        ),
        Disarm(
            "cache/upstream/tokens.py",
            '(first.get("bearer"), kept, first.get("basic"), known)',
            '(first.get("bearer"), first.get("basic"))',
        ),
    ),
    Threat(
        "delays in a message",
        "A registry states the delay of a 429 in its message alone, and nothing is pulled for half a minute.",
        "The delay is read from the message where no Retry-After states it.",
        (
            "tests/cache/upstream/test_allowance.py::test_a_delay_may_stand_in_the_message",
            "tests/e2e/test_token_services.py::test_a_delay_in_the_message_is_no_long_pause",
        ),
        Disarm("cache/upstream/allowance.py", 'found = _DELAY.search(body.decode("utf-8", "replace"))', "found = None"),
    ),
    Threat(
        "redirect to plain http",
        "A redirect leads to plain http, where an eavesdropper can read or change the bytes.",
        "A redirect from https is followed only to https.",
        ("tests/cache/upstream/test_registry_client.py::test_a_redirect_from_https_to_http_is_not_followed",),
        Disarm(
            "cache/upstream/urls.py", 'if origin.scheme == "http" and urlsplit(url).scheme == "https":', "if False:"
        ),
    ),
    Threat(
        "locations that are none",
        "A redirect leads to no URL, or to one that a library cannot send, and causes a 500.",
        "A location of other than printable ASCII, or without any, is not followed, and a clear error is returned.",
        ("tests/cache/upstream/test_odd_responses.py",),
        Disarm(
            "cache/upstream/urls.py",
            "if not location or not all(33 <= ord(character) <= 126 for character in location):",
            "if False:",
        ),
    ),
    Threat(
        "responses of any shape",
        "An upstream sends headers, dates, numbers or JSON that no parser expects, and causes a 500.",
        "Each is checked where it is parsed; whatever an upstream sends becomes an error of the upstream.",
        ("tests/cache/upstream/test_odd_responses.py",),
        Disarm(
            "cache/upstream/registry_client.py", "if found is not None and not isinstance(found, list):", "if False:"
        ),
    ),
    Threat(
        "addresses in a manifest",
        "A descriptor's `urls` make the gateway fetch from an address that an attacker chooses.",
        "`urls` are kept byte for byte, and no code follows them.",
        ("tests/security/test_read_path.py::test_addresses_in_a_manifest_are_not_visited",),
    ),
    Threat(
        "private networks",
        "A URL, a redirect or a name that changes its address leads into the operator's private network.",
        "Every address of the name is checked for each new connection, which is made to the checked address.",
        (
            "tests/cache/upstream/test_egress.py::test_a_name_that_leads_to_a_private_address_is_not_connected_to",
            "tests/cache/upstream/test_egress.py::test_one_private_address_among_public_ones_is_refused",
            "tests/cache/upstream/test_egress.py::test_the_addresses_of_every_new_connection_are_looked_up_anew",
            "tests/cache/upstream/test_resolver.py::test_an_address_that_hides_in_another_is_not_public",
        ),
        Disarm("cache/upstream/reach.py", "return self.private_addresses or _is", "return True or _is"),
    ),
    Threat(
        "proxies of the environment",
        "An environment variable routes all traffic, with its tokens, through a foreign proxy.",
        "Only the proxy in the settings is used.",
        ("tests/cache/upstream/test_egress.py::test_a_proxy_in_the_environment_is_ignored",),
    ),
    Threat(
        "two kinds in one document",
        "One reader parses a document as an image, another as an index.",
        "A document must be exactly one of the two, have no duplicate keys, and match the media type it was sent with.",
        ("tests/cache/oci/test_manifest.py",),
        Disarm("cache/oci/manifest.py", 'if index_keys and (image_keys or "fsLayers" in document):', "if False:"),
    ),
    Threat(
        "documents that depart from the specification",
        "A field that nobody can read, or null for a list, makes an image that every client pulls a 502.",
        "A descriptor without a digest is left out, null is absent, and the document is served as it came.",
        (
            "tests/cache/oci/test_manifest.py",
            "tests/e2e/test_found_documents.py::test_what_is_pulled_straight_is_pulled_byte_for_byte",
        ),
        Disarm("cache/oci/descriptor.py", "except DigestInvalid:", "except NotImplementedError:"),
    ),
    Threat(
        "headers sent twice",
        "A proxy repeats or quotes Content-Type or Docker-Content-Digest, and nothing can be pulled through it.",
        "A value that is repeated or quoted counts once; a digest that is none counts as absent.",
        (
            "tests/cache/oci/test_media_types.py",
            "tests/e2e/test_found_documents.py::test_headers_that_were_sent_twice_or_quoted_say_what_they_say",
        ),
        Disarm("cache/oci/media_types.py", "values.pop().strip() if len(values) == 1 else field", "field"),
    ),
    Threat(
        "images of schema 1",
        "Images in a format that nobody serves any more count as wrong bytes, until their circuit opens.",
        "They are refused by name, as content that is not there, and count for no circuit, fault or outage.",
        ("tests/e2e/test_found_documents.py::test_schema_1_is_refused_by_name_and_is_no_fault_of_the_host",),
        Disarm("cache/upstream/registry_client.py", "if media_type in SCHEMA_1 or", "if False and"),
    ),
    Threat(
        "layers that only their vendor serves",
        "One such layer makes warming an image fail, although the registry gave all that it has.",
        "Layers that are not distributable are left to the clients.",
        (
            "tests/cache/proxy/test_warming.py::test_layers_that_a_registry_does_not_serve_are_not_fetched",
            "tests/e2e/test_found_documents.py::test_a_layer_that_its_registry_does_not_serve_fails_no_warming",
        ),
        Disarm("cache/proxy/warming.py", "not entry.is_manifest and entry.is_distributable", "not entry.is_manifest"),
    ),
    Threat(
        "pages for content",
        "An upstream, or a middlebox, responds with status 200 and an HTML page.",
        "A manifest must have the media type of a manifest, and a blob must not be HTML; otherwise nothing is stored.",
        (
            "tests/cache/upstream/test_registry_client.py::test_a_page_of_html_is_no_blob",
            "tests/e2e/test_lying_upstream.py::test_a_manifest_is_right_or_is_not_given",
        ),
        Disarm(
            "cache/upstream/registry_client.py",
            'return essence(response.headers.get("content-type", "")) == "text/html"',
            "return False",
        ),
    ),
    Threat(
        "two names for one image",
        "Different spellings of a name have separate cache entries, and one of them is poisoned.",
        "A name is normalised before anything is looked up; the cache key holds origin and credential.",
        ("tests/e2e/test_first_pull.py::test_every_spelling_of_an_image_is_one_image",),
    ),
    Threat(
        "wrong bytes",
        "An upstream sends bytes that do not match the digest, and clients or the cache accept them.",
        "The last 32 KiB of a response wait until the digest is verified; no file gets its final name before.",
        ("tests/e2e/test_lying_upstream.py::test_a_blob_is_right_or_does_not_complete",),
        Disarm("cache/store/base.py", "stop if verified else stop - TAIL", "stop"),
    ),
    Threat(
        "wrong bytes in the cache",
        "Content that does not match its digest is stored, and served from then on.",
        "A spool is committed only after its digest and length are verified.",
        ("tests/cache/store/test_spool.py",),
        Disarm("cache/store/spool.py", "if actual != expected:", "if False:"),
    ),
    Threat(
        "digests that are none",
        "A malformed digest, with a path, another algorithm or other letters, is used as a file name or in a request.",
        "Only sha256 with 64 and sha512 with 128 lower-case digits are accepted; paths are made of these alone.",
        (
            "tests/cache/oci/test_digest.py",
            "tests/gateway/v2/test_bad_input.py::test_it_is_refused_with_a_code_and_a_reason",
        ),
        Disarm("cache/oci/digest.py", "if len(hex_) != length or not _HEX.fullmatch(hex_):", "if False:"),
    ),
    Threat(
        "paths that climb",
        "Dots, escapes or NUL in a path give access to files or are passed into other requests.",
        "Names are checked against the grammar, escapes in the raw path are refused, and files are named by digests.",
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
        "a quota filled at the same time",
        "Several uploads each find room in a quota, and together store more than it allows.",
        "What unfinished uploads have reserved counts, in the transaction that reserves more.",
        ("tests/gateway/db/test_quotas.py::test_parallel_uploads_reserve_no_more_than_the_quota",),
        Disarm(
            "gateway/db/quotas.py",
            "reserved = await _reserved(connection, _repositories.c.project_id == project.id, now)",
            "reserved = 0",
        ),
    ),
    Threat(
        "a quota that is gone around",
        "Content that no upload has brought, such as a mounted blob, is stored beyond the quota.",
        "Each new link of a blob is counted and checked in its transaction.",
        ("tests/gateway/db/test_quotas.py::test_a_blob_without_room_for_it_is_refused_and_not_counted",),
        Disarm("gateway/db/quotas.py", "    check_room(levels, size)\n", ""),
    ),
    Threat(
        "a group's quota that counts nothing",
        "Pushes are counted in their projects alone, and together they store more than their group may.",
        "Each write adds what it stores to every group above that has a quota, in its transaction.",
        ("tests/gateway/db/test_quotas.py::test_what_a_project_stores_is_right_after_any_changes",),
        Disarm(
            "gateway/db/quotas.py",
            "        await _add_to_groups(connection, _groups.c.path.in_(limited), size)\n",
            "        pass\n",
        ),
    ),
    Threat(
        "a deletion that holds every push up",
        "A project of countless tags is deleted in one statement: nobody pushes meanwhile, or it never succeeds.",
        "Its repositories are emptied in parts, each in a short transaction, and what was interrupted goes on.",
        ("tests/gateway/cli/test_repositories.py::test_a_deletion_that_was_interrupted_goes_on_when_it_is_repeated",),
        Disarm(
            "gateway/registry/deletion.py",
            "    while parts < most and await database.transact(delete_part):\n        parts += 1\n",
            "",
        ),
    ),
    Threat(
        "a pinned release whose images are collected",
        "Tags of a pinned project move on, and what the pin shows loses its manifests.",
        "What a pin shows counts as tagged, and is reviewed when the pin is lifted.",
        ("tests/gateway/db/test_pins.py::test_what_a_pin_shows_counts_as_tagged_and_is_reviewed_when_it_is_lifted",),
        Disarm("gateway/db/collection.py", "or_(tagged, pinned, listed)", "or_(tagged, listed)"),
    ),
    Threat(
        "a push that changes what is pinned",
        "A job pushes to a project that is pinned for a release, or deletes what the pin shows.",
        "Each change is refused in its transaction, and the refusal names the pin.",
        ("tests/e2e/test_history.py::test_a_pinned_project_is_pulled_as_it_was_and_takes_no_push",),
        Disarm(
            "gateway/registry/native.py",
            "                await pins.require_unpinned(connection, found.id)\n",
            "                pass\n",
        ),
    ),
    Threat(
        "a repository that is deleted by mistake",
        "A wrong name in a command deletes all images of a team, and nothing brings them back.",
        "A deleted repository is purged one delay later, and restored as it was until then.",
        (f"{COLLECTOR}::test_a_deleted_repository_is_kept_for_the_delay_and_leaves_no_file_after_it",),
        Disarm("gateway/registry/collector.py", "now - self._rule.delay, now)\n", "now, now)\n"),
    ),
    Threat(
        "an image that is deleted by its digest by mistake",
        "A pipeline deletes by a digest, as skopeo and reg do, and takes every tag of it: nothing brings them back.",
        "The manifest is kept beside the others for one delay, as long as its blobs are, and restored with each tag.",
        (
            f"{COLLECTOR}::test_a_manifest_that_was_deleted_by_its_digest_is_restored_with_each_of_its_tags_for_a_delay",
            "tests/e2e/test_history.py::test_what_skopeo_deletes_by_its_digest_is_restored_as_it_was",
        ),
        Disarm(
            "gateway/registry/native.py",
            "                await deleted_manifests.keep(connection, repository.id, digest, now)\n",
            "",
        ),
    ),
    Threat(
        "a deleted repository whose path is pushed to",
        "A pipeline pushes on after a deletion by mistake: the new repository stands in the way of every restore.",
        "Any deleted repository of a path is restored, and under another name where the path is taken.",
        (
            "tests/gateway/cli/test_repositories.py"
            "::test_a_repository_is_restored_also_where_pushes_have_made_another_one_at_its_path",
        ),
        Disarm("gateway/registry/restoring.py", "deleted.path if to is None else to", "deleted.path"),
    ),
    Threat(
        "a pin that holds every push up",
        "A group of thousands of repositories is pinned, one after the other: pushes get no turn for half a minute.",
        "All of them are pinned by a few statements.",
        ("tests/gateway/db/test_pins.py::test_a_pin_takes_as_many_statements_for_many_repositories_as_for_one",),
        Disarm(
            "gateway/db/pins.py",
            "for batch in batches(project.id for project in projects):",
            "for batch in ([project.id] for project in projects):",
        ),
    ),
    Threat(
        "a pinned project that is deleted",
        "A project is pinned for a release, and deleted by a command with all that the pin shows.",
        "The deletion is refused like that of its repositories, and names the pin.",
        ("tests/gateway/cli/test_repositories.py::test_a_pinned_project_is_not_deleted",),
        Disarm("gateway/registry/deletion.py", "if project.pinned_at is not None:", "if False:"),
    ),
    Threat(
        "a restore of a repository that is half gone",
        "A deleted repository is restored while its purge runs, and shows tags whose images are missing.",
        "The purge begins in a transaction after which it cannot be restored, and begins only if it was not.",
        (
            "tests/gateway/db/test_repositories.py::test_a_repository_is_not_restored_over_another_one_or_once_its_purge_has_begun",
        ),
        Disarm("gateway/db/repositories.py", ".values(deleted_name=None)", ".values(deleted_at=repository.deleted_at)"),
    ),
    Threat(
        "content that is added to a repository after its deletion",
        "An upload that began before the deletion is acknowledged, and nobody can pull it.",
        "Uploads end with the deletion, and what adds a blob to a deleted repository is refused.",
        (
            "tests/gateway/db/test_repositories.py::test_what_was_being_added_to_a_repository_that_was_deleted_is_refused",
        ),
        Disarm("gateway/db/blobs.py", "        await repositories.require_present(connection, repository_id)\n", ""),
    ),
    Threat(
        "a push that is told of content which is then collected",
        "A client leaves out what the registry says is there; it is collected before the manifest arrives.",
        "Whoever may push and is told of content puts its review off in the transaction that reads it.",
        (f"{COLLECTOR}::test_a_push_step_before_a_review_that_is_due_puts_it_off",),
        Disarm(
            "gateway/db/reviews.py",
            '{"which": str(digest), "repository": repository_id, "since": now}',
            '{"which": str(digest), "repository": 0, "since": now}',
        ),
    ),
    Threat(
        "a file that goes while its content is pushed again",
        "A blob is collected, pushed again before its file is deleted, and loses the file then.",
        "The file goes under the lease that a push takes too, and only after a second look for the blob.",
        (f"{COLLECTOR}::test_a_push_step_between_the_deletion_of_a_blob_and_of_its_file_is_told_the_truth",),
        Disarm("gateway/registry/collector.py", "if recorded is None and self", "if self"),
    ),
    Threat(
        "a signature that is collected",
        "Signatures and other referrers have no tag, and go a day after they were pushed.",
        "A referrer stays with its subject, and a subject with a referrer that something needs.",
        (f"{COLLECTOR}::test_what_something_needs_stays_for_ever",),
        Disarm(
            "gateway/db/collection.py",
            "    if subject is not None:\n        return True\n",
            "",
        ),
    ),
    Threat(
        "a clock that makes everything due",
        "The clock jumps ahead by a year, and what somebody pushes at the moment is collected.",
        "A collector compares the clock with one that never jumps, and with what others have noted, and holds.",
        (f"{COLLECTOR}::test_it_stops_where_the_clock_jumps",),
        Disarm("gateway/registry/collector.py", "if reason is not None and not self._is_confirmed:", "if False:"),
    ),
    Threat(
        "a collector with a database that lost its rows",
        "A database was replaced by an older or a foreign one, and nothing in it needs what is stored.",
        "A collector looks for the files that the database names, and asks before it deletes half of everything.",
        (
            f"{COLLECTOR}::test_it_stops_where_the_files_of_the_database_are_not_here",
            f"{COLLECTOR}::test_it_stops_where_more_than_half_of_everything_would_go",
        ),
        Disarm(
            "gateway/registry/collection_guard.py",
            "return self.deleted >= max(FEW, self.objects * MOST_OF_WINDOW)",
            "return False",
        ),
    ),
    Threat(
        "a collection that stopped unnoticed",
        "Collection waits for somebody, one line of a log that was rotated long ago says so, and the disk fills.",
        "It is logged again every hour, and `gc status` and `doctor` tell why, also where it waits for the clock.",
        (
            "tests/gateway/registry/test_collecting.py::test_a_stop_is_told_at_once_and_again_every_hour",
            f"{COLLECTOR}::test_whoever_looks_is_told_why_nothing_is_collected_until_it_goes_on",
            "tests/gateway/cli/test_idle_settings.py::test_doctor_tells_why_nothing_is_collected",
        ),
        Disarm(
            "gateway/registry/collecting.py",
            " or time.monotonic() - self._told_at >= REMIND_SECONDS",
            "",
        ),
    ),
    Threat(
        "a pusher who stops collection for everybody",
        "One repository gives up a thousand old images, which are most of what is old: nothing is collected any more.",
        "What old content may go is a share of all content, whoever pushed it and when.",
        (f"{COLLECTOR}::test_old_content_of_one_repository_stops_nothing_where_others_hold_more",),
        Disarm(
            "gateway/registry/collector.py",
            "objects = await self._read(collection_state.count_objects)",
            "objects = 0",
        ),
    ),
    Threat(
        "a backup that is restored for a deleted repository",
        "A repository was deleted before the backup; a week later that is restored, and the repository purged at once.",
        "A restore lets the time for which deleted repositories are kept begin anew.",
        (
            "tests/gateway/cli/test_backup_of_images.py"
            "::test_a_repository_that_was_deleted_before_a_backup_is_kept_anew_after_a_restore",
        ),
        Disarm(
            "gateway/db/restored.py", "where(deleted.is_not(None))", "where(deleted.is_(None), deleted.is_not(None))"
        ),
    ),
    Threat(
        "a backup that lacks what was collected meanwhile",
        "The database is copied, then files go that the copy names.",
        "No file of a deleted blob goes while a backup holds its lock.",
        (f"{COLLECTOR}::test_no_file_goes_while_a_backup_runs",),
        Disarm("gateway/registry/collector.py", "            if not is_free:\n                return\n", ""),
    ),
    Threat(
        "a restore beside a collection",
        "A command collects by the database that a restore has just replaced, and deletes files that the new one names.",
        "Before a file goes, a collector looks whether its database is still the same.",
        (f"{COLLECTOR}::test_no_file_goes_whose_database_was_replaced",),
        Disarm("gateway/registry/collector.py", "            self._require_same_database()\n", ""),
    ),
    Threat(
        "a file that goes while a restore counts on it",
        "A restore leaves out what is stored already, which a collector then deletes.",
        "A restore holds the lock by which files go from its first look to its end.",
        ("tests/gateway/cli/test_backup.py::test_no_file_of_a_deleted_blob_goes_while_a_backup_is_restored",),
        Disarm(
            "gateway/maintenance/restore.py",
            '        held.enter_context(locked(NativeFolder(data).lock("backup"), shared=True))\n',
            "",
        ),
    ),
    Threat(
        "content that goes with what had kept it",
        "A subject is kept by a referrer alone, and goes at once with that, though a pusher was told that it is there.",
        "Its own review begins when it may have lost its last use, and takes one full delay.",
        (f"{COLLECTOR}::test_a_subject_that_a_pusher_was_told_of_outlives_the_referrer_that_kept_it",),
        Disarm(
            "gateway/db/collection.py",
            "review_unless_pending(connection, subject, review.event, now)",
            "review_unless_pending(connection, subject, review.event, review.since)",
        ),
    ),
    Threat(
        "a layer that is taken for a manifest",
        "A layer has the digest and the media type of a manifest of the repository, and is collected.",
        "Any reference of a repository keeps what has its digest.",
        (f"{COLLECTOR}::test_a_layer_stays_that_has_the_digest_and_the_media_type_of_a_manifest",),
        Disarm(
            "gateway/db/collection.py",
            "_references.c.digest == digest)\n",
            "_references.c.digest == digest, _references.c.is_manifest.is_(False))\n",
        ),
    ),
    Threat(
        "a layer that comes after its manifest",
        "A layer is not here when its manifest is pushed, which that may lack, comes later, and is collected.",
        "A manifest that is pushed again also refers to what came since.",
        (f"{COLLECTOR}::test_a_layer_that_came_after_its_manifest_stays_once_that_is_pushed_again",),
        Disarm("gateway/db/manifests.py", "!= len(manifest.references):", "> len(manifest.references):"),
    ),
    Threat(
        "a deletion that was interrupted",
        "A process dies between the deletion of a blob and of its file, or of half a repository: nobody finds the rest.",
        "The deletion of a blob notes its file, and content without a review is looked for every day.",
        (
            f"{COLLECTOR}::test_a_collector_that_dies_before_it_deletes_the_file_leaves_that_to_the_next",
            f"{COLLECTOR}::test_an_interrupted_deletion_leaves_nothing_for_ever",
        ),
        Disarm("gateway/registry/collector.py", "        await self._look_for_forgotten()\n", ""),
    ),
    Threat(
        "a list that costs thousands of queries",
        "Small requests for the list of repositories read one project after the other, and hold the database up.",
        "The projects of a page are read together, before each is decided about.",
        ("tests/gateway/v2/test_catalog.py::test_the_projects_of_a_page_are_read_together",),
        Disarm("gateway/v2/catalog.py", "await self._opener.remember_projects_of(projects.values())", "pass"),
    ),
    Threat(
        "a flood of lists of repositories",
        "150 connections without a login request pages of the list of 20,000 public projects; /-/ready takes 7 s.",
        "Readers take turns, each person and each site one page at a time; who waits for 10 s is told to try again.",
        (f"{CATALOG}::test_readers_take_turns_and_one_of_many_requests_keeps_nobody_else",),
        Disarm("gateway/v2/catalog.py", "async with self._turns.turn(requester_of(principal, address)):", "if True:"),
    ),
    Threat(
        "gateways that wait for each other",
        "Two gateways are each other's upstream, and both begin to fetch the same content for clients of their own: each "
        "request joins a fetch that was begun without the names of gateways, and all wait for 15 s.",
        "A request of another gateway that waits sends a HEAD ahead that joins nothing; if that comes back, it gets 508.",
        (
            "tests/cache/proxy/test_circles.py::test_a_manifest_that_waits_for_the_gateway_that_requests_it_is_refused",
            "tests/cache/proxy/test_circles.py::test_a_blob_that_waits_for_the_gateway_that_requests_it_is_refused",
            "tests/cache/proxy/test_circles.py::test_a_request_of_another_gateway_waits_on_where_there_is_no_circle",
        ),
        Disarm(
            "cache/proxy/upstream_calls.py", "                    watch.begin(wait)\n", "                    pass\n"
        ),
    ),
    Threat(
        "a circle of gateways",
        "Two gateways are each other's upstream, or a redirect leads from one to the other: one pull keeps both busy.",
        "A request names the gateways that have sent it on; one that comes back gets 508, as do more than 16 in a row.",
        (
            "tests/gateway/http/test_own_requests.py::test_gateways_that_sent_a_request_on_are_named_to_the_upstream",
            "tests/e2e/test_lying_upstream.py::test_a_circle_through_another_gateway_ends_where_it_began",
        ),
        Disarm("cache/upstream/loops.py", "(*_passed_on.get(), sender)", "(sender,)"),
    ),
    Threat(
        "a status line of one's own",
        "What a client or an upstream wrote stands in the sentence of a refusal, and ends the status line: a header or a response of theirs follows.",
        "The phrase has printable ASCII alone, all else becomes `?`, and at most 256 characters.",
        ("tests/gateway/server/test_status_line.py::test_a_phrase_is_one_line_of_printable_ascii_and_bounded",),
        Disarm(
            "gateway/server/status_line.py",
            '.encode("ascii", "replace").translate(_PRINTABLE)',
            '.encode("ascii", "replace")',
        ),
    ),
    Threat(
        "a header that has upstreams refuse",
        "A client names the upstream's own proxy in `CDN-Loop`; the upstream refuses a download that others wait for.",
        "Only names of gateways are passed on, which nobody can guess.",
        (
            "tests/cache/upstream/test_loops.py::test_only_names_of_gateways_are_found",
            "tests/gateway/http/test_own_requests.py::test_gateways_that_sent_a_request_on_are_named_to_the_upstream",
        ),
        Disarm("cache/upstream/loops.py", "if _GATEWAY.fullmatch(entry)]", "if entry]"),
    ),
    Threat(
        "a revocation by a clock that was ahead",
        "A token is revoked while the clock is 400 days ahead, and is valid again once the clock is put right.",
        "What was revoked or finished has ended, whenever that was.",
        (
            "tests/gateway/namespaces/test_credential_rules.py::test_a_credential_ends_in_the_way_that_came_first",
            "tests/gateway/auth/test_authenticator.py::test_a_token_that_was_revoked_by_a_clock_that_was_ahead_stays_revoked",
        ),
        Disarm("gateway/namespaces/credential_rules.py", "(at <= now or kind is not EndKind.EXPIRED)", "at <= now"),
    ),
    Threat(
        "a job begun by a clock that was ahead",
        "A job's token, which may last for an hour, lasts for 400 days, since the clock was that much ahead.",
        "A job that began later than now is worth nothing.",
        ("tests/gateway/namespaces/test_credential_rules.py::test_a_credential_ends_in_the_way_that_came_first",),
        Disarm("gateway/namespaces/credential_rules.py", "if credential.created_at > now + AHEAD:", "if False:"),
    ),
    Threat(
        "a Bearer token of a clock that was ahead",
        "A Bearer token that was verified while the clock was ahead stays in memory, and its list counts for 400 days.",
        "One that would last longer than any is verified anew, and refused as one of the future.",
        (
            "tests/gateway/auth/test_authenticator.py"
            "::test_a_bearer_token_of_a_clock_that_was_ahead_is_refused_once_that_is_put_back",
        ),
        Disarm("gateway/auth/authenticator.py", " <= TOKEN_LIFETIME + CLOCK_SKEW:", ":"),
    ),
    Threat(
        "a key replaced by a clock that was ahead",
        "A signing key that somebody has is replaced while the clock is 400 days ahead, and verifies for as long.",
        "A key that was replaced later than now verifies nothing.",
        (
            "tests/gateway/keys/test_signing.py"
            "::test_a_key_that_was_replaced_by_a_clock_that_was_ahead_verifies_nothing",
        ),
        Disarm("gateway/keys/signing.py", "abs(now - self.retired_at) < OVERLAP", "now - self.retired_at < OVERLAP"),
    ),
    Threat(
        "tokens that a clock deletes",
        "A token is made while the clock is 400 days ahead, and all that expire within a month are deleted for good.",
        "The newest thousand rows are kept, whatever the clock says.",
        ("tests/gateway/db/test_personal_tokens.py::test_a_clock_that_is_ahead_for_a_moment_deletes_no_valid_token",),
        Disarm("gateway/db/credential_rows.py", "newest - KEPT_NEWEST", "newest"),
    ),
    Threat(
        "uploads dated to the future",
        "Uploads begun while the clock is 400 days ahead keep room in a quota, and count for their owner, for as long.",
        "The sweep dates them back, and deletes them once they have rested for a week.",
        (
            "tests/gateway/registry/test_uploads.py"
            "::test_an_upload_that_a_clock_dated_to_the_future_is_dated_back_and_swept_in_its_time",
        ),
        Disarm("gateway/registry/uploads.py", "        await self._date_back(now)\n", ""),
    ),
    Threat(
        "a flood of lists of tags",
        "150 connections without a login request the 30,000 tags of a public repository; /-/ready takes more than 1 s.",
        "Readers of lists take turns, persons and sites; who waits for 10 s is told to try again.",
        ("tests/gateway/registry/test_listing.py::test_a_list_waits_for_its_reader_s_turn_and_for_nobody_else",),
        Disarm("gateway/registry/parts.py", "async with self._listing.turn(who):", "if True:"),
    ),
    Threat(
        "a clock that stops collection for good",
        "The clock is 400 days ahead for some hours; afterwards nothing is collected for 400 days, and disks fill.",
        "A later time that nobody has noted for an hour counts no more, and what was dated to the future is dated back.",
        (
            "tests/gateway/registry/test_clock_guard.py"
            "::test_a_clock_that_was_ahead_stops_nothing_once_nobody_goes_by_it",
        ),
        Disarm("gateway/registry/clock_guard.py", "if passed - self._behind[1] >= HOLD.total_seconds():", "if False:"),
    ),
    Threat(
        "reviews dated to the future",
        "Content that loses its use while the clock is 400 days ahead keeps its place on the disk for as long.",
        "Once a day a collector dates back what is requested or due later than anything can be.",
        (
            "tests/gateway/registry/test_collector.py"
            "::test_what_was_requested_by_a_clock_that_was_ahead_is_reviewed_all_the_same",
        ),
        Disarm(
            "gateway/db/reviews.py",
            "await connection.execute(update(reviews).where(reviews.c.since > latest)",
            "(update(reviews).where(reviews.c.since > latest)",
        ),
    ),
    Threat(
        "looks at all projects",
        "A page of the list of repositories looks at every project of the server more often than once.",
        "The first look is for as many projects as names are wanted, each of which has a repository.",
        (f"{CATALOG}::test_a_page_of_as_many_projects_takes_one_look",),
        Disarm("gateway/v2/catalog.py", "max(limit, PROJECTS_AT_ONCE)", "PROJECTS_AT_ONCE"),
    ),
    Threat(
        "telling what is cached",
        "A response reveals to a client without the right that a blob or image is cached.",
        "Without a link, the client's own credential is tried at the upstream, which refuses as without a cache.",
        (
            "tests/e2e/test_rights.py::test_an_image_that_the_upstream_does_not_show_is_unknown_though_its_bytes_are_here",
            "tests/security/test_read_path.py::test_what_is_here_and_what_is_not_are_refused_in_the_same_words",
        ),
        Disarm(
            "cache/proxy/rights.py", "await self._client.primary.head_blob(self._image, digest, as_proof=True)", "pass"
        ),
    ),
    Threat(
        "a success for everything",
        "An upstream sends a notice with status 200 in place of what an image must not have, which others have cached.",
        "Only a response that states the size of the content proves a right to it; after any other it is fetched.",
        ("tests/cache/proxy/test_blobs.py::test_a_success_of_another_size_is_no_right_to_what_another_image_has",),
        Disarm("cache/proxy/rights.py", "if stated is None or stated != size:", "if False:"),
    ),
    Threat(
        "a HEAD that proves nothing",
        "A registry refuses HEAD, or says little to it: shared layers are refused, and rights of private images are lost.",
        "Only what a GET says counts, where a HEAD is refused or says less than it must; an outage is no reason for one.",
        (
            f"{PUBLIC}::test_a_right_to_a_shared_blob_is_proved_by_get_where_head_says_less",
            f"{PUBLIC}::test_no_right_is_won_or_lost_by_a_head_that_proves_nothing",
            f"{PUBLIC}::test_a_tag_whose_head_is_refused_is_found_and_seen_to_move",
        ),
        Disarm(
            "cache/upstream/statements.py",
            "return (400 <= status < 500 and status != 429) or status == 501",
            "return False",
        ),
    ),
    Threat(
        "refusals of no registry",
        "A page of a proxy, or the target of a redirect, refuses a request, and what is cached of the image is lost.",
        "A refusal counts only in a registry's own words: its header, or an `errors` array; 401 and 403 from its host.",
        (
            f"{PUBLIC}::test_what_no_registry_says_takes_nothing_and_is_not_remembered",
            f"{PUBLIC}::test_a_refusal_behind_a_redirect_leaves_what_is_held",
        ),
        Disarm(
            "cache/upstream/statements.py",
            "return API_VERSION_HEADER in headers or _is_error_document(body)",
            "return True",
        ),
    ),
    Threat(
        "an expired password",
        "A password runs out, and the registry's refusals wipe every private image that was cached with it.",
        "A refusal counts for the image only if /v2/ accepts the credential; else the credential fails, an outage.",
        (f"{PUBLIC}::test_a_password_that_ran_out_is_an_outage_until_the_next_one",),
        Disarm(
            "cache/upstream/exchange.py",
            "if self.tokens.has_credential and heard.authorization is not None:",
            "if False:",
        ),
    ),
    Threat(
        "refusals taken for an outage",
        "A private image is refused to a good credential, and stays readable because that passes for an outage.",
        "Where /v2/ accepts the credential, the refusal of a live token is the image's, and its rights are revoked.",
        (f"{PUBLIC}::test_an_image_that_the_registry_refuses_to_a_good_credential_is_lost",),
        Disarm(
            "cache/upstream/exchange.py", "if status in _REFUSED:\n            self", "if status:\n            self"
        ),
    ),
    Threat(
        "a dead token in other words",
        "An expired token is refused with 400 or 403, which passes for a refusal of the image or an outage.",
        "A refusal is believed only after the token was renewed once.",
        (f"{PUBLIC}::test_a_dead_token_is_renewed_however_it_is_refused",),
        Disarm("cache/upstream/exchange.py", "heard.authorization is not None and status in _REFUSED", "False"),
    ),
    Threat(
        "a firewall before the token service",
        "A firewall's page before a token service passes for a refusal, and cached tags are lost.",
        "Only what is no page refuses: of a page nothing follows.",
        (f"{PUBLIC}::test_a_firewall_s_page_before_the_token_service_is_no_refusal",),
        Disarm(
            "cache/upstream/tokens.py",
            'page = essence(response.headers.get("content-type", "")) == "text/html"',
            "page = False",
        ),
    ),
    Threat(
        "a slow list",
        "A list that is slow closes the image's circuit, and its manifests are refused.",
        "While an image's circuit is open, paths of it that have not failed are sent.",
        (f"{PUBLIC}::test_a_list_that_is_slow_stops_no_manifest_of_its_image",),
        Disarm(
            "cache/upstream/circuit_breaker.py",
            "if not self.state.wait or path in self.failed:",
            "if path or not path:",
        ),
    ),
    Threat(
        "a locked account",
        "A wrong password is presented for each pull, and the registry locks the account.",
        "A refused credential is presented again after a growing pause, by one process of all, or once it is replaced.",
        (
            f"{PUBLIC}::test_a_password_that_was_refused_is_presented_again_only_after_a_pause",
            f"{PUBLIC}::test_pulls_at_the_same_time_present_an_unknown_password_once",
        ),
        Disarm("cache/upstream/logins.py", "return max(0.0, known.login_until - now) if", "return 0.0 if"),
    ),
    Threat(
        "a login paused by a stranger's choice",
        "A token service refuses a token for one image, and the pause of the login stops all others.",
        "The pause begins only where the token service refuses the credential without a scope as well.",
        (f"{PUBLIC}::test_a_token_service_that_refuses_one_image_stops_no_other",),
        Disarm(
            "cache/upstream/tokens.py",
            "if (yield from self._is_refused(challenge, scope, credential)):",
            "if challenge:",
        ),
    ),
    Threat(
        "a guest that learns a password",
        "A redirect leads to a registry that demands a token of its own, and its token service receives our password.",
        "Such a registry gets an anonymous token, and never the upstream's credential.",
        (f"{PUBLIC}::test_a_redirect_s_target_that_demands_a_token_gets_an_anonymous_one",),
        Disarm(
            "cache/upstream/tokens.py",
            "return Tokens(origin, self._token_hosts, lambda: None,",
            "return Tokens(origin, self._token_hosts, self._credential,",
        ),
    ),
    Threat(
        "a guest that has tokens made for it",
        "A redirect's target names the upstream's own host as its token service, which issues a token for our client certificate or fixed headers.",
        "Token services that such a registry names are targets of redirects, too: they are shown nothing.",
        ("tests/e2e/test_reach.py::test_a_redirect_s_target_cannot_have_a_token_made_with_what_the_upstream_is_shown",),
        Disarm("cache/upstream/tokens.py", "redirected = self._of_guest or not own", "redirected = not own"),
    ),
    Threat(
        "a guest that closes the upstream",
        "The token service of a redirect's target responds 429, and nobody can pull anything from the upstream for an hour.",
        "What such a registry's token service states is an outage of the one image, and no limit of the upstream.",
        (f"{PUBLIC}::test_a_limit_of_a_redirect_s_target_is_none_of_the_upstream",),
        Disarm(
            "cache/upstream/guests.py",
            "raise Unavailable(error.reason, error.retry_after) from error",
            "raise",
        ),
    ),
    Threat(
        "a guest that closes another image",
        "A redirect's target names a token service that fails, and another image in its scope, whose circuit opens.",
        "Failures of its token services count for a name that no image has.",
        ("tests/cache/upstream/test_tokens.py::test_what_a_guest_names_counts_for_no_image_of_the_upstream",),
        Disarm("cache/upstream/tokens.py", 'image = f"guest {self._origin.netloc}/{image}"', "pass"),
    ),
    Threat(
        "a refused right in memory",
        "The row of a right is evicted, then the right is refused, and another worker still has it in memory when others fetch the content again.",
        "What is evicted is told to every worker, which drops the links and pointers from its memory.",
        (
            "tests/cache/index/test_index.py::test_what_was_evicted_leaves_the_memory_of_every_process",
            "tests/cache/index/test_index.py::test_what_one_process_found_missing_leaves_the_memory_of_every_process",
        ),
        Disarm(
            "cache/index/removal.py",
            "for table, reference in ((links, links.c.digest), (pointers, pointers.c.tag)):",
            "for table, reference in ():",
        ),
    ),
    Threat(
        "rights that were lost",
        "A credential loses the right to an image, and the cache continues to serve it.",
        "If the upstream refuses a fresh token for the image, all links and pointers of the image are revoked.",
        ("tests/e2e/test_tags.py::test_a_credential_that_loses_an_image_loses_what_is_cached_of_it",),
        Disarm(
            "cache/proxy/rights.py",
            "refused = isinstance(error, AccessDenied) and self._client.has_credential",
            "refused = False",
        ),
    ),
    Threat(
        "private images for strangers",
        "Content that one group pulled with its credential is served to another group.",
        "Links belong to origin and credential; another image joins a flight only after its own proof.",
        (
            "tests/e2e/test_tags.py::test_a_private_image_is_not_there_for_strangers",
            "tests/e2e/test_rights.py::test_a_running_download_is_not_joined_by_an_image_that_may_not",
        ),
        Disarm("cache/proxy/rights.py", "return self._image in flight.images", "return True"),
    ),
    Threat(
        "a witness that an image's owner chose",
        "A registry redirects an image to a host of its owner's, which states any digest and size and so wins content.",
        "A right is proved by the upstream's own host and by those that its settings name; else the bytes are fetched.",
        (
            "tests/cache/proxy/test_public_registries.py::test_a_host_that_an_image_s_owner_chose_proves_no_right",
            "tests/cache/proxy/test_public_registries.py::"
            "test_a_host_that_an_image_s_owner_chose_lets_no_one_join_a_download",
        ),
        Disarm(
            "cache/upstream/exchange.py",
            "vouched = vouched and (own or self._egress.names(url))",
            "vouched = True",
        ),
    ),
    Threat(
        "credentials for the world",
        "A group with anonymous pull gives everybody the content that the server's own account may read.",
        "A configured credential is used for a group with anonymous pull only if the settings list that group.",
        (
            "tests/gateway/test_upstreams.py",
            "tests/e2e/test_tags.py::test_an_open_group_that_is_not_named_is_a_stranger",
        ),
        Disarm("gateway/upstreams.py", "return not group.anonymous_pull", "return True"),
    ),
    Threat(
        "open proxies by accident",
        "A server that can be reached from outside serves everybody.",
        "Unless `allow_open_proxy` is set, anonymous pull is served only if all addresses are on loopback.",
        (
            "tests/e2e/test_commands.py::test_strangers_are_served_beyond_loopback_only_if_the_settings_say_so",
            "tests/e2e/test_addresses.py::test_one_address_beyond_this_machine_closes_what_is_open_to_strangers",
        ),
        Disarm(
            "gateway/auth/proxy_permissions.py",
            "if principal.kind is PrincipalKind.ANONYMOUS and not target.open_proxy:",
            "if False:",
        ),
    ),
    Threat(
        "a list taken for a right",
        "A Bearer token lists what its holder may not, or no longer, do, and the server believes the list.",
        "Each request is decided anew; the list of a token is asked last and only takes away what is allowed.",
        (
            f"{PERMISSIONS}::test_a_bearer_tokens_list_gives_no_right",
            f"{PERMISSIONS}::test_a_bearer_token_does_what_its_list_names",
        ),
        Disarm(
            "gateway/auth/permissions.py",
            "    lapsed = lapse_of(principal, now)",
            """    if principal.limits is not None and not beyond_limits(principal, action, target.name, now):
        return Decision(True, "the token lists it")
    lapsed = lapse_of(principal, now)""",
        ),
    ),
    Threat(
        "a list that is not read",
        "A token that was made for one pull is stolen, and pushes, deletes, or opens other repositories.",
        "A Bearer token does nothing but what its list names, to the repositories that it names.",
        (f"{PERMISSIONS}::test_a_list_that_names_another_repository_is_worth_nothing",),
        Disarm("gateway/auth/permissions.py", "        if beyond:", "        if False:"),
    ),
    Threat(
        "content of another project by the REST API",
        "A repository of another project is named below one that the client may manage, and is deleted, moved or read.",
        "A repository is found in the project of the path alone: any other id is unknown there.",
        (f"{REST}/test_changes.py::test_what_is_named_below_another_project_stays",),
        Disarm(
            "gateway/api/places.py", "if stored is None or stored.project_id != place.project.id:", "if stored is None:"
        ),
    ),
    Threat(
        "a token of the registry at the REST API",
        "A token that was made for pulls, and lies in many places, deletes repositories or opens private registries.",
        "A personal token needs the scope `api`, or `read_api` to read, before anything is looked up for it.",
        (f"{REST}/test_surface.py::test_scopes_of_a_token_are_those_of_the_api",),
        Disarm(
            "gateway/api/app.py",
            "if not route.any_scope and (too_narrow := missing_api_scope(principal, changes=changes)):",
            "if (too_narrow := missing_api_scope(principal, changes=changes)) and False:",
        ),
    ),
    Threat(
        "an access token above whoever makes it",
        "A maintainer makes an access token with the role of an owner, or takes one over by a rotation.",
        "An access token is made, rotated and revoked by those alone who have at least its role there.",
        (f"{REST}/test_access_tokens.py::test_nobody_is_given_a_role_above_the_own_one",),
        Disarm("gateway/administration/access_tokens.py", "if role is not None:", "if False:"),
    ),
    Threat(
        "a member above whoever adds one",
        "A maintainer makes an accomplice an owner, or takes the role of an owner away.",
        "Nobody gives, changes or takes a role above the own one.",
        (
            f"{REST}/test_tree.py::test_nobody_gives_or_takes_a_role_above_the_own_one",
            "tests/gateway/web/test_members.py::test_nobody_gives_or_takes_a_role_above_the_own_one",
        ),
        Disarm("gateway/inspection/place_finder.py", "if role is None or role < needed:", "if role is None:"),
    ),
    Threat(
        "an access token that outlives itself",
        "A leaked access token makes others before it is revoked.",
        "The bot of an access token makes no tokens.",
        (f"{REST}/test_access_tokens.py::test_a_bot_is_no_person",),
        Disarm(
            "gateway/directory/access_tokens.py",
            "await bots.check_person(connection, await users.get_by_id(connection, creator_id))",
            "pass",
        ),
    ),
    Threat(
        "an access token that takes over others",
        "A leaked access token rotates the others of its project, whose new secrets stay when it is revoked.",
        "The bot of an access token rotates its own token alone.",
        (f"{REST}/test_access_tokens.py::test_a_bot_rotates_its_own_token_alone",),
        Disarm(
            "gateway/administration/access_tokens.py",
            "if user is None or (user.id != found.token.user_id and await self._tokens.is_bot(user.id)):",
            "if user is None:",
        ),
    ),
    Threat(
        "a restored tag in a protected repository",
        "A developer who may not push to a repository points its tags to older images by restoring them.",
        "To restore a tag is to push it: the rules for its repository are asked, and not those for the project's path.",
        (
            f"{REST}/test_protection.py::test_a_tag_is_restored_by_those_alone_who_may_push_to_its_repository",
            "tests/gateway/web/test_removals.py::test_a_tag_is_restored_by_those_alone_who_may_push_to_its_repository",
        ),
        Disarm(
            "gateway/inspection/place_finder.py",
            "located = Located(repository.text, place, NativeLocation(repository))",
            "located = Located(repository.text, place)",
        ),
    ),
    Threat(
        "a private project that is made public",
        "A maintainer, or the access token of one, shows the images of a private project to everybody.",
        "Owners alone change the visibility of a project.",
        (
            f"{REST}/test_projects.py::test_the_visibility_is_changed_by_owners_alone",
            "tests/gateway/web/test_accounts.py::test_settings_change_visibility_and_who_may_use_the_registry",
        ),
        Disarm("gateway/inspection/place_finder.py", "if wanted is place.project.visibility:", "if True:"),
    ),
    Threat(
        "namespaces by the words of a refusal",
        "A hidden group is refused in other words than one that does not exist, by its path and by its number.",
        "A namespace that is hidden is refused in the words for none, after the same lookups.",
        (f"{REST}/test_hidden.py::test_a_hidden_namespace_is_refused_as_one_that_does_not_exist",),
        Disarm(
            "gateway/api/namespaces.py",
            "place, _ = await self._places.group(text, principal)",
            "if entry is None:\n                raise Forbidden('there is none')\n            place, _ = await self._places.group(text, principal)",
        ),
    ),
    Threat(
        "the new path of what has moved",
        "Whoever wants the old path of a project is told where that is now, in a group that is hidden.",
        "The refusal of an old path does not say what has it.",
        (f"{REST}/test_hidden.py::test_an_old_path_does_not_tell_where_a_project_has_gone",),
        Disarm(
            "gateway/api/tree_refusals.py",
            'raise ValuesRefused({"path": [RESERVED]}) from error',
            'raise ValuesRefused({"path": [str(error)]}) from error',
        ),
    ),
    Threat(
        "the audit log of what had a path before",
        "A maintainer moves a project to the path of one that is gone, and reads who pulled what from that.",
        "What is shown of a node begins when it was made, and when it came to its path.",
        (
            "tests/gateway/api/test_audit_events.py::test_what_was_done_at_a_path_before_a_node_moved_there_is_not_shown",
        ),
        Disarm(
            "gateway/api/audit_events.py",
            "since = await self._arrived(way, path, created_at.timestamp())",
            "since = created_at.timestamp()",
        ),
    ),
    Threat(
        "documents that select the same field often",
        "A stranger sends short documents that select one field 400 times: to validate each stops all others for half a "
        "second.",
        "Pairs of fields at one place of the response are counted before, those of fragments that nothing spreads, too.",
        (f"{REST}/test_graphql.py::test_a_document_that_costs_more_than_it_shows_is_refused",),
        Disarm("gateway/api/graphql/limits.py", "if measured.pairs > MOST_PAIRS:", "if False:"),
    ),
    Threat(
        "documents of many fragments",
        "A stranger sends a document of a hundred fragments, each of which the rules compare with each.",
        "A document has a few operations and fragments.",
        (f"{REST}/test_graphql.py::test_a_document_that_costs_more_than_it_shows_is_refused",),
        Disarm("gateway/api/graphql/limits.py", "if len(document.definitions) > MOST_DEFINITIONS:", "if False:"),
    ),
    Threat(
        "documents that sum up a cache often",
        "A guest sends a document that sums up the cache of a group hundreds of times, by other names each time.",
        "The fields of a document that read a cache are counted, whatever they are called.",
        (f"{REST}/test_graphql.py::test_a_document_that_costs_more_than_it_shows_is_refused",),
        Disarm("gateway/api/graphql/limits.py", "if measured.reads > MOST_READS:", "if False:"),
    ),
    Threat(
        "ten thousand webhooks of one user",
        "One user makes many projects with a hundred webhooks each: every push of others waits for all of them.",
        "Webhooks of the projects and groups alone are read that something happened in.",
        ("tests/gateway/notifications/test_notifier.py::test_those_alone_are_looked_at_that_may_be_told",),
        Disarm("gateway/db/webhooks.py", ".where(told, _webhooks.c.failures", ".where(_webhooks.c.failures"),
    ),
    Threat(
        "a disk full of deliveries",
        "One user pulls from an own project with a hundred webhooks: what they were sent is kept for seven days.",
        "Of each webhook a number of ended deliveries is kept.",
        (
            "tests/gateway/notifications/test_notifier.py::test_no_more_than_so_many_deliveries_are_kept_that_have_ended",
        ),
        Disarm(
            "gateway/notifications/notifier.py",
            "await webhook_deliveries.forget_beyond(connection, webhook_id)",
            "pass",
        ),
    ),
    Threat(
        "a webhook as a hammer",
        "A user lets this server send thousands of requests a minute to a host of others, by attempts by hand.",
        "Attempts by hand are limited for each user.",
        (f"{REST}/test_webhooks.py::test_attempts_by_hand_are_limited",),
        Disarm("gateway/api/webhooks.py", "self._attempts.admit(call.request, call.principal)", "pass"),
    ),
    Threat(
        "a search for hidden paths",
        "A search of the list of allowed jobs matches an entry whose path is hidden, and tells it letter by letter.",
        "A search matches what the client may know of.",
        (f"{REST}/test_job_scope.py::test_a_search_does_not_tell_the_path_of_what_is_hidden",),
        Disarm("gateway/api/job_scope.py", "(entry.key in known and search in entry.path)", "search in entry.path"),
    ),
    Threat(
        "a bot as a person",
        "A bot becomes a member elsewhere, so that the token of one project opens others.",
        "A bot is a member of the project or group of its token alone.",
        (f"{REST}/test_access_tokens.py::test_a_token_reaches_its_project_alone",),
        Disarm("gateway/namespaces/bot.py", "if node != home:", "if False:"),
    ),
    Threat(
        "bots that stay",
        "An access token is revoked, and its bot stays a member, with whatever else it has.",
        "The last valid token of a bot takes its membership along, by whichever way it ends.",
        (f"{REST}/test_access_tokens.py::test_a_revoked_token_takes_its_bot_out_of_the_members",),
        Disarm("gateway/db/bots.py", "await members.remove(connection, bot.home, user_id)", "pass"),
    ),
    Threat(
        "ID tokens that somebody else signed",
        "A token is signed by another key, under the id of a key of the issuer.",
        "A signature is verified by the key that the issuer publishes under that id.",
        (f"{ID_TOKENS}::test_forged_tokens_are_refused",),
        Disarm("gateway/oidc/jws.py", "if not key.verifies(self.algorithm, self.signed, self.signature):", "if False:"),
    ),
    Threat(
        "ID tokens without a signature",
        "A token says that it has no signature, or one by a secret that is the public key.",
        "Algorithms with public keys alone are accepted, and of a key those of its own type.",
        ("tests/gateway/oidc/test_jws.py::test_a_header_that_is_not_accepted_is_refused",),
        Disarm(
            "gateway/oidc/jws.py",
            "if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:",
            "if not isinstance(algorithm, str):",
        ),
    ),
    Threat(
        "ID tokens for another service",
        "A job of the same CI system gives its token to a service, which logs in here with it.",
        "A token must be made for the audience of the settings.",
        ("tests/gateway/oidc/test_claims.py::test_claims_that_do_not_hold_are_refused",),
        Disarm("gateway/oidc/claims.py", "if audience not in audiences:", "if False:"),
    ),
    Threat(
        "ID tokens of strangers",
        "Everybody can have a token of a public issuer, with claims of an own repository.",
        "A rule must match all its claims over their whole values; what none matches is refused.",
        (
            "tests/gateway/oidc/test_claims.py::test_a_rule_matches_whole_values_of_all_its_claims",
            f"{ID_TOKENS}::test_a_token_that_maps_to_nobody_is_refused",
        ),
        Disarm("gateway/oidc/rules.py", "return all(name in claims", "return any(name in claims"),
    ),
    Threat(
        "ID tokens that were found later",
        "A token is found in a file of a runner after it has expired, or long after it was issued.",
        "A token logs in by its own exp, nbf and iat, and a login ends after the time of the settings.",
        ("tests/gateway/oidc/test_claims.py::test_a_token_holds_until_it_expires",),
        Disarm("gateway/oidc/claims.py", "if now - CLOCK_SKEW >= expires_at:", "if False:"),
    ),
    Threat(
        "ID tokens that log in anew",
        "A token is presented in another spelling, so that its login begins once more.",
        "Of tokens that are the same to their issuer one logs in, and its base64url has one spelling.",
        (f"{ID_TOKENS}::test_a_login_outlives_its_token_and_no_other_spelling_of_it_logs_in",),
        Disarm(
            "gateway/oidc/claims.py",
            'return sha256(f"jti\\0{issuer}\\0{token_id}"',
            'return sha256(f"jti\\0{signed!r}"',
        ),
    ),
    Threat(
        "sign-ins that somebody else began",
        "A page leads a browser to the response of an attacker's sign-in, which then is in the attacker's account.",
        "State is derived from a secret of the browser that began, and a code is redeemed with a verifier of it.",
        ("tests/gateway/oidc/test_code_flow.py::test_a_response_that_is_not_of_this_attempt_is_refused",),
        Disarm(
            "gateway/oidc/code_flow.py",
            'if not hmac.compare_digest(response.get("state", "").encode(), attempt.state.encode()):',
            "if False:",
        ),
    ),
    Threat(
        "ID tokens of another sign-in",
        "A token that was made for another sign-in of the person, and was found, comes with a code.",
        "The nonce of a token is that of the attempt of this browser.",
        (f"{WEB}/test_oidc.py::test_a_token_that_was_made_for_something_else_is_refused",),
        Disarm("gateway/oidc/code_flow.py", "if not isinstance(nonce, str) or not hmac", "if False and hmac"),
    ),
    Threat(
        "accounts for whoever an issuer knows",
        "An issuer has more people than are meant to use this server.",
        "An account is made, and signs in, only where a rule is met by the claims of that sign-in.",
        (f"{WEB}/test_oidc.py::test_whoever_no_rule_is_for_gets_no_account",),
        Disarm(
            "gateway/auth/oidc_sign_in.py",
            "if not any(rule.matches(token.claims) for rule in issuer.rules):",
            "if False:",
        ),
    ),
    Threat(
        "invented keys",
        "Tokens with invented key ids make this server ask the issuer with each of them.",
        "Unknown keys are looked for at most every 10 s.",
        ("tests/gateway/oidc/test_key_set.py::test_an_unknown_key_is_looked_for_but_not_too_often",),
        Disarm(
            "gateway/oidc/key_set.py",
            "return self._known.tried_at is None or self._clock() - self._known.tried_at >= PAUSE",
            "return True",
        ),
    ),
    Threat(
        "an issuer that names another place for its keys",
        "What an issuer says of itself is replaced by that of another one, or leads to keys without TLS.",
        "Its configuration names the issuer of the settings, and its keys come by https.",
        ("tests/gateway/oidc/test_issuer.py::test_a_configuration_that_is_not_its_own_is_refused",),
        Disarm(
            "gateway/oidc/issuer.py",
            'if not isinstance(document, dict) or document.get("issuer") != self.url:',
            "if not isinstance(document, dict):",
        ),
    ),
    Threat(
        "administration by ID tokens",
        "A job logs in with the role of an owner, and changes who may do what.",
        "A login by an ID token administers nothing, whatever its role, and maps to no administrator.",
        ("tests/gateway/cli/test_issuers.py::test_an_owner_by_a_rule_may_not_administer",),
        Disarm(
            "gateway/auth/permissions.py",
            "if principal.kind is PrincipalKind.ID_TOKEN and action in SETTINGS:",
            "if False:",
        ),
    ),
    Threat(
        "ID tokens at the REST API",
        "A job logs in as a user, and lists users, or makes tokens of the user that outlive the job.",
        "By the REST API a login by an ID token opens what the token of a job does, and nothing else.",
        (f"{ID_TOKENS}::test_a_login_opens_of_the_rest_api_what_a_job_may",),
        Disarm(
            "gateway/api/app.py",
            "if principal.kind in (PrincipalKind.JOB_TOKEN, PrincipalKind.ID_TOKEN) and not route.jobs:",
            "if principal.kind is PrincipalKind.JOB_TOKEN and not route.jobs:",
        ),
    ),
    Threat(
        "rules that were taken back",
        "A rule is taken from the settings, and those whom it let in go on.",
        "Each use of a login looks whether its rule is still there.",
        (f"{ID_TOKENS}::test_a_rule_that_is_gone_ends_its_logins",),
        Disarm("gateway/auth/id_tokens.py", "return (login.issuer, login.rule) in self._rules", "return True"),
    ),
    Threat(
        "a job at the registries of other projects",
        "A job lists or deletes images of another project by the REST API, to which its user has access.",
        "By this API the token of a job opens the registry of its own project alone.",
        (f"{REST}/test_repositories.py::test_the_token_of_a_job_opens_its_own_project_alone",),
        Disarm(
            "gateway/api/places.py",
            "if principal.kind is not PrincipalKind.JOB_TOKEN or action not in _CONTENT:",
            "if True:",
        ),
    ),
    Threat(
        "tokens in URLs",
        "A token is sent in a query, which proxies and histories keep, and works, so that nobody notices.",
        "A request with a token in its query is refused, and says that the token must be revoked.",
        (f"{REST}/test_parameters.py::test_what_cannot_be_read_is_refused",),
        Disarm(
            "gateway/api/parameters.py", "if leaked := _QUERY_SECRETS.intersection(query):", "if leaked := set[str]():"
        ),
    ),
    Threat(
        "hidden repositories in the list of a group",
        "The list of a group, or its count, tells of repositories that the reader may not pull.",
        "Rows and counts come from the projects in the reader's reach whose registry is not disabled, and each project of "
        "a page is decided about again.",
        (f"{REST}/test_reach.py::test_the_list_of_a_group_is_what_its_projects_show_alone",),
        Disarm(
            "gateway/db/projects.py",
            "within = paths.is_below(_projects.c.path, below), _projects.c.registry != RegistryAccess.DISABLED",
            "within = (paths.is_below(_projects.c.path, below),)",
        ),
    ),
    Threat(
        "a bulk deletion that goes on elsewhere",
        "A repository moves to another project, or is deleted, while its tags are deleted in bulk.",
        "Each batch looks again, in its own transaction, whether the repository is where it was.",
        (f"{REST}/test_bulk_deletion.py::test_a_repository_that_moves_meanwhile_keeps_its_tags",),
        Disarm(
            "gateway/registry/bulk_deletion.py",
            "    if present is None or present.project_id != project_id:",
            "    if present is None:",
        ),
    ),
    Threat(
        "a form of another site",
        "A page of another site sends a form of this server, with the cookies of whoever looks at it.",
        "A form is accepted whose Origin is this server's, which no page can choose.",
        (f"{WEB}/test_guards.py::test_no_form_is_accepted_from_another_origin",),
        Disarm("gateway/web/forms.py", "if not own and origin.lower() != url.lower():", "if False:"),
    ),
    Threat(
        "a form that no page has shown",
        "A form is sent that was made elsewhere, by something that browsers let set Origin, or that sends none.",
        "A form has a token that follows from the secret of the session, or of the browser that is to sign in.",
        (
            f"{WEB}/test_guards.py::test_no_form_is_accepted_without_the_token_of_the_session",
            f"{WEB}/test_sign_in.py::test_the_sign_in_form_is_that_of_this_browser",
        ),
        Disarm(
            "gateway/web/forms.py",
            "if secret is None or not hmac.compare_digest(form.one(TOKEN_FIELD).encode(), token_of(secret).encode()):",
            "if False:",
        ),
    ),
    Threat(
        "a session from before the login",
        "Somebody has set the cookie of a session that they know, and is signed in when its browser signs in.",
        "A login begins a session with a new secret, and ends the one before.",
        (f"{WEB}/test_sign_in.py::test_a_login_begins_a_session_of_a_new_id_and_ends_the_one_before",),
        Disarm("gateway/directory/web_sessions.py", "await web_sessions.end(connection, former.id)", "pass"),
    ),
    Threat(
        "a secret from before new rights",
        "Somebody knows the secret of a session, whose user becomes an administrator.",
        "Where a user becomes an administrator, or is none any more, the session has a new secret with the next request.",
        (f"{WEB}/test_sign_in.py::test_a_change_of_rights_gives_the_session_a_new_id",),
        Disarm("gateway/web/app.py", "if user is None or user.admin == stored.admin:", "if True:"),
    ),
    Threat(
        "signed in for ever",
        "A browser is left signed in, or a cookie is stolen, and works months later.",
        "A session ends when nobody uses it for 12 hours, and after 7 days in any case, in the database.",
        (f"{WEB}/test_sign_in.py::test_sessions_end_when_nobody_uses_them_and_after_a_week",),
        Disarm(
            "gateway/directory/web_sessions.py",
            "return -NOTED_EVERY <= began < LONGEST and now - session.used_at < IDLE",
            "return began is not None",
        ),
    ),
    Threat(
        "another host after the login",
        "A link to the sign-in page leads whoever has signed in to another host, which asks for the password again.",
        "The next page is a path of this host; everything else means the home page.",
        (f"{WEB}/test_sign_in.py::test_the_next_page_is_a_path_of_this_host",),
        Disarm(
            "gateway/web/visit.py",
            'return text if begins_well and plain and len(text) <= _PATH_LIMIT else "/"',
            "return text",
        ),
    ),
    Threat(
        "a password by http",
        "People sign in by http, and everybody on the way reads their password and the cookie.",
        "Beyond loopback the pages sign nobody in by http, unless a setting says so; by https the cookie is Secure.",
        (f"{WEB}/test_sign_in.py::test_people_sign_in_by_https_or_on_loopback",),
        Disarm(
            "gateway/web/options.py",
            'return SignIn.PLAIN if self.insecure_login or is_loopback(parts.hostname or "") else SignIn.REFUSED',
            "return SignIn.PLAIN",
        ),
    ),
    Threat(
        "a page in a frame",
        "Another site shows a page in a frame below its own, so that a click on that removes a tag.",
        "Every page forbids to be framed, by two headers.",
        (f"{WEB}/test_guards.py::test_every_page_has_the_headers_and_runs_nothing",),
        Disarm("gateway/web/headers.py", """        "frame-ancestors": "'none'",\n""", ""),
    ),
    Threat(
        "a script in a label",
        "Somebody pushes an image whose labels, history or variables are HTML, which runs in the browser of a visitor.",
        "Templates escape everything, and no page runs a script that is not a file of this program.",
        (f"{WEB}/test_guards.py::test_what_an_image_says_is_shown_as_text",),
        Disarm("gateway/web/pages.py", "autoescape=True,", "autoescape=False,"),
    ),
    Threat(
        "a script in a link",
        "A label of an image is an address of the scheme `javascript`, on which a visitor clicks.",
        "Only addresses of the schemes http and https become links, which tell the other site nothing.",
        (f"{WEB}/test_guards.py::test_what_an_image_says_is_shown_as_text",),
        Disarm("gateway/web/templates/tag.html", 'if text.startswith(("http://", "https://"))', "if true"),
    ),
    Threat(
        "a pushed page",
        "Somebody pushes a blob that is HTML, and sends a visitor the address by which it is pulled.",
        "Every response that is no page tells browsers to guess no type, and to run nothing of it.",
        (f"{WEB}/test_guards.py::test_what_was_pushed_is_shown_by_no_browser",),
        Disarm("gateway/http/sandbox.py", 'message["headers"] = [*headers, *added]', "pass"),
    ),
    Threat(
        "a token that signs in",
        "A token that was made for pulls, and lies in many places, signs in to the pages and makes others.",
        "The pages take the password of a user alone.",
        (f"{WEB}/test_sign_in.py::test_a_token_does_not_sign_in",),
        Disarm("gateway/auth/authenticator.py", "if password.startswith(SECRET_PREFIXES):", "if False:"),
    ),
    Threat(
        "the token of another user",
        "A visitor names the id of another user's token, and revokes it.",
        "A token is found for its own user alone.",
        (f"{WEB}/test_accounts.py::test_nobody_sees_or_revokes_the_token_of_another_user",),
        Disarm("gateway/web/my_tokens.py", "if token is None or token.user_id != user.id:", "if token is None:"),
    ),
    Threat(
        "content of another project by a page",
        "A page below a project that the visitor may see names a repository of another one.",
        "A repository is found in the project of the path alone.",
        (f"{WEB}/test_registry_pages.py::test_a_repository_of_another_project_is_not_found_below_this_one",),
        Disarm(
            "gateway/web/page_places.py",
            "if stored is None or stored.project_id != page.place.project.id:",
            "if stored is None:",
        ),
    ),
    Threat(
        "administrators in a disabled registry",
        "The registry of a project is disabled, and administrators, jobs or deploy tokens go on using it.",
        "The access level `disabled` refuses every pull, push and deletion before any role or scope is looked at.",
        (
            f"{PERMISSIONS}::test_every_cell_of_a_project",
            f"{PERMISSIONS}::test_no_deploy_token_opens_a_disabled_registry",
            f"{PERMISSIONS}::test_no_job_opens_a_disabled_registry",
        ),
        Disarm(
            "gateway/auth/permissions.py",
            "if action not in SETTINGS and project.registry is RegistryAccess.DISABLED:",
            "if False:",
        ),
    ),
    Threat(
        "a right that outlives its term",
        "A membership, a token or a job has expired, and nothing was written that would end it in a memory.",
        "Decisions are given the time, and look at the expiry of what they are given.",
        (
            f"{PERMISSIONS}::test_a_membership_ends_by_the_clock",
            f"{PERMISSIONS}::test_a_credential_that_has_ended_opens_nothing",
        ),
        Disarm(
            "gateway/namespaces/member.py", "return self.expires_at is None or now < self.expires_at", "return True"
        ),
    ),
    Threat(
        "a backup that writes elsewhere",
        "The archive given to `restore` has names, links or devices that lead out of the data folder.",
        "Only gateway.db and plain names below keys/ are members; each is a regular file, and made as a new one.",
        ("tests/gateway/cli/test_backup.py::test_a_forged_backup_changes_nothing",),
        Disarm(
            "gateway/maintenance/archive.py",
            "if not (self.name == DATABASE_FILE or _KEY_NAME.fullmatch(self.name)):",
            "if False:",
        ),
    ),
    Threat(
        "a backup that was altered",
        "A backup was cut off or changed on its way, and replaces good data.",
        "Size, order, digest and revision are checked, and the database is opened, before anything is replaced.",
        (
            "tests/gateway/cli/test_backup.py::test_a_forged_backup_changes_nothing",
            "tests/gateway/cli/test_backup.py::test_a_file_that_is_no_backup_changes_nothing",
        ),
        Disarm("gateway/maintenance/archive.py", "if hasher.hexdigest() != expected:", "if False:"),
    ),
    Threat(
        "a blob that a backup misnames",
        "A blob in a backup is altered, or has the name of another file, and is restored over good content.",
        "Each blob is named by its digest, in the order of digests, and must have it before anything is replaced.",
        ("tests/gateway/cli/test_backup_of_images.py::test_forged_blobs_change_nothing",),
        Disarm(
            "gateway/maintenance/archive.py",
            "return digest if digest is not None and name == _blob_name(digest) else None",
            "return digest",
        ),
    ),
    Threat(
        "a damaged blob in a backup",
        "A backup copies a damaged blob, and its restore is refused, or replaces what was right.",
        "A blob is compared with its digest as it is copied, and left out, and the command says so.",
        ("tests/gateway/cli/test_backup_of_images.py::test_a_damaged_blob_is_left_out_and_named",),
        Disarm("gateway/maintenance/archive.py", "return not size and hasher.hexdigest() == digest.hex", "return True"),
    ),
    Threat(
        "a disk that cannot be read for a while",
        "Files of pushed blobs cannot be read, or are read wrongly once, and are taken away although they are whole.",
        "A native file is set aside only if two readings find that it is not what was pushed.",
        (
            "tests/gateway/maintenance/test_native_scrub.py::test_a_file_that_cannot_be_read_stays",
            "tests/gateway/maintenance/test_native_scrub.py::test_a_file_that_is_misread_once_stays",
        ),
        Disarm(
            "gateway/maintenance/native_inspector.py",
            "if damage is None or (damage is Damage.DIGEST and not self._differs_again(blob, limiter)):",
            "if damage is None:",
        ),
    ),
    Threat(
        "evidence that is deleted for room",
        "Damaged files of pushed blobs, of which there is no other copy, are deleted when others join them.",
        "They lie apart from the quarantine of the cache, and are kept until a person deletes them.",
        ("tests/gateway/cli/test_verify.py::test_all_damaged_files_are_kept_whatever_their_number_and_size",),
        Disarm(
            "gateway/cli/verify.py",
            "Quarantine(folder.damaged, bounded=False)",
            "Quarantine(folder.damaged)",
        ),
    ),
    Threat(
        "a backup that others read",
        "Other users of the machine read the keys in a backup, or in the files of which it is made.",
        "The file is made for its owner alone, in a folder for its owner alone, and only named when it is finished.",
        ("tests/gateway/cli/test_backup.py::test_a_backup_is_for_its_owner_whatever_the_umask",),
        Disarm("gateway/maintenance/backup.py", 'open(files.create(draft), "wb")', 'open(draft, "wb")'),
    ),
    Threat(
        "a restore under a running server",
        "Database and keys are replaced while a server uses them: rights come from memory, and writes are lost.",
        "A restore holds the lock that a server holds from its start to its end.",
        (
            "tests/gateway/cli/test_backup.py::test_a_restore_is_refused_while_a_server_runs",
            "tests/e2e/test_backup.py::test_a_backup_of_a_running_server_is_restored_elsewhere",
        ),
        Disarm("gateway/maintenance/restore.py", "if not held.enter_context(server_lock(data)):", "if False:"),
    ),
    Threat(
        "a restore that was killed",
        "A restore ends between two files, and the old database is used with the new keys, or none.",
        "Once it is decided, the restore is completed by whoever uses the data folder next, before anything is opened.",
        ("tests/gateway/cli/test_backup.py::test_a_restore_that_is_killed_leaves_the_old_folder_or_is_completed",),
        Disarm("gateway/cli/folder.py", "        finish_restore(data)", "        pass"),
    ),
    Threat(
        "cached images of another group",
        "A restored database gives the id of a later group to a new one, which then pulls what that group had cached.",
        "A restore deletes the index of the cache, and with it every right to cached content.",
        ("tests/gateway/cli/test_backup.py::test_what_was_there_is_kept_and_the_index_of_the_cache_is_not",),
        Disarm("gateway/maintenance/restore.py", "index.with_name(index.name + end).unlink(missing_ok=True)", "pass"),
    ),
    Threat(
        "the first password in a log",
        "The generated password of the first administrator is printed where a log keeps it.",
        "It is shown on a terminal alone, at the start that made it; elsewhere the path of its file is printed.",
        (
            "tests/gateway/cli/test_first_start.py::test_a_fresh_start_names_the_file_and_not_the_password",
            "tests/e2e/test_first_start.py::test_no_log_holds_the_first_password",
        ),
        Disarm("gateway/cli/administrator.py", "if start.generated and is_on_terminal():", "if True:"),
    ),
    Threat(
        "two first administrators",
        "Several servers of one database start at once; each writes a password, and only the last one opens.",
        "The transaction that creates the user looks again for an administrator, and writes the file before it commits.",
        ("tests/gateway/maintenance/test_first_administrator.py::test_of_many_starts_at_once_one_makes_root",),
        Disarm(
            "gateway/maintenance/first_administrator.py",
            "        if await users.has_admin(connection):\n            return AdministratorStart()\n        if (",
            "        if (",
        ),
    ),
    Threat(
        "a first password that stays",
        "The generated password of the first administrator lies in its file for ever, with the rights of a password.",
        "The file is deleted when that password is changed, by the command, or else by the next start.",
        (
            "tests/gateway/cli/test_first_start.py::test_the_file_goes_with_the_password",
            "tests/gateway/maintenance/test_first_administrator.py::test_the_file_of_a_changed_password_is_deleted",
        ),
        Disarm("gateway/keys/root_password.py", ".unlink(missing_ok=True)", ".exists()"),
    ),
    Threat(
        "tokens of what was deleted",
        "A user or project is deleted, the database deletes its tokens and jobs, and memories go on accepting them.",
        "A deletion announces every membership, token, job and allowance that goes with it, in its own transaction.",
        ("tests/gateway/db/test_projects.py::test_what_the_database_deletes_with_a_node_is_announced",),
        Disarm("gateway/db/cascades.py", "await changes.announce_all(connection, concern,", "sorted("),
    ),
    Threat(
        "a public project in a private group",
        "A project is made public in a group whose owners count on being private, and strangers pull its images.",
        "Nothing is more visible than the group above it, when it is created and when it is changed.",
        (
            "tests/gateway/db/test_projects.py::test_a_project_that_cannot_be_created_is_refused",
            "tests/gateway/db/test_projects.py::test_an_update_stores_visibility_and_registry",
        ),
        Disarm("gateway/namespaces/node.py", "if visibility.openness > widest.openness:", "if False:"),
    ),
    Threat(
        "a private group around public projects",
        "A group is made private, and whoever did so believes that what it holds is private, too.",
        "A group becomes less visible only after what it holds; the refusal names that.",
        ("tests/gateway/db/test_projects.py::test_a_group_is_not_less_visible_than_what_it_holds",),
        Disarm("gateway/namespaces/group.py", "if more_visible:", "if False:"),
    ),
    Threat(
        "nobody left to administer",
        "The last administrator is blocked or made a regular user, and nobody can undo it.",
        "The last active administrator is neither blocked nor deleted, and keeps that right.",
        ("tests/gateway/db/test_users.py::test_the_last_active_administrator_stays",),
        Disarm(
            "gateway/namespaces/user.py",
            "if old.is_active_admin and not new.is_active_admin and not other_admins:",
            "if False:",
        ),
    ),
    Threat(
        "members who stay in memory",
        "A member is removed, a user blocked, a role taken away, and a worker that remembers them goes on serving them.",
        "Each change announces in its own transaction what it concerns, and every worker drops that before its next lookup.",
        (
            f"{IDENTITY}::test_a_change_elsewhere_counts_from_the_next_lookup_on",
            f"{IDENTITY}::test_a_member_of_a_group_loses_its_dependency_proxy_at_once",
        ),
        Disarm("gateway/directory/directory.py", "_drop(self._memberships, None if key is None else int(key))", "pass"),
    ),
    Threat(
        "tokens that stay in memory",
        "A token is revoked, or its job finished, and a worker that remembers it goes on accepting it.",
        "The change announces the token by its identity and by the hash of its secret, and every worker drops both.",
        (
            f"{IDENTITY}::test_a_change_elsewhere_counts_from_the_next_lookup_on",
            "tests/security/test_changes_take_effect.py::test_a_change_takes_effect_at_once_everywhere",
        ),
        Disarm(
            "gateway/directory/directory.py",
            "_drop(self._credentials, None if key is None else CredentialRef.parse(key))",
            "pass",
        ),
    ),
    Threat(
        "projects that stay open in memory",
        "A project is made private, its registry disabled, or it is deleted, and a worker still has it as it was.",
        "A change of a project announces its path, and every worker drops the project, its way and its list of jobs.",
        (
            f"{IDENTITY}::test_a_change_elsewhere_counts_from_the_next_lookup_on",
            f"{IDENTITY}::test_a_closed_project_is_closed_to_strangers_at_once",
        ),
        Disarm("gateway/directory/directory.py", "_drop(self._projects, path)", "pass"),
    ),
    Threat(
        "a change in the middle of a lookup",
        "A right is taken away between the moment a lookup reads it and the moment it is put into memory, where it stays.",
        "A memory counts what it drops, and keeps nothing that was read before the last drop.",
        (
            "tests/gateway/directory/test_memory.py::test_what_was_read_before_a_drop_is_not_kept",
            "tests/gateway/directory/test_directory.py::test_a_group_that_changes_while_it_is_read_is_not_kept",
        ),
        Disarm("gateway/directory/memory.py", "if version != self.version:", "if False:"),
    ),
    Threat(
        "memories full of invented names",
        "A stranger asks for thousands of names, users and tokens that do not exist, and drives out of memory what does.",
        "Absences have small memories of their own, and names below a project or group are not remembered as nodes.",
        (
            "tests/gateway/directory/test_memory.py::test_invented_keys_drive_out_no_value",
            f"{IDENTITY}::test_invented_names_and_secrets_leave_what_exists_in_memory",
        ),
        Disarm(
            "gateway/directory/memory.py",
            "self._absent: LRUCache[K | tuple[object, K], None] = LRUCache(kept_absent)",
            "self._absent: Any = self._present",
        ),
    ),
    Threat(
        "a private name that is refused at once",
        "A stranger times thousands of invented names: the refusal of one that exists comes from memory, and so sooner.",
        "A refused name costs the query of an absent one, and is forgotten with the absent ones.",
        (f"{RIGHTS}::test_a_hidden_name_costs_the_queries_of_an_absent_one",),
        Disarm(
            "gateway/directory/directory.py",
            "unpaid = [name for name in names if name not in read and not self.is_concealed(name, root)]",
            "unpaid: list[RepositoryName] = []",
        ),
    ),
    Threat(
        "a private name that is read longer",
        "A stranger times the first request for a name at a worker that has just started: one that exists is read in "
        "more steps.",
        "A name is read by the same statements whether anything is there or not, and so are the groups above it.",
        (f"{RIGHTS}::test_a_hidden_name_costs_the_queries_of_an_absent_one",),
        Disarm(
            "gateway/directory/reading.py",
            "projects.find_all(connection, wanted or [_NO_PATH])",
            "projects.find_all(connection, wanted)",
        ),
    ),
    Threat(
        "an old name that is read longer",
        "A stranger times a name: the old one of what has moved to a hidden place is followed, and takes longer.",
        "Every name is followed by at least the statements that an old one needs.",
        (
            f"{OLD_PATHS}::test_an_old_name_costs_the_statements_of_an_absent_one",
            "tests/security/test_hidden.py::test_a_hidden_name_takes_as_long_as_one_that_does_not_exist",
        ),
        Disarm("gateway/directory/reading.py", "if past > 1 and not going:", "if not going:"),
    ),
    Threat(
        "rights by an old name",
        "A repository moves into a closed project, and whoever could pull it before goes on by its old name.",
        "An old name is decided by the place where the repository is now, and hides what that hides.",
        (
            f"{OLD_NAMES}::test_rights_are_those_of_the_new_place_and_what_is_hidden_there_was_never_here",
            f"{AUTHORISATION}::test_old_names_of_projects_are_for_whom_the_table_says",
            "tests/security/test_hidden.py::test_a_hidden_name_is_answered_as_one_that_does_not_exist",
        ),
        Disarm(
            "gateway/v2/opener.py",
            "if moved.location is None or not (await self._access.decide(whoever, Action.PULL, moved, now)).allowed:",
            "if moved.location is None:",
        ),
    ),
    Threat(
        "an old name for somebody else",
        "Somebody makes a group where another was, and clients that still use the old name pull images of that.",
        "Nothing is made at or below an old path until it ends, but what had it.",
        (f"{MOVES}::test_nothing_is_made_at_or_below_an_old_path_before_its_end",),
        Disarm("gateway/db/groups.py", "await old_paths.check_free(connection, path, MovedKind.GROUP, now)", "pass"),
    ),
    Threat(
        "a push by an old name",
        "A push by an old name makes a second repository there, or changes the one that has moved unnoticed.",
        "What is pushed or deleted by an old name is refused, and told the new one.",
        (f"{OLD_NAMES}::test_an_image_is_pulled_by_both_names_and_pushed_by_the_new_one",),
        Disarm("gateway/v2/opener.py", "if opened.former is not None:", "if False:"),
    ),
    Threat(
        "a reserved path that tells where",
        "A push that would create a project at the old path of a group is told where that hidden group is now.",
        "It is told that the path is not free.",
        (f"{OLD_NAMES}::test_a_project_is_not_created_by_a_push_where_something_was",),
        Disarm("gateway/v2/missing_projects.py", ": that path is not free", ": {error}"),
    ),
    Threat(
        "many scopes in one request",
        "Requests for tokens with many invented names cost the server far more than their senders.",
        "A request has at most 20 names, and all are read by the statements of one.",
        (f"{RIGHTS}::test_many_scopes_cost_the_queries_of_one",),
        Disarm(
            "gateway/v2/opener.py",
            "located = await directory.locate_all([*unread, *unpaid], root)",
            "located = {name: await directory.locate(name, root) for name in (*unread, *unpaid)}",
        ),
    ),
    Threat(
        "a difference between hidden and absent",
        "Whoever may not know of a private project or closed group learns by the response that it exists.",
        "Both give one response, by the same steps and in the same words; the reason stands in the log alone.",
        (
            f"{RIGHTS}::test_what_is_hidden_is_refused_as_if_it_did_not_exist",
            f"{RIGHTS}::test_what_is_hidden_is_refused_as_fast_as_what_does_not_exist",
            f"{PERMISSIONS}::test_what_is_hidden_shows_like_what_is_absent",
            "tests/security/test_hidden.py::test_a_hidden_name_is_answered_as_one_that_does_not_exist",
            "tests/security/test_hidden.py::test_a_hidden_name_takes_as_long_as_one_that_does_not_exist",
        ),
        Disarm("gateway/v2/opener.py", "{_nothing_to_see(name, root)}{_hint(principal, action)}", "{decision.reason}"),
    ),
    Threat(
        "a proxy that tells of a closed group",
        "Before anything is decided, an error says that the dependency proxy of a private group is off, or lists upstreams.",
        "What is wrong with a name below a group is told to those alone who may pull through it.",
        (f"{RIGHTS}::test_what_is_hidden_is_refused_as_if_it_did_not_exist",),
        Disarm(
            "gateway/v2/opener.py",
            "if located.problem and decision.refusal in (None, Refusal.UNSUPPORTED):",
            "if located.problem:",
        ),
    ),
    Threat(
        "a right that nobody has",
        "A change of the code gives a role, a scope or a job something that the user guide does not give it.",
        "Every cell of a table that is written from the guide holds for each credential, scheme and route of a server.",
        (
            f"{AUTHORISATION}::test_projects_are_for_whom_the_table_says",
            f"{AUTHORISATION}::test_dependency_proxies_are_for_whom_the_table_says",
        ),
        Disarm(
            "gateway/auth/matrix.py",
            "(Visibility.INTERNAL, RegistryAccess.PRIVATE): _REPORTERS,",
            "(Visibility.INTERNAL, RegistryAccess.PRIVATE): (Role.GUEST,),",
        ),
    ),
    Threat(
        "a route that nobody decided about",
        "A new route of /v2 is served before anybody has said who may use it.",
        "The table names every route of a repository with its action; a route that it does not name fails the tests.",
        (f"{AUTHORISATION}::test_the_table_names_every_route_of_the_server",),
        Disarm(
            "gateway/v2/routes.py",
            '_READS = ("GET", "HEAD")',
            '_READS = ("GET", "HEAD", "OPTIONS")',
        ),
    ),
    Threat(
        "jobs that pull from everywhere",
        "A job is made to pull a private image of another project, which its user may pull but did not mean to lend.",
        "A job pulls elsewhere only where that project's list names the job's project, and never pushes or deletes there.",
        (
            f"{PERMISSIONS}::test_every_cell_of_a_job_elsewhere",
            f"{PERMISSIONS}::test_the_job_of_an_administrator_needs_the_list_like_every_other",
        ),
        Disarm("gateway/auth/permissions.py", "if principal.kind is not PrincipalKind.JOB_TOKEN or", "if True or"),
    ),
    Threat(
        "doors that open in a storm",
        "The check of a right is skipped while the upstream is rate-limited or down.",
        "Only a positive response grants a right: content that was not linked before is not served.",
        ("tests/security/test_read_path.py::test_a_right_is_not_won_while_the_upstream_cannot_be_asked",),
        Disarm(
            "cache/proxy/rights.py", "await self._client.primary.head_blob(self._image, digest, as_proof=True)", "pass"
        ),
    ),
    Threat(
        "heads without end",
        "Headers, tokens or targets of unlimited size use up memory and time.",
        "A head is limited to 32 KiB and 100 lines, a target and Authorization to 8 KiB each.",
        ("tests/security/test_vectors.py::test_alone_it_is_answered_or_closed_as_the_table_says",),
        Disarm("gateway/server/request_head.py", "if len(target) > TARGET_LIMIT:", "if False:"),
    ),
    Threat(
        "documents without end",
        "A manifest of unlimited size or depth uses up memory and time.",
        "A manifest is limited to 4 MiB while it is read, 200,000 brackets, braces and colons, and 64 levels.",
        (
            "tests/cache/upstream/test_registry_client.py::test_a_manifest_of_more_than_four_mebibytes_is_not_read_to_its_end",
            "tests/cache/oci/test_manifest.py",
        ),
        Disarm(
            "cache/upstream/registry_client.py",
            "yield ReadDocument(response, SIZE_LIMIT, verify)",
            "yield ReadDocument(response, 1 << 40, verify)",
        ),
    ),
    Threat(
        "bodies without end",
        "A client sends an endless body to a path that takes none.",
        "An unwanted body is read up to a limit of bytes and seconds; then the connection is closed.",
        (
            "tests/gateway/http/test_drain.py::test_a_body_without_end_is_read_up_to_the_limit",
            "tests/gateway/http/test_drain.py::test_a_push_of_a_big_body_to_a_proxied_name_gets_its_answer",
        ),
        Disarm("gateway/http/drain.py", "while not read_all and drained < self._limits.bytes:", "while not read_all:"),
    ),
    Threat(
        "bombs",
        "A small compressed body grows without limit when it is decompressed.",
        "Requests accept identity only, and blobs are hashed as they come. A document is decompressed up to its limit.",
        (
            "tests/cache/upstream/test_flow.py::test_a_document_is_decompressed_up_to_its_limit_and_no_further",
            "tests/security/test_read_path.py::test_nothing_is_unpacked_beyond_the_size_of_a_document",
        ),
        Disarm("cache/upstream/flow.py", "stream.decompress(content, limit + 1)", "stream.decompress(content)"),
    ),
    Threat(
        "ranges without end",
        "A Range header with thousands of parts costs time for each part.",
        "The response is one range or the whole content.",
        ("tests/gateway/http/test_conditional.py::test_ten_thousand_ranges_cost_no_more_than_two",),
    ),
    Threat(
        "patterns that explode",
        "A crafted text makes a backtracking regular expression run without end.",
        "Patterns for foreign text have no nested repetition; a test times the challenge parser on a long one.",
        ("tests/cache/upstream/test_tokens.py::test_a_long_senseless_header_is_read_in_no_time",),
    ),
    Threat(
        "smuggled requests",
        "Two readers parse one head as two different requests.",
        "An ambiguous head is refused before the parser sees it, and the connection is closed.",
        (
            "tests/security/test_vectors.py::test_alone_it_is_answered_or_closed_as_the_table_says",
            "tests/security/test_vectors.py::test_behind_a_proxy_no_more_is_handled_than_was_sent",
        ),
        Disarm("gateway/server/request_head.py", '_check_framing(checked, version == b"1.0")', "pass"),
    ),
    Threat(
        "smuggled chunks",
        "Two readers end one chunked body at different bytes, and one of them reads content as a request.",
        "Chunks pass a decoder that refuses other line breaks than CRLF, odd sizes, and trailers without bound.",
        (
            "tests/gateway/server/test_chunked_body.py",
            "tests/gateway/server/test_fast_connection.py::test_chunks_are_refused_however_they_arrive",
            "tests/security/test_plain_h11.py::test_a_vector_is_answered_or_closed_as_the_table_says",
        ),
        Disarm("gateway/server/chunked_body.py", "if not _TRAILER.fullmatch(line):", "if False:"),
    ),
    Threat(
        "a flood of small chunks",
        "A body of chunks of one byte takes 0.1 s of the event loop for every read, and cached pulls wait.",
        "A body of more than 100 chunks is refused where they have fewer than 64 bytes on average.",
        (
            "tests/gateway/server/test_chunked_body.py",
            "tests/security/test_storm.py::test_storms_leave_nothing_behind",
        ),
        Disarm("gateway/server/chunked_body.py", "self._size < self._count * LEAST_AVERAGE:", "False:"),
    ),
    Threat(
        "small chunks after large ones",
        "A body sends 200 MiB in large chunks and then chunks of one byte, each read of which takes 0.35 s of the loop.",
        "A large chunk does not make up for small ones that come after it, of which a body has so many in a row.",
        ("tests/gateway/server/test_chunked_body.py",),
        Disarm("gateway/server/chunked_body.py", "if self._shortage > SMALL_IN_A_ROW * LEAST_AVERAGE:", "if False:"),
    ),
    Threat(
        "a flood of small chunks in a large body",
        "A large body is read in steps of 1 MiB, of which one with chunks of 64 bytes stops the worker for 0.2 s.",
        "At most 512 KiB of chunks are read at once, and 64 KiB while they have fewer than 4 KiB on average.",
        ("tests/gateway/server/test_large_body.py::test_fewer_bytes_of_small_chunks_are_read_at_once",),
        Disarm("gateway/server/direct_body.py", "if average >= least", "if True"),
    ),
    Threat(
        "a large body that takes the next request",
        "Bytes behind a large body, which is read past h11, become content of the body, or are lost.",
        "Nothing is read past a Content-Length, and what was read behind the last chunk goes back to the reader.",
        ("tests/gateway/server/test_large_body.py",),
        Disarm("gateway/server/direct_body.py", "self._release(self._beyond)", 'self._release(b"")'),
    ),
    Threat(
        "a large body that waits for itself",
        "A body is held to be read in large pieces, then too little is left for that, and nobody reads on: the push stalls.",
        "A reader that was held is released as soon as the body is not read in large pieces after all.",
        ("tests/gateway/server/test_large_body.py::test_a_body_of_any_length_arrives_whole_when_it_is_sent_at_once",),
        Disarm(
            "gateway/server/large_body.py",
            "                self._connection.reader.release()\n",
            "                pass\n",
        ),
    ),
    Threat(
        "uploads that keep gathered bytes",
        "Hundreds of uploads over TLS send a megabyte each and then a little every second: 300 MiB stay in memory.",
        "Gathered bytes are written after a second, however few they are.",
        ("tests/gateway/registry/test_upload_memory.py::test_a_slow_body_keeps_no_bytes_in_memory",),
        Disarm(
            "gateway/registry/upload_writer.py",
            "            self._has_started = True\n            self._start_batch()\n",
            "            pass\n",
        ),
    ),
    Threat(
        "bodies that nobody reads",
        "Hundreds of connections send bodies to requests that read none, and each costs half a megabyte.",
        "A connection is read in steps of 64 KiB, and no further while nobody takes them.",
        ("tests/security/test_unfinished_bodies.py::test_of_a_body_that_no_app_reads_little_is_kept",),
        Disarm(
            "gateway/server/http1.py",
            "        writer.transport.max_size = MAX_RECV  # type: ignore[attr-defined]\n",
            "",
        ),
    ),
    Threat(
        "uploads that gather all memory",
        "More uploads begin at once than memory has megabytes.",
        "All uploads of a process gather 64 MiB at most; from there on each writes what it has before it takes more.",
        ("tests/gateway/registry/test_upload_memory.py::test_all_uploads_together_keep_a_limited_number_of_bytes",),
        Disarm(
            "gateway/registry/upload_writer.py",
            "if is_borrowed or self._threads.gathered >= GATHERED:",
            "if is_borrowed:",
        ),
    ),
    Threat(
        "refused manifests that shut out all writers",
        "A manifest of 10,000 invented references keeps the turn to write for a second; forty stop every push and command.",
        "Many references are looked up before the turn to write; commands wait a minute for theirs.",
        ("tests/gateway/registry/test_native.py::test_many_references_are_refused_without_a_turn_to_write",),
        Disarm(
            "gateway/registry/native.py", "            await self._require_references(manifest)\n", "            pass\n"
        ),
    ),
    Threat(
        "a quota that is gone around by a cancel",
        "An upload is cancelled while its body arrives, which then takes room that no quota and no listing counts.",
        "An upload that has ended ends its body, at the next reservation or after 16 MiB.",
        ("tests/gateway/registry/test_intake.py::test_a_body_of_an_upload_that_has_ended_is_not_taken_to_its_end",),
        Disarm(
            "gateway/registry/upload_room.py",
            "                await self._require_unfinished()\n",
            "                pass\n",
        ),
    ),
    Threat(
        "room that is reserved by uploads of one byte",
        "Uploads that have one byte each keep 64 MiB of a quota for an hour, and other projects of the group cannot push.",
        "Between its requests an upload keeps no room beyond what has arrived.",
        (
            "tests/gateway/registry/test_intake.py::test_between_its_requests_an_upload_keeps_no_room_beyond_what_arrived",
        ),
        Disarm(
            "gateway/registry/uploads.py",
            "None if self._upload.reserved is None else file.size",
            "None if self._upload.reserved is None else file.size + (64 << 20)",
        ),
    ),
    Threat(
        "damage that a push does not heal",
        "The bytes of a stored blob change, its size does not; whoever pushes it again is told that it is stored, and is not.",
        "A pushed blob replaces the file that the store has.",
        ("tests/gateway/registry/test_intake.py::test_a_push_replaces_a_stored_file_whose_bytes_changed",),
        Disarm(
            "gateway/registry/intake.py",
            "                await native.threads.run(self._give_name, path, digest)\n",
            "                if native.store.stat(digest) is None:\n"
            "                    await native.threads.run(self._give_name, path, digest)\n",
        ),
    ),
    Threat(
        "a large body that leaves its connection",
        "The app ends in the midst of a large body, and what follows of it is read as the next request.",
        "A body that was not read to its end ends the connection, and nothing more is read of it.",
        ("tests/gateway/server/test_large_body.py::test_a_body_that_is_not_read_to_its_end_ends_the_connection",),
        Disarm("gateway/server/large_body.py", "            self._direct.close()\n", "            self._end()\n"),
    ),
    Threat(
        "buffers of a body that is still written",
        "An app ends while a thread writes a piece of its body, and the buffer is filled for another client.",
        "The buffer of a piece is used again once the next piece is requested, and else never.",
        ("tests/gateway/server/test_large_body.py::test_the_buffer_of_an_app_that_ended_is_not_used_again",),
        Disarm(
            "gateway/server/direct_body.py",
            "self._buffers.forget(self._given[0])",
            "self._buffers.give_back(self._given[0])",
        ),
    ),
    Threat(
        "a refusal after the end of TLS",
        "A client leaves in the middle of a push over TLS, and its refusal fails, with a traceback in the log.",
        "A transport is closed once; asyncio's own for TLS cannot be used after a second close.",
        ("tests/security/test_left_clients.py::test_a_refusal_to_a_client_that_has_left_over_tls_fails_nobody",),
        Disarm("gateway/server/http1.py", "if not (self._encrypted and", "if not (False and"),
    ),
    Threat(
        "data after the end of TLS",
        "A client sends on while the server ends TLS, and every such response is an error with a traceback in the log.",
        "An error of TLS while a response is written ends the connection, like any other.",
        ("tests/security/test_storm.py::test_storms_leave_nothing_behind",),
        Disarm(
            "gateway/server/http1.py", "except (OSError, RuntimeError):  # TLS has", "except RuntimeError:  # TLS has"
        ),
    ),
    Threat(
        "unchecked chunks",
        "Chunks that arrive behind their head are parsed by h11 alone, which is lax.",
        "Every byte of a chunked body passes the decoder before h11 reads it.",
        ("tests/gateway/server/test_fast_connection.py::test_chunks_are_refused_however_they_arrive",),
        Disarm("gateway/server/strict_connection.py", "self._chunks = None if chunks.complete else chunks", "pass"),
    ),
    Threat(
        "methods of two spellings",
        "One layer takes `head` for HEAD, another for an unknown method with a body: responses are out of step.",
        "A method is compared as it came; one that no path supports is refused in the words of its surface.",
        ("tests/gateway/server/test_methods.py",),
        Disarm(
            "gateway/server/http1.py",
            'method=request.method.decode("ascii")',
            'method=request.method.decode("ascii").upper()',
        ),
    ),
    Threat(
        "a mount from what one may not pull",
        "Who knows a digest mounts a blob of a repository that is hidden, and pulls it.",
        "A blob is mounted from what the caller may pull alone; anything else becomes an upload, as if it were not there.",
        (
            f"{UPLOADS}::test_a_mount_from_elsewhere_becomes_an_upload",
            f"{UPLOADS}::test_a_mount_without_a_source_takes_what_the_caller_may_pull_anywhere",
        ),
        Disarm(
            "gateway/v2/mounts.py",
            "        for path in await self._opener.native_repositories_with(digest, CANDIDATES):\n",
            "        for path in await self._opener.native_repositories_with(digest, CANDIDATES):\n"
            "            return await target.repository.mount(digest, None)\n",
        ),
    ),
    Threat(
        "an upload of another client",
        "Somebody who may push to a repository goes on with, ends or reads the upload of another client.",
        "An upload is found by its id, its repository and its owner alone.",
        (f"{UPLOADS}::test_an_upload_belongs_to_whoever_began_it_and_to_its_repository",),
        Disarm(
            "gateway/v2/uploads.py",
            '        return f"user:{principal.user.id}"\n',
            '        return "user"\n',
        ),
    ),
    Threat(
        "a pushed body that expands",
        "A body with a Content-Encoding is decompressed on its way in, or stored as what it is not.",
        "A request with a Content-Encoding is refused; nothing is ever decompressed.",
        (f"{UPLOADS}::test_a_body_that_is_encoded_for_its_way_is_refused",),
        Disarm(
            "gateway/http/bodies.py",
            "    if encoding not in _PLAIN:",
            "    if False and encoding not in _PLAIN:",
        ),
    ),
    Threat(
        "manifests without bound",
        "A manifest of any size is pushed, and held in memory.",
        "A body is refused by its stated length, or as soon as it has more bytes than a manifest may have.",
        (f"{MANIFESTS}::test_a_manifest_of_more_than_four_mebibytes_is_refused",),
        Disarm(
            "gateway/http/bodies.py",
            "            if len(body) + len(piece) > limit:",
            "            if False:",
        ),
    ),
    Threat(
        "pushed manifests that fill the memory",
        "One user begins hundreds of pushes of manifests of 4 MiB, and never sends the last byte.",
        "Beyond 32 KiB a body waits for one of 16 places, of which nobody takes all; who gets none is refused with 503.",
        (f"{PUSHED_DOCUMENTS}::test_large_manifests_wait_before_they_are_read_and_nobody_takes_all_places",),
        Disarm("gateway/v2/pushed_documents.py", "if size > FREE and not has_place:", "if False:"),
    ),
    Threat(
        "refused manifests that keep the processor",
        "One user pushes refused manifests of 10,000 references all the time; parsing them keeps everybody waiting.",
        "Before it is parsed a large manifest waits for its turn, for 10 s at most: one of a person at a time.",
        (f"{PUSHED_DOCUMENTS}::test_one_large_manifest_of_a_person_is_stored_at_a_time_and_one_of_another",),
        Disarm("gateway/v2/pushed_documents.py", "if len(raw) > FREE:", "if False:"),
    ),
    Threat(
        "a short wait without end",
        "Large manifests wait for each other for minutes, and keep their bodies in memory meanwhile.",
        "Whoever has no place within 10 s is refused.",
        (f"{PUSHED_DOCUMENTS}::test_a_large_manifest_that_waits_too_long_is_refused",),
        Disarm("cache/runtime/turns.py", "asyncio.timeout(self._seconds)", "asyncio.timeout(None)"),
    ),
    Threat(
        "refusals that are larger than what is refused",
        "The refusal of a manifest names 10,000 missing references, which is 1.5 MB.",
        "A refusal names 20 of them, and how many more there are.",
        (f"{PUSHED_DOCUMENTS}::test_a_refusal_names_no_more_than_twenty_missing_references",),
        Disarm("gateway/registry/pushed.py", "missing[:NAMED_LIMIT]", "missing"),
    ),
    Threat(
        "a manifest of another digest",
        "A manifest is stored by a digest that is not its own.",
        "The digest is that of the received bytes, and must be the one that the request states.",
        (f"{MANIFESTS}::test_a_manifest_must_have_the_digest_that_the_client_states",),
        Disarm(
            "gateway/v2/manifests.py",
            "if stated is not None and manifest.descriptor.digest != stated:",
            "if False:",
        ),
    ),
    Threat(
        "bodies that are left open",
        "Whoever is about to lose a right leaves requests open, and ends them later: tags move, and blobs are stored.",
        "A push is decided about once more when its body has arrived, before it is stored, with its principal as it is now.",
        (
            f"{LONG_PUSHES}::test_a_manifest_moves_no_tag_once_the_right_is_lost",
            f"{LONG_PUSHES}::test_no_blob_is_stored_once_the_right_is_lost",
            f"{LONG_PUSHES}::test_no_blob_of_one_request_is_stored_once_the_right_is_lost",
        ),
        Disarm(
            "gateway/v2/opener.py",
            "            raise _refused(decision, name, root, renewed, action, located)\n",
            "            pass\n",
        ),
    ),
    Threat(
        "a credential that ends while a body arrives",
        "What is decided once more is decided for the token as it was when the request began.",
        "What stands behind the request is looked up again; only the end of a Bearer token does not count then.",
        (
            f"{LONG_PUSHES}::test_a_manifest_moves_no_tag_once_the_right_is_lost",
            "tests/gateway/auth/test_authenticator.py::test_a_block_ends_everything_of_a_user_at_once",
        ),
        Disarm(
            "gateway/v2/opener.py",
            "renewed = await self._services.authenticator.renewed(principal)",
            "renewed = replace(principal, limits=None)",
        ),
    ),
    Threat(
        "streams without end",
        "A client whose right is lost goes on to send the stream that it has begun, and fills the disk.",
        "The right is decided about once a minute while a body arrives; a manifest has a minute in all.",
        (
            f"{LONG_PUSHES}::test_a_long_stream_ends_while_it_arrives",
            f"{LONG_PUSHES}::test_a_manifest_has_a_limited_time_to_arrive",
        ),
        Disarm("gateway/v2/long_pushes.py", "            await decide_again()\n", "            pass\n"),
    ),
    Threat(
        "names in lists",
        "The list of all repositories, or a link in it, names a repository that its reader may not know of.",
        "Projects are decided about first; a page is made of the repositories of those alone, and its link names one.",
        (
            f"{CATALOG}::test_each_sees_what_may_be_pulled",
            "tests/gateway/v2/test_catalog_reach.py::test_every_principal_sees_exactly_what_it_may_pull",
        ),
        Disarm(
            "gateway/v2/catalog.py",
            "if await self._opener.may_pull(principal, path):",
            "if True:",
        ),
    ),
    Threat(
        "lengths of lists",
        "The length of a page, or whether it has a link, tells of hidden repositories, and by `last` their names.",
        "A page is filled until it has all names that it may have; a link is there where a further one is visible.",
        (f"{CATALOG}::test_no_page_and_no_link_depends_on_what_is_hidden",),
        Disarm(
            "gateway/v2/catalog.py",
            "            if len(names) >= limit and names[limit - 1] < following:\n",
            "            if True:\n",
        ),
    ),
    Threat(
        "repositories that are passed over",
        "A list takes the longer, the more hidden repositories lie between two visible ones, which tells where they are.",
        "Repositories are found by the projects that hold them, and projects by looking at each of them.",
        (
            "tests/gateway/db/test_repositories.py::test_lists_for_readers_search_nothing_in_between",
            f"{CATALOG}::test_only_repositories_of_what_may_be_pulled_are_read",
        ),
        Disarm("gateway/db/dialects.py", 'return type_coerce(column.concat(""), column.type)', "return column"),
    ),
    Threat(
        "hidden projects and pushes",
        "The refusal of a push tells whether a project exists that its sender may not know of.",
        "What is said of a missing project depends on the groups alone that the sender may know.",
        (
            f"{NATIVE_NAMES}::test_a_hidden_project_and_an_absent_one_look_the_same_below_a_group_that_one_may_know",
            f"{NATIVE_NAMES}::test_who_knows_no_group_on_the_way_is_told_of_none",
        ),
        Disarm(
            "gateway/v2/missing_projects.py",
            "if place is not None and await self._knows(principal, place, now):",
            "if place is not None:",
        ),
    ),
    Threat(
        "projects by push",
        "Somebody without a role in a group, or with a token for other things, makes projects in it by pushing.",
        "Only developers and above create projects so, with a scope for pushes, and where the settings allow it.",
        (f"{NATIVE_NAMES}::test_a_push_creates_no_project_for_who_may_not",),
        Disarm(
            "gateway/v2/missing_projects.py",
            "        return holder if decision.allowed else None",
            "        return holder",
        ),
    ),
    Threat(
        "names that clients call us",
        "Host or a forwarding header appears in a link, or influences a decision.",
        "Links are made from `external_url` alone, and no forwarding header is read.",
        (
            "tests/gateway/server/test_wire.py::test_nothing_that_a_client_calls_the_server_comes_back",
            "tests/e2e/test_discovery.py::test_tags_come_in_pages_whose_links_bear_the_external_url",
        ),
        Disarm(
            "gateway/v2/pull.py",
            "<{chosen.url}/v2/{path}",
            '<http://{request.headers["host"]}/v2/{path}',
        ),
    ),
    Threat(
        "virtual hosts by any name",
        "A client sends an invented Host, and reaches another tenant's images or sees its own text in a link.",
        "Host selects among the configured names only; links contain the name from the settings.",
        (
            "tests/e2e/test_addresses.py::test_a_host_that_is_not_configured_changes_nothing_and_never_comes_back",
            "tests/e2e/test_addresses.py::test_links_to_further_tags_stay_on_the_way_that_the_client_came",
        ),
        Disarm(
            "gateway/v2/root_selection.py",
            'table.virtual_hosts.get(host.lower().partition(b":")[0], table.main)',
            "next(iter(table.virtual_hosts.values()))",
        ),
    ),
    Threat(
        "a proxy to anywhere",
        "`?ns=` makes the gateway send requests to a host that the client chooses, inside or outside the network.",
        "`ns` selects a configured upstream; any other value is NAME_UNKNOWN, and never becomes an address.",
        ("tests/e2e/test_addresses.py::test_a_namespace_reaches_what_is_configured_and_nothing_else",),
        Disarm(
            "gateway/v2/root_selection.py",
            "raise _unknown(namespace, address.upstreams)",
            "return next(iter(address.by_namespace.values()))",
        ),
    ),
    Threat(
        "a closed group that stays open",
        "A group is closed or deleted, and a worker that has it in memory goes on serving it.",
        "Each change writes a row in its own transaction, and every worker drops what it names before its next lookup.",
        (
            "tests/gateway/directory/test_directory.py::test_a_change_of_this_process_is_seen_by_the_next_lookup",
            "tests/gateway/directory/test_directory.py::test_a_commit_of_another_process_is_seen_by_the_next_lookup",
        ),
        Disarm("gateway/directory/directory.py", "_drop(self._groups, path)", "pass"),
    ),
    Threat(
        "a change with a lower number",
        "On PostgreSQL a revocation draws a lower number than a change that commits before it, and a process never reads it.",
        "A writer holds one advisory lock for its transaction, so numbers become visible in their order, and rules hold.",
        (
            "tests/gateway/db/test_postgresql.py::test_a_number_is_never_seen_before_a_lower_one",
            "tests/gateway/db/test_transactions.py::test_what_a_writer_read_stays_true_until_it_commits",
        ),
        Disarm("gateway/db/postgresql.py", "await take_lock(connection, WRITERS_LOCK)", "pass"),
    ),
    Threat(
        "a worker that is cut off from its database",
        "A worker cannot reach the database, learns of no revocation, and goes on with what it remembers of credentials.",
        "Memories that could not be compared with the database for a second are not current, and say so.",
        (
            "tests/gateway/db/test_postgresql.py::test_a_process_that_is_cut_off_says_so_and_catches_up_later",
            "tests/gateway/db/test_postgresql.py::test_a_server_that_does_not_answer_is_as_one_that_is_not_there",
        ),
        Disarm(
            "gateway/db/postgresql_changes.py",
            "if failure := self._failure or await self._read_soon():",
            'if failure := "":',
        ),
    ),
    Threat(
        "a database file that cannot be read",
        "The log of changes in the SQLite file cannot be read, and a worker goes on with what it remembers of credentials.",
        "Memories that could not be compared with the database for a second are not current, and say so.",
        (
            "tests/gateway/db/test_changes.py::test_memories_of_a_database_that_cannot_be_read_stay_and_are_not_current_after_a_second",
        ),
        Disarm("gateway/db/sqlite_changes.py", "if self._failure and", "if False and"),
    ),
    Threat(
        "a database server that does not answer",
        "The server of the database accepts connections and answers nothing, and who waits for it waits for ever.",
        "A read of the log has a second; then its connection is broken, and those who wait are refused.",
        ("tests/gateway/db/test_postgresql.py::test_a_server_that_does_not_answer_is_as_one_that_is_not_there",),
        Disarm("gateway/db/postgresql_changes.py", "self._loop.call_later(READ_SECONDS,", "self._loop.call_later(600,"),
    ),
    Threat(
        "a notification that is lost",
        "A notification of a change is lost, behind a pooler or with a connection, and a revoked token goes on.",
        "The log is read twice a second, whatever is notified.",
        ("tests/gateway/db/test_postgresql.py::test_a_change_is_seen_without_a_notification",),
        Disarm("gateway/db/postgresql_changes.py", "asyncio.timeout(POLL_SECONDS)", "asyncio.timeout(None)"),
    ),
    Threat(
        "a database that was set back",
        "A backup of the database is restored while workers run, and its changes have numbers that they have seen already.",
        "A last number that is lower than the last one seen drops everything from memory.",
        ("tests/gateway/db/test_postgresql.py::test_everything_is_dropped_when_the_database_was_set_back",),
        Disarm("gateway/db/changes.py", " or last < self._seen:", ":"),
    ),
    Threat(
        "names in the order of a language",
        "A database sorts as a language does, and lists and the ranges of prefixes hold other paths than the rules mean.",
        "Names and paths have a collation of their own, which compares byte by byte.",
        ("tests/gateway/db/test_postgresql.py::test_names_sort_byte_by_byte_in_a_database_of_a_language",),
        Disarm(
            "gateway/db/migrations/versions/0004_identity.py",
            'sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")',
            "sa.String(255)",
        ),
    ),
    Threat(
        "an old program on a new database",
        "A database was upgraded, and a server of the version before serves from tables that now mean something else.",
        "Each upgrade names the oldest version that can use its result; older ones refuse to start.",
        ("tests/gateway/db/test_postgresql.py::test_a_newer_database_is_used_if_it_names_this_version_as_able",),
        Disarm(
            "gateway/db/revisions.py", "if found.oldest_program is None or found.oldest_program > needed:", "if False:"
        ),
    ),
    Threat(
        "rows in an error",
        "A violated constraint's error holds the whole row, with sealed passwords and hashes, and goes to the log.",
        "Errors of statements keep their first line, without parameters and detail.",
        ("tests/gateway/db/test_transactions.py::test_the_error_of_a_statement_shows_no_row",),
        Disarm("gateway/db/postgresql.py", "error.__cause__.detail = None", "pass"),
    ),
    Threat(
        "writers that starve",
        "Several processes write gateway.db, and some of them find it locked again and again until they fail.",
        "A writer takes its turn at a lock file before it begins its transaction.",
        ("tests/gateway/db/test_engine.py::test_a_writer_waits_for_one_of_another_process",),
        Disarm("gateway/db/sqlite_engine.py", "stack.enter_context(alone(self._path))", "pass"),
    ),
    Threat(
        "an image of another registry",
        "A mirror of one registry gets a request for another one's image by `?ns=`, and serves its own.",
        "An address that belongs to one upstream refuses every `ns` that names another.",
        ("tests/e2e/test_addresses.py::test_an_address_of_one_upstream_answers_for_no_other_and_takes_nothing",),
        Disarm("gateway/v2/root_selection.py", "raise _unknown(namespace, address.upstreams)", "return address.own"),
    ),
    Threat(
        "HTTP/2",
        "A client resets thousands of streams, or streams never end when their body fails.",
        "Only HTTP/1.x is accepted: no upgrade, no prior knowledge, no other protocol in the TLS handshake.",
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
        "Clients that send or read a few bytes at a time hold connections without end.",
        "10 s for a head, 1 KiB/s over 30 s for a body, 60 s for a response to progress, a connection limit.",
        ("tests/security/test_slow_clients.py", "tests/gateway/http/test_stalls.py"),
        Disarm(
            "gateway/http/stalls.py",
            "if waited - since >= self._window and",
            "if False and",
        ),
    ),
    Threat(
        "left connections",
        "A client leaves within a body that nobody reads, and its connection, descriptor and tasks stay for ever.",
        "A queue of bounded size for each request, which waits for no app that has ended or has responded.",
        ("tests/security/test_left_clients.py",),
        Disarm(
            "gateway/server/request_messages.py",
            "while self._size >= LIMIT and not self._ended:",
            "while self._size >= LIMIT:",
        ),
    ),
    Threat(
        "failures while a body arrives",
        "A handler fails while the client still sends: the connection is reset, and the client learns nothing.",
        "The rest of the body is read, within limits, behind every response, also that of a failure.",
        ("tests/security/test_left_clients.py::test_a_failure_is_told_to_a_client_that_is_still_sending",),
        Disarm("gateway/wiring/app.py", "DrainedRefusals(access_log, drain)", "access_log"),
    ),
    Threat(
        "half-closed clients",
        "A client that sends no more after its request is taken for one that has left, and receives only a head.",
        "The end of the input ends no response; a client that has left is noticed by a reset.",
        (
            "tests/gateway/server/test_half_closed.py",
            "tests/security/test_left_clients.py::test_a_reset_is_noticed_after_a_half_close",
        ),
        Disarm("gateway/server/http1.py", "return bool(state != _TCP_CLOSE)", "return False"),
    ),
    Threat(
        "silent readers",
        "Many clients request large documents, or blobs over TLS, and do not receive them; each costs megabytes.",
        "Responses are written in small pieces, and equal documents that are being sent share one buffer.",
        ("tests/security/test_silent_readers.py", "tests/gateway/http/test_documents.py"),
        Disarm("gateway/http/documents.py", "        if len(body) < SHARED_FROM:\n", "        if body:\n"),
    ),
    Threat(
        "whole responses in buffers",
        "A response is written at once, and the transport keeps a copy of all that the client does not receive.",
        "A response is written piece by piece, and waits while the transport holds more than one piece.",
        ("tests/security/test_silent_readers.py",),
        Disarm(
            "gateway/server/http1.py",
            "for piece in (data,) if len(data) <= PIECE else _pieces(data):",
            "for piece in (data,):",
        ),
    ),
    Threat(
        "memory of all slow clients together",
        "So many clients receive slowly that what waits for them takes all memory.",
        "What waits for clients has one limit for a worker; the responses that have waited longest are ended.",
        (
            "tests/gateway/server/test_unsent.py",
            "tests/security/test_slow_clients.py::test_what_waits_for_all_is_limited",
        ),
        Disarm("gateway/server/unsent.py", "while self.bytes > self._limit:", "while False:"),
    ),
    Threat(
        "responses that trickle",
        "A client receives a few bytes now and then, and keeps its response and its connection for hours.",
        "While a response waits for its client, it must receive 1 KiB/s over 60 s; a file that the kernel sends, too.",
        ("tests/security/test_slow_clients.py::test_an_answer_that_is_taken_too_slowly_is_ended",),
        Disarm("gateway/http/stalls.py", "acknowledged - before < self._least", "acknowledged == before"),
    ),
    Threat(
        "stale rights",
        "Content is served without a right, or after it was lost, because the upstream is down.",
        "During an outage only confirmed content is served: a refusal deletes links and pointers at once.",
        ("tests/e2e/test_freshness.py::test_an_outage_gives_nothing_back_that_a_refusal_took",),
        Disarm(
            "cache/proxy/rights.py",
            "await self._index.forget(self._source, self._image)",
            "pass",
        ),
    ),
    Threat(
        "waiting that tells of others",
        "While an upstream's limit is used up, what another group holds is served or refused at once, all else later.",
        "A proof of a right waits for its turn as a fetch does, and is refused as one would be.",
        ("tests/cache/proxy/test_others.py", "tests/e2e/test_others.py"),
        Disarm("cache/proxy/rights.py", "if self._client.pause(RequestKind.PULL):", "if False:"),
    ),
    Threat(
        "responses that tell of others",
        "A response, or the one after it, shows whether another image has pulled the content.",
        "Content that is proved just now is a MISS, and a HEAD is forwarded and proves nothing.",
        ("tests/cache/proxy/test_manifests.py", "tests/e2e/test_others.py", "tests/e2e/test_rights.py"),
        Disarm(
            "cache/proxy/repository.py",
            "FoundManifest(held, MISS if first else COALESCED)",
            "FoundManifest(held, REVALIDATED)",
        ),
    ),
    Threat(
        "a registry without HEAD",
        "A registry refuses every HEAD, and an image gets no blob that another one has; so it shows who has what.",
        "Where a HEAD proves no right, the content is fetched under the image's own name, as if nobody had it.",
        (
            "tests/cache/proxy/test_blobs.py"
            "::test_what_another_image_has_is_fetched_as_if_nobody_had_it_where_no_head_proves_the_right",
            "tests/cache/proxy/test_blobs.py"
            "::test_what_another_image_downloads_is_fetched_as_if_nobody_did_where_no_head_proves_the_right",
            "tests/cache/proxy/test_manifests.py"
            "::test_a_manifest_that_another_image_has_is_fetched_where_no_head_proves_the_right",
        ),
        Disarm(
            "cache/proxy/rights.py",
            "if isinstance(error, RateLimited | Unavailable) and self._client.primary is self._client:",
            "if self._client.primary is self._client:",
        ),
    ),
    Threat(
        "a proof during an outage",
        "An upstream fails, or limits requests, and each proof of a right sends it a second request that fails as well.",
        "A proof that meets an outage, a limit or silence is refused with 503; only one that says nothing is repeated.",
        (
            f"{PUBLIC}::test_an_outage_that_a_proof_meets_is_no_reason_for_a_get",
            "tests/cache/proxy/test_blobs.py::test_an_outage_that_a_proof_of_a_blob_meets_is_no_reason_to_fetch_it",
            "tests/cache/proxy/test_manifests.py"
            "::test_an_outage_that_a_proof_of_a_manifest_meets_is_no_reason_to_fetch_it",
        ),
        Disarm(
            "cache/proxy/rights.py",
            "if isinstance(error, RateLimited | Unavailable) and self._client.primary is self._client:",
            "if isinstance(error, RateLimited) and self._client.primary is self._client:",
        ),
    ),
    Threat(
        "HEADs that are always refused",
        "A registry refuses every HEAD, and each proof and each check of a tag costs two round trips for ever.",
        "After three useless HEADs in a row a GET is sent at once, for ten minutes; then one HEAD is tried again.",
        (
            f"{PUBLIC}::test_heads_that_prove_nothing_again_and_again_are_left_out_for_a_while",
            "tests/cache/upstream/test_useless_heads.py",
        ),
        Disarm("cache/upstream/useless_heads.py", "return 0 < record.until - now <= REMEMBERED", "return False"),
    ),
    Threat(
        "HEADs that a redirect's target spoils",
        "The target of one image's redirect answers three HEADs with too little, and the whole registry gets none.",
        "What a redirect's target answers to a HEAD counts for that image alone.",
        (
            f"{PUBLIC}::test_useless_heads_behind_a_redirect_count_for_their_image_alone",
            "tests/cache/upstream/test_useless_heads.py"
            "::test_what_a_redirect_s_target_answers_counts_for_that_image_alone",
        ),
        Disarm(
            "cache/upstream/useless_heads.py",
            "            if own:\n                self._records[kind]",
            "            if True:\n                self._records[kind]",
        ),
    ),
    Threat(
        "one refusal for a whole image",
        "A registry refuses one reference, by a policy for example, and everything cached of the image is lost.",
        "A refusal revokes its reference; the image is revoked only if its tags, or a tag that was good, are refused.",
        ("tests/cache/proxy/test_manifests.py",),
        Disarm(
            "cache/proxy/rights.py",
            "            except UpstreamError:\n                return\n            else:\n                return\n",
            "            except UpstreamError:\n                refused = True\n            else:\n                refused = True\n",
        ),
    ),
    Threat(
        "forgetting that takes long",
        "Forgetting an image looks at everything in memory, and holds up all requests each time.",
        "What is in memory is indexed by image.",
        ("tests/cache/index/test_image_memory.py",),
        Disarm(
            "cache/index/image_memory.py",
            "        self._count -= len(self._images.pop(image, {}))\n",
            "        self._images = OrderedDict((key, self._images[key]) for key in self._images if key != image)\n",
        ),
    ),
    Threat(
        "around the gate",
        "An image in cooldown is pulled by digest, or by the digests of its layers.",
        "Content that only withheld manifests refer to is withheld too: by digest, HEAD and referrers.",
        (
            "tests/cache/proxy/test_gated.py::test_what_only_a_withheld_manifest_refers_to_is_withheld_and_what_is_shared_is_not",
            "tests/cache/proxy/test_gated.py::test_the_parts_of_a_withheld_index_are_withheld",
        ),
        Disarm(
            "cache/policy/gate.py",
            "if ancestor.digest not in kept_back and ancestor.first_seen is None and not incomplete:",
            "if True:",
        ),
    ),
    Threat(
        "a tag moved for a moment",
        "A tag is moved for one pull and back, and again after the cooldown: the content then counts as old enough.",
        "The age of a digest begins anew when the tag comes back to it from another one.",
        (
            "tests/cache/proxy/test_gated.py::test_a_tag_that_was_moved_for_a_moment_makes_nothing_older",
            "tests/cache/index/test_sightings.py::test_a_time_that_another_digest_interrupts_begins_anew_and_the_longest_is_kept",
        ),
        Disarm("cache/index/sightings.py", "if another is not None:", "if False:"),
    ),
    Threat(
        "tags that stop a gate",
        "A stranger requests thousands of tags by HEAD, and pulls through a gate with a cooldown look all of them up.",
        "A gate looks up what leads to the requested digest, by indexes, and remembers what it let through.",
        (
            "tests/cache/index/test_ancestors.py::test_the_number_of_tags_costs_nothing",
            "tests/cache/proxy/test_gated.py::test_a_flood_of_tags_costs_requests_by_digest_nothing",
            "tests/cache/proxy/test_gated.py::test_what_was_let_through_is_remembered_while_the_index_stays_the_same",
        ),
        Disarm(
            "cache/index/migrations/versions/0006_parents.py",
            'op.create_index("ix_sightings_digest", "sightings", ["image_id", "digest", "first_seen"])',
            "pass",
        ),
    ),
    Threat(
        "dates that stop a gate",
        "A gate that trusts publishers' dates reads one of every young tag for each request by digest.",
        "Dates are read only where nothing else lets a digest through, and of so many manifests that lead to it.",
        (
            "tests/cache/policy/test_gate.py::test_dates_of_publishers_are_read_of_so_many_manifests_and_of_none_that_decide_nothing",
        ),
        Disarm("cache/policy/gate.py", "list(young)[:DATES_READ]", "list(young)"),
    ),
    Threat(
        "young tags",
        "A tag is moved to a malicious image, and everybody pulls it within minutes.",
        "With a cooldown, a tag resolves to its earlier digest until the new one is old enough by our clock.",
        (
            "tests/cache/policy/test_gate.py::test_a_tag_in_its_cooldown_means_the_last_digest_that_is_old_enough",
            "tests/cache/proxy/test_gated.py::test_a_tag_that_moved_too_lately_is_answered_with_what_it_meant_before",
        ),
        Disarm("cache/policy/gate.py", "if age >= gate.cooldown:", "if True:"),
    ),
    Threat(
        "all at once",
        "Floods, invented names, silent readers, an upstream that lies and trickles, and a full disk, three times.",
        "No wrong body completes, no foreign data is sent anywhere, nothing is left open, memory stays as it was after "
        "the second time, and 99 of 100 cached pulls take less than 200 ms.",
        ("tests/security/test_storm.py::test_storms_leave_nothing_behind",),
        Disarm("cache/store/base.py", "stop if verified else stop - TAIL", "stop"),
    ),
    Threat(
        "a worker dies",
        "One of the workers is killed or crashes, and the other workers or their clients fail with it.",
        "It is replaced at once; the others share only the address. If it dies at its start, a pause follows.",
        (
            "tests/gateway/processes/test_supervisor.py::test_connections_to_the_other_workers_notice_nothing_of_a_death",
            "tests/gateway/processes/test_supervisor.py::test_the_only_worker_is_replaced_too",
            "tests/gateway/processes/test_supervisor.py::test_a_worker_that_dies_at_its_start_is_started_again_after_a_pause",
        ),
        Disarm(
            "gateway/processes/worker_pool.py",
            "                        self._start_due_workers()",
            "                        time.sleep(0)",
        ),
    ),
    Threat(
        "a filler dies",
        "The worker that downloads a blob is killed in the middle, and followers in other workers wait without end.",
        "The lease ends with its worker; another worker hashes the present bytes again and requests the rest.",
        (
            "tests/cache/download/test_shared_fill.py::test_a_live_follower_takes_a_killed_process_s_place",
            "tests/e2e/test_many_workers.py::test_a_killed_filler_costs_its_own_clients_their_answer_and_nobody_else",
        ),
        Disarm("cache/download/flight_thread.py", "if gone or now - tried_at > limits.take_over_every:", "if gone:"),
    ),
    Threat(
        "a lease that nobody gives back",
        "A follower takes the lease over, reads only then that the filler has failed, and keeps the lease.",
        "It releases the lease before it reports the failure.",
        ("tests/cache/download/test_shared_fill.py::test_a_failure_that_is_read_with_the_lease_leaves_the_lease_free",),
        Disarm("cache/download/flight_thread.py", "lease.release()\n                        raise", "raise"),
    ),
    Threat(
        "several fillers",
        "Every worker fetches the same blob, and the upstream counts every fetch.",
        "Each host has one lease per source and digest; the other workers follow the file that the holder fills.",
        ("tests/cache/download/test_shared_fill.py::test_many_readers_in_many_workers_follow_one_fill",),
        Disarm("cache/lease/local.py", "if not try_lock_byte(descriptor, offset, shared=shared):", "if False:"),
    ),
    Threat(
        "another worker's unverified bytes",
        "A follower of another process's file gets its tail unverified, or takes a lost file for complete.",
        "The tail is withheld until the inode carries a mark, which is set after the digest was verified.",
        ("tests/cache/download/test_shared_fill.py::test_the_tail_waits_for_the_mark",),
        Disarm("cache/download/spool_watch.py", "done = marked(status)", "done = view.count == view.note.size"),
    ),
    Threat(
        "another image's right",
        "An image without the right gets bytes because another worker fetches them for an image that has it.",
        "The upstream's response proves the right of the fetching image only; any other image sends its own request.",
        (
            "tests/cache/download/test_shared_fill.py::test_another_worker_s_response_proves_the_right_of_its_own_image_alone",
            "tests/e2e/test_many_workers.py::test_an_image_without_the_right_gets_nothing_from_another_worker_either",
        ),
        Disarm("cache/download/flight.py", "and (self.proved or image != self.image)", "and bool(self.images)"),
    ),
    Threat(
        "a machine that stopped",
        "After a power loss, a download continues a partial file with holes where bytes were only in memory.",
        "A partial file is used only within the same boot of the machine, and all of it is hashed again.",
        ("tests/cache/download/test_shared_fill.py::test_a_spool_from_before_the_machine_stopped_is_not_resumed",),
        Disarm(
            "cache/download/leased_spool.py",
            "(view.note.source, view.note.boot) != (source, self._boot)",
            "view.note.source != source",
        ),
    ),
    Threat(
        "streams that break off",
        "An upstream resets, stalls or shortens a stream, or responds to a request for the rest with other bytes.",
        "Three retries, each for the rest or for the whole blob; if the parts do not match, one new start.",
        ("tests/cache/download/test_retry.py",),
        Disarm("cache/download/retry.py", "ranged = sink.bodies > bodies or not ranged", "ranged = True"),
    ),
    Threat(
        "streams that trickle",
        "An upstream sends one byte per second, and occupies a spool, a thread and all followers for a day.",
        "A try ends when less than 1 KiB/s arrive over a minute, or no byte for 30 s.",
        ("tests/cache/download/test_retry.py::test_a_trickle_is_ended_and_a_slow_stream_is_not",),
        Disarm(
            "cache/download/incoming.py",
            "if self._bytes < self._limits.least_rate * (now - self._since):",
            "if self._bytes < 0:",
        ),
    ),
    Threat(
        "a disk that is full or fails",
        "A blob that cannot be written is cut short, or wrong bytes before the failure are completed with right ones.",
        "Each client continues over a separate stream, hashed together with the bytes it had; nothing is stored.",
        ("tests/cache/download/test_uncached.py", "tests/e2e/test_disk_full.py"),
        Disarm(
            "cache/download/uncached.py",
            "            self._hasher.update(chunk)\n            self.count += len(chunk)\n        self._reader",
            "            self.count += len(chunk)\n        self._reader",
        ),
    ),
    Threat(
        "crashes in between",
        "A process dies between two steps of a fill, and leaves an incomplete blob under its final name.",
        "The order is write, hash, mark, sync, rename, sync, record; a file that was not renamed is no blob.",
        ("tests/e2e/test_crashes.py",),
    ),
    Threat(
        "orphans",
        "The first process is killed; its workers continue and occupy the address and the data folder.",
        "The kernel ends workers with their parent.",
        (
            "tests/gateway/processes/test_supervisor.py::test_workers_end_with_their_parent_and_leave_the_folder_and_the_port",
        ),
        Disarm("gateway/processes/worker.py", "    _die_with(setup.parent)\n", "    int(setup.parent)\n"),
    ),
    Threat(
        "connections that only connect",
        "Clients connect, begin a TLS handshake or half a head, and stay; nobody else gets a connection.",
        "All connections count from their accept; where all places are taken, the longest idle one gives way.",
        (
            "tests/gateway/server/test_connection_cap.py",
            "tests/security/test_slow_clients.py::test_those_who_only_connect_give_way_to_those_with_a_request",
        ),
        Disarm("gateway/server/connection_cap.py", "        if longest is None:\n", "        if True:\n"),
    ),
    Threat(
        "heads without bodies",
        "A stranger sends heads of requests on all connections, and none of the bodies; nobody else gets a connection.",
        "A connection that waits for the body of a request without an accepted credential gives way as an idle one does.",
        (
            "tests/security/test_unfinished_bodies.py::test_a_request_that_waits_for_its_body_gives_way_to_a_new_connection",
            "tests/security/test_unfinished_bodies.py::test_a_request_with_an_accepted_credential_keeps_its_place_while_its_body_arrives",
            "tests/gateway/v2/test_uploads.py::test_a_connection_keeps_its_place_for_the_body_of_whoever_has_a_credential",
        ),
        Disarm("gateway/http/stalls.py", "if is_accepted(self._scope):", "if True:"),
    ),
    Threat(
        "clients that connect again and again",
        "Hundreds of clients connect, send nothing, disconnect and connect again: each takes a task and buffers, and pulls "
        "wait for seconds in the backlog.",
        "A connection gets a task with its first bytes; until then it is a socket that is watched, with its place and time.",
        (
            "tests/gateway/server/test_acceptor.py::test_a_connection_is_served_from_its_first_bytes_on",
            "tests/gateway/server/test_acceptor.py::test_a_connection_that_sends_nothing_ends_in_time",
        ),
        Disarm("gateway/server/acceptor.py", "            if heard:\n", "            if True:\n"),
    ),
    Threat(
        "one client with all connections",
        "One client opens so many connections that no other gets one.",
        "One client address, or IPv6 network, holds at most half of the connections, except on loopback.",
        ("tests/gateway/server/test_connection_cap.py::test_one_client_holds_at_most_half_of_the_places",),
        Disarm(
            "gateway/server/connection_cap.py", "if client and self._by_client[client] >= self._share:", "if False:"
        ),
    ),
    Threat(
        "descriptors below the cap",
        "Slow clients and downloads take several descriptors each, and none is left while connections are accepted.",
        "Connections and downloads are as many as descriptors suffice for, at what each can take; a reserve is left.",
        (
            "tests/gateway/server/test_connection_cap.py::test_all_connections_and_downloads_together_leave_the_reserve",
            "tests/gateway/processes/test_few_descriptors.py",
        ),
        Disarm("cache/runtime/descriptors.py", "PER_CONNECTION = 3\n", "PER_CONNECTION = 1\n"),
    ),
    Threat(
        "descriptors run out",
        "More clients connect than there are descriptors; the accept loop ends or spins.",
        "The accept loop pauses, and clients wait in the backlog.",
        ("tests/gateway/processes/test_supervisor.py::test_a_worker_without_descriptors_waits_and_goes_on",),
        Disarm("gateway/server/acceptor.py", "            self._pause(error)\n", "            self.close()\n"),
    ),
    Threat(
        "a full disk at the start",
        "A stopped server cannot start again, because its databases cannot be opened.",
        "A ballast file is deleted first, then quarantined files, then as few cached blobs as needed.",
        ("tests/gateway/processes/test_supervisor.py::test_on_a_full_disk_a_server_starts_and_serves_what_it_has",),
        Disarm("gateway/cli/folder.py", "    data_folder.make_room(data)\n", ""),
    ),
    Threat(
        "an upstream that hangs",
        "An upstream accepts requests and responds to none, until no threads and connections are left for the others.",
        "Each upstream has its own connections, name lookups and circuit breakers; two upstreams share nothing.",
        (
            "tests/e2e/test_broken_upstreams.py::test_an_upstream_that_hangs_under_three_hundred_requests_slows_no_other",
            "tests/cache/upstream/test_egress.py::test_a_name_that_hangs_ends_in_time_and_does_not_hold_up_another_upstream",
        ),
        Disarm(
            "cache/upstream/transport.py",
            "await asyncio.wait_for(asyncio.shield(found), timeout))",
            "await found)",
        ),
    ),
    Threat(
        "redirects to names that hang",
        "Images of one owner redirect to names whose lookup hangs, until the upstream's own host cannot be looked up.",
        "Hosts that the settings name have lookups of their own; all others share 32, of which an owner's images have 4.",
        ("tests/cache/upstream/test_lookups.py::test_names_that_hang_take_no_lookup_of_a_host_that_the_settings_name",),
        Disarm("cache/upstream/transport.py", "None if self.reach.names(host, port) else Requester", "Requester"),
    ),
    Threat(
        "an owner of many names that hang",
        "Images of one owner redirect to names whose lookup hangs, until no other image's redirect is looked up.",
        "Lookups of hosts that the settings do not name are shared between the owners of the images that lead there.",
        ("tests/cache/upstream/test_lookups.py::test_names_that_hang_for_one_owner_take_a_small_share_of_the_lookups",),
        Disarm("cache/upstream/resolver.py", "of_owner >= OWNER_LIMIT or ", ""),
    ),
    Threat(
        "a client of many owners whose names hang",
        "A client pulls images of eight owners, all of which redirect to names that hang: no other redirect is followed.",
        "Lookups are shared by those on whose behalf they are made, persons or sites; some are left for whoever has none.",
        ("tests/cache/upstream/test_lookups.py::test_names_that_hang_for_one_client_leave_lookups_to_others",),
        Disarm(
            "cache/upstream/transport.py",
            "Requester(current_requester().group, _owner.get())",
            "Requester(0, _owner.get())",
        ),
    ),
    Threat(
        "lookups in another's name",
        "A registry to which one image redirects names the scope of its token, and takes the lookups of another owner.",
        "What a guest's token needs counts for that guest, whatever scope it names.",
        ("tests/cache/upstream/test_tokens.py::test_what_a_guest_names_takes_no_lookups_of_another_owner",),
        Disarm("cache/upstream/tokens.py", 'image = f"guest {self._origin.netloc}/{image}"', "pass"),
    ),
    Threat(
        "an upstream that is dead",
        "Every pull waits for its time limit, even if the cache could serve it.",
        "After three failed connections in a row the circuit breaker opens; probes find out when the host responds again.",
        (
            "tests/cache/upstream/test_circuit_breaker.py",
            "tests/e2e/test_broken_upstreams.py::test_a_dead_upstream_is_refused_at_once_and_asked_again_by_itself",
        ),
        Disarm(
            "cache/upstream/circuit_breaker.py",
            "if len(row) >= TRIP_AFTER else counted",
            "if len(row) >= 1000 else counted",
        ),
    ),
    Threat(
        "some images against all",
        "A client requests what makes a registry fail for some images, until the circuit opens for the whole upstream.",
        "If the host was reached, it fails only with five images, and half of those requested within a minute.",
        (
            "tests/cache/upstream/test_circuit_breaker.py",
            "tests/e2e/test_broken_upstreams.py::test_an_image_that_fails_alone_takes_no_other_image_away",
            "tests/e2e/test_broken_upstreams.py::test_no_request_of_a_client_takes_a_real_registry_away_from_another",
        ),
        Disarm("cache/upstream/circuit_breaker.py", "FAILED_IMAGES = 5\n", "FAILED_IMAGES = 3\n"),
    ),
    Threat(
        "probes that a client chooses",
        "A client's request that always fails is the probe, and the circuit stays open after the upstream recovered.",
        "The probe is a GET of /v2/; then images that have not failed are tried first, and without a pause.",
        (
            "tests/cache/upstream/test_circuit_breaker.py",
            "tests/cache/upstream/test_egress.py::test_the_first_request_after_an_outage_follows_a_probe_that_no_client_chose",
        ),
        Disarm("cache/upstream/circuit_breaker.py", "probes_host=host.state.wait > 0,", "probes_host=False,"),
    ),
    Threat(
        "many images against all",
        "A client knows what fails for more than five images, and its requests take every chance to close the circuit.",
        "While the circuit is open, images that have failed wait longer each time, and hold up no others.",
        (
            "tests/cache/upstream/test_circuit_breaker.py",
            "tests/e2e/test_broken_upstreams.py::test_many_images_that_fail_at_a_real_registry_shut_no_other_out",
        ),
        Disarm(
            "cache/upstream/circuit_breaker.py",
            "                host.state = replace(suspected, retry_at=now)  # whether the host fails is asked at once\n",
            "                host.state = suspected\n",
        ),
    ),
    Threat(
        "some references against their image",
        "A client requests references of an image that fail, until nobody gets anything else of the image.",
        "While an image's circuit is open, paths that have failed wait, and others are tried at once, one by one.",
        (
            "tests/cache/upstream/test_circuit_breaker.py",
            "tests/e2e/test_broken_upstreams.py::test_layers_requested_as_manifests_leave_their_image_to_others",
        ),
        Disarm(
            "cache/upstream/circuit_breaker.py",
            "if not self.state.wait or path in self.failed:",
            "if self.failed or not self.failed:",
        ),
    ),
    Threat(
        "targets of redirects",
        "Redirects of some images lead to a host or a path that fails, and the circuit opens for all images there.",
        "What the target of a redirect does counts for the image alone.",
        (
            "tests/cache/upstream/test_registry_client.py::test_a_target_of_redirects_that_fails_images_is_still_sent_requests_for_others",
        ),
        Disarm("cache/upstream/exchange.py", "blamed, redirected=not own)\n            if", "blamed)\n            if"),
    ),
    Threat(
        "wrong bytes of one image",
        "Login pages or wrong bytes for three blobs of one image close the upstream for all images.",
        "Wrong bytes count for the image alone.",
        (
            "tests/cache/upstream/test_circuit_breaker.py",
            "tests/e2e/test_broken_upstreams.py::test_login_pages_for_blobs_of_one_image_take_no_other_image_away",
        ),
        Disarm(
            "cache/upstream/circuit_breaker.py",
            "            content = self._contents.get(key, CLOSED)\n            host = ",
            "            content = next(iter(self._contents.values()), CLOSED)\n            host = ",
        ),
    ),
    Threat(
        "queries that are passed on",
        "A query that no registry expects makes the upstream fail.",
        "`n`, `last` and `artifactType` follow their grammars, or the request is refused.",
        ("tests/gateway/v2/test_bad_input.py",),
        Disarm("gateway/v2/paging.py", "str(parse_reference(text))", "text"),
    ),
    Threat(
        "limits used up for others",
        "An upstream's limit is reached, and every client's retry prolongs it, or one group uses all that is left.",
        "After a 429 no worker sends a request that counts until the time that the response names; groups take turns.",
        (
            "tests/e2e/test_quota.py::test_a_herd_on_a_limit_that_is_used_up_sends_nothing_and_gets_all_that_is_cached",
            "tests/cache/upstream/test_ledger.py::test_a_pause_holds_for_every_process_at_once_and_for_no_other_credential",
            "tests/cache/proxy/test_queue.py",
        ),
        Disarm("cache/upstream/quota.py", "            self._admit(known, kind, now)", "            pass"),
    ),
    Threat(
        "a stop that waits for silent readers",
        "Clients receive nothing of their responses; a server that stops leaves their connections and tasks behind.",
        "A second after the grace the connections that are left are aborted, so that nothing waits for their clients.",
        (
            "tests/security/test_left_clients.py"
            "::test_a_server_stops_although_a_client_receives_nothing_of_its_response",
        ),
        Disarm("gateway/server/http_server.py", "connection.abort()", "pass"),
    ),
    Threat(
        "a follower in a stranger's queue",
        "A client with hundreds of waiting misses asks for a popular tag first; all others wait for its turn, not theirs.",
        "Whoever joins work that waits has it wait in their own turn, too; it goes ahead with the first of them.",
        (
            "tests/cache/proxy/test_others.py::test_a_miss_that_others_join_waits_for_the_first_turn_of_any_of_them",
            "tests/cache/proxy/test_others.py::test_readers_of_one_blob_wait_for_the_first_turn_of_any_of_them",
            "tests/cache/proxy/test_queue.py",
        ),
        Disarm("cache/proxy/upstream_calls.py", "queue.join(key, self.requester)", "pass"),
    ),
    Threat(
        "a hit that is refused for the upstream's sake",
        "A server is so busy that it reads a cached manifest late, and refuses it since the upstream did not respond.",
        "The limit on what a client waits for the upstream begins where what is cached was looked for in vain.",
        (
            "tests/cache/proxy/test_small_requests.py::test_what_is_cached_is_served_however_late_it_is_read",
            "tests/gateway/v2/test_responses.py::test_a_blob_that_is_found_late_and_complete_is_sent",
        ),
        Disarm(
            "cache/proxy/repository.py",
            "        if held := await self._held_manifest(digest):\n            return FoundManifest(held, HIT)\n        async with self._headers_due():\n            return await self._missing_manifest(digest)",
            "        async with self._headers_due():\n            if held := await self._held_manifest(digest):\n                return FoundManifest(held, HIT)\n            return await self._missing_manifest(digest)",
        ),
    ),
    Threat(
        "a search for garbage in a flood",
        "Documents of a million objects make the collector look through all of them, 200 ms in which nothing continues.",
        "All objects are looked through once a minute, whatever arrives meanwhile.",
        ("tests/gateway/processes/test_garbage.py",),
        Disarm("gateway/processes/garbage.py", "gc.set_threshold(YOUNG, MIDDLE, OLD)", "pass"),
    ),
    Threat(
        "memory that a storm leaves",
        "Large documents and hundreds of threads leave heaps full of holes, which each storm enlarges.",
        "Large blocks are given back when they are freed, and few heaps serve all threads.",
        ("tests/gateway/processes/test_allocator.py",),
        Disarm("gateway/processes/allocator.py", "mallopt(parameter, value)", "pass"),
    ),
    Threat(
        "a queue filled by one group",
        "The waiting misses of one group, or of one client, fill the queue, and those of all others are refused.",
        "Groups take turns, then their clients; in a full queue, the latest item of whoever has the most is refused.",
        (
            "tests/cache/proxy/test_queue.py::test_a_group_that_fills_the_queue_takes_no_place_of_another",
            "tests/cache/runtime/test_fair_queue.py",
        ),
        Disarm(
            "cache/runtime/fair_queue.py",
            "group = _largest({group: self._counts[group] for group in self._groups})",
            "group = next(reversed(self._groups))",
        ),
    ),
    Threat(
        "downloads that take all connections",
        "The trickling downloads of one client take all threads, memory and connections of an upstream.",
        "A download has a thread, files and buffers only with a place, of which no client and no group gets all.",
        (
            "tests/cache/download/test_admission.py::test_what_waits_has_no_thread_no_spool_and_no_descriptor",
            "tests/cache/download/test_admission.py::test_a_crowd_of_one_client_leaves_places_to_its_neighbours_and_to_other_groups",
        ),
        Disarm("cache/runtime/fair_queue.py", "return left > 0 and self._clients[who] < SHARE * left", "return True"),
    ),
    Threat(
        "places of clients that left",
        "Downloads that nobody reads any more trickle on, and others wait for their places.",
        "A download without readers gives way to one that waits, and leaves the queue with its last reader.",
        (
            "tests/cache/download/test_admission.py::test_a_download_without_readers_yields_its_place_to_one_that_waits",
            "tests/cache/download/test_admission.py::test_a_reader_that_leaves_the_queue_takes_its_download_along",
        ),
        Disarm("cache/download/flight.py", " and not len(self._line)", ""),
    ),
    Threat(
        "buffers of streams that trickle",
        "Each running download takes several MiB of buffers and a second thread, however slow its stream is.",
        "A stream gets large buffers, from a bounded pool, and a second thread only once it has delivered enough.",
        ("tests/cache/store/test_hashing.py::test_a_stream_that_trickles_has_no_large_buffer_and_no_second_thread",),
        Disarm("cache/store/hashing.py", "if self._fast:", "if True:"),
    ),
    Threat(
        "small requests that take all connections",
        "Slow manifests of one client, or downloads, take all connections, and manifests of others wait.",
        "Requests with small responses have places of their own, of which no client and no group gets all.",
        ("tests/cache/proxy/test_small_requests.py",),
        Disarm(
            "cache/proxy/upstream_calls.py",
            "async with self.small_request(key), self.noted(",
            "async with self.noted(",
        ),
    ),
    Threat(
        "headers that come too late",
        "A pull needs several requests, or a small blob trickles in, and its client gives up before the headers.",
        "All that a response needs of an upstream before its headers is done within 20 s, or the client gets 503 and Retry-After.",
        (
            "tests/cache/proxy/test_small_requests.py::test_a_response_has_its_headers_in_time_whatever_it_takes",
            "tests/gateway/v2/test_responses.py::test_headers_or_a_refusal_are_sent_in_time",
        ),
        Disarm("cache/proxy/errors.py", "async with asyncio.timeout(seconds):", "async with asyncio.timeout(None):"),
    ),
    Threat(
        "waiting for clients that left",
        "Clients request blobs and disconnect; what they requested stays in the queue.",
        "A blob is opened only while its client is connected.",
        ("tests/gateway/v2/test_responses.py::test_a_client_that_leaves_ends_the_wait_for_its_blob",),
        Disarm(
            "gateway/v2/responses.py",
            "await while_connected(receive, self._respond(scope, send))",
            "await self._respond(scope, send)",
        ),
    ),
    Threat(
        "a flood of small requests",
        "Hundreds of connections request tokens for invented names, or pings: each turn of the event loop begins all of "
        "them, and cached pulls and probes wait for many turns.",
        "A turn begins few requests, fewer after a long one; kinds of requests take turns, then clients.",
        (
            "tests/gateway/http/test_request_turns.py::test_a_client_with_many_requests_leaves_the_next_turn_to_another",
            "tests/gateway/http/test_request_turns.py::test_a_flood_of_one_kind_leaves_the_next_turn_to_another_kind",
        ),
        Disarm("gateway/http/request_turns.py", "if self._begun >= self._limit:", "if False:"),
    ),
    Threat(
        "long turns of small requests",
        "Each request of a flood takes milliseconds, so that a few of them make a turn of the event loop long.",
        "After a turn of more than 5 ms the next one begins half as many requests.",
        ("tests/gateway/http/test_request_turns.py::test_after_a_long_turn_the_next_one_begins_half_as_many",),
        Disarm("gateway/http/request_turns.py", "max(1, self._limit // 2) if is_long", "self._limit if is_long"),
    ),
    Threat(
        "a flood of names to look up",
        "Hundreds of requests for invented names, users and tokens wait for the database, and whoever needs it waits "
        "behind them.",
        "Requesters take turns at the threads that read.",
        ("tests/gateway/db/test_transactions.py::test_the_queries_of_one_requester_leave_the_next_one_to_another",),
        Disarm(
            "gateway/db/sqlite_reader.py",
            "self._waiting.add(current_requester(), (work, outcome))",
            "from cache.runtime.fair_queue import NOBODY; self._waiting.add(NOBODY, (work, outcome))",
        ),
    ),
    Threat(
        "probes behind a flood",
        "A flood of names to look up, or of probes, makes /-/ready late, and the orchestrator takes the server out.",
        "Probes at the same time share one look at each database, which waits for the reads of no client.",
        ("tests/gateway/test_ops.py::test_probes_at_once_share_one_look_at_the_databases_that_waits_for_no_client",),
        Disarm("gateway/ops.py", "with on_behalf_of(NOBODY):", "if True:"),
    ),
    Threat(
        "verifications that take all processors",
        "Logins with invented names keep every processor busy with passwords, and cached pulls wait for one.",
        "The threads that verify passwords have a tenth of the priority of the event loop.",
        ("tests/gateway/auth/test_passwords.py::test_verifications_give_way_to_the_event_loop",),
        Disarm("gateway/auth/passwords.py", '"password", initializer=_give_way)', '"password")'),
    ),
    Threat(
        "many addresses of one machine",
        "A client takes another address of its IPv6 network for each request, and gets the turns of many clients.",
        "For turns, places, connections and delays, all addresses of one IPv6 network of 64 bits are one client.",
        (
            "tests/gateway/test_client_name.py",
            "tests/gateway/server/test_connection_cap.py::test_a_client_is_an_address_or_a_network",
            "tests/gateway/http/test_request_turns.py::test_a_client_that_changes_its_address_within_a_network_is_one",
        ),
        Disarm("gateway/client_name.py", "_ONE_NETWORK = 64", "_ONE_NETWORK = 128"),
    ),
    Threat(
        "mirrors that learn or decide too much",
        "A mirror receives a credential, decides what an account may read, or moves a cached tag back.",
        "Mirrors serve anonymous sources only, and a tag only if the upstream is silent and it is not cached.",
        (
            "tests/e2e/test_mirrors.py::test_pulls_with_a_credential_never_ask_a_mirror",
            "tests/e2e/test_mirrors.py::test_a_tag_that_is_cached_is_not_moved_by_a_mirror",
            "tests/cache/upstream/test_mirrors.py",
        ),
        Disarm(
            "gateway/upstreams.py",
            "if not primary.source.credential.is_anonymous or not upstream.mirrors:",
            "if not upstream.mirrors:",
        ),
    ),
    Threat(
        "answers that trickle",
        "A head, a token or a manifest arrives one byte at a time, and occupies its connection without end.",
        "A head must arrive within 20 s of connecting, and a body that is read as a whole within another 20 s.",
        (
            "tests/cache/upstream/test_egress.py::test_a_head_that_trickles_in_for_ever_ends",
            "tests/cache/upstream/test_egress.py::test_a_body_that_trickles_in_for_ever_ends",
        ),
        Disarm("cache/upstream/transport.py", 'until = getattr(_thread, "deadline", None)', "return timeout"),
    ),
    Threat(
        "flood of informational responses",
        "An upstream sends 100,000 informational responses (103) at once, and nothing else has its turn for seconds.",
        "The eleventh informational response to a request is refused, and its connection closed.",
        ("tests/cache/upstream/test_informational.py",),
        Disarm("cache/upstream/kept_connections.py", "if count > INFORMATIONAL_LIMIT:", "if False:"),
    ),
    Threat(
        "secrets that show",
        "A password or token appears in a log, an error, a file of the data folder or a page.",
        "Errors and logs name hosts and users only; stored passwords are encrypted; a whole run is searched.",
        ("tests/security/test_secrets.py",),
        Disarm(
            "gateway/keys/upstream_login.py",
            "sealed = sealer.seal(login.password, _context(group))",
            "sealed = login.password",
        ),
    ),
    Threat(
        "cached in one memory alone",
        "A manifest is evicted from a full disk while one worker serves it from memory, and is lost with that worker.",
        "When the upstream confirms a tag, its manifest and the right to it are recorded again beside the pointer.",
        (
            "tests/cache/proxy/test_manifests.py"
            "::test_a_manifest_that_is_in_memory_alone_is_recorded_again_when_it_is_confirmed",
        ),
        Disarm("cache/proxy/repository.py", "record(held, link, replace(", "record(replace("),
    ),
    Threat(
        "files that nobody counts",
        "On a full disk the rows of downloads cannot be written, and their files, which no image has, fill it further.",
        "A stored file whose row the index refuses is deleted at once, unless the index has the blob already.",
        (
            "tests/cache/proxy/test_blobs.py::test_a_blob_whose_row_cannot_be_written_leaves_no_file",
            "tests/cache/proxy/test_blobs.py::test_a_blob_that_another_has_recorded_stays_where_a_link_cannot_be_written",
        ),
        Disarm("cache/proxy/rights.py", "await asyncio.to_thread(store.delete, flight.digest, another)", "pass"),
    ),
    Threat(
        "names that are not durable",
        "A folder cannot be synced after a rename, and the file stays under its name, though nothing records it.",
        "The file is given its old name back, which the download deletes.",
        ("tests/cache/store/test_filesystem.py",),
        Disarm("cache/store/filesystem.py", "os.replace(name, path)", "pass"),
    ),
    Threat(
        "damaged cache file",
        "A crash, a disk or a person cuts, empties or removes a file of the cache, and clients get incomplete content.",
        "A cached file counts only with the size recorded when it was verified; otherwise it is a miss.",
        (
            "tests/cache/proxy/test_stored_blobs.py",
            "tests/e2e/test_damage.py::test_a_damaged_file_is_a_miss_and_is_repaired",
        ),
        Disarm("cache/proxy/stored_blobs.py", "if blob is not None and blob.size == size:", "if blob is not None:"),
    ),
    Threat(
        "a name taken for the blob",
        "A worker takes over a refetch from one that was killed, and finds the damaged file under the blob's name.",
        "A file counts as stored if it is the verified spool itself, or if its bytes are hashed right then.",
        (
            "tests/cache/download/test_shared_fill.py::test_a_file_with_the_blob_s_name_is_not_taken_for_the_blob",
            "tests/e2e/test_damage_and_kill.py",
        ),
        Disarm(
            "cache/download/flight_thread.py",
            "if not (self._progress.is_followed(descriptor) or self._is_right(descriptor)):",
            "if False:",
        ),
    ),
    Threat(
        "damage keeps its name",
        "A damaged file is a miss and stays under the blob's name, where others find it.",
        "It is set aside the moment it is found, while no process gives the name to another file.",
        ("tests/cache/proxy/test_stored_blobs.py::test_a_file_of_another_size_is_absent_and_its_row_is_dropped",),
        Disarm("cache/proxy/stored_blobs.py", "if damage is not Damage.MISSING:", "if False:"),
    ),
    Threat(
        "a repaired file is set aside",
        "A blob is fetched again just when its damaged file is set aside or deleted, and the right file goes with it.",
        "A name is given and taken away under the lock of its folder, and what has the name is looked at under it.",
        ("tests/cache/store/test_filesystem.py",),
        Disarm("cache/store/filesystem.py", "with locked_folder(target.parent):", "if True:"),
    ),
    Threat(
        "a check removes what was fetched again",
        "The scrub hashes a damaged file while the blob is fetched again, and then removes the new file and its row.",
        "It removes the file that it has opened, and the row only if no file has its size.",
        ("tests/cache/retention/test_scrub.py::test_what_was_fetched_again_during_a_check_is_left_alone",),
        Disarm(
            "cache/retention/scrub.py",
            "self._store.set_aside(self._digest, self._is_other)",
            "self._store.set_aside(self._digest, lambda: False)",
        ),
    ),
    Threat(
        "a second size",
        "A digest is recorded with the size of a damaged file, which is then served as the blob.",
        "The index refuses another size for a digest that has one.",
        ("tests/cache/index/test_index.py",),
        Disarm("cache/index/facts.py", "if recorded != size:", "if False:"),
    ),
    Threat(
        "a spool replaced before its commit",
        "Another file has the spool's name, or the spool is cut, between its check and its commit.",
        "What is renamed into the store must be the open file that was hashed, with its size.",
        (
            "tests/cache/store/test_spool.py::test_a_spool_whose_name_leads_to_another_file_is_not_stored",
            "tests/cache/store/test_spool.py::test_a_spool_that_was_cut_or_grew_after_its_seal_is_not_stored",
        ),
        Disarm(
            "cache/store/spool.py",
            "if sealed.st_size != self.size or not os.path.samestat(os.lstat(self.path), sealed):",
            "if False:",
        ),
    ),
    Threat(
        "zeros in a spool",
        "A spool is cut while it grows; the next bytes are written beyond its end, with zeros before them.",
        "A file that is shorter than the bytes that were hashed ends its download.",
        ("tests/cache/store/test_spool.py::test_a_spool_that_is_cut_while_it_grows_gets_no_zeros",),
        Disarm("cache/store/spool.py", "if os.fstat(self._descriptor).st_size < size:", "if False:"),
    ),
    Threat(
        "a mark on a spool that was cut",
        "A verified spool is cut before another worker sees its mark, which takes the rest for the whole blob.",
        "The mark holds for the number of bytes that the filler has reported, and for no other size.",
        ("tests/cache/download/test_shared_fill.py::test_a_spool_that_is_cut_after_its_mark_is_verified_for_nobody",),
        Disarm("cache/download/spool_watch.py", "done and whole", "done"),
    ),
    Threat(
        "damage that nobody requests",
        "A file of the wrong size stays in the cache with its row, because nobody requests it.",
        "Tidying compares sizes: such a file is set aside, and its row deleted.",
        (
            "tests/cache/retention/test_sweep.py::test_a_file_that_has_not_the_size_of_its_row_is_set_aside_with_the_row",
        ),
        Disarm(
            "cache/retention/sweep.py",
            "wrong = [digest for digest in rows if not is_right(digest)]",
            "wrong = [digest for digest in rows if self._store.stat(digest) is None]",
        ),
    ),
    Threat(
        "a disk without inodes",
        "The disk has free space and no free inode: nothing new is kept, and nothing is evicted.",
        "Free inodes count as free bytes do: some are kept free, and a download that finds none evicts blobs.",
        (
            "tests/cache/retention/test_sweep.py::test_room_is_made_for_files_where_bytes_are_free",
            "tests/cache/retention/test_sweep.py::test_blobs_are_evicted_until_enough_files_are_free",
            "tests/faults/test_small_disk.py::test_a_disk_without_inodes_evicts_and_keeps_what_is_new",
        ),
        Disarm("cache/runtime/disk.py", "return self.files > 0 and self.free_files < free_files", "return False"),
    ),
    Threat(
        "no inodes are kept free",
        "The last inode is used by a download; then no database and no lock file can be opened.",
        "The sweep evicts blobs until a twentieth of the inodes, at most a thousand, is free.",
        ("tests/cache/retention/test_sweep.py::test_blobs_are_evicted_until_enough_files_are_free",),
        Disarm("cache/retention/sweep.py", "max(0, self._limits.reserve_files - level.free_files)", "0"),
    ),
    Threat(
        "a crowd on a full disk",
        "Each download on a full disk searches alone for something to evict, one after the other; the last ones time out.",
        "A request for room that waited while another one found none is refused without a search of its own.",
        ("tests/cache/retention/test_sweep.py::test_many_requests_for_room_at_once_search_once_where_there_is_none",),
        Disarm("cache/retention/sweep.py", "if counts.in_vain != before.in_vain:", "if False:"),
    ),
    Threat(
        "an upstream that promises a blob of a terabyte",
        "One pull of a blob whose length is stated as larger than the disk evicts all that is cached.",
        "A blob larger than the cache or than all that can be free is not written; nothing is evicted for it.",
        (
            "tests/cache/download/test_uncached.py::test_no_room_is_made_for_a_blob_that_is_too_large_to_be_kept",
            "tests/cache/retention/test_sweep.py::test_what_exceeds_the_cap_or_all_that_can_be_free_cannot_be_kept",
        ),
        Disarm("cache/store/spool.py", "if not self.can_keep(size, self.size):", "if False:"),
    ),
    Threat(
        "a promise of as much as the cache holds",
        "An upstream promises a blob that would just fit, sends one byte of it, and all else is evicted for it.",
        "Room is made for 64 MiB at a time: an upstream must send the bytes for which others are evicted.",
        ("tests/cache/store/test_spool.py::test_a_promise_alone_makes_room_for_some_of_the_bytes_at_a_time",),
        Disarm(
            "cache/store/spool.py",
            "min(ROOM_AHEAD, (self.promised or 0) - self.size)",
            "(self.promised or 0) - self.size",
        ),
    ),
    Threat(
        "a full disk of mounted blobs",
        "Cached blobs that a project mounted count as freed when they are evicted, and nothing is free; each try repeats it.",
        "Only a file's last name counts as freed, and what frees nothing does not end the search.",
        (
            "tests/cache/retention/test_sweep.py::test_files_with_another_name_count_for_the_cap_but_make_no_room",
            "tests/cache/retention/test_sweep.py"
            "::test_where_a_full_disk_stops_the_index_files_with_another_name_do_not_stop_the_search",
        ),
        Disarm(
            "cache/store/filesystem.py",
            "self.freeable = status.st_size if status.st_nlink < 2 else 0",
            "self.freeable = status.st_size",
        ),
    ),
    Threat(
        "a start without inodes",
        "The disk has no free inode when the server starts, which cannot open its databases.",
        "A start deletes the ballast, quarantined files and the oldest blobs for inodes as it does for bytes.",
        ("tests/faults/test_small_disk.py::test_a_server_starts_on_a_disk_without_inodes",),
        Disarm("gateway/data_folder.py", "if not disk_space(data).lacks(NEEDED_BYTES, NEEDED_FILES):", "if True:"),
    ),
    Threat(
        "records for ever",
        "Tags that were only asked for, names of images and ages of tags stay in the index, also once all is evicted.",
        "They are deleted when nothing needs them any more, and the file gives its space back.",
        (
            "tests/cache/index/test_records.py",
            "tests/cache/retention/test_sweep.py::test_records_that_nothing_needs_are_deleted_now_and_then",
        ),
        Disarm(
            "cache/index/records.py",
            "_STATEMENTS = (_POINTERS, _SIGHTINGS, _LISTS, _IMAGES)",
            "_STATEMENTS: tuple[str, ...] = ()",
        ),
    ),
    Threat(
        "a cooldown that is forgotten",
        "The first sighting of a digest is deleted, which then counts as never seen, and may be pulled by digest.",
        "A sighting outlives the longest cooldown that a group can have, whatever is evicted.",
        ("tests/cache/index/test_records.py::test_the_age_of_a_tag_outlives_its_content_and_every_cooldown",),
        Disarm("cache/index/records.py", "SIGHTING_SECONDS = 400 * DAY", "SIGHTING_SECONDS = DAY"),
    ),
    Threat(
        "quarantine and databases beyond the cap",
        "Refused bodies and records fill the disk beside a cache that keeps to its size.",
        "They count for the size of the cache.",
        (
            "tests/cache/retention/test_sweep.py::test_the_quarantine_counts_for_the_cap_and_is_deleted_first",
            "tests/cache/retention/test_sweep.py::test_the_databases_count_for_the_cap_beyond_what_every_cache_needs",
        ),
        Disarm(
            "cache/retention/sweep.py", "other = self._quarantine.size() + self._maintenance.overhead()", "other = 0"
        ),
    ),
    Threat(
        "content evicted for evidence",
        "Bodies that an upstream was refused for displace content that clients pull.",
        "Where space is needed, quarantined files are deleted first.",
        ("tests/cache/retention/test_sweep.py::test_the_quarantine_counts_for_the_cap_and_is_deleted_first",),
        Disarm("cache/retention/sweep.py", "freed += self._quarantine.make_room(", "freed += 0 * int("),
    ),
    Threat(
        "warming counts damaged files",
        "`cache warm` finds a file of the blob's name, whatever is in it, and reports the image as cached.",
        "A blob is held if its file has the recorded size.",
        ("tests/e2e/test_warm.py::test_a_damaged_file_is_not_held_and_is_fetched_again",),
        Disarm(
            "gateway/maintenance/warming_sources.py",
            "return is_stored(self._store, digest, self._sizes.get(digest))",
            "return self._store.stat(digest) is not None",
        ),
    ),
    Threat(
        "bit rot",
        "Bytes of a cached file change, but its size does not.",
        "`cache verify` and the background scrub verify digests, quarantine damaged files and fetch them again.",
        (
            "tests/cache/retention/test_scrub.py",
            "tests/e2e/test_damage.py::test_the_scrub_finds_and_heals_in_the_background",
        ),
        Disarm("cache/retention/scrub.py", "return limiter.stopped or hasher.hexdigest() == digest.hex", "return True"),
    ),
    Threat(
        "rotten bytes at every pull",
        "A cached file rots and keeps its size: each pull is a hit, fails at the client, and the log has nothing but 200.",
        "A blob that one client pulls whole twice within a minute is read at once, set aside, logged and fetched again.",
        (
            "tests/gateway/maintenance/test_repeated_pulls.py::test_a_client_that_pulls_a_whole_blob_again_makes_it_a_suspect",
            "tests/e2e/test_damage.py::test_a_pull_that_is_tried_again_has_its_damaged_layer_fetched_again",
            "tests/e2e/test_native_damage.py::test_a_damaged_blob_that_a_client_pulls_again_is_read_at_once",
        ),
        Disarm("gateway/maintenance/repeated_pulls.py", "self._suspect(suspect)", "pass"),
    ),
    Threat(
        "blobs read for an attacker",
        "A client pulls blobs twice each, all day, so that this server does nothing but hash them.",
        "After each blob no process of the server reads the next one for nine times as long as it took.",
        (
            "tests/gateway/maintenance/test_repeated_pulls.py::test_after_each_blob_no_process_reads_for_nine_times_as_long",
            "tests/gateway/maintenance/test_repeated_pulls.py::test_a_blob_is_read_when_all_processes_have_rested",
        ),
        Disarm(
            "gateway/maintenance/repeated_pulls.py",
            "while (left := self._memory.next_reading - self._clock()) > 0:",
            "while (left := 0.0) > 0:",
        ),
    ),
    Threat(
        "one blob read for ever",
        "Clients that pull one large blob again and again, as jobs of one host do, have it read each time.",
        "A blob is read at most once in ten minutes, and eight wait at most.",
        (
            "tests/gateway/maintenance/test_repeated_pulls.py::test_a_blob_is_read_once_in_ten_minutes",
            "tests/gateway/maintenance/test_repeated_pulls.py::test_few_wait_and_what_comes_beyond_them_is_not_read",
        ),
        Disarm(
            "gateway/maintenance/repeated_pulls.py",
            "if suspect in self._taken or self._waiting.qsize() >= MOST_WAITING:",
            "if False:",
        ),
    ),
    Threat(
        "evicted while it is read",
        "A file is deleted while clients read it, and still occupies space on the disk.",
        "A reader in any process holds a shared lock on its file; eviction skips locked files.",
        (
            "tests/cache/retention/test_sweep.py::test_a_blob_that_is_being_read_stays_until_it_is_closed",
            "tests/cache/retention/test_sweep.py::test_what_another_process_reads_stays",
        ),
        Disarm("cache/store/filesystem.py", "if not try_lock(descriptor):", "if False:"),
    ),
    Threat(
        "out of descriptors",
        "Without a free descriptor an intact file looks unreadable, and is dropped and fetched again, or causes a 500.",
        "A lack of descriptors is not damage: the response is 503 with Retry-After, and nothing is dropped.",
        ("tests/cache/proxy/test_stored_blobs.py::test_a_lack_of_descriptors_is_an_error_and_no_damage",),
        Disarm("cache/proxy/stored_blobs.py", "if is_exhausted(error):", "if False:"),
    ),
    Threat(
        "names that lead to loopback",
        "A web page gives its own host name the address of this machine (DNS rebinding), and reads what the server sends.",
        "A server on loopback serves loopback names and configured ones only, and refuses any other `Host` with 421.",
        ("tests/gateway/http/test_own_hosts.py",),
        Disarm("gateway/http/own_hosts.py", "len(host) <= _HOST_LIMIT and self._is_own(host)", "bool(host)"),
    ),
    Threat(
        "metrics for strangers",
        "Every client reads the metrics, or all that come through a reverse proxy, as they seem local.",
        "A bearer token is required, unless none is set and the server's own addresses are all loopback.",
        (
            "tests/gateway/test_ops.py::test_without_a_token_they_are_read_on_a_loopback_server_alone",
            "tests/gateway/test_ops.py::test_with_a_token_file_the_metrics_require_the_token",
            "tests/gateway/test_ops.py::test_an_empty_or_missing_token_file_lets_nobody_in",
        ),
        Disarm("gateway/ops.py", "        if not options.loopback_only:", "        if False:"),
    ),
    Threat(
        "empty metrics token",
        "The token file is empty or missing, and an empty token gives access to the metrics.",
        "A file without a token gives access to nobody.",
        ("tests/gateway/test_ops.py::test_an_empty_or_missing_token_file_lets_nobody_in",),
        Disarm("gateway/ops.py", "    if not token:\n", "    if False:\n"),
    ),
    Threat(
        "names in labels",
        "Names of images or users become labels: the metrics reveal them, and grow with every invented name.",
        "Labels come from enums and configured upstreams only.",
        ("tests/gateway/test_ops.py::test_pulls_count_received_and_sent_bytes",),
    ),
    Threat(
        "a full disk for shared memory",
        "Another user, or a container's small /dev/shm, leaves no room, and counting ends all workers by SIGBUS.",
        "Workers count in memory that belongs to no file, which the first process shares with them by fork.",
        (
            "tests/gateway/observability/test_shared_counts.py::test_a_full_disk_for_shared_memory_ends_no_worker",
            "tests/gateway/observability/test_shared_counts.py::test_of_files_on_a_disk_only_the_indexes_of_databases_are_mapped",
        ),
        Disarm(
            "gateway/observability/shared_counts.py",
            "mmap.mmap(-1, size)",
            "(lambda f: (f.truncate(size), mmap.mmap(f.fileno(), size))[1])("
            '__import__("tempfile").TemporaryFile(dir="/dev/shm"))',
        ),
    ),
    Threat(
        "signals with other purposes",
        "A closed terminal, a log rotation or a supervisor sends SIGHUP, SIGUSR1, SIGUSR2 or SIGQUIT, and pulls break.",
        "All processes ignore SIGUSR1 and SIGUSR2; SIGHUP has the first one reload; SIGQUIT stops as SIGTERM does.",
        (
            "tests/gateway/processes/test_reload.py::test_a_worker_ignores_the_signal_that_the_first_process_obeys",
            "tests/gateway/processes/test_supervisor.py::test_signals_with_other_purposes_end_nothing",
            "tests/gateway/processes/test_supervisor.py::test_sigquit_stops_as_sigterm_does",
        ),
        Disarm("gateway/processes/supervisor.py", "signal.signal(number, signal.SIG_IGN)", "pass"),
    ),
    Threat(
        "a reload during a pull",
        "An administrator changes a setting, the server is told, and pulls of hours break, or last longer than a limit.",
        "New workers take over once one of them serves; those before complete what they send, without a limit.",
        (
            "tests/gateway/processes/test_reload.py::test_pulls_under_way_complete_over_two_reloads",
            "tests/gateway/server/test_retire.py::test_a_response_has_as_long_as_it_needs_and_an_idle_connection_ends",
        ),
        Disarm("gateway/server/http_server.py", "if retire.is_set():", "if False:"),
    ),
    Threat(
        "a reload with settings that cannot be used",
        "The settings file is half written or wrong, or a database is damaged, and a server that served is gone.",
        "A reload reads and checks before it forks, and the old workers serve until a new one does.",
        (
            "tests/gateway/processes/test_reload.py::test_a_bad_file_changes_nothing",
            "tests/gateway/processes/test_reload.py::test_workers_that_cannot_serve_leave_the_others_in_place",
        ),
        Disarm(
            "gateway/processes/supervisor.py",
            "except (SettingsError, TlsUnusable, OSError)",
            "except (TlsUnusable, OSError)",
        ),
    ),
    Threat(
        "a command of another user",
        "Root creates a group, and the server can read neither its key file nor its database; or root follows what the "
        "owner of the folder wrote into it.",
        "A command of root becomes the owner of the data folder before it reads anything there; other users are refused.",
        (
            "tests/gateway/cli/test_owner.py::test_what_root_writes_belongs_to_the_owner_and_what_root_names_is_read",
            "tests/gateway/cli/test_owner.py::test_another_user_is_told_as_whom_to_run_it",
            "tests/gateway/cli/test_owner.py::test_a_server_that_root_starts_runs_as_the_owner",
        ),
        Disarm("gateway/cli/owner.py", "os.setresuid(owner.uid, owner.uid, owner.uid)", "pass"),
    ),
    Threat(
        "a deleted lock file",
        "A lock file is deleted while a server runs, and a second server works in the same data folder.",
        "A server locks the data folder itself, beside the lock file.",
        (
            "tests/gateway/processes/test_supervisor.py::test_a_folder_whose_lock_file_was_deleted_is_still_in_use",
            "tests/gateway/processes/test_supervisor.py::test_a_server_of_a_version_that_locks_the_file_alone_is_noticed",
        ),
        Disarm("gateway/data_folder.py", "yield _try_lock_folder(folder, shared) and try_lock(", "yield try_lock("),
    ),
    Threat(
        "a log that nobody reads",
        "The reader of stderr hangs or leaves, or its disk is full, and the write of a log line stops all requests.",
        "A thread writes the lines of a worker; the event loop hands them over and never waits.",
        (
            f"{LOG_LINES}::test_a_log_that_nobody_reads_stops_nothing",
            f"{LOG_LINES}::test_a_log_whose_reader_has_left_stops_nothing",
            f"{LOG_LINES}::test_lines_that_a_full_disk_refuses_are_counted_when_it_takes_some_again",
            f"{LOG_LINES}::test_the_last_lines_are_not_waited_for_if_nothing_takes_them",
        ),
        Disarm(
            "gateway/observability/log_lines.py",
            '"""Hand over text; never waits for the file."""',
            '"""Hand over text."""\n        return self._file.write(text)',
        ),
    ),
    Threat(
        "a log that stops the first process",
        "The first process waits for a log that nobody reads, and no longer replaces workers or stops.",
        "It drops and counts lines that cannot be written at once.",
        (
            f"{LOG_LINES}::test_a_log_that_nobody_reads_stops_nothing",
            f"{LOG_LINES}::test_a_process_without_threads_does_not_wait_for_a_full_pipe",
        ),
        Disarm(
            "gateway/observability/log_lines.py",
            "if self._room.poll(ROOM_SECONDS * 1000) and self._written(text):",
            "if self._lines.write(text):",
        ),
    ),
    Threat(
        "a log that fills the memory",
        "Nobody reads the log, and the lines that wait for it take all memory.",
        "At most 2 MiB of lines wait; further ones are dropped, and their number is logged later.",
        (
            f"{LOG_LINES}::test_lines_beyond_the_queue_are_dropped_and_counted",
            f"{LOG_LINES}::test_a_log_that_nobody_reads_takes_bounded_memory_and_tells_what_is_missing",
        ),
        Disarm("gateway/observability/log_lines.py", "if self._size + len(text) > QUEUE_CHARACTERS:", "if False:"),
    ),
    Threat(
        "an account for everybody",
        "An operator gives an open group an upstream login, and does not notice that everybody pulls with it.",
        "`serve`, when it starts, and `doctor` warn of each such account, and name the setting.",
        (
            "tests/gateway/test_upstreams.py::test_an_account_is_open_to_all",
            "tests/gateway/doctor/test_doctor.py::"
            "test_accounts_by_which_everybody_may_pull_are_reported_by_serve_and_doctor",
        ),
        Disarm("gateway/upstreams.py", "if group.proxy_enabled and group.anonymous_pull\n", "if False\n"),
    ),
    Threat(
        "readable by others",
        "Other users of the machine read content, counts or addresses in the data folder.",
        "Whatever the umask, a command makes files and folders for its own user alone.",
        (
            "tests/gateway/test_data_folder.py::test_everything_in_the_data_folder_is_for_its_owner_alone",
            "tests/gateway/test_data_folder.py::test_commands_leave_nothing_that_others_may_read",
        ),
        Disarm("gateway/cli/main.py", "os.umask(0o077)", "os.umask(0o022)"),
    ),
    Threat(
        "a folder that others may enter",
        "The data folder existed before, and its mode lets other users of the machine in.",
        "`serve` and `doctor` report the mode and how to change it, and leave the folder as it is.",
        ("tests/gateway/test_data_folder.py::test_a_folder_that_others_may_enter_is_left_as_it_is_and_reported",),
        Disarm(
            "gateway/processes/supervisor.py", "if mode := data_folder.exposed_mode(settings.data):", 'if mode := "":'
        ),
    ),
    Threat(
        "links in the data folder",
        "Another user places a link in the data folder, and the gateway overwrites the file that it leads to.",
        "A new file is made only where its name is free, and small files are replaced by renaming a file with a random "
        "name.",
        (
            "tests/cache/runtime/test_files.py::test_nothing_is_written_where_a_link_leads",
            "tests/test_architecture.py::test_files_are_made_in_one_way",
        ),
        Disarm(
            "cache/runtime/files.py",
            "os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
            "os.O_WRONLY | os.O_CREAT",
        ),
    ),
    Threat(
        "forged log line",
        "A path, a query or a header contains line breaks or terminal escapes, and forges a log line.",
        "Values that are not printable are quoted; the path is logged as received, with its escapes.",
        (
            "tests/gateway/test_ops.py::test_a_line_is_one_line_whatever_is_in_it",
            "tests/gateway/test_ops.py::test_nothing_that_a_client_sends_forges_a_line",
        ),
        Disarm(
            "gateway/observability/logs.py", "return text if text.isprintable() and not any", "return text if not any"
        ),
    ),
    Threat(
        "invented names",
        "A client requests thousands of invented images, and a token or a write is kept for each of them.",
        "A source keeps 256 tokens, those used last, for an hour at most; a name never recorded is not written about.",
        (
            "tests/cache/upstream/test_tokens.py::test_invented_names_fill_no_memory",
            "tests/cache/upstream/test_tokens.py::test_of_many_tokens_those_that_are_used_are_kept",
            "tests/cache/proxy/test_repository.py::test_a_refused_name_that_was_never_pulled_changes_nothing",
            "tests/cache/runtime/test_throttle.py::test_invented_causes_fill_no_memory",
        ),
        Disarm("cache/upstream/tokens.py", "while len(self._held) > TOKENS_KEPT:", "while False:"),
    ),
    Threat(
        "a flood of tags",
        "Whoever pulls thousands of tags makes the sightings of other images be deleted, and so ends their cooldown.",
        "Where there are too many sightings, those of the images with the most are deleted.",
        ("tests/cache/index/test_sightings.py::test_a_flood_of_tags_makes_no_other_image_forget_its_sightings",),
        Disarm(
            "cache/index/sightings.py",
            "order_by(newest_first.desc(), sightings.c.last_seen)",
            "order_by(sightings.c.last_seen)",
        ),
    ),
    Threat(
        "a limit of one image",
        "A registry of which one part limits responds 429 for one image, and the upstream is closed for all, for an hour.",
        "A limited image waits by itself; images that were served before are tried, and their success ends the pause.",
        ("tests/cache/upstream/test_image_limits.py",),
        Disarm(
            "cache/upstream/image_limits.py", "return image in self._served and now >= self._try_at", "return False"
        ),
    ),
    Threat(
        "tries that are a flood",
        "An upstream limits everything, and each image that it has served is tried all the same.",
        "After an image that had been served is limited, none is tried for a while, each time twice as long.",
        ("tests/cache/upstream/test_image_limits.py::test_a_limit_of_all_images_costs_few_requests",),
        Disarm("cache/upstream/image_limits.py", "self._try_at = now + self._wait", "self._try_at = now"),
    ),
    Threat(
        "lookups that fail here",
        "This process has no thread or descriptor left for a name, and takes the upstream for one that is down.",
        "A lookup that failed for want of something in this process counts for no circuit.",
        (
            "tests/cache/upstream/test_lookups.py"
            "::test_a_name_that_was_not_looked_up_for_want_of_something_here_shows_nothing_of_its_host",
        ),
        Disarm(
            "cache/upstream/egress.py",
            "any(isinstance(cause, LookupRefused) for cause in _causes(error))",
            "False",
        ),
    ),
    Threat(
        "text of an upstream",
        "An upstream repeats our login, or sends a long or unprintable text, which clients, logs and files then show.",
        "A reason holds no text of a response, only the class of a library's error, and is one line of 200 characters.",
        (
            "tests/security/test_secrets.py::test_an_upstream_that_repeats_our_login_shows_it_to_nobody",
            "tests/cache/test_values.py::test_a_reason_is_one_short_printable_line",
        ),
        Disarm("cache/upstream/egress.py", "made = not isinstance(error, httpx2.ConnectError)", "made = False"),
    ),
    Threat(
        "a history without end",
        "Thousands of failures with long reasons fill the disk with the history of images.",
        "The history keeps 10,000 events, the oldest are deleted first, and a reason is cut to 200 characters.",
        (
            "tests/cache/index/test_happenings.py::test_thousands_of_failures_with_long_reasons_make_no_large_file",
            "tests/cache/index/test_happenings.py::test_as_many_are_kept_at_most_where_all_are_of_one_moment",
        ),
        Disarm("cache/index/happenings.py", "replace(happening, reason=safe_reason(happening.reason))", "happening"),
    ),
    Threat(
        "a clock that was wrong",
        "A clock is wrong for one pull, and a tag counts as fresh for years, or its cooldown never begins or is over.",
        "A moment of the future, or of before the history, is never fresh or old; the next response overwrites it.",
        (
            "tests/cache/policy/test_freshness.py::test_a_pointer_is_fresh_for_less_than_its_ttl_and_expires_after_the_grace",
            "tests/cache/proxy/test_tag_rules.py::test_a_tag_that_was_pulled_under_a_wrong_clock_is_confirmed_and_dated_anew",
            "tests/cache/proxy/test_tag_rules.py::test_a_refresh_dates_a_tag_of_the_future_anew",
            "tests/cache/proxy/test_memory.py::test_an_absence_is_good_for_its_time",
            "tests/cache/upstream/test_allowance.py::test_a_limit_that_was_stated_in_the_future_is_forgotten",
        ),
        Disarm("cache/policy/freshness.py", "if timedelta(0) <= age < rule.ttl:", "if age < rule.ttl:"),
    ),
    Threat(
        "a cooldown under a wrong clock",
        "A digest that was first seen under a wrong clock counts as old enough, or as too young for years.",
        "A first sighting of the future, or of before the history began, counts as one of now, and is corrected.",
        (
            "tests/cache/index/test_sightings.py",
            "tests/cache/proxy/test_gated.py::test_a_pull_under_a_wrong_clock_neither_ends_a_cooldown_nor_makes_it_longer",
        ),
        Disarm(
            "cache/index/sightings.py",
            "_moment(row.first_seen if earliest <= row.first_seen <= now else now),",
            "_moment(row.first_seen),",
        ),
    ),
    Threat(
        "a use of the future",
        "Content that was used under a wrong clock is never evicted and never checked again.",
        "The sweep corrects moments of the future in `usage.db`, and deletes orphans that are dated far from now.",
        (
            "tests/cache/retention/test_sweep.py::test_moments_of_a_wrong_clock_are_corrected",
            "tests/cache/index/test_usage.py::test_a_use_of_the_future_is_corrected_by_the_next_one",
            "tests/cache/index/test_usage.py::test_a_clock_that_is_wrong_for_a_moment_deletes_no_count_of_pulls",
            "tests/cache/index/test_happenings.py::test_an_event_of_the_future_does_not_outlive_the_others",
        ),
        Disarm("cache/index/maintenance.py", "AND (last_used > :now OR checked_at > :now)", "AND FALSE"),
    ),
    Threat(
        "documents that hold the loop",
        "One document of 4 MiB, a manifest, a list or a date, is parsed for a second, and every client waits.",
        "Values are counted before a document is parsed, and large ones are parsed and hashed outside the event loop.",
        (
            "tests/cache/oci/test_document.py",
            "tests/cache/upstream/test_flow.py::test_large_documents_are_computed_outside_the_event_loop_one_at_a_time",
            "tests/e2e/test_large_documents.py::test_large_documents_keep_nobody_waiting",
        ),
        Disarm("cache/oci/document.py", 'if raw.count(b",") > ELEMENT_LIMIT or', "if False and"),
    ),
    Threat(
        "indexes of thousands of entries",
        "Each entry of a large index is looked up by a statement of its own, while the index is written.",
        "What is cached of a manifest's entries is looked up for 500 at once.",
        ("tests/cache/index/test_documents.py::test_the_closure_of_a_large_index_takes_few_statements",),
        Disarm("cache/index/documents.py", "absent.update(listed - _cached(connection, listed))", "pass"),
    ),
    Threat(
        "large documents in the loop",
        "A large document within the limits is parsed while no other client is served.",
        "Documents of 64 KiB and more are parsed in one thread of their upstream.",
        ("tests/cache/upstream/test_flow.py::test_large_documents_are_computed_outside_the_event_loop_one_at_a_time",),
        Disarm(
            "cache/upstream/flow.py",
            "return function() if size < OFF_LOOP_BYTES else",
            "return function() if size else",
        ),
    ),
    Threat(
        "a page of another list",
        "A client changes the link to the next page of a list, to make the gateway request something else.",
        "The upstream's query is sealed for one image of one group, and a Link's host is never used.",
        ("tests/e2e/test_listings.py",),
        Disarm("gateway/v2/paging.py", 'return f"page of the tags of {image}"', 'return "page of the tags"'),
    ),
    Threat(
        "a list that never ends",
        "The Link of a list repeats the request, and every client goes in a circle.",
        "A Link that names the same place in the list ends it.",
        ("tests/cache/upstream/test_lists.py",),
        Disarm("cache/upstream/lists.py", 'if place and place != here else ""', ""),
    ),
    Threat(
        "a list that continues elsewhere",
        "The Link of a list leads to another origin.",
        "Of such a Link only is used that there is more; the next page is requested by the last name.",
        ("tests/cache/upstream/test_lists.py",),
        Disarm("cache/upstream/lists.py", "if not _is_at(origin_of(found), origins):", "if False:"),
    ),
    Threat(
        "a list in one piece",
        "An upstream ignores the number of tags that a client wants, or after which tag.",
        "The list is cut, and the link leads to the rest.",
        ("tests/cache/proxy/test_paging.py",),
        Disarm("cache/proxy/paging.py", "len(page.tags) - begin <= count", "True"),
    ),
    Threat(
        "lists in an outage",
        "Helm and Flux choose versions from the list of tags, and fail while the upstream does.",
        "Lists that were seen are recorded, and served stale with their age.",
        ("tests/cache/proxy/test_lists.py",),
        Disarm("cache/proxy/lists.py", "isinstance(result, UpstreamOutage) and record", "False"),
    ),
    Threat(
        "a list after a refusal",
        "A list that the upstream refuses now is served from the records in a later outage.",
        "A refusal of a list deletes what is recorded of the image.",
        ("tests/cache/proxy/test_lists.py",),
        Disarm("cache/proxy/lists.py", "isinstance(error, NotFound | AccessDenied)", "False"),
    ),
    Threat(
        "a list of a lost image",
        "A credential loses an image, and a later outage shows the tags that it once had.",
        "The loss of an image deletes its lists in the same transaction.",
        ("tests/cache/index/test_lists.py", "tests/cache/proxy/test_lists.py"),
        Disarm("cache/index/sql.py", "            delete_lists(connection, image_id)", ""),
    ),
    Threat(
        "lists without end",
        "Clients invent queries of lists, to fill the disk or to displace the lists of others.",
        "Recorded lists are limited in number for each image, and in number and bytes in all.",
        ("tests/cache/index/test_lists.py",),
        Disarm("cache/index/lists.py", "connection.execute(_SURPLUS)", "pass"),
    ),
    Threat(
        "a limit on lists",
        "The upstream limits lists, and the gateway stops requesting manifests.",
        "A 429 to a list pauses lists alone.",
        ("tests/cache/upstream/test_ledger.py",),
        Disarm("cache/upstream/quota.py", "if self._kind is RequestKind.LIST:", "if False:"),
    ),
    Threat(
        "referrers without end",
        "A list of referrers has another page for ever, or is so long that it fills the memory.",
        "All pages are requested up to a limit of pages and bytes, beyond which the list is refused.",
        ("tests/e2e/test_listings.py",),
        Disarm(
            "cache/upstream/registry_client.py",
            "if size > SIZE_LIMIT or len(requested) > REFERRERS_PAGES:",
            "if False:",
        ),
    ),
    Threat(
        "large lists at once",
        "Clients request several lists of tags of 32 MiB at the same time, and the memory fills.",
        "Of each upstream one document of more than 4 MiB is read at a time, or two for two groups, and one is parsed.",
        ("tests/cache/upstream/test_document_room.py",),
        Disarm("cache/upstream/document_room.py", "_Slots(SLOT, 1, 1)", "_Slots(SLOT, 100, 1)"),
    ),
    Threat(
        "manifests that fill the memory",
        "A client requests many manifests of 4 MiB at once, whose upstream lets them trickle in.",
        "Beyond 256 KiB a document waits for one of few slots, of which no client and no group gets all.",
        ("tests/cache/upstream/test_document_room.py",),
        Disarm("cache/upstream/document_room.py", "if self._bytes <= slots.beyond:", "if True:"),
    ),
    Threat(
        "slots of documents that trickle",
        "A list trickles in for 20 s and holds the slot for which large documents of others wait.",
        "A document below 256 KiB/s loses its slot to one that waits, unless that belongs to a group with more slots.",
        ("tests/cache/upstream/test_document_room.py",),
        Disarm("cache/upstream/document_room.py", "rates[min(slow)].end_reading()", "pass"),
    ),
    Threat(
        "documents that grow in memory",
        "A compressed document, or a list of referrers, takes many times its bytes in memory.",
        "What a document comes to once it is decompressed or parsed counts for its slot, before it does.",
        ("tests/cache/upstream/test_document_room.py::test_what_a_document_takes_in_memory_counts",),
        Disarm("cache/upstream/flow.py", "await space.grow(step.limit * step.weight)", "pass"),
    ),
    Threat(
        "errors that keep documents",
        "Documents break off one after the other, and each error keeps the bytes that had come in memory.",
        "What was read of a document is dropped before its error is raised.",
        ("tests/cache/upstream/test_document_room.py::test_an_error_keeps_nothing_of_the_document_that_broke_off",),
        Disarm("cache/upstream/egress.py", "parts.clear()  # which", "pass  # which"),
    ),
    Threat(
        "documents of nobody",
        "Large documents wait for memory as one crowd, whoever requested them.",
        "Each document is read on behalf of the group and client that requested it.",
        ("tests/cache/proxy/test_small_requests.py::test_every_document_is_read_on_behalf_of_its_requester",),
        Disarm(
            "cache/proxy/repository.py",
            "(self._image, pointer.tag, held, self._requester)",
            "(self._image, pointer.tag, held)",
        ),
    ),
    Threat(
        "a list of brackets",
        "An upstream sends a list of tags that takes long to read.",
        "A large list is scanned in short steps, and its brackets and entries are counted before.",
        ("tests/cache/upstream/test_tag_lists.py",),
        Disarm("cache/upstream/tag_lists.py", "if sum(_count(raw, sign)", "if False and sum(_count(raw, sign)"),
    ),
    Threat(
        "a list of one text",
        "A list of tags has one text, or one gap, of 25 MB, and everybody waits until it has been read in one call.",
        "A list of more than 1 MiB is read in pieces, and a text or a gap of more than 64 KiB is refused.",
        ("tests/cache/upstream/test_tag_lists.py::test_a_long_text_or_gap_is_refused",),
        Disarm("cache/upstream/tag_lists.py", "if len(raw) > AT_ONCE:", "if False:"),
    ),
    Threat(
        "a list of millions of tags",
        "A list of tags has three million short names, which take ten times the memory of their text.",
        "A list has 300,000 entries at most, and waits for room by what it takes once it is parsed.",
        ("tests/cache/upstream/test_tag_lists.py::test_more_tags_than_one_list_may_have_are_refused",),
        Disarm("cache/upstream/tag_lists.py", "if count > NAMES_LIMIT:", "if False:"),
    ),
    Threat(
        "a registry that works without us",
        "Clients pull from an odd registry straight, and the gateway cannot.",
        "Five real clients pull from each scripted registry through the gateway, or not even straight.",
        ("tests/e2e/test_scripted_upstreams.py",),
        Disarm(
            "cache/upstream/statements.py",
            "return (400 <= status < 500 and status != 429) or status == 501",
            "return False",
        ),
    ),
    Threat(
        "a list for every client",
        "Hundreds of clients list the tags of one image, and each of them costs the upstream a request.",
        "Requests for the same list share one, and its response is remembered for a second, by credential.",
        ("tests/cache/proxy/test_lists.py",),
        Disarm("cache/proxy/lists.py", "lists.note(key, requested_at, _memory(page), page)", "True"),
    ),
    Threat(
        "registries of one host",
        "Two registries share a host; a tag or a right of one is served as the other's image of that name.",
        "What is cached belongs to origin, path and credential; the path is part of each URL and of a token's scope.",
        ("tests/e2e/test_reach.py", "tests/cache/test_values.py"),
        Disarm(
            "cache/values.py",
            "return cls(registry.origin, credential, registry.prefix)",
            "return cls(registry.origin, credential)",
        ),
    ),
    Threat(
        "a path that is read in two ways",
        "The path of an upstream's `url` holds `..`, an escape or a capital: hosts in between read another registry in it.",
        "A path must be the beginning of a repository name, in which none of them occurs.",
        ("tests/gateway/settings/test_load.py",),
        Disarm(
            "gateway/settings/kinds.py",
            "components = RepositoryName.parse(path).components",
            'components = path.split("/")',
        ),
    ),
    Threat(
        "forged token",
        "A Bearer token is unsigned, or signed by another key or algorithm, which its header names (`alg`, `jwk`, `jku`, `kid`).",
        "One algorithm is accepted, with keys of the server's own file; no other key that a header names is looked at.",
        (
            "tests/gateway/auth/test_bearer_tokens.py::test_a_forged_token_is_refused",
            "tests/security/test_forged_tokens.py::test_every_forged_token_gets_the_same_refusal_at_once",
        ),
        Disarm(
            "gateway/auth/bearer_tokens.py",
            "[ALGORITHM], _SIGNATURE_ALONE)",
            '[ALGORITHM], {**_SIGNATURE_ALONE, "verify_signature": False})',
        ),
    ),
    Threat(
        "token with an unknown extension",
        "A token holds an extension that restricts it (`crit`), and a server that does not know it ignores it.",
        "A token with `crit` is refused, whatever it names, by this server and by the library that it uses.",
        ("tests/gateway/auth/test_bearer_tokens.py::test_a_forged_token_is_refused",),
    ),
    Threat(
        "token of another service",
        "A token that was issued for another service, or by another server, opens repositories here.",
        "Issuer and audience are compared, each with one value.",
        ("tests/gateway/auth/test_bearer_tokens.py::test_a_forged_token_is_refused",),
        Disarm("gateway/auth/bearer_tokens.py", 'if claims["iss"] != ISSUER or claims["aud"] != SERVICE:', "if False:"),
    ),
    Threat(
        "token beyond its time",
        "A token that leaked to a log is used for ever, or one is made that becomes valid later.",
        "A token is valid for five minutes, and none before its time, but for 5 s.",
        (
            "tests/gateway/auth/test_bearer_tokens.py::test_a_token_is_verified_as_it_was_issued_until_it_expires",
            "tests/gateway/auth/test_bearer_tokens.py::test_a_forged_token_is_refused",
        ),
        Disarm("gateway/auth/bearer_tokens.py", "if now >= expires_at:", "if False:"),
    ),
    Threat(
        "Bearer token of a revoked credential",
        "A credential is revoked, expires, or its user is blocked, and Bearer tokens made from it go on until they expire.",
        "A Bearer token names its credential, which is looked up with each request and must still be valid.",
        (
            "tests/gateway/auth/test_authenticator.py::test_a_token_that_has_ended_says_so_and_takes_its_bearers_and_refresh_tokens_along",
            "tests/gateway/v2/test_token.py::test_a_revoked_token_ends_its_bearer_and_refresh_token_at_once",
        ),
        Disarm("gateway/auth/authenticator.py", "find_ending(credential, now)) is not None:", "None) is not None:"),
    ),
    Threat(
        "stored logins",
        "A client goes on with the pair, refresh token or Bearer token of its login after the credential has ended.",
        "Whatever a client stores stands for the credential, whose end reaches every worker before its next request.",
        (
            "tests/e2e/test_logins.py::test_what_is_stored_is_refused_by_both_workers_within_a_second_of_its_end",
            "tests/e2e/test_logins.py::test_every_client_prints_why_a_credential_is_not_accepted",
        ),
        Disarm("gateway/auth/authenticator.py", "find_ending(credential, now)) is not None:", "None) is not None:"),
    ),
    Threat(
        "tokens of a blocked user",
        "A blocked user goes on with a personal token, a job's token, or what was made from either.",
        "The user behind a credential is looked up with each request.",
        ("tests/gateway/auth/test_authenticator.py::test_a_block_ends_everything_of_a_user_at_once",),
        Disarm("gateway/auth/authenticator.py", "            _check_not_blocked(person)\n", "            pass\n"),
    ),
    Threat(
        "refresh token after a new password",
        "A password leaked and was changed, but what was stored by a login with it still opens the account.",
        "Tokens that were made from a password hold the time of its last change, and end with the next one.",
        ("tests/gateway/auth/test_authenticator.py::test_a_changed_password_ends_what_was_made_with_the_old_one",),
        Disarm("gateway/auth/authenticator.py", "if user.password_changed_at != backing.made_at:", "if False:"),
    ),
    Threat(
        "a user name that is refused at once",
        "A stranger times refused logins: a name that exists is found in memory, and another is read first.",
        "A failed login of a user costs the query of a name that nobody has.",
        (
            f"{IDENTITY}::test_a_concealed_user_costs_the_query_of_one_that_does_not_exist",
            "tests/gateway/auth/test_authenticator.py::test_a_user_whose_login_fails_is_concealed",
        ),
        Disarm("gateway/auth/authenticator.py", "await self._identities.conceal_user(name)", "pass"),
    ),
    Threat(
        "logins that nobody verifies",
        "A flood of invented user names fills the queue of logins: each attempt of a person then counts as a failure.",
        "Only an attempt that is verified counts; a full queue refuses the others before.",
        ("tests/gateway/auth/test_password_logins.py::test_a_login_that_finds_no_room_is_no_failure",),
        Disarm(
            "gateway/auth/password_logins.py",
            "            login = self._running[key] = _Login(",
            "            self._delays.begin(name, address, self._clock())\n"
            "            login = self._running[key] = _Login(",
        ),
    ),
    Threat(
        "password logins closed for everybody",
        "One client sends hundreds of logins with invented names: they fill the queue, and the logins of others are refused "
        "or wait for a minute.",
        "Peers take turns, the networks of one site together, and the surplus of whoever has most logins is refused.",
        (
            f"{PASSWORD_LOGINS}::test_a_peer_with_many_logins_waits_behind_its_own",
            f"{PASSWORD_LOGINS}::test_the_surplus_of_whoever_has_most_is_refused",
            f"{PASSWORD_LOGINS}::test_the_networks_of_one_site_are_one_group",
            "tests/gateway/v2/test_token.py::test_logins_take_turns_by_the_address_of_their_peer",
        ),
        Disarm(
            "gateway/auth/password_logins.py",
            "login.join(Requester(site_name(peer), client_name(peer)))",
            "login.join(Requester())",
        ),
    ),
    Threat(
        "logins that wait for ever",
        "Logins of many peers wait longer than their clients do, which then repeat them.",
        "A login whose verification has not begun after 10 s is refused, with the time after which to try again.",
        (f"{PASSWORD_LOGINS}::test_a_login_waits_no_longer_than_clients_do",),
        Disarm("gateway/auth/password_logins.py", "            self._settle(_LATE)", "            pass"),
    ),
    Threat(
        "an address for each guess",
        "A client with a network of IPv6 tries each password of each account from another of its addresses.",
        "Failures count for the whole network, of which a client may use any address.",
        ("tests/gateway/auth/test_login_delays.py::test_the_addresses_of_one_ipv6_network_are_one_client",),
        Disarm("gateway/auth/login_delays.py", "client = client_name(address)", "client = address"),
    ),
    Threat(
        "a clock that is put back",
        "The clock is corrected by a day, and accounts with failures wait for that day.",
        "Failures of the future count as none.",
        ("tests/gateway/auth/test_login_delays.py::test_a_clock_that_is_put_back_delays_nobody",),
        Disarm("gateway/auth/login_delays.py", "found.last <= now < found.forgotten_at", "now < found.forgotten_at"),
    ),
    Threat(
        "invented addresses of proxies",
        "A client sends thousands of long X-Forwarded-For headers, which a memory of addresses keeps.",
        "The last kilobyte is read and kept, and in it only whole entries.",
        (
            "tests/gateway/http/test_client_address.py"
            "::test_what_a_client_writes_before_the_entry_of_a_proxy_takes_no_memory",
        ),
        Disarm("gateway/http/client_address.py", "if len(joined) > _END_LIMIT:", "if False:"),
    ),
    Threat(
        "tokens with long lists",
        "A stranger gets thousands of Bearer tokens with long lists, and uses each once; the verified ones are kept.",
        "A remembered token takes the room of all the names in its list.",
        ("tests/gateway/auth/test_authenticator.py::test_a_token_with_a_long_list_takes_the_room_of_many",),
        Disarm("gateway/auth/authenticator.py", "return 1 + len(bearer.access.actions)", "return 1"),
    ),
    Threat(
        "an id that a restored backup gives again",
        "A backup is restored: a login from after it stands for the id of a token that is then made for somebody else.",
        "Bearer and refresh tokens name the time when their credential was made beside its id.",
        (
            "tests/gateway/auth/test_authenticator.py"
            "::test_a_token_gives_nothing_where_another_credential_was_given_its_id",
        ),
        Disarm(
            "gateway/auth/authenticator.py",
            "if credential is None or _made_at(credential) != backing.made_at:",
            "if credential is None:",
        ),
    ),
    Threat(
        "oracle of secrets",
        "The text for a wrong password differs from that for an unknown user, or tells that a user is blocked.",
        "One text; a reason is given to whoever presents the right secret alone.",
        (
            "tests/gateway/auth/test_authenticator.py::test_unknown_and_wrong_secrets_get_one_text",
            "tests/gateway/auth/test_authenticator.py::test_a_wrong_password_of_a_blocked_user_tells_nothing",
        ),
        Disarm(
            "gateway/auth/authenticator.py",
            "        refusal: RegistryError = LoginRefused(WRONG, account, reason)\n",
            "        refusal: RegistryError = LoginRefused(WRONG if user else LOGIN_AGAIN, account, reason)\n",
        ),
    ),
    Threat(
        "password in the field of the name",
        "Somebody types a password into the field of the user's name, and it stands in the log of failed logins.",
        "The log names accounts that exist, and repeats nothing that was typed.",
        ("tests/gateway/v2/test_token.py::test_a_refused_login_is_an_event_without_what_was_typed",),
        Disarm("gateway/auth/authenticator.py", "account = None if user is None else user.name", "account = username"),
    ),
    Threat(
        "upgrade under a server",
        "A command of a new version upgrades the database while a server of the old one uses it, or without a word.",
        "Only `serve` and `db upgrade` upgrade an SQLite file, while no server uses it, and they keep a copy.",
        (
            "tests/gateway/cli/test_db.py::test_no_file_is_upgraded_under_a_server",
            "tests/gateway/cli/test_db.py::test_no_command_upgrades_a_file_that_an_older_version_may_use",
            "tests/gateway/cli/test_db.py::test_an_upgrade_on_request_keeps_the_file_as_it_was",
        ),
        Disarm("gateway/maintenance/upgrade.py", "if not free:", "if False:"),
    ),
    Threat(
        "deploy token under another name",
        "A deploy token's secret is tried with any user name, so that one that leaked alone is enough.",
        "The user name beside a deploy token must be its own.",
        ("tests/gateway/auth/test_authenticator.py::test_the_user_name_beside_a_deploy_token_must_match",),
        Disarm(
            "gateway/auth/authenticator.py",
            "if isinstance(principal.credential, DeployToken | JobDeployToken) and username != principal.name:",
            "if False:",
        ),
    ),
    Threat(
        "a stranger's wrong passwords",
        "Somebody elsewhere presents wrong passwords of an account for hours, and its user cannot log in any more.",
        "Failures delay the account at their address; many addresses delay it only where it never logged in.",
        (
            "tests/gateway/auth/test_login_delays.py::test_a_stranger_elsewhere_keeps_nobody_out_however_long_it_tries",
            "tests/gateway/auth/test_login_delays.py::test_a_few_addresses_do_not_add_up_over_hours",
            "tests/gateway/auth/test_login_delays.py::test_many_addresses_together_delay_an_account_but_where_it_logged_in_before",
        ),
        Disarm("gateway/auth/login_delays.py", "    if is_loopback(address):", "    if True:"),
    ),
    Threat(
        "an address through a proxy",
        "A proxy that is set up as its page says passes on an X-Forwarded-For that the client wrote.",
        "The configurations on the page replace the header by the address from which the client connected.",
        ("tests/e2e/test_reverse_proxies.py::test_a_client_chooses_its_address_only_where_the_page_warns_of_it",),
        Disarm("gateway/help/reverse-proxy.md", "        proxy_set_header X-Forwarded-For $remote_addr;\n", ""),
    ),
    Threat(
        "account locked out",
        "Somebody fails logins of an account on purpose, so that its user cannot pull any more.",
        "Tokens and passwords that were verified within the last minute are not delayed.",
        (
            "tests/gateway/auth/test_password_logins.py::test_a_remembered_success_is_never_delayed",
            "tests/gateway/auth/test_authenticator.py::test_failures_delay_passwords_and_never_tokens",
        ),
        Disarm("gateway/auth/password_logins.py", "if self._passwords.remembers(user, password):", "if False:"),
    ),
    Threat(
        "forged client address",
        "A client writes X-Forwarded-For itself, to escape the delays of logins or to put them on somebody else.",
        "The header is read from the end, and believed as far as proxies of `trusted_proxies` wrote it.",
        ("tests/gateway/http/test_client_address.py::test_the_client_is_the_last_that_no_trusted_proxy_has",),
        Disarm("gateway/http/client_address.py", "_parse(hops.pop()) if hops", "_parse(hops.pop(0)) if hops"),
    ),
    Threat(
        "many scopes",
        "A request for a token has a hundred invented names, each of which is a query of the database.",
        "A request may have scopes for 20 repositories, and 100 scopes in all; more are refused with 400.",
        (
            "tests/gateway/auth/test_scopes.py::test_the_number_of_scopes_is_bounded",
            "tests/gateway/v2/test_token.py::test_more_scopes_than_clients_need_are_refused",
        ),
        Disarm("gateway/auth/scopes.py", "elif len(found) == SCOPE_LIMIT:", "elif False:"),
    ),
    Threat(
        "a token that its own server refuses",
        "A token for many long names is longer than the server reads: the client that presents it is refused for ever.",
        "Such a token is not issued: the request is refused with 400, which says to ask for fewer repositories.",
        ("tests/gateway/v2/test_token.py::test_every_token_that_is_issued_is_accepted",),
        Disarm(
            "gateway/auth/bearer_tokens.py",
            "        if len(text) > TOKEN_LIMIT:\n            raise TokenTooLong",
            "        if False:\n            raise TokenTooLong",
        ),
    ),
    Threat(
        "large form",
        "A request for a token has an endless body, which is kept in memory.",
        "A form has at most 32 KiB and 500 fields.",
        ("tests/gateway/v2/test_token.py::test_a_malformed_form_is_refused",),
        Disarm("gateway/v2/token.py", "if len(body) > FORM_LIMIT:", "if False:"),
    ),
    Threat(
        "more tokens from a token",
        "A Bearer token of one repository is exchanged for one of another.",
        "The token endpoint takes secrets and refresh tokens alone.",
        ("tests/gateway/v2/test_token.py::test_a_bearer_gives_no_other_tokens",),
        Disarm("gateway/v2/token.py", "if principal.limits is not None:", "if False:"),
    ),
    Threat(
        "another sealed text as refresh token",
        "A text that the server sealed for another purpose is presented as a refresh token.",
        "Each purpose seals with a context of its own, which must be the same to open the text.",
        ("tests/gateway/auth/test_bearer_tokens.py::test_no_other_text_is_a_refresh_token",),
        Disarm(
            "gateway/keys/sealing.py",
            "data[_NONCE_BYTES:], context.encode())",
            'data[_NONCE_BYTES:], b"another context")',
        ),
    ),
    Threat(
        "keys of concurrent workers",
        "Workers that start at the same time make a signing key each, and refuse each other's tokens.",
        "The file is drafted and linked to its name: one succeeds, and all use its key.",
        ("tests/gateway/keys/test_signing.py::test_sixteen_at_once_agree_on_one_key",),
        Disarm("gateway/keys/signing.py", "os.link(new, file)", "os.replace(new, file)"),
    ),
    Threat(
        "rotations at the same time",
        "Two rotations read the same file, and the key of one is lost although it has signed.",
        "A rotation holds a lock while it reads and replaces the file.",
        ("tests/gateway/keys/test_signing.py::test_rotations_at_once_lose_no_key",),
        Disarm("gateway/keys/signing.py", "with locked(keys_directory / LOCK_FILE):", "if True:"),
    ),
    Threat(
        "guessed password",
        "Somebody tries passwords of an account or from an address as fast as the server verifies them.",
        "After five failures the account's logins are delayed, twice as long for each further one; attempts at the same "
        "time count before they have failed.",
        (
            "tests/gateway/auth/test_login_delays.py::test_failures_delay_their_account_alone_and_attempts_at_once_count_before_they_fail",
        ),
        Disarm("gateway/auth/login_delays.py", "return longest if longest > timedelta(0) else None", "return None"),
    ),
    Threat(
        "many logins",
        "Many logins with passwords, each of which takes 20 ms of a core and 19 MiB, fill all cores and the memory.",
        "At most as many verifications run as there are cores, and a bounded number wait; further ones are refused.",
        (
            "tests/gateway/auth/test_passwords.py::test_no_more_verifications_run_than_allowed",
            f"{PASSWORD_LOGINS}::test_the_surplus_of_whoever_has_most_is_refused",
        ),
        Disarm(
            "gateway/auth/password_logins.py",
            "Line(passwords.at_once, 0, queue_length)",
            "Line(passwords.at_once, 0, 10 * queue_length)",
        ),
    ),
    Threat(
        "timing of unknown users",
        "A login responds sooner for a name that no user has, which tells who has an account.",
        "A password is verified for nobody too, against a hash that costs as much.",
        ("tests/gateway/auth/test_passwords.py::test_nobody_has_a_password_and_costs_a_verification_all_the_same",),
        Disarm(
            "gateway/auth/passwords.py",
            "matched = matches(stored or self._nobody, password)",
            "matched = stored is not None and matches(stored, password)",
        ),
    ),
    Threat(
        "tokens in a copy of the database",
        "Somebody reads gateway.db or a backup of it, and logs in with the tokens in it.",
        "A token is shown once, when it is made; the SHA-256 of its 256 random bits is stored.",
        ("tests/gateway/cli/test_credentials.py", "tests/gateway/db/test_credentials.py"),
        Disarm(
            "gateway/namespaces/credentials.py",
            'return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()',
            "return secret",
        ),
    ),
    Threat(
        "a job for whoever asks",
        "A user who may not push starts a job, whose token may push and delete.",
        "A job starts for developers of the project and above, by their roles at that moment, and for no blocked user.",
        ("tests/gateway/namespaces/test_credential_rules.py", "tests/gateway/cli/test_credentials.py"),
        Disarm("gateway/namespaces/credential_rules.py", "    _check_starter(project, way, user, members, now)\n", ""),
    ),
    Threat(
        "a branch that a shell runs",
        "A branch is named like a command, and a shell evaluates the variables of its job.",
        "Each value is quoted for the shell, and a ref has printable characters alone.",
        ("tests/gateway/cli/test_credentials.py::test_a_shell_evaluates_what_people_read",),
        Disarm("gateway/cli/job.py", "shlex.quote(value)", "value"),
    ),
    Threat(
        "a revoked deploy token in a job",
        "A deploy token is revoked, and the secrets that stand for it in running jobs stay in the memories of workers.",
        "The revocation announces those secrets too.",
        ("tests/gateway/db/test_credentials.py",),
        Disarm("gateway/db/deploy_tokens.py", "if job.deploy_hash is not None:", "if False:"),
    ),
    Threat(
        "a token with more than its kind has",
        "A deploy token is made with the scope `api`, or a personal token that outlives its owner's time.",
        "Each kind has its scopes, and personal tokens and jobs have a longest lifetime.",
        ("tests/gateway/namespaces/test_credential_rules.py",),
        Disarm(
            "gateway/namespaces/credential_rules.py", "if excess := frozenset(scopes) - allowed:", "if excess := set():"
        ),
    ),
    Threat(
        "a write for every request",
        "Requests with a token write down its last use, and the database has time for nothing else.",
        "Last uses are kept in memory and written together; of each token one use a minute is.",
        ("tests/gateway/directory/test_last_uses.py",),
        Disarm(
            "gateway/directory/last_uses.py", "if noted is not None and abs(now - noted) < USE_RESOLUTION:", "if False:"
        ),
    ),
    Threat(
        "jobs without end in the database",
        "Every pipeline leaves rows of jobs, until the database fills the disk.",
        "A new token or job deletes up to a hundred of the oldest that ended a year ago.",
        ("tests/gateway/db/test_jobs.py", "tests/gateway/db/test_personal_tokens.py"),
        Disarm("gateway/db/credential_rows.py", "    if ended:", "    if False:"),
    ),
    Threat(
        "a value that the database cannot hold",
        "A login or a token names a text with NUL or an id above 31 bits; PostgreSQL refuses it, and requests fail.",
        "Such a value equals nothing where it is looked for, on both engines, and is refused before it is stored.",
        ("tests/gateway/db/test_storable.py",),
        Disarm(
            "gateway/db/storable.py",
            "return value if value is None or is_storable_text(value) else None",
            "return value",
        ),
    ),
    Threat(
        "a number that the database cannot hold",
        "The subject of a token or a setting is a number that is larger than any id, and PostgreSQL refuses it.",
        "Such a number equals nothing where it is looked for, and is refused before it is stored.",
        ("tests/gateway/db/test_storable.py",),
        Disarm(
            "gateway/db/storable.py",
            "return value if value is None or is_storable_id(value) else None",
            "return value",
        ),
    ),
    Threat(
        "a listing that fills the memory",
        "An installation has 100,000 projects, and a command that lists them holds all of them at once.",
        "Projects and users are read and printed a thousand at a time, also as one JSON array.",
        ("tests/gateway/cli/test_tree.py::test_a_listing_holds_one_page",),
        Disarm("gateway/cli/project.py", "after=after, limit=limit", "after=after"),
    ),
    Threat(
        "a deletion that reads all jobs",
        "A deleted row is looked for in a large table that refers to it, and writers wait for many seconds.",
        "Each column that refers to another table has an index.",
        ("tests/gateway/db/test_schema.py",),
        Disarm(
            "gateway/db/schema/credentials.py",
            'ForeignKey("deploy_tokens.id", ondelete="SET NULL"), index=True)',
            'ForeignKey("deploy_tokens.id", ondelete="SET NULL"))',
        ),
    ),
    Threat(
        "a deletion that a worker has not seen",
        "A deletion was confirmed, and a worker that looked at the database just before still serves what is gone.",
        "Reads of native content look for changes each time, however short ago they were looked for.",
        ("tests/gateway/db/test_changes.py::test_a_refresh_looks_at_the_database_however_short_ago_it_was_looked_at",),
        Disarm("gateway/db/sqlite_changes.py", "self._take_news(self._watcher.look)", "self.catch_up()"),
    ),
    Threat(
        "a project deleted with its repositories",
        "A project is deleted, and memories go on to serve its repositories, which the database deleted with it.",
        "What the database deletes with a node is announced, each repository by its path.",
        ("tests/gateway/db/test_repositories.py::test_repositories_that_go_with_their_project_are_announced",),
        Disarm(
            "gateway/db/cascades.py",
            "[] if in_group else [(Concern.REPOSITORY,",
            "[] if True else [(Concern.REPOSITORY,",
        ),
    ),
    Threat(
        "an upload of somebody else",
        "Whoever learns the id of an upload appends to it, commits it elsewhere, or ends it.",
        "An upload is found by its id, its repository and who began it, together.",
        (
            "tests/gateway/db/test_uploads.py::test_an_upload_is_found_by_its_owner_in_its_repository_alone",
            "tests/gateway/registry/test_uploads.py::test_an_upload_is_that_of_its_owner_and_repository",
        ),
        Disarm("gateway/db/uploads.py", "& (_uploads.c.owner == owner)", ""),
    ),
    Threat(
        "two writers of one upload",
        "A client sends two parts of an upload at once, and their bytes are mixed.",
        "Whoever writes to an upload holds its lease; a second request is refused with the range that has arrived.",
        ("tests/gateway/registry/test_uploads.py::test_of_two_requests_at_once_the_second_is_refused",),
        Disarm(
            "gateway/registry/uploads.py",
            "lease = take_lease(self._native.leases, lease_of(self.id))\n",
            "lease = take_lease(self._native.leases, lease_of(str(uuid.uuid4())))\n",
        ),
    ),
    Threat(
        "other bytes than the digest says",
        "A pushed blob does not have the digest under which it is committed.",
        "The digest of what arrived is compared before the blob gets its name; the upload ends where it differs.",
        ("tests/gateway/registry/test_uploads.py::test_a_digest_that_does_not_hold_ends_the_upload",),
        Disarm("gateway/registry/uploads.py", "if found != digest:", "if False:"),
    ),
    Threat(
        "a saved hash after a power failure",
        "The disk lost bytes of an upload that its saved hash holds for, and the commit does not notice.",
        "A saved hash names the run of the machine that it belongs to; in another run the file is hashed again.",
        ("tests/gateway/registry/test_uploads.py::test_bytes_that_another_run_of_the_machine_wrote_are_hashed_again",),
        Disarm("gateway/registry/upload_file.py", "boot == self._boot.encode() and ", ""),
    ),
    Threat(
        "a blob's file that is appended to",
        "A commit is killed once the file of its upload has a blob's name, and the client goes on appending to it.",
        "Nothing is written to a file with more than one name.",
        ("tests/gateway/registry/test_killed_uploads.py::test_what_is_appended_after_a_killed_commit_reaches_no_blob",),
        Disarm("gateway/registry/upload_file.py", " or status.st_nlink > 1:", ":"),
    ),
    Threat(
        "a file that a commit leaves",
        "The database refuses a commit whose file has its name already, which nobody ever deletes.",
        "A file that was given its name is deleted again, unless a row of its digest exists.",
        (
            "tests/gateway/registry/test_uploads.py::test_an_upload_ends_with_its_repository",
            "tests/gateway/registry/test_full_disk.py::test_a_disk_that_fails_at_any_step_ends_the_upload_and_nothing_else",
        ),
        Disarm("gateway/registry/intake.py", "if recorded is None:", "if False:"),
    ),
    Threat(
        "blobs without end",
        "A body never ends, or states a length that no disk has.",
        "A blob has a largest size; a push that goes beyond it is refused, and its room is freed.",
        ("tests/gateway/registry/test_uploads.py::test_a_blob_that_is_too_large_is_refused_and_its_room_is_freed",),
        Disarm("gateway/registry/upload_room.py", "if size > limit > 0:", "if False:"),
    ),
    Threat(
        "uploads that nobody finishes",
        "A client begins uploads without end, each of which keeps a row and a file.",
        "An owner has so many unfinished uploads and no more, and those that rest for a week are deleted.",
        (
            "tests/gateway/registry/test_uploads.py::test_an_owner_has_so_many_unfinished_uploads_and_no_more",
            "tests/gateway/registry/test_uploads.py::test_uploads_that_rest_for_a_week_are_swept",
        ),
        Disarm("gateway/registry/uploads.py", "if count >= most:", "if False:"),
    ),
    Threat(
        "a disk that a push filled",
        "A push that is larger than the disk keeps all of its room, and nobody can push.",
        "Where the disk is full the upload ends, and its file is deleted first.",
        (
            "tests/gateway/registry/test_full_disk.py::test_a_disk_that_fails_at_any_step_ends_the_upload_and_nothing_else",
            "tests/gateway/registry/test_full_disk.py::test_a_push_that_is_larger_than_the_disk_leaves_its_room_to_others",
        ),
        Disarm(
            "gateway/registry/uploads.py", "await self._give_up()\n        raise storage_error", "raise storage_error"
        ),
    ),
    Threat(
        "bytes beyond a quota",
        "A push writes more than a quota has room for, and is refused only once it has been written.",
        "Room is reserved before it is written, in steps that get smaller as room does.",
        (
            "tests/gateway/registry/test_intake.py::test_what_a_quota_has_no_room_for_is_refused_before_it_is_written",
            "tests/gateway/registry/test_intake.py::test_uploads_at_once_share_what_a_quota_has_left",
        ),
        Disarm("gateway/registry/upload_room.py", "        if self._limited:", "        if False:"),
    ),
    Threat(
        "a native file that was damaged",
        "The file of a pushed blob is cut or lengthened, and its bytes are served under the blob's digest.",
        "A file of another size than its row is no blob: it is set aside, and whoever pushes the blob again heals it.",
        ("tests/gateway/registry/test_blob_files.py::test_a_damaged_blob_counts_as_absent_until_it_is_pushed_again",),
        Disarm(
            "gateway/registry/blob_files.py",
            "if blob is not None and blob.size == size:",
            "if blob is not None:",
        ),
    ),
    Threat(
        "a manifest without its content",
        "A manifest is accepted that refers to blobs which its repository does not have, and every pull of it fails.",
        "All references are looked for in the transaction that stores the manifest, and all missing ones are listed.",
        ("tests/gateway/registry/test_native.py::test_a_refusal_lists_every_missing_reference_and_nothing_is_stored",),
        Disarm("gateway/registry/pushed.py", "    if missing:\n        raise", "    if False:\n        raise"),
    ),
    Threat(
        "content of another repository",
        "An index names images of another repository by digest, and who may not read these pulls them through it.",
        "References are looked for in the repository alone; what it lacks must be pushed to it or mounted by a right.",
        (
            "tests/gateway/registry/test_native.py::test_the_children_of_an_index_must_be_manifests_of_the_repository",
            "tests/gateway/registry/test_native.py::test_repositories_of_one_project_share_nothing_but_the_bytes",
        ),
        Disarm(
            "gateway/db/manifests.py",
            "here = manifests.c.repository_id == repository_id,",
            "here = manifests.c.id > 0,",
        ),
    ),
    Threat(
        "repositories named in a refusal",
        "Whoever pushes a manifest of invented digests learns which private repositories have them.",
        "A refusal names another repository only after it was decided that whoever pushes may read it.",
        (
            "tests/gateway/registry/test_native.py"
            "::test_a_refusal_names_repositories_that_have_what_is_missing_only_to_who_may_read_them",
        ),
        Disarm(
            "gateway/registry/pushed.py",
            "if path != name.text and await readable(path):",
            "if path != name.text:",
        ),
    ),
    Threat(
        "a deletion that memories outlive",
        "A tag, manifest or blob was deleted, and a worker still serves it from memory.",
        "Each deletion is announced in its transaction, and what it names is dropped before the next read.",
        (
            "tests/gateway/registry/test_memory.py"
            "::test_what_is_deleted_is_gone_for_every_worker_when_the_deletion_returns",
        ),
        Disarm(
            "gateway/registry/memory.py",
            "database.changes.subscribe(Concern.CONTENT, self._drop_content)",
            "pass",
        ),
    ),
    Threat(
        "a repository of an old name",
        "A repository is deleted and made again, and shows content of the first one.",
        "Content belongs to the id of its repository, which never returns, and the end of a repository is announced.",
        (
            "tests/gateway/registry/test_memory.py"
            "::test_a_repository_that_was_deleted_and_made_again_shows_nothing_of_the_first_one",
            "tests/gateway/db/test_repositories.py::test_the_id_of_a_deleted_repository_does_not_return",
        ),
        Disarm(
            "gateway/registry/memory.py",
            "database.changes.subscribe(Concern.REPOSITORY, self._drop_repository)",
            "pass",
        ),
    ),
    Threat(
        "a memory that cannot be checked",
        "The database cannot be read, and a worker serves from memory what was deleted meanwhile.",
        "Native content is served only after the changes were read; otherwise the response is 503.",
        ("tests/gateway/registry/test_memory.py::test_nothing_is_read_from_memory_where_the_changes_cannot_be_read",),
        Disarm(
            "gateway/registry/memory.py",
            "await self._database.changes.require_newest()",
            "await self._database.changes.refresh()",
        ),
    ),
    Threat(
        "an index without its images",
        "An image that an index lists is deleted by its digest, and the index can no longer be pulled.",
        "What a manifest of the repository needs is deleted only after that manifest.",
        ("tests/gateway/registry/test_native.py::test_what_others_need_is_deleted_after_them_alone",),
        Disarm("gateway/registry/native.py", "if index is not None:", "if False:"),
    ),
    Threat(
        "a manifest changed in the database",
        "The bytes of a stored manifest were changed, and are served under its digest.",
        "A manifest is hashed when it is read from the database.",
        ("tests/gateway/registry/test_native.py::test_a_manifest_whose_bytes_changed_in_the_database_is_not_served",),
        Disarm("gateway/registry/native_store.py", "if manifest.descriptor.digest != digest:", "if False:"),
    ),
    Threat(
        "manifests of countless references",
        "A small client pushes manifests of 40,000 descriptors, each of which holds all writers up.",
        "A manifest has at most 10,000 references.",
        ("tests/gateway/registry/test_native.py::test_a_manifest_with_too_many_references_is_refused",),
        Disarm("gateway/registry/pushed.py", "if count > REFERENCE_LIMIT:", "if False:"),
    ),
    Threat(
        "referrers that are parsed for each reader",
        "Anonymous clients request lists of large referrers again and again: each parses megabytes, and all pulls wait.",
        "An entry is made once and remembered with its JSON, within bounds, and for one reader at a time.",
        ("tests/gateway/registry/test_native.py::test_referrers_are_parsed_once_however_many_read",),
        Disarm("gateway/registry/memory.py", "return known if len(known) == len(page) else None", "return None"),
    ),
    Threat(
        "turns by the token",
        "A person makes a thousand personal tokens, each of which takes turns of its own.",
        "All credentials of a person take turns together, and all deploy tokens of a project or group.",
        ("tests/gateway/auth/test_requester.py",),
        Disarm(
            "gateway/auth/requester.py", "return Requester(person.id, principal.ref)", "return Requester(principal.ref)"
        ),
    ),
    Threat(
        "a crowd that reads referrers",
        "Anonymous clients request more lists of referrers than memory keeps; everybody else's list waits behind theirs.",
        "Lists that memory lacks are made in turns of people and sites; who gets none within 30 s is refused.",
        ("tests/gateway/registry/test_native.py::test_a_crowd_of_readers_keeps_nobody_else_from_the_referrers",),
        Disarm("gateway/registry/memory.py", "self._describing.turn(who)", "self._describing.turn(Requester())"),
    ),
    Threat(
        "numbers that JSON does not have",
        "A pushed number beyond the range of floats, such as 1e999, becomes `Infinity` in a list, which no parser takes.",
        "Such a number is refused where a document is parsed; annotations that are no texts are not passed on.",
        (
            "tests/cache/oci/test_document.py::test_what_is_refused_is_not_repeated",
            "tests/gateway/registry/test_native.py::test_annotations_that_are_no_texts_are_not_passed_on",
        ),
        Disarm("cache/oci/document.py", "if not isfinite(number):", "if False:"),
    ),
    Threat(
        "lists of referrers without bound",
        "Manifests with megabytes of annotations refer to an image, and their list fills memory or is refused by clients.",
        "A page has at most 100 entries of 512 KiB of manifests, and annotations of a megabyte are left out.",
        ("tests/gateway/registry/test_native.py::test_referrers_come_in_pages_that_clients_accept",),
        Disarm("gateway/registry/referrers.py", "if page and size > PAGE_BYTES:", "if False:"),
    ),
    Threat(
        "a file that a killed commit leaves",
        "A commit is killed once its file has a blob's name, nobody tries it again, and the file stays for ever.",
        "Whoever deletes the file of an upload deletes its other name too, unless a row of its digest exists.",
        ("tests/gateway/registry/test_killed_uploads.py::test_a_killed_commit_that_is_not_tried_again_leaves_no_file",),
        Disarm(
            "gateway/registry/uploads.py",
            "if _has_another_name(path) and not await self.intake.delete_unrecorded(path):",
            "if False:",
        ),
    ),
    Threat(
        "a mount of damaged bytes",
        "A cached blob rots, its size stays, and a mount of it makes wrong bytes a blob that clients do not push again.",
        "A blob of another store is hashed before it is linked.",
        ("tests/gateway/registry/test_mount.py::test_a_cached_blob_that_was_damaged_since_is_not_mounted",),
        Disarm("gateway/registry/intake.py", "if found != blob.digest:", "if False:"),
    ),
    Threat(
        "damage that a mount alone has seen",
        "A mount refuses a cached blob that rotted, and the cache goes on to serve it: each pull is a hit with wrong bytes.",
        "The mount sets the blob aside and drops it from the index, as the scrub does; the next pull fetches it anew.",
        (
            "tests/gateway/v2/test_uploads.py::test_a_mount_that_finds_a_cached_blob_damaged_takes_it_from_every_reader",
            "tests/cache/proxy/test_stored_blobs.py::test_a_blob_whose_bytes_were_found_damaged_is_dropped",
        ),
        Disarm("gateway/v2/mounts.py", "        await origin.drop_damaged(held, error.damage)\n", ""),
    ),
    Threat(
        "a mount of a native blob that rotted",
        "A native blob rots, its size stays; a mount of it is confirmed, and the client with the right bytes sends none.",
        "A native blob is hashed before a mount, once a day; a damaged one is set aside, and the push uploads it.",
        (
            "tests/gateway/registry/test_mount.py::test_a_native_blob_that_rotted_is_not_mounted_and_an_upload_mends_it",
            "tests/gateway/registry/test_mount.py::test_a_native_blob_that_rotted_is_mended_by_a_mount_of_the_cached_one",
        ),
        Disarm("gateway/registry/native.py", " and await self._parts.sources.is_whole(digest, size)", ""),
    ),
    Threat(
        "a hash for each mount",
        "Every build mounts the layers of its base image, and the server reads gigabytes for each of them.",
        "The hash of a file to which nobody writes stands for a day; where it takes too long, the scrub has to suffice.",
        (
            "tests/gateway/registry/test_mount.py::test_a_native_blob_is_hashed_once_for_many_mounts_until_somebody_writes_to_it",
        ),
        Disarm("gateway/registry/source_hashes.py", "if hashed and hashed.state == _state(status)", "if False"),
    ),
    Threat(
        "a thousand mounts of one digest",
        "All of them look again and again whether its lease is free, the server does nothing else, and a push starves.",
        "One of a process looks at a time, in the order of arrival; a repository that has the blob needs no lease.",
        (
            "tests/gateway/registry/test_mount.py::test_of_those_who_want_one_digest_one_looks_for_its_lease",
            "tests/gateway/registry/test_mount.py::test_turns_of_a_digest_come_in_order_and_leave_nothing",
        ),
        Disarm(
            "gateway/registry/digest_turns.py",
            "            async with queue.lock:\n                yield",
            "            yield",
        ),
    ),
    Threat(
        "what a killed commit leaves while its digest is in use",
        "Whether the other name of an ended upload's file is a blob is not known, the file goes, and nothing leads there.",
        "The file stays until that is known, and the sweep comes back to it.",
        (
            "tests/gateway/registry/test_killed_uploads.py"
            "::test_what_a_killed_commit_left_is_not_lost_sight_of_while_its_digest_is_in_use",
        ),
        Disarm(
            "gateway/registry/uploads.py",
            "            return False\n        await self.delete_file(path)",
            "            pass\n        await self.delete_file(path)",
        ),
    ),
    Threat(
        "a storm on a tag that moved",
        "A tag moves, every worker forgets it, and each of hundreds of waiting clients reads the database for itself.",
        "Requests that want the same at the same time share one read, unless one knows of a change that came after it.",
        ("tests/gateway/registry/test_memory.py::test_many_who_want_a_tag_that_has_just_moved_share_one_read",),
        Disarm("gateway/db/shared_reads.py", "self._readings[key] = reading", "pass"),
    ),
    Threat(
        "a shared read that is too old",
        "A deletion is confirmed while a read is under way, and who asks afterwards is given what that read found.",
        "A read is shared only by requests that saw the same state of the memory when they began.",
        (
            "tests/gateway/db/test_shared_reads.py"
            "::test_a_request_that_knows_of_a_change_shares_no_read_that_began_before",
        ),
        Disarm("gateway/db/shared_reads.py", " and reading.version == version:", ":"),
    ),
    Threat(
        "a storm on a credential that was forgotten",
        "A use is noted, every worker forgets the credential, and each of hundreds of requests reads the database for it.",
        "Lookups of the same identity at the same time share one read of the database.",
        (f"{IDENTITY}::test_many_who_want_a_credential_that_was_forgotten_share_one_read",),
        Disarm(
            "gateway/directory/directory.py",
            "return await self._reads.read((memory, key), version, look_up)",
            "return await look_up()",
        ),
    ),
    Threat(
        "all connections of the database in use",
        "A flood takes all connections to gateway.db, and other requests end as 500 with a traceback half a minute later.",
        "After 10 s without a connection the database counts as unusable, which is 503 and tells to try again.",
        ("tests/gateway/db/test_engine.py::test_a_transaction_that_finds_no_connection_is_told_to_try_again",),
        Disarm("cache/sqlite.py", "except PoolExhausted as error:", "except ZeroDivisionError as error:"),
    ),
    Threat(
        "a push to a disk full of cached images",
        "Cached images fill the disk, and a push is refused before its first byte, since the database has no room.",
        "A transaction that fails on a full disk is tried once more after cached content was evicted.",
        ("tests/faults/test_small_disk.py::test_a_first_push_to_a_disk_full_of_cached_images_is_kept",),
        Disarm(
            "gateway/registry/storage_errors.py",
            "return disk_space(folder).lacks(DATABASE_ROOM, 1) and make_room(DATABASE_ROOM) > 0",
            "return False",
        ),
    ),
    Threat(
        "redirects in a circle",
        "An upstream redirects to this gateway, and each request causes another one until connections run out.",
        "Each request to an upstream names its sender, and a server refuses what it has sent itself: RFC 8586.",
        ("tests/e2e/test_lying_upstream.py::test_a_redirect_back_to_the_gateway_is_not_served_again",),
        Disarm("gateway/http/own_requests.py", "if self._name not in gateways and len", "if len"),
    ),
    Threat(
        "names that refused mounts leave",
        "Who may mount and has no room left by a quota keeps a name of each cached blob, and evicting it frees nothing.",
        "A mount that fails deletes the name that it has made, unless that alone leads to what is in the store.",
        ("tests/gateway/registry/test_mount.py::test_a_cached_blob_whose_mount_fails_has_no_name_left",),
        Disarm("gateway/registry/intake.py", "if upload is None and leads_nowhere:", "if False:"),
    ),
    Threat(
        "hashes that hold up commits",
        "Who mounts large cached blobs has them hashed in the threads that commit pushes; each push waits for minutes.",
        "Mounts hash in a thread of their own, each file once at a time, and only while a client waits for it.",
        (
            "tests/gateway/registry/test_mount.py::test_while_files_are_hashed_for_mounts_others_push_and_each_file_is_hashed_once",
            "tests/gateway/registry/test_mount.py::test_nothing_is_hashed_for_a_client_that_has_left",
        ),
        Disarm(
            "gateway/registry/source_hashes.py", "                running.hashing.cancel()\n", "                pass\n"
        ),
    ),
    Threat(
        "mounts for which there is no room",
        "A mount that a quota refuses is repeated for ever, and each time a large file is hashed first.",
        "Quotas are looked at before anything is hashed.",
        ("tests/gateway/registry/test_mount.py::test_a_mount_that_a_quota_refuses_hashes_nothing",),
        Disarm(
            "gateway/registry/intake.py",
            "        if await blobs.stored_size(connection, digest) is None:\n            check_room(",
            "        if False:\n            check_room(",
        ),
    ),
    Threat(
        "uploads that are freed in the loop",
        "A client cancels an upload of many gigabytes, and its worker stands still while the kernel frees them.",
        "What has arrived of an upload that ends is deleted, and closed, in a thread.",
        ("tests/gateway/registry/test_uploads.py::test_what_has_arrived_is_freed_outside_the_event_loop",),
        Disarm("gateway/registry/uploads.py", "if file.frees():", "if False:"),
    ),
    Threat(
        "downloads that are freed in the loop",
        "A client leaves a download of many gigabytes, and its worker stands still while the kernel frees them.",
        "A large file that has no name left is closed in a thread.",
        ("tests/cache/runtime/test_closing.py::test_a_large_file_without_a_name_is_closed_in_a_thread",),
        Disarm("cache/runtime/closing.py", "if status.st_nlink or status.st_size < LARGE:", "if True:"),
    ),
    Threat(
        "a role that is left twice",
        "A worker that stops leaves a role in two threads at once, which close its descriptor twice: then somebody's file.",
        "One of them leaves the role, and the other waits for it.",
        ("tests/gateway/test_roles.py::test_a_role_is_left_once_whenever_a_process_accepts_no_more",),
        Disarm("gateway/wiring/roles.py", "        if closed.is_set():\n", "        if False:\n"),
    ),
    Threat(
        "pins on a disk that is full",
        "The disk is too full to open the file of uses, and the largest blob is evicted, or nothing at all if it is pinned.",
        "The largest blob that is not pinned is evicted.",
        (
            "tests/cache/retention/test_sweep.py"
            "::test_where_no_use_is_known_room_is_made_of_the_largest_blob_that_is_not_pinned",
        ),
        Disarm(
            "cache/retention/sweep.py",
            "self._maintenance.larger(0, PAGE + len(spared))",
            "self._maintenance.larger(0, 1)",
        ),
    ),
    Threat(
        "room that was made in vain",
        "On a full disk a blob is evicted for a download, the search for more fails, and the download fails all the same.",
        "What was freed counts, whatever fails afterwards.",
        ("tests/cache/retention/test_sweep.py::test_room_that_was_made_counts_although_the_search_for_more_fails",),
        Disarm(
            "cache/retention/sweep.py",
            "                if not freed:\n                    raise",
            "                raise",
        ),
    ),
    Threat(
        "a pin that protects nothing",
        "A tag is pinned whose content was pulled by digest alone; it is evicted, although the command said `pinned`.",
        "The command prints how much the pin protects now, and says where that is nothing.",
        ("tests/gateway/cli/test_cache.py::test_the_pin_of_a_tag_protects_nothing_that_was_pulled_by_digest_alone",),
        Disarm("gateway/cli/cache.py", "protected if sizes else nothing", "protected"),
    ),
    Threat(
        "audit log that fills the disk",
        "A flood of pulls makes the audit log grow until the disk is full.",
        "Beyond its maximum size its oldest events are deleted beside each batch that is added.",
        (f"{AUDIT_FILE}::test_the_oldest_events_go_where_the_log_is_too_large",),
        Disarm("gateway/audit/file.py", "if _used_bytes(connection) > self._limits.max_bytes:", "if False:"),
    ),
    Threat(
        "audit log on a full disk",
        "The audit log cannot be written, and takes the last room of the disk or makes pulls fail.",
        "Its events wait, and leave the last room of the disk to others; no request waits for them.",
        (
            f"{AUDIT_LOG}::test_what_cannot_be_written_waits_and_the_log_says_so_once",
            f"{AUDIT_FILE}::test_nothing_is_written_to_a_disk_that_is_nearly_full",
            "tests/e2e/test_audit.py::test_a_full_disk_makes_no_pull_fail_and_the_events_come_later",
        ),
        Disarm("gateway/audit/log.py", "            self._put_back(batch)", "            raise"),
    ),
    Threat(
        "audit events that fill the memory",
        "The audit log cannot be written for long, and the events of each pull wait in memory.",
        "So many wait at most; the oldest are dropped, and counted.",
        (f"{AUDIT_LOG}::test_of_what_cannot_be_written_the_oldest_is_dropped",),
        Disarm("gateway/audit/log.py", "deque(maxlen=max_pending)", "deque(maxlen=1 << 40)"),
    ),
    Threat(
        "wrong clock and the audit log",
        "A clock that is ahead for a moment makes every event of the audit log too old.",
        "Nothing is deleted for its age before the clock has gone right for an hour.",
        (f"{AUDIT_FILE}::test_no_event_goes_for_its_age_before_the_clock_has_gone_right_for_an_hour",),
        Disarm("gateway/audit/steady_clock.py", "return passed >= HOLD_SECONDS", "return True"),
    ),
    Threat(
        "secrets in the audit log",
        "The audit log repeats a credential or a signed query of a request.",
        "An event has names and numbers of credentials, and the canonical name of a repository, and nothing else of a request.",
        (f"{AUDITED}::test_the_audit_log_has_no_credential_and_no_query",),
    ),
    Threat(
        "an audit log that is read by others",
        "A maintainer of a new project reads what was done in an earlier one of that path, or a developer what others did.",
        "Events of before a node was made are left out, and those of others for whoever does not look after it.",
        (
            f"{AUDIT_EVENTS}::test_a_project_does_not_show_what_was_done_in_another_one_that_had_its_path",
            f"{AUDIT_EVENTS}::test_whoever_looks_after_a_place_sees_all_and_others_what_they_did_themselves",
        ),
        Disarm(
            "gateway/api/audit_events.py", "since = max(self.since, query.since or 0.0) or None", "since = query.since"
        ),
    ),
    Threat(
        "changes of rights that nobody sees",
        "A token is made or a role is given by the REST API or a page, and nothing tells of it afterwards.",
        "Each change of a user, member, token, group, project and rule is an event of the audit log, with whoever made it.",
        (
            f"{AUDIT_EVENTS}::test_changes_of_personal_tokens_are_noted_without_their_secrets",
            f"{AUDIT_EVENTS}::test_changes_of_members_are_noted",
            "tests/gateway/web/test_audited.py::test_every_change_leaves_its_event_and_nothing_else_does",
        ),
        Disarm(
            "gateway/audit/changes.py",
            "self._audit.note(event._replace(target=target, former=before, outcome=after))",
            "pass",
        ),
    ),
    Threat(
        "a webhook that leads inward",
        "A maintainer names a webhook on the metadata service of a cloud, or a name that resolves to a private address.",
        "The addresses of a host are checked at each connection, and the one that was checked is connected to, "
        "unless the settings name the host.",
        (
            f"{POSTING}::test_an_address_that_is_not_public_is_not_connected_to",
            f"{POSTING}::test_the_address_that_was_checked_is_the_one_that_is_connected_to",
        ),
        Disarm(
            "cache/upstream/posting.py",
            "private_hosts=hosts, discreet=True",
            "private_addresses=True, discreet=True",
        ),
    ),
    Threat(
        "a webhook that redirects inward",
        "A receiver on the internet redirects what it is sent to a private address.",
        "No redirect is followed: it is a failure.",
        (f"{POSTING}::test_a_redirect_is_not_followed",),
        Disarm("cache/upstream/transport.py", '"follow_redirects": False,', '"follow_redirects": True,'),
    ),
    Threat(
        "a receiver that stalls",
        "A webhook's receiver takes the connection and never responds, and others wait behind it.",
        "An attempt takes ten seconds at most, and each webhook has a task of its own.",
        (
            f"{POSTING}::test_a_receiver_that_stalls_is_left_in_time",
            f"{POSTING}::test_a_receiver_that_sends_its_head_for_ever_is_left_in_time",
            f"{NOTIFIER}::test_a_receiver_that_does_not_respond_holds_up_no_other_one",
        ),
        Disarm(
            "cache/upstream/posting.py",
            "async with asyncio.timeout(self._timeout):",
            "async with asyncio.timeout(None):",
        ),
    ),
    Threat(
        "a receiver that fails for ever",
        "A webhook's receiver is gone, and the server sends to it without end.",
        "A webhook that fails in a row pauses for longer and longer, and is disabled in the end.",
        (
            f"{NOTIFIER}::test_failures_in_a_row_pause_a_webhook_and_a_success_ends_that",
            f"{NOTIFIER}::test_a_webhook_that_fails_for_ever_is_disabled_and_told_no_more",
        ),
        Disarm("gateway/webhooks/webhook.py", "return self.failures >= DISABLING", "return False"),
    ),
    Threat(
        "a group whose receivers are slow",
        "Somebody makes a hundred webhooks whose receivers take their time, and nobody else's are sent anything.",
        "Groups at the top, users and the server take turns, whatever waits for theirs, and a turn ends in time.",
        (
            f"{TURNS}::test_an_owner_of_many_webhooks_leaves_others_their_turns",
            f"{TURNS}::test_whoever_had_a_turn_last_comes_last_however_long_what_is_due_has_waited",
            f"{NOTIFIER}::test_whoever_has_many_slow_receivers_and_much_for_them_leaves_others_their_turns",
            f"{NOTIFIER}::test_a_turn_ends_after_some_time_however_much_is_due",
        ),
        Disarm("gateway/notifications/turns.py", "key=lambda owner: self._owners.get(owner, 0),", "key=len,"),
    ),
    Threat(
        "names of receivers that hang",
        "The names of somebody's receivers take for ever to look up, and those of others are not looked up meanwhile.",
        "A name is looked up for whoever owns the webhook, and none of them takes all places.",
        (f"{NOTIFIER}::test_whoever_has_many_slow_receivers_and_much_for_them_leaves_others_their_turns",),
        Disarm(
            "gateway/notifications/notifier.py",
            'on_behalf_of(Requester(webhook.owner, "webhooks")):',
            "on_behalf_of(Requester()):",
        ),
    ),
    Threat(
        "deliveries that fill the database",
        "A project has a hundred webhooks that nobody takes anything from, and each pull waits for each of them.",
        "An envelope has so many bytes, and so many wait, or have ended, for all webhooks of one project or group.",
        (
            f"{NOTIFIER}::test_an_envelope_takes_no_more_beyond_so_many_bytes",
            f"{NOTIFIER}::test_too_many_deliveries_that_wait_in_a_project_are_dead_the_oldest_first",
            f"{NOTIFIER}::test_webhooks_of_one_project_together_keep_so_many_deliveries_that_have_ended",
        ),
        Disarm(
            "gateway/notifications/notifier.py", "write_all(together, ENVELOPE_BYTES)", "write_all(together, 1 << 40)"
        ),
    ),
    Threat(
        "secrets of webhooks",
        "The token of a webhook is read from the database, from an answer or from the log.",
        "Both tokens are sealed, and no answer, event or line has them; a webhook with another URL loses them.",
        (
            f"{WEBHOOKS}::test_no_secret_of_a_webhook_lies_anywhere_in_the_clear",
            f"{WEBHOOKS}::test_a_webhook_is_made_shown_changed_and_deleted",
        ),
        Disarm(
            "gateway/notifications/administration.py",
            "start = replace(start, token_sealed=None, signing_sealed=None)",
            "pass",
        ),
    ),
    Threat(
        "a forged webhook",
        "Somebody else sends a receiver what looks like an event, or sends one again.",
        "With a signing token each attempt is signed with its id and its time.",
        (
            "tests/gateway/webhooks/test_values.py::test_a_signature_is_that_of_the_standard",
            f"{WEBHOOKS}::test_pushes_and_deletions_are_told_with_who_and_how_and_are_signed",
        ),
        Disarm("gateway/webhooks/signing.py", "[id.encode(), str(timestamp).encode(), body]", "[id.encode(), body]"),
    ),
    Threat(
        "a push that nobody is told of",
        "The server is killed right after a push, and the webhook that scans new images is never told.",
        "The event is written by the transaction of the push, and sent again until it was taken.",
        (
            f"{WEBHOOKS}::test_what_happens_while_nobody_tells_of_it_is_told_later",
            f"{NOTIFIER}::test_what_was_being_sent_by_a_process_that_was_killed_is_sent_again_after_its_lease",
        ),
        Disarm("gateway/db/webhook_deliveries.py", "values(next_at=now + LEASE)", "values(next_at=None)"),
    ),
    Threat(
        "events that fill the memory and the database",
        "A flood of pulls waits to be told of, or a webhook pauses for days, and what waits grows without end.",
        "So many pulls wait in memory, and so many deliveries of a webhook in the database; the oldest are dropped.",
        (
            f"{NOTIFIER}::test_pulls_wait_in_memory_up_to_a_number_and_are_written_only_if_they_are_wanted",
            f"{NOTIFIER}::test_too_many_deliveries_that_wait_in_a_project_are_dead_the_oldest_first",
        ),
        Disarm("gateway/notifications/notices.py", "deque(maxlen=max_pending)", "deque(maxlen=1 << 40)"),
    ),
    Threat(
        "a flood of requests to the REST API",
        "A script without a pause, or somebody who guesses tokens, keeps the REST API busy.",
        "Each user, each token of nobody and each address has so many requests a minute.",
        (
            f"{RATE_LIMITS}::test_a_user_is_told_of_the_limit_and_refused_beyond_it",
            f"{RATE_LIMITS}::test_an_address_that_guesses_tokens_is_refused_and_a_user_there_is_not",
        ),
        Disarm("gateway/api/rate_limits.py", "if window.count > limit:", "if False:"),
    ),
    Threat(
        "a network of addresses against the rate limits",
        "A client uses another address of its IPv6 network for each request, and the memory of the limits grows.",
        "A network of 64 bits is one client, and so many clients are remembered.",
        (
            f"{RATE_LIMITS}::test_each_user_and_address_has_a_limit_of_its_own",
            f"{RATE_LIMITS}::test_many_addresses_take_no_more_memory_than_is_kept",
        ),
        Disarm("gateway/api/rate_limits.py", '("address", client_name(address))', '("address", address)'),
    ),
    Threat(
        "a regular expression that explodes",
        "A cleanup rule has a regular expression that takes minutes for one name, and the server does nothing else.",
        "RE2 matches in linear time, within a bounded memory; what does not fit into that is refused when it is written.",
        (
            f"{CLEANUP}::test_a_pattern_that_explodes_elsewhere_is_matched_in_linear_time",
            f"{CLEANUP}::test_a_rule_that_cannot_be_meant_is_refused_with_its_parameter",
        ),
        Disarm(
            "gateway/namespaces/tag_pattern.py",
            "return re2.compile(text.encode(), options)",
            'return __import__("re").compile(text.encode())',
        ),
    ),
    Threat(
        "a cleanup without dates",
        "The dates of tags are unknown, and a cleanup takes all of them for old.",
        "A tag whose date is unknown is never deleted, and counts as the newest of those that are kept.",
        (f"{CLEANUP}::test_a_tag_of_unknown_date_is_never_deleted_and_counts_as_the_newest",),
        Disarm("gateway/registry/cleanup.py", "        if date is None:\n", "        if False:\n"),
    ),
    Threat(
        "a cleanup that judges in the wrong order",
        "Tags come in another order than by date, and the newest are deleted in place of the oldest.",
        "A tag that comes after an older one ends the run before it is judged.",
        (f"{CLEANUP}::test_tags_in_another_order_are_refused_before_one_is_judged_wrongly",),
        Disarm(
            "gateway/registry/cleanup.py",
            "if self._before is not None and (date is None or date > self._before):",
            "if False:",
        ),
    ),
    Threat(
        "a cleanup of what was just pushed",
        "A tag is judged as old, then pushed anew, and then deleted.",
        "The transaction that deletes looks whether the tag has moved since it was judged, and leaves it then.",
        (f"{CLEANER}::test_a_tag_that_moves_after_it_was_judged_stays",),
        Disarm("gateway/db/tags.py", "if row.moved_at == listed[row.name]]", "if True]"),
    ),
    Threat(
        "a cleanup by a policy that was changed",
        "A policy is changed or disabled since it deletes too much, and its run goes on.",
        "Each batch of a run renews its lease, which a change of the policy ends.",
        (f"{CLEANER}::test_a_run_ends_where_what_it_is_about_changes",),
        Disarm("gateway/db/cleanups.py", "        raise LeaseLost\n", "        return\n"),
    ),
    Threat(
        "a cleanup of what is pinned",
        "A project is pinned for a release while a cleanup of it runs.",
        "Each batch looks for a pin in its own transaction, and the run ends at one.",
        (f"{CLEANER}::test_a_pinned_project_stays_as_it_is_and_the_policy_says_so",),
        Disarm(
            "gateway/registry/cleaner.py", "            await pins.require_unpinned(connection, repository_id)\n", ""
        ),
    ),
    Threat(
        "protected tag deleted by digest",
        "Somebody who may not delete a protected tag deletes the manifest that it points to.",
        "A manifest is not deleted while a tag points to it that the caller may not delete.",
        (
            f"{PROTECTION}::test_a_protected_tag_is_pushed_and_deleted_by_whoever_has_the_level",
            f"{PROTECTION}::test_an_immutable_tag_stays_where_it_was_created",
        ),
        Disarm("gateway/registry/native.py", "                if guard.has_rules:\n", "                if False:\n"),
    ),
    Threat(
        "immutable tag among several",
        "A push sets several tags at once, of which one is immutable and exists.",
        "Each tag is checked in the transaction that sets them, which sets none then.",
        (f"{PROTECTION}::test_an_immutable_tag_stays_where_it_was_created",),
        Disarm(
            "gateway/registry/native.py",
            "                    guard.check_move(tag, before, manifest.descriptor.digest)\n",
            "",
        ),
    ),
    Threat(
        "token from before the rule",
        "A repository is protected, and a Bearer token that lists pushes to it goes on for minutes.",
        "Rules are part of the decision about each request, and not of tokens.",
        (f"{PROTECTION}::test_a_protected_repository_takes_neither_blobs_nor_manifests",),
        Disarm(
            "gateway/auth/permissions.py",
            "            if decision.allowed and action is Action.PUSH:",
            "            if False:",
        ),
    ),
    Threat(
        "protection that nobody asks about",
        "A part of the program changes tags without a decision by the rules of their project.",
        "A repository that is opened without one refuses whatever a rule keeps from anybody.",
        (f"{PROTECTION}::test_a_repository_that_is_opened_without_a_decision_takes_the_rules_for_everybody",),
        Disarm("gateway/registry/native.py", "        return TagGuard(found)\n", "        return TagGuard()\n"),
    ),
    Threat(
        "protection rule that cannot be read",
        "A newer version refuses the regular expression of a stored rule, whose tags lose their protection.",
        "Such a rule protects everything.",
        (f"{PROTECTION_RULES}::test_a_rule_that_cannot_be_read_any_more_protects_everything",),
        Disarm(
            "gateway/namespaces/protection.py",
            "return self.matcher is None or self.matcher.matches(name)",
            "return self.matcher is not None and self.matcher.matches(name)",
        ),
    ),
    Threat(
        "a move around a protection rule",
        "A maintainer renames a repository, or moves it to a project without rules, and pushes another image as its tag.",
        "A move is asked of the rules as a deletion with all tags where it was, and as a push where it is to be.",
        (
            f"{REST}/test_protection.py::test_a_move_asks_the_rules_of_both_projects",
            f"{REST}/test_protection.py::test_a_rename_gives_no_way_around_immutable_tags",
        ),
        Disarm(
            "gateway/registry/administration.py",
            "            await require_movable(self._database, repository, path.text, levels)\n",
            "            pass\n",
        ),
    ),
    Threat(
        "a clock that makes tags old",
        "The clock jumps ahead by months, and the cleanup policies of all projects delete what was pushed yesterday.",
        "Policies wait until the clock has gone right for an hour, compared with one that never jumps.",
        (
            f"{CLEANER}::test_a_clock_that_jumps_ahead_makes_no_policy_due",
            f"{CLEANER}::test_a_new_cleaner_waits_where_the_clock_says_that_nobody_has_looked_for_long",
        ),
        Disarm("gateway/registry/cleaner.py", "        if await self._is_held():\n", "        if False:\n"),
    ),
    Threat(
        "a rename by a token for less",
        "Somebody has a token for pushes to a project, or to another one, and renames the project with all of its images.",
        "A rename needs a token that states the project and lists what lies below it, and the right to administer it.",
        (f"{GITLAB}::test_a_rename_needs_the_path_of_the_project_in_the_token",),
        Disarm("gateway/v2/gitlab/moves.py", "        if claimed != name.text:\n", "        if False:\n"),
    ),
    Threat(
        "a size that tells of hidden repositories",
        "A token lists one repository, and its holder asks for the bytes of all that lie below it.",
        "That needs a token that lists what lies below, too.",
        (f"{GITLAB}::test_a_token_must_list_what_is_read",),
        Disarm("gateway/v2/gitlab/app.py", "            _require_below(principal, endpoint.repository)\n", ""),
    ),
    Threat(
        "dependency confusion by an outage",
        "Somebody publishes the name of a private image at a public registry, and waits until the private one fails.",
        "While an upstream fails, no later one is asked for an image that it has not answered for before.",
        (
            f"{CHAINED}::test_an_outage_gives_no_later_upstream_the_word",
            f"{CHAINED}::test_a_later_upstream_that_is_known_to_have_the_image_goes_on_answering",
        ),
        Disarm(
            "cache/proxy/chained.py",
            "            if failure is not None and not await repository.is_known():\n",
            "            if False:\n",
        ),
    ),
    Threat(
        "dependency confusion by a page of a proxy",
        "Something before a private registry responds 404 with a page of its own, and a public one answers instead.",
        "Only what the registry itself states leads to the next upstream.",
        (f"{CHAINED}::test_what_an_upstream_is_known_to_have_no_later_one_answers_for",),
        Disarm(
            "cache/proxy/chained.py", "                if await repository.is_known():\n", "                if False:\n"
        ),
    ),
    Threat(
        "an upstream inside the network",
        "A maintainer names an address of the server's own network as an upstream, and reads what answers there.",
        "Upstreams that people name reach no private address, whatever leads there, unless the settings name the host.",
        (f"{VIRTUAL}::test_a_private_address_is_not_reached",),
        Disarm(
            "gateway/virtual/clients.py",
            "private_hosts=self._private_hosts, discreet=True",
            "private_addresses=True, discreet=True",
        ),
    ),
    Threat(
        "clients of upstreams that are changed",
        "A maintainer changes an upstream, or empties its cache, and pulls, again and again: each leaves a client.",
        "A client is made of what it sends alone, few of one group linger, and the group that has most loses one first.",
        (VIRTUAL_CLIENTS,),
        Disarm("gateway/virtual/clients.py", "if len(lingering) > LINGERING:", "if False:"),
    ),
    Threat(
        "limits of upstreams that are changed",
        "An upstream of somebody refuses, its cache is emptied, and so on, until the file of limits is too large to read.",
        "The latest thousand of upstreams that users name are kept, beside all others.",
        (
            "tests/cache/upstream/test_ledger.py"
            "::test_upstreams_that_users_name_have_so_many_entries_and_take_none_of_others",
        ),
        Disarm("cache/upstream/ledger.py", "named[:-MOST_NAMED]", "named[:0]"),
    ),
    Threat(
        "a stolen ID token that has logged in",
        "Somebody has read the ID token of a job, and pulls by its login for an hour; nobody can end that alone.",
        "Logins are listed, and ended one by one; the token of one that was ended begins no other one.",
        (
            "tests/gateway/db/test_id_token_logins.py"
            "::test_a_login_is_ended_before_its_time_and_its_token_begins_no_other",
            "tests/gateway/cli/test_issuers.py::test_a_login_is_listed_and_ended",
        ),
        Disarm("gateway/db/id_token_logins.py", "values(expires_at=now)", "values(expires_at=login.expires_at)"),
    ),
    Threat(
        "an issuer that is asked by everybody",
        "An issuer does not respond, and whoever follows the link to sign in makes one more request to it.",
        "After a failure it is not asked again for some seconds.",
        ("tests/gateway/auth/test_oidc_sign_in.py",),
        Disarm("gateway/auth/oidc_sign_in.py", "if failed is not None and", "if False and"),
    ),
    Threat(
        "an audit log that is read whole",
        "Whoever owns a quiet project lists its audit events again and again, and each list reads millions of others.",
        "Events of few paths, and moves, are found by indexes, and those of busy paths among the latest.",
        (
            f"{AUDIT_FILE}::test_few_events_among_many_are_found_without_reading_all",
            f"{AUDIT_FILE}::test_events_of_a_path_are_found_wherever_they_lie",
        ),
        Disarm("gateway/audit/file.py", "for index in _INDEXES:", "for index in _INDEXES[:1]:"),
    ),
    Threat(
        "twice the requests by two APIs",
        "A script sends as many requests as it may by REST, and as many again by GraphQL.",
        "Requests by both count together.",
        (f"{RATE_LIMITS}::test_requests_by_graphql_count_with_those_by_rest",),
        Disarm(
            "gateway/wiring/app.py",
            "GraphqlApi(services, options, limits)",
            "GraphqlApi(services, options, RateLimits(options.rates))",
        ),
    ),
    Threat(
        "sessions without end",
        "Whoever knows one password signs in again and again, and each session is kept for hours.",
        "A user has a hundred sessions; one more ends that which was used longest ago.",
        ("tests/gateway/web/test_sign_in.py::test_a_user_has_so_many_sessions_and_the_one_used_longest_ago_ends",),
        Disarm(
            "gateway/directory/web_sessions.py",
            "            await web_sessions.end_beyond(connection, user.id, MOST)\n",
            "",
        ),
    ),
    Threat(
        "a job that outlives its token",
        "A token that ends in an hour starts a job of thirty days, whose secrets go on.",
        "A job that a token starts ends with it at the latest.",
        ("tests/gateway/api/test_job_scope.py::test_a_job_does_not_outlive_the_token_that_starts_it",),
        Disarm(
            "gateway/api/jobs.py",
            "latest = token.expires_at if isinstance(token, PersonalToken) else None",
            "latest = None",
        ),
    ),
    Threat(
        "repositories below a path by a token for it",
        "A Bearer token lists the path of a project alone, and its holder lists what lies below.",
        "What lies below a path needs a token that lists it, by whatever route.",
        (f"{GITLAB}::test_a_token_must_list_what_is_read",),
        Disarm(
            "gateway/v2/gitlab/app.py",
            "        _require_below(principal, endpoint.repository)\n        found =",
            "        found =",
        ),
    ),
    Threat(
        "a redirect from a private upstream",
        "An upstream that the settings name redirects to any other place of the server's own network.",
        "Private addresses are those of hosts that are named for that, and of no host that they lead to.",
        (f"{EGRESS}::test_those_hosts_alone_have_private_addresses_that_are_named_for_that",),
        Disarm(
            "cache/upstream/reach.py",
            "return self.private_addresses or _is_among(self.private_hosts, host, port)",
            "return self.private_addresses or bool(self.private_hosts)",
        ),
    ),
    Threat(
        "names of the network behind the server",
        "A webhook, an upstream of somebody or a redirect names hosts, and the errors say which exist, and where.",
        "A name without an address and one with a private one fail with the same words; the log has the address.",
        (
            f"{EGRESS}::test_nobody_is_told_where_a_name_leads_that_no_setting_has",
            f"{VIRTUAL}::test_what_a_name_leads_to_within_the_network_is_not_told",
            f"{WEBHOOKS}::test_a_sample_does_not_tell_what_a_name_leads_to_within_the_network",
        ),
        Disarm(
            "cache/upstream/reach.py",
            "return self.discreet or bool(self.hosts and not self.names(host, port))",
            "return False",
        ),
    ),
    Threat(
        "an address that nothing can be sent to",
        "A webhook's URL or token, or an upstream's URL, is one that the HTTP library refuses: it is tried again and again.",
        "It is refused where it is given, and what is refused later is a failure as any other.",
        (
            "tests/cache/upstream/test_urls.py::test_what_is_no_absolute_http_url_has_no_origin",
            f"{POSTING}::test_a_header_that_cannot_be_sent_is_a_failure_as_others_are",
            f"{WEBHOOKS}::test_bad_values_are_refused",
            f"{VIRTUAL}::test_a_url_that_nothing_can_be_requested_of_is_refused",
        ),
        Disarm("cache/upstream/urls.py", "if _DOTTED.fullmatch(text):", "if False:"),
    ),
    Threat(
        "a login of an upstream that is moved",
        "A maintainer changes the URL of an upstream to a host of the own, which is then sent the password of another.",
        "A password is sealed to its registry, and another one needs it anew.",
        (f"{VIRTUAL}::test_a_password_is_stored_sealed_and_never_shown",),
        Disarm(
            "gateway/virtual/store.py",
            "        elif upstream.username is not None and moves:\n",
            "        elif False:\n",
        ),
    ),
    Threat(
        "an open proxy for strangers",
        "Anybody who reaches the server pulls through a virtual registry, with the account of its group.",
        "Nobody pulls without a login and a role in the group, and for everybody else there is nothing.",
        ("tests/gateway/auth/test_virtual.py::test_members_of_the_group_and_its_tokens_may_pull",),
        Disarm("gateway/auth/virtual.py", "    if not target.is_member and not admin:\n", "    if False:\n"),
    ),
    Threat(
        "rights of a former upstream",
        "An upstream has another login, or its cache was emptied, and what the former one might read is served on.",
        "Content is cached under a key of the upstream, which is another one then.",
        (
            f"{CHAINED}::test_what_is_cached_of_one_upstream_is_of_no_other",
            f"{VIRTUAL}::test_a_renewed_key_is_an_empty_cache_whatever_files_are_left",
        ),
        Disarm(
            "gateway/db/virtual_registries.py",
            "    await connection.execute(renewed.values(cache_key=new_cache_key()))\n",
            "",
        ),
    ),
    Threat(
        "a rotated token in two hands",
        "A personal token was copied, one of the two who have it rotates it, and the other one goes on with its successor.",
        "Whoever sends a revoked token to rotate it ends the tokens that took its place.",
        (f"{REST_TOKENS}::test_a_rotated_token_that_would_rotate_again_ends_its_family",),
        Disarm("gateway/api/app.py", "await self._personal_tokens.note_reuse(presented(call.request))", "[]"),
    ),
    Threat(
        "a token that others know by its number",
        "A user reads, rotates or revokes the tokens of others by counting, and is given their secrets.",
        "A token of another user is refused as one that does not exist, unless by an administrator.",
        (f"{REST_TOKENS}::test_whether_another_user_has_a_token_is_told_to_administrators_alone",),
        Disarm(
            "gateway/api/personal_tokens.py",
            "if token is None or own is None or token.user_id != own.id:",
            "if token is None or own is None:",
        ),
    ),
    Threat(
        "a deploy token named at another place",
        "A maintainer of one project reads and revokes the deploy tokens of another one by their numbers.",
        "A deploy token is found in the project or group to which it belongs, and in no other.",
        ("tests/gateway/api/test_deploy_tokens.py::test_a_token_is_found_where_it_belongs_alone",),
        Disarm(
            "gateway/administration/deploy_tokens.py",
            "if token is None or token.node != place.key:",
            "if token is None:",
        ),
    ),
    Threat(
        "a server administered by anybody",
        "Whoever has a token of the API makes users, blocks them, or gives oneself every right.",
        "Routes of the server itself are for active administrators, by a personal token with the scope for it.",
        (f"{REST_USERS}::test_the_server_is_administered_by_administrators_alone",),
        Disarm(
            "gateway/api/app.py",
            "if route.administrators and (unfit := no_administrator(principal)):",
            "if unfit := '':",
        ),
    ),
    Threat(
        "addresses that are harvested",
        "A user finds out the e-mail addresses of others, from a list or by searching for them.",
        "Addresses are shown to administrators and to each of oneself, and only administrators search by them.",
        (f"{REST_USERS}::test_users_are_found_by_name_and_for_administrators_by_address",),
        Disarm("gateway/api/users.py", "by_email=administrator,", "by_email=True,"),
    ),
    Threat(
        "an administrator who is left outside",
        "An administrator blocks the own account by a request, and nobody can undo it.",
        "Nobody blocks the user whose token is sent, and the last active administrator stays one.",
        (f"{REST_USERS}::test_nobody_blocks_oneself",),
        Disarm(
            "gateway/api/users.py",
            "if call.principal.user is not None and call.principal.user.id == id_of(call):",
            "if call.principal.user is None:",
        ),
    ),
    Threat(
        "a purge that takes what others use",
        "The owner of one group purges its cache, and the pulls of all other groups fail while the upstream is down.",
        "What another group has pulled by the same source stays cached; the group's own record of it ends alone.",
        (f"{REST}/test_group_caches.py::test_a_purge_of_one_group_takes_nothing_from_others",),
        Disarm(
            "gateway/maintenance/group_cache.py", "if self.usage.others(group_id, source, name):", "if group_id < 0:"
        ),
    ),
    Threat(
        "the images of one group in the list of another",
        "Whoever may see the cache of one group reads in its list which images other groups pull.",
        "A list holds what was pulled through its own group, although the content is shared.",
        (f"{REST}/test_group_caches.py::test_a_list_tells_what_the_group_pulled_and_how_a_pull_would_be_served",),
        Disarm(
            "cache/index/tenant_lists.py", "WHERE p.tenant = :tenant AND p.origin", "WHERE :tenant > 0 AND p.origin"
        ),
    ),
    Threat(
        "settings by GraphQL for whoever may see the group",
        "A guest of a group reads by GraphQL with which account it pulls.",
        "Each field of a group is decided by itself: settings and policies are null but for owners.",
        (f"{REST}/test_graphql.py::test_the_page_of_a_group_reads_its_cache",),
        Disarm(
            "gateway/api/graphql/groups.py",
            "return setting_node(self._group) if await self._may(Action.OWN) else None",
            "return setting_node(self._group)",
        ),
    ),
    Threat(
        "a mutation with a token that only reads",
        "A token with the scope `read_api` changes the upstream login of a group by GraphQL.",
        "Before a document is executed, a mutation needs the scope for changes.",
        (f"{REST}/test_graphql.py::test_tokens_are_those_of_the_rest_api",),
        Disarm(
            "gateway/api/graphql/app.py",
            "missing_api_scope(principal, changes=is_mutation)",
            "missing_api_scope(principal, changes=False)",
        ),
    ),
    Threat(
        "a small document that selects very much",
        "Fragments that spread each other, or many aliases, make a few hundred bytes into millions of lookups.",
        "The fields of a document are counted with its fragments written out, and bounded, before anything is done.",
        (f"{REST}/test_graphql.py::test_a_document_beyond_its_bounds_is_refused",),
        Disarm(
            "gateway/api/graphql/limits.py",
            "if isinstance(part, OperationDefinitionNode) and measured.roots(part.selection_set) > MOST_ROOTS:",
            "if False:",
        ),
    ),
    Threat(
        "a secret in the URL of a document",
        "A mutation with an upstream's password is sent in the query of a URL, which proxies and histories keep.",
        "Documents are taken from the body of a POST alone; a request with a query is refused, whatever it holds.",
        (f"{REST}/test_graphql.py::test_documents_are_taken_by_post_and_from_the_body_alone",),
        Disarm("gateway/api/graphql/app.py", 'if request.scope["query_string"]:', "if False:"),
    ),
]


def page() -> str:
    rows = "\n".join(
        f"| {t.name} | {t.threat} | {t.defence} | {'<br>'.join(f'`{test}`' for test in t.tests)} | "
        f"{f'`{t.disarm.file}`' if t.disarm else 'nothing to remove'} |"
        for t in THREATS
    )
    return (
        "# Threats, defences and their tests\n\n"
        "`python -m tests.threats` writes this page from `tests/threats.py`. `python -m tests.threats --disarm NAME` (or\n"
        "`all`) shows that the tests can fail: it removes a defence, by a change to the file of the last column in a\n"
        "copy of the project, and runs the tests of the row, at least one of which must then fail.\n\n"
        "| threat | what happens | defence | tests | removed in |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n{section()}"
    )


@contextmanager
def project_copy() -> Iterator[Path]:
    """A copy of the project whose defences may be removed; it keeps its bytecode from one test run to the next."""
    with tempfile.TemporaryDirectory(prefix="disarmed-") as name:
        copy = Path(name) / "project"
        for folder in ("cache", "gateway", "tests"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        shutil.copy(ROOT / "README.md", copy)
        yield copy


def write_source(path: Path, text: str) -> None:
    """Write a module, and delete its bytecode, which a change of equal size in the same second would leave valid."""
    path.write_text(text)
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def disarmed(threat: Threat, copy: Path) -> bool:
    """Whether the tests of a threat fail when its defence is removed from a copy of the project."""
    assert threat.disarm is not None
    target = copy / threat.disarm.file
    armed = target.read_text()
    write_source(target, armed.replace(threat.disarm.old, threat.disarm.new))
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *threat.tests]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    write_source(target, armed)
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
    with project_copy() as copy:
        survivors = [threat.name for threat in chosen if not disarmed(threat, copy)]
    print(f"{len(chosen)} defences removed; tests that did not notice: {', '.join(survivors) or 'none'}")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
