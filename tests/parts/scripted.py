"""Every scripted registry in one table: one with the tiny image for each behaviour of a public registry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from . import lies
from .challenger import CHALLENGES, EXPIRED, TOKENS, Challenger
from .found_documents import FOUND, found
from .guarded import EXPIRED_AT_ECR, EXPIRED_AT_PUBLIC_ECR, Guarded, Redirecting, WithoutDigests
from .images import MANIFEST, ImageLayout
from .liar import Liar
from .lies import Lie
from .limits import LIMITS
from .quirks import PAGE_OF_A_FRONT, REFUSED_HEADS
from .storing import Store, Storing

USER, PASSWORD = "alice", "secret"
ODD_DOCUMENT = "document: "
HEADERS = "headers: "
"""Beginnings of the names of those from which not every client can pull."""


@dataclass(frozen=True)
class Scripted:
    """A scripted registry as an upstream.

    `target`: the one to which it redirects. `login`: USER has to be presented. `path`: what stands before the names of
    its images, as of one repository of a Nexus or an Artifactory. `later`: what happens to it once an
    image was pulled; the image must come again afterwards, although its tag is no longer fresh.
    """

    liar: Liar
    target: Liar | None = None
    login: bool = False
    path: str = ""
    later: Callable[[], object] | None = None

    @property
    def listeners(self) -> list[Liar]:
        return [self.liar, *([self.target] if self.target is not None else [])]


def scripted_registries(image: ImageLayout, names: Sequence[str]) -> dict[str, Scripted]:
    """The registries by what is odd about them. `names`: the names under which the image is pulled, as latest."""
    table = {
        "honest": Scripted(Liar()),
        "below a path": Scripted(Liar(), path="/docker/remote"),
        "no digest in a header": Scripted(WithoutDigests()),
    }
    table |= _redirecting(names) | _guarded(names) | _limited() | _transferring(image)
    for name, lie in REFUSED_HEADS.items():
        table[f"HEAD: {name}"] = Scripted(liar := Liar())
        liar.behave("/library/", lie, "HEAD")
    for name, challenge in CHALLENGES.items():
        demanding = Challenger()
        demanding.challenge = challenge
        table[f"challenge: {name}"] = Scripted(demanding)
    for name, tokens in TOKENS.items():
        issuing = Challenger()
        issuing.tokens = tokens
        table[f"token: {name}"] = Scripted(issuing)
    for name, expired in EXPIRED.items():
        expiring = Challenger()
        expiring.expired_challenge = expired
        table[f"after expiry: {name}"] = Scripted(expiring, later=expiring.expire)
    fronted = Liar()
    table["a page of a firewall"] = Scripted(fronted, later=partial(fronted.behave, "/v2/", PAGE_OF_A_FRONT))
    for scripted in table.values():
        for listener in scripted.listeners:
            listener.offer(image)
    for name in FOUND:
        if not name.startswith("thousands"):
            table[f"{ODD_DOCUMENT}{name}"] = Scripted(odd := Liar())
            odd.offer(image)
            odd.offer_manifest("latest", *found(name, image))
    return table


def _redirecting(names: Sequence[str]) -> dict[str, Scripted]:
    public, demanding = Liar(), Guarded("Bearer")
    demanding.public = {f"vendor/{name}" for name in names}
    store, found = Store(), Store()
    return {
        "blobs elsewhere: a path of its own host": Scripted(Storing(status=302)),
        "blobs elsewhere: a storage service": Scripted(Storing(store), store),
        "blobs elsewhere: by 302": Scripted(Storing(found, 302), found),
        "redirects": Scripted(Redirecting(public), public),
        "redirects to one that demands a token": Scripted(Redirecting(demanding, "vendor"), demanding),
    }


def _transferring(image: ImageLayout) -> dict[str, Scripted]:
    """Registries that send what they have in other forms."""
    forms = {
        "chunked": lies.chunked(),
        "until the end of the connection": lies.until_close(),
        "connections that close": Lie(headers={"Connection": "close"}),
        "ranges without effect": lies.whole(),
        f"{HEADERS}media type twice": Lie(headers={"Content-Type": f"{MANIFEST}\r\nContent-Type: {MANIFEST}"}),
        f"{HEADERS}media type in capitals": Lie(headers={"Content-Type": MANIFEST.upper()}),
        f"{HEADERS}digest quoted": Lie(headers={"Docker-Content-Digest": f'"{image.digest}"'}),
        f"{HEADERS}digest that is none": Lie(headers={"Docker-Content-Digest": "nonsense"}),
        f"{HEADERS}documents compressed": lies.encoded(),
    }
    table = {name: Scripted(Liar()) for name in forms}
    for name, form in forms.items():
        table[name].liar.behave("/manifests/" if name.startswith(HEADERS) else "/library/", form)
    return table


def _guarded(names: Sequence[str]) -> dict[str, Scripted]:
    everybody = _guard("Bearer")
    everybody.public = set(names)
    table = {"guarded: a token for everybody": Scripted(everybody)}
    for scheme in ("Basic", "Bearer"):
        table[f"guarded: {scheme}"] = Scripted(_guard(scheme), login=True)
        for status in (403, 404):
            hiding = _guard(scheme)
            hiding.hides = status
            table[f"guarded: {scheme}, hidden by {status}"] = Scripted(hiding, login=True)
    for words, refusal in {"by a challenge": None, "as public.ecr.aws": EXPIRED_AT_PUBLIC_ECR}.items():
        bearer = _guard("Bearer")
        bearer.expired = refusal
        table[f"guarded: token expired, {words}"] = Scripted(bearer, login=True, later=bearer.expire)
    for words, refusal in {"by a challenge": None, "as private ECR": EXPIRED_AT_ECR}.items():
        basic = _guard("Basic")
        basic.expired = refusal
        change = partial(basic.users.update, {USER: f"not {PASSWORD}"})
        table[f"guarded: password expired, {words}"] = Scripted(basic, login=True, later=change)
    return table


def _guard(scheme: str) -> Guarded:
    return Guarded(scheme, **{USER: PASSWORD})


def _limited() -> dict[str, Scripted]:
    limited = {name: Liar() for name in LIMITS}
    return {
        f"limit: {name}": Scripted(liar, later=partial(liar.behave, "/v2/", LIMITS[name]))
        for name, liar in limited.items()
    }
