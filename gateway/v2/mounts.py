"""Mounts: blobs that a push takes over from another repository, without a copy (distribution-spec, "Mounting a blob
from another repository").

A blob is mounted only where the caller may pull it. Whatever is wrong with the source shows as if the blob were not
there: the push goes on with an upload.
"""

from dataclasses import replace

from cache.oci.digest import Digest
from cache.oci.errors import NameInvalid, RegistryError, Unauthorized
from cache.oci.names import RepositoryName
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.registry.base import SourceDamaged
from gateway.repositories import Opened, OpenedNative, OpenedVirtual
from gateway.v2.challenges import MoreScopeNeeded
from gateway.v2.opener import RepositoryOpener

CANDIDATES = 20
"""Repositories that a mount without a source tries; each may cost a look at who may pull from it."""


class Mounts:
    """Mounts blobs from native repositories, and from the cached images of upstreams."""

    def __init__(self, opener: RepositoryOpener) -> None:
        self._opener = opener

    async def mount(
        self, digest: Digest, source: str | None, target: OpenedNative, name: RepositoryName, principal: Principal
    ) -> bool:
        """Make a blob part of `target`, whose name is `name`; return whether it is.

        `source`: the repository that the client names; None where it leaves the choice. Raises MoreScopeNeeded where
        the principal may pull from the source, and its Bearer token does not list that; StorageFull.
        """
        if source is not None:
            origin = await self._open_named(source, principal)
            return origin is not None and await _mount(digest, origin, target)
        if await _mount(digest, target, target):
            return True
        for path in await self._opener.native_repositories_with(digest, CANDIDATES):
            origin = None if path == name.text else await self._open(RepositoryName(path), principal)
            if origin is not None and await _mount(digest, origin, target):
                return True
        return False

    async def _open_named(self, source: str, principal: Principal) -> Opened | None:
        try:
            name = RepositoryName.parse(source)
        except NameInvalid:
            return None
        try:
            return await self._opener.open(name, principal, Action.PULL, None)
        except Unauthorized as error:
            if principal.limits is not None and await self._open(name, replace(principal, limits=None)) is not None:
                raise MoreScopeNeeded(f"the Bearer token does not list pull of {source!r}", name.text) from error
            return None
        except RegistryError:
            return None

    async def _open(self, name: RepositoryName, principal: Principal) -> Opened | None:
        """Open a repository that the principal may pull from; None for any other."""
        try:
            return await self._opener.open(name, principal, Action.PULL, None)
        except RegistryError:
            return None


async def _mount(digest: Digest, origin: Opened, target: OpenedNative) -> bool:
    """Mount a blob from an opened repository, if it is there; nothing is requested of an upstream."""
    if isinstance(origin, OpenedNative):
        try:
            await origin.repository.stat_blob(digest)
        except RegistryError:
            return False
        return await target.repository.mount(digest, None)
    if isinstance(origin, OpenedVirtual):
        return False
    try:
        held = await origin.held_blob(digest)
    except RegistryError:
        return False
    if held is None:
        return False
    try:
        return await target.repository.mount(digest, held)
    except SourceDamaged as error:
        await origin.drop_damaged(held, error.damage)
        return False
    finally:
        held.close()
