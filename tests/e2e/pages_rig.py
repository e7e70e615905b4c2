"""A server with members of a group, images that skopeo has pushed, and people who go to its pages with a browser."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.parts.canaries import remember
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import Images

PASSWORDS = {name: f"the password of {name}" for name in ("root", "maintainer", "developer", "reporter")}
PROJECT, IMAGE, EMPTY = "team/app", "team/app/web", "team/empty"
TAGS = [f"1.{number}.0" for number in range(12)]


class Rig:
    """A server with members of a group by their roles, a project with an image that skopeo has pushed, and an empty
    project."""

    def __init__(self, server: Gateway, skopeo: Skopeo, images: Images) -> None:
        self.server, self._skopeo, self._images = server, skopeo, images
        server.json("group", "create", "team")
        for path in (PROJECT, EMPTY, "team/bare"):
            server.json("project", "create", path)
        for name in ("maintainer", "developer", "reporter"):
            server.json("user", "create", name, "--password-file", str(password_file(server.directory, name)))
            server.json("member", "add", "team", name, name)
        self.push("tiny", IMAGE, *TAGS)
        self.push("multi", IMAGE, "all")

    def push(self, image: str, repository: str, *tags: str) -> None:
        """Push an image of the tests by some tags."""
        layout = self._images[image]
        for tag in tags:
            target = f"docker://{self.server.host}/{repository}:{tag}"
            credential = f"maintainer:{PASSWORDS['maintainer']}"
            self._skopeo.copy(f"oci:{layout.path}:{layout.tag}", target, credential=credential)

    def tags(self) -> list[str]:
        return [tag["name"] for tag in self.server.json("tag", "list", IMAGE)]

    def address(self, path: str) -> str:
        return f"{self.server.url}{path}"

    def repository(self, page: Page) -> None:
        """Go to the tags of the image as people do."""
        page.goto(self.address(f"/{PROJECT}"))
        page.get_by_role("navigation", name="Project").get_by_role("link", name="Container Registry").click()
        page.get_by_role("link", name=IMAGE, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(IMAGE)


def password_file(folder: Path, name: str) -> Path:
    file = folder / f"{name}.txt"
    file.write_text(remember(PASSWORDS[name]))
    file.chmod(0o600)
    return file


def sign_in(page: Page, rig: Rig, name: str, path: str = "/") -> None:
    """Sign in, led there by a page that needs it."""
    page.goto(rig.address("/users/sign_in" if path == "/" else path))
    page.get_by_label("User name or e-mail").fill(name)
    page.get_by_label("Password").fill(PASSWORDS[name])
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(rig.address(path))
