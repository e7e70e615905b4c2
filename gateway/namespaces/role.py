"""Role: what a member may do in a group or project, and everything below it."""

from enum import IntEnum


class Role(IntEnum):
    """Role of a member; each includes the ones before it. The numbers are the `access_level` of GitLab's API."""

    GUEST = 10
    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50

    @property
    def word(self) -> str:
        """The name in lower case, as people write it."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> "Role":
        """Read the name of a role. Raises ValueError, which lists the names."""
        try:
            return cls[text.upper()]
        except KeyError:
            raise ValueError(f"{text!r} is not a role: use {', '.join(role.word for role in cls)}") from None
