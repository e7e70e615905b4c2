"""ProjectMoves: renames of projects with all of their repositories, by the API of GitLab's registry."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cache.oci.document import parse_document
from cache.oci.errors import NameUnknown, Unauthorized
from cache.oci.names import RepositoryName
from gateway.auth.access import Access
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.auth.scopes import BELOW, PULL
from gateway.http.access_log import note_native_lookup
from gateway.http.bodies import read_whole, refuse_encoded
from gateway.namespaces.errors import MoveRefused, ParentUnknown, PathReserved, PathTaken, TreeError
from gateway.namespaces.expiry import format_precisely
from gateway.namespaces.old_path import RESERVED
from gateway.namespaces.paths import parent_path
from gateway.services import Services
from gateway.v2.audited import Audited
from gateway.v2.gitlab.errors import (
    BodyInvalid,
    BodyTypeInvalid,
    ProjectClaimMismatch,
    ProjectClaimMissing,
    RenameConflict,
)
from gateway.v2.gitlab.parameters import parse_boolean
from gateway.v2.opener import RepositoryOpener

BODY_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class WantedPlace:
    """Where a project is to be: under another name where it is, or in another namespace; one of them is None."""

    name: str | None
    namespace: str | None

    @classmethod
    def parse(cls, body: bytes) -> "WantedPlace":
        """Read a body. Raises BodyInvalid, BodyTypeInvalid."""
        try:
            document = parse_document(body)
        except ValueError as error:
            raise BodyInvalid(str(error)) from error
        if not isinstance(document, dict):
            raise BodyInvalid("the body must be a JSON object")
        name, namespace = document.get("name"), document.get("namespace")
        if (name is None) == (namespace is None):
            raise BodyInvalid("the body must have either name or namespace")
        wanted = name if namespace is None else namespace
        if not isinstance(wanted, str) or not wanted or (namespace is None and "/" in wanted):
            raise BodyTypeInvalid("name must be the last part of a path, and namespace the path of a group or user")
        return cls(name, namespace)

    def of(self, path: str) -> str:
        """The path that a project of a path is to have."""
        if self.name is not None:
            above = parent_path(path)
            return f"{above}/{self.name}" if above else self.name
        return f"{self.namespace}/{path.rpartition('/')[2]}"


class ProjectMoves:
    """Handler of renames. A repository lies at the path of its project or below it, so it is the project that moves."""

    def __init__(
        self, services: Services, opener: RepositoryOpener, access: Access, audited: Audited, old_paths: timedelta
    ) -> None:
        """`old_paths`: how long what has moved keeps its old path."""
        self._tree = services.directory.tree
        self._directory = services.directory
        self._clock = services.clock
        self._opener = opener
        self._access = access
        self._audited = audited
        self._old_paths = old_paths

    async def rename(self, request: Request, name: RepositoryName, principal: Principal) -> Response:
        """Move the project of a path with all of its repositories; with `dry_run`, only check that this can be done.

        Nothing is reserved by that, so it says that it holds until the moment of the response: the move checks all of
        it again, in one transaction.
        """
        dry_run = parse_boolean(request.query_params, "dry_run")
        opened = await self._opener.open_native(name, principal, Action.PUSH, None)
        note_native_lookup(request.scope, "repository", opened.project.path)
        _require_claims(principal, name, opened.project.path)
        refuse_encoded(request)
        wanted = WantedPlace.parse(await read_whole(request, BODY_LIMIT, "the body of a rename"))
        await self._require_rights(replace(principal, limits=None), name, wanted)
        id, place = opened.project.id, wanted.of
        if dry_run:
            with _refusals():
                await self._tree.check_project_move(id, place, self._clock())
            return JSONResponse({"ttl": format_precisely(self._clock())}, 202)
        with _refusals():
            moved = await self._tree.move_project(id, place, self._clock(), self._old_paths)
        self._audited.moved(request, principal, moved)
        return Response(status_code=204)

    async def _require_rights(self, principal: Principal, name: RepositoryName, wanted: WantedPlace) -> None:
        """Check that somebody may rename a project or, to move it, dispose of it and create it where it is to be.
        Raises Denied, Unauthorized, NameUnknown."""
        if wanted.namespace is None:
            await self._opener.open(name, principal, Action.ADMIN, None)
            return
        await self._opener.open(name, principal, Action.OWN, None)
        unknown = NameUnknown(f"there is no namespace {wanted.namespace!r}, or not for everybody")
        key = (await self._tree.places_at([wanted.namespace])).get(wanted.namespace)
        if key is None:
            raise unknown
        new, way = wanted.of(name.text), await self._directory.way_to(key)
        if not (await self._access.decide_creation(principal, way, new, self._clock())).allowed:
            raise unknown


def _require_claims(principal: Principal, name: RepositoryName, project: str) -> None:
    """Check that a name is the path of its project, and that a Bearer token says so, and lists what lies below. Raises
    Unauthorized, ProjectClaimMissing, ProjectClaimMismatch."""
    if principal.limits is not None:
        if PULL not in principal.limits.actions.get(f"{name}{BELOW}", ()):
            raise Unauthorized(f"the Bearer token does not list pull of {name}{BELOW}")
        claimed = principal.limits.projects.get(name.text)
        if claimed is None:
            raise ProjectClaimMissing(
                "the Bearer token does not state the project of the repository: request a new one"
            )
        if claimed != name.text:
            raise ProjectClaimMismatch(f"the Bearer token is for project {claimed!r}: rename that")
    if project != name.text:
        raise ProjectClaimMismatch(
            f"{name} is a repository of project {project!r}: this renames whole projects; to rename one repository, "
            "PUT /api/v4/projects/ID/registry/repositories/ID"
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """Render what the tree refuses within the block."""
    try:
        yield
    except PathReserved as error:  # what has moved may be hidden from the client
        raise RenameConflict(f"the path {RESERVED}") from error
    except (PathTaken, MoveRefused) as error:
        raise RenameConflict(str(error)) from error
    except ParentUnknown as error:
        raise NameUnknown(str(error)) from error
    except TreeError as error:
        raise BodyTypeInvalid(str(error)) from error
