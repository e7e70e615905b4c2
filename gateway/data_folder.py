"""Where things lie in the data folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """Pulled-through content: all of it can be fetched again."""

    data: Path

    @property
    def index(self) -> Path:
        return self.data / "cache.db"

    @property
    def usage(self) -> Path:
        return self.data / "usage.db"

    @property
    def quota(self) -> Path:
        return self.data / "quota.json"

    @property
    def blobs(self) -> Path:
        return self.data / "cache"

    @property
    def spools(self) -> Path:
        return self.data / "spool"

    @property
    def quarantine(self) -> Path:
        return self.data / "quarantine"

    def lock(self, name: str) -> Path:
        """Of work that one process of the host does."""
        return self.data / f"{name}.lock"

    def make(self) -> None:
        for folder in (self.blobs, self.spools):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
