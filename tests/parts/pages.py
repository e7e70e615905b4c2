"""Pages of the documentation as the tests read them: README.md and those in `gateway/help`, by their topics."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FRONT = ROOT / "README.md"
README = FRONT.read_text()
FILES = {path.stem: path for path in sorted((ROOT / "gateway" / "help").glob("*.md"))}
PAGES = {topic: path.read_text() for topic, path in FILES.items()}
"""The text of each page by its topic."""
EVERYTHING = "\n".join([README, *PAGES.values()])

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, without the indentation of the list in which they stand."""
    return [textwrap.dedent(body) for _, named, body in _FENCED.findall(text) if named == language]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", text)


def code_spans(text: str) -> set[str]:
    """Everything that stands between backticks on a line."""
    return set(re.findall(r"`([^`\n]+)`", prose(text)))


def headings(text: str) -> list[str]:
    """The headings of a page, its title first, without their signs."""
    return [heading.replace("`", "") for heading in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)]


def anchor(heading: str) -> str:
    """The fragment by which a link leads to a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of the console blocks with the output that stands below it; "" where none does."""
    parts = re.split(r"^\$ ", "".join(blocks(text, "console")), flags=re.MULTILINE)
    found = [re.match(r"(.*)\n((?:.*\n)*)", part) for part in parts]
    return [(match[1], match[2]) for match in found if match]
