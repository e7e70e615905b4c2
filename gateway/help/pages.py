"""Pages of the documentation by their topics, read from the files beside this module.

A page begins with its title, `# TITLE`, and a paragraph of one line, which sums it up. Its file bears its topic.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
_CLOSE = 0.6
"""Similarity from 0 to 1 above which a topic is near another word: `gate` and `gates`, `quotas` and `quota`."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the documentation, in Markdown."""

    topic: str
    text: str

    @property
    def summary(self) -> str:
        """The line below the title, which sums the page up."""
        return self.text.split("\n", 3)[2]


class TopicUnknown(Exception):
    """No page has this topic; `near` are the topics that come close, the closest first, and may be empty."""

    def __init__(self, topic: str, near: list[str]) -> None:
        super().__init__(f"there is no help topic {topic!r}")
        self.near = near


@cache
def topics() -> tuple[str, ...]:
    """The topics of all pages, in the order of the alphabet."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.md")))


def get_page(topic: str) -> Page:
    """Read the page of a topic. Raises TopicUnknown."""
    if topic not in topics():
        word = topic.lower()
        held = [known for known in topics() if word and word in known]
        close = get_close_matches(word, topics(), n=3, cutoff=_CLOSE)
        raise TopicUnknown(topic, list(dict.fromkeys([*held, *close])))
    return Page(topic, (FOLDER / f"{topic}.md").read_text(encoding="utf-8"))


def list_pages() -> list[Page]:
    """Read all pages, in the order of their topics."""
    return [get_page(topic) for topic in topics()]
