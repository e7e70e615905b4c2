"""RepositoryOpener: opens the repository that a request names, for a principal that may use it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from cache.oci.digest import Digest
from cache.oci.errors import Denied, NameUnknown, RegistryError, Unauthorized, Unsupported
from cache.oci.names import RepositoryName
from gateway.auth.access import Access
from gateway.auth.decisions import Decision, Refusal
from gateway.auth.matrix import Action
from gateway.auth.permissions import decide
from gateway.auth.principal import Principal, PrincipalKind
from gateway.auth.protection import TagGuard
from gateway.auth.requester import requester_of
from gateway.client_name import client_name
from gateway.directory.places import GroupPlace, Located, ProjectPlace
from gateway.namespaces.locate import NativeLocation, ProxiedLocation, Root, group_path_of
from gateway.namespaces.old_path import Former
from gateway.namespaces.paths import proxied_name
from gateway.namespaces.reach import PullReach
from gateway.namespaces.virtual_registry import is_virtual
from gateway.repositories import Opened, OpenedNative, open_repository
from gateway.services import Services
from gateway.v2.missing_projects import MissingProjects
from gateway.v2.virtual import VirtualOpener

_NOTHING_THERE = (Refusal.HIDDEN, Refusal.LOGIN)
"""Refusals that show to a client like a name that leads nowhere, and take as long."""


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options of the registry's surface.

    `open_proxy`: whether anonymous clients beyond this machine may be served. `create_on_push`: whether a push creates
    the project that it lacks.
    """

    open_proxy: bool
    create_on_push: bool = False


@dataclass(frozen=True, slots=True)
class Permitted:
    """Actions that a principal may do to a repository, its canonical name, and the path of its project; None for what
    lies in none."""

    name: str
    actions: frozenset[Action]
    project: str | None = None


class RepositoryOpener:
    """Opens repositories, for each request anew; what the tree says is remembered in the directory, no decision is.

    The steps, each of which may refuse the request:

    1. `directory.locate`: the group or project that the name leads to, and the image or repository in it.
    2. `Access.decide`: whether the principal may do this there. Who may not know of it is answered as if nothing were
       there, and as slowly: NameUnknown, or Unauthorized to an anonymous principal.
    3. The name leads to an image or a repository (NameUnknown).
    4. The settings of the upstream allow the image (Denied).
    5. The gate of the group allows the image's name (Denied).
    6. The repository is opened, behind the group's pins and cooldown.

    The last three are those of `open_repository`, for images of upstreams alone. A push to a name without a project is
    told which one is missing, or creates it where the settings allow that.
    """

    def __init__(self, services: Services, options: RegistryOptions) -> None:
        self._services = services
        self._access = Access(services.directory, options.open_proxy)
        create = services.native.create_project if options.create_on_push else None
        self._virtual = VirtualOpener(services, self._access)
        self._missing = MissingProjects(services.directory, self._access, create)

    async def open(
        self, name: RepositoryName, principal: Principal, action: Action, root: Root | None, address: str = ""
    ) -> Opened:
        """Open the repository that a name leads to below a root, or by itself.

        `address`: of the client, which stands for a principal without a name. Raises NameUnknown, Denied, Unsupported,
        Unauthorized, DatabaseUnusable.
        """
        if root is None and is_virtual(name):
            return await self._virtual.open(name, principal, action, address)
        located = await self._decided(name, principal, action, root)
        location = located.location
        if isinstance(location, NativeLocation):
            return await self._open_native(name, located, principal, action, address)
        if not isinstance(location, ProxiedLocation):
            raise AssertionError("a name without a problem leads to an image or a repository")
        try:
            present = located.name if located.former is None else located.former.present
            opened = open_repository(location, self._services, principal.name or client_name(address), present)
        except Denied as error:
            error.facts = _facts(located)
            raise
        return opened if located.former is None else replace(opened, former=located.former)

    async def _decided(self, name: RepositoryName, principal: Principal, action: Action, root: Root | None) -> Located:
        """Where a name leads, after the decision that the principal may do this there. Raises as `open` does."""
        directory = self._services.directory
        remembered = directory.remembered(name, root)
        located = (remembered or await directory.locate(name, root)).at(now := self._services.clock())
        lacks_project = located.place is None and action is Action.PUSH and _is_native(name, root)
        if lacks_project and await self._missing.create(name, principal, now):
            located = await directory.locate(name, root)
        # Where a name leads to no image a token cannot list it, and what is wrong with the name is told instead.
        whoever = replace(principal, limits=None) if located.problem else principal
        decision = await self._access.decide(whoever, action, located, now)
        if located.problem and decision.refusal in (None, Refusal.UNSUPPORTED):
            unknown = NameUnknown(located.problem)
            unknown.facts = _facts(located)
            raise unknown
        if decision.allowed:
            return located
        if located.place is not None and decision.refusal in _NOTHING_THERE:
            await directory.conceal([name], root, read=[name] if remembered is None else [])
        error = _refused(decision, name, root, principal, action, located)
        job = principal.kind is PrincipalKind.JOB_TOKEN  # creates no project, wherever one may be missing
        if isinstance(error, NameUnknown) and action is Action.PUSH and _is_native(name, root) and not job:
            hint = await self._missing.explain(name, principal, now)
            error.detail = hint or error.detail
        raise error

    async def _open_native(
        self, name: RepositoryName, located: Located, principal: Principal, action: Action, address: str
    ) -> OpenedNative:
        """Open the native repository of a located name. One that does not exist may have moved: alone, or with what
        holds it, after the directory has remembered that."""
        native, directory = self._services.native, self._services.directory
        stored = await native.find(_native_name(located))
        if stored is None:
            again = directory.remembered(name)
            if again is None or again.place is not located.place:
                located = await self._decided(name, principal, action, None)
            located = await self._moved_alone(name, located, principal, action) or located
            stored = await native.find(_native_name(located))
        place = located.place
        if not isinstance(place, ProjectPlace):
            raise AssertionError("native repositories lie in projects")
        # The list of a Bearer token names the repository of the push alone: what may be read elsewhere is a right.
        readable = None if action is Action.PULL else partial(self.may_pull, replace(principal, limits=None))
        guard = None if action is Action.PULL else await self._access.guard(principal, located, self._services.clock())
        who = requester_of(principal, address)
        name = _native_name(located)
        repository = native.repository(place.project, name, readable, who, principal.name, stored, guard)
        return OpenedNative(repository, place.project, name.text, located.former)

    async def _moved_alone(
        self, name: RepositoryName, located: Located, principal: Principal, action: Action
    ) -> Located | None:
        """Where a repository is now that has left its project; None where there is none, or where the principal may not
        pull from it: then nothing tells that it was there. Raises Denied where it may pull, and not do this."""
        native, now = self._services.native, self._services.clock()
        former = await native.former(_native_name(located)) or await native.former(name)
        if former is None or former.until <= now:
            return None
        present = await self._services.directory.locate(RepositoryName(former.present))
        whoever, moved = replace(principal, limits=None), replace(present, name=name.text, former=former)
        if moved.location is None or not (await self._access.decide(whoever, Action.PULL, moved, now)).allowed:
            return None
        if not (await self._access.decide(principal, action, moved, now)).allowed:
            raise _has_moved(former, action)
        return moved

    async def open_native(
        self, name: RepositoryName, principal: Principal, action: Action, root: Root | None
    ) -> OpenedNative:
        """Open the native repository that a name leads to, to change it. Raises as `open` does; Unsupported for an
        image of an upstream, and Denied where the name is an old one."""
        opened = await self.open_begun(name, principal, action, root)
        if opened.former is not None:
            raise _has_moved(opened.former, action)
        return opened

    async def open_begun(
        self, name: RepositoryName, principal: Principal, action: Action, root: Root | None
    ) -> OpenedNative:
        """Open the native repository of what began under a name, which may be an old one by now. Otherwise as
        `open_native`."""
        opened = await self.open(name, principal, action, root)
        if not isinstance(opened, OpenedNative):
            raise AssertionError("only native repositories can be changed")
        return opened

    async def decide_again(
        self, name: RepositoryName, principal: Principal, action: Action, root: Root | None
    ) -> TagGuard:
        """Check that a principal may still do what was opened for it some time ago; return the rules for tags as they
        are now. Raises as `open` does."""
        renewed = await self._services.authenticator.renewed(principal)
        located = (await self._services.directory.locate(name, root)).at(self._services.clock())
        decision = await self._access.decide(renewed, action, located, self._services.clock())
        if not decision.allowed:
            raise _refused(decision, name, root, renewed, action, located)
        return await self._access.guard(renewed, located, self._services.clock())

    async def may_push(self, name: RepositoryName, principal: Principal, root: Root | None) -> bool:
        """Whether a principal may push to the repository that was opened for it. Raises DatabaseUnusable."""
        located, now = self._services.directory.remembered(name, root), self._services.clock()
        located = (located or await self._services.directory.locate(name, root)).at(now)
        return (await self._access.decide(principal, Action.PUSH, located, now)).allowed

    async def may_pull(self, principal: Principal, path: str) -> bool:
        """Whether a principal may pull from the native repository of a path, of which it is told nothing otherwise.

        Raises DatabaseUnusable.
        """
        located = await self._services.directory.locate(RepositoryName(path))
        decision = await self._access.decide(principal, Action.PULL, located, self._services.clock())
        return located.location is not None and decision.allowed

    async def reach(self, principal: Principal) -> PullReach:
        """Projects from which a principal may be able to pull; each still needs a decision. Raises DatabaseUnusable."""
        return await self._access.reach(principal, self._services.clock())

    async def remember_projects_of(self, paths: Iterable[str]) -> None:
        """Read into memory, in a few queries, what decisions about native repositories depend on.

        Raises DatabaseUnusable.
        """
        await self._services.directory.remember_projects_of(map(RepositoryName, paths))

    async def native_repositories_with(self, digest: Digest, limit: int) -> list[str]:
        """Paths of some native repositories that have a blob, whoever may pull from them. Raises StoreUnavailable."""
        return await self._services.native.repositories_with(digest, limit)

    async def permitted(
        self, wanted: Mapping[RepositoryName, Collection[Action]], principal: Principal, root: Root | None
    ) -> dict[RepositoryName, Permitted]:
        """Find out which actions a principal may do to the repositories that names lead to; names that lead nowhere are
        left out.

        All that memory does not know is read at once, and together with that is read what the principal may not know:
        so neither takes longer than the other. Raises DatabaseUnusable.
        """
        directory = self._services.directory
        found: dict[RepositoryName, Permitted] = {}
        for name in [name for name in wanted if root is None and is_virtual(name)]:
            if Action.PULL in wanted[name] and await self._virtual.may_pull(name, principal):
                found[name] = Permitted(name.text, frozenset({Action.PULL}))
        every, wanted = wanted, {name: actions for name, actions in wanted.items() if root or not is_virtual(name)}
        remembered = {name: known for name in wanted if (known := directory.remembered(name, root)) is not None}
        hidden: list[RepositoryName] = []

        async def examine(places: Mapping[RepositoryName, Located]) -> None:
            for name, located in places.items():
                permitted, is_hidden = await self._permitted_at(name, located, wanted[name], principal, root)
                if permitted is not None:
                    found[name] = permitted
                if is_hidden:
                    hidden.append(name)

        await examine(remembered)
        unread = [name for name in wanted if name not in remembered]
        unpaid = [name for name in hidden if not directory.is_concealed(name, root)]
        if unread or unpaid:
            located = await directory.locate_all([*unread, *unpaid], root)
            await examine({name: located[name] for name in unread})
        await directory.conceal(hidden, root, read=[*unread, *unpaid])
        return {name: found[name] for name in every if name in found}

    async def _permitted_at(
        self,
        name: RepositoryName,
        located: Located,
        actions: Collection[Action],
        principal: Principal,
        root: Root | None,
    ) -> tuple[Permitted | None, bool]:
        """Decide what a principal may do at a place; also whether a place is there that must stay hidden from it."""
        located, now = located.at(self._services.clock()), self._services.clock()
        target = await self._access.target(principal, located)
        if located.location is None:
            is_free = located.place is None and _is_native(name, root)
            may_create = is_free and await self._missing.may_create(name, principal, now)
            created = Permitted(name.text, frozenset({Action.PULL, Action.PUSH}.intersection(actions)))
            return (created if may_create else None), located.place is not None
        decisions = {action: decide(principal, action, target, now) for action in actions}
        is_hidden = any(decision.refusal in _NOTHING_THERE for decision in decisions.values())
        allowed = frozenset(action for action, decision in decisions.items() if decision.allowed)
        project = located.place.project.path if isinstance(located.place, ProjectPlace) else None
        return Permitted(located.name, allowed, project), is_hidden


def _is_native(name: RepositoryName, root: Root | None) -> bool:
    """Whether a name below a root, or by itself, can be that of a native repository."""
    return root is None and group_path_of(name) is None


def _refused(
    decision: Decision, name: RepositoryName, root: Root | None, principal: Principal, action: Action, located: Located
) -> RegistryError:
    """The error of a refusal, with its reason for the log; the client is told no more than it may know."""
    error: RegistryError
    match decision.refusal:
        case Refusal.DENIED:
            error = Denied(decision.reason, counted_as=decision.counted_as)
        case Refusal.UNSUPPORTED:
            location = located.location
            source = (
                f"{location.image} comes from upstream {location.upstream}: "
                if isinstance(location, ProxiedLocation)
                else ""
            )
            error = Unsupported(f"{source}{decision.reason}")
        case Refusal.LOGIN if not principal.is_anonymous:
            error = Unauthorized(decision.reason)
        case Refusal.LOGIN:
            error = Unauthorized(f"{_nothing_to_see(name, root)}; log in to {action.value}")
        case _:
            error = NameUnknown(f"{_nothing_to_see(name, root)}{_hint(principal, action)}")
    error.reason = decision.reason
    error.facts = _facts(located)
    return error


def _has_moved(former: Former, action: Action) -> Denied:
    return Denied(f"no {action.value} by an old name: {former.told(former.present)}")


def _native_name(located: Located) -> RepositoryName:
    if not isinstance(located.location, NativeLocation):
        raise AssertionError("the name leads to a native repository")
    return located.location.name


def _facts(located: Located) -> dict[str, str]:
    """The project, or the group and the upstream, that a name leads to, as the log names them."""
    match located.place:
        case ProjectPlace(project=project):
            return {"project": project.path}
        case GroupPlace(group=group):
            upstream = located.location.upstream if isinstance(located.location, ProxiedLocation) else ""
            return {"group": group.path} | ({"upstream": upstream} if upstream else {})
    return {}


def _nothing_to_see(name: RepositoryName, root: Root | None) -> str:
    """Write the text for a name that does not exist or must not be known, which is one text."""
    path = group_path_of(name) if root is None else root.group
    if path is not None:
        return f"there is no group {path!r}, or not for everybody"
    images = proxied_name("GROUP", "IMAGE")
    return f"{name} is not a repository of this server, or not for everybody; images of upstreams are at {images}"


def _hint(principal: Principal, action: Action) -> str:
    """Write what may help a principal, whatever name it asked for."""
    if principal.kind is PrincipalKind.JOB_TOKEN and action is Action.PULL:
        return "; a job sees of other projects only what their lists of allowed jobs open to its own project"
    if principal.kind is PrincipalKind.JOB_TOKEN:
        return (
            f"; a job may {action.value} in its own project alone, at CI_REGISTRY_IMAGE or below: "
            "use a deploy token of the other project"
        )
    return ""
