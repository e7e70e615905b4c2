"""The user that a data folder belongs to: a command acts as that user, so that the server can use what it writes."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

import typer

from gateway.cli.lazy import import_all
from gateway.cli.refusals import Refused
from gateway.data_folder import CacheFolder
from gateway.db.address import DATABASE_FILE


@dataclass(frozen=True, slots=True)
class Owner:
    """A user, with the group of the files; `has_files`: whether the databases are the user's, or the folder alone."""

    uid: int
    gid: int
    has_files: bool

    @property
    def name(self) -> str:
        return name_of_user(self.uid)


def owner_of(data: Path) -> Owner | None:
    """Find the user whose databases lie in a data folder, else whose folder it is; None if there is none.

    A folder may be another user's than what lies in it, as a volume that is mounted there. Raises Refused where this
    user cannot know.
    """
    for path in (data / DATABASE_FILE, CacheFolder(data).index, data):
        try:
            found = path.stat()
        except PermissionError as error:
            if path == data:
                raise Refused(
                    f"data folder {data.absolute()} cannot be reached ({error.strerror}): run this command as the user "
                    "of the server, or as root"
                ) from error
        except OSError:
            continue
        else:
            return Owner(found.st_uid, found.st_gid, path != data)
    return None


def become_owner(data: Path) -> None:
    """Become the owner of the data folder for good, with that user's groups, if this is root. Raises Refused."""
    if os.geteuid() != 0 or (owner := owner_of(data)) is None or owner.uid == 0:
        return
    if not _is_program_public():
        import_all()
    try:
        try:
            user = pwd.getpwuid(owner.uid)
        except KeyError:
            os.setgroups([owner.gid])
            os.setresgid(owner.gid, owner.gid, owner.gid)
        else:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    except OSError as error:
        raise _foreign(data, owner, f"root cannot become that user ({error.strerror})") from error


def _is_program_public() -> bool:
    """Whether every user may read this program and its libraries, so that any of it can still be imported as another
    user; root may have installed it below /root."""
    places = [Path(file).resolve().parent for file in (__file__, os.__file__, typer.__file__)]
    return all(folder.stat().st_mode & 0o005 == 0o005 for place in places for folder in (place, *place.parents))


def require_owner(data: Path) -> None:
    """Check that this user is the owner of the data folder, if there is one, or root. Raises Refused."""
    owner, own = owner_of(data), os.geteuid()
    if owner is None or own in (owner.uid, 0):
        return
    if owner.has_files or not os.access(data, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise _foreign(data, owner, f"this command runs as {name_of_user(own)}")


def _foreign(data: Path, owner: Owner, reason: str) -> Refused:
    whom = f"{owner.name} (sudo -u {owner.name} registry-gateway …)"
    return Refused(f"data folder {data.absolute()} belongs to user {owner.name}, and {reason}: run it as {whom}")


def name_of_user(uid: int) -> str:
    """Name a user; one without a name as sudo takes a number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
