"""A closed group of a server with its members, projects and credentials, for tests of logins."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.parts.canaries import remember
from tests.parts.commands import Commands
from tests.parts.gateway import Gateway

GROUP, PROJECT = "team", "team/app"
NATIVE = f"{PROJECT}/built:latest"
PASSWORD_FILE = "password-of-tests"


@dataclass(frozen=True)
class Login:
    """A user name with a secret; `id`: of the stored token or job, 0 for a password."""

    user: str
    secret: str
    id: int = 0

    @property
    def basic(self) -> dict[str, str]:
        """The header of a client that sends them with every request."""
        return {"Authorization": f"Basic {b64encode(f'{self.user}:{self.secret}'.encode()).decode()}"}


class ClosedGroup:
    """The group `team`, which is private, with the project `team/app` and the developer `ann` of both."""

    def __init__(self, server: Gateway) -> None:
        self.server = server
        self.commands = Commands(server.config_file, server.data)
        run = self.commands.run
        self.ann = self.new_user("ann")
        run("group", "create", GROUP)
        run("project", "create", PROJECT)
        run("member", "add", GROUP, "ann", "developer")

    def image(self, tag: str = "latest") -> str:
        """Reference of the one image of the upstream, through the closed group."""
        return self.server.proxied(f"library/tiny:{tag}", GROUP)

    def new_user(self, name: str) -> Login:
        file = Path(self.server.directory) / PASSWORD_FILE
        secret = remember(f"password-{uuid4().hex}")
        file.write_text(secret)
        self.commands.run("user", "create", name, "--password-file", str(file))
        file.unlink()
        return Login(name, secret)

    def new_member(self, name: str) -> Login:
        login = self.new_user(name)
        self.commands.run("member", "add", GROUP, name, "developer")
        return login

    def personal_token(self, *scopes: str, user: str = "ann", expires: str = "30d") -> Login:
        options = [word for scope in scopes for word in ("--scope", scope)]
        made = self.commands.json("token", "create", f"--user={user}", "--name=tests", f"--expires={expires}", *options)
        return Login(user, remember(made["token"]), made["id"])

    def deploy_token(self, *where: str, name: str = "tests", scope: str = "read_registry") -> Login:
        made = self.commands.json("deploy-token", "create", *where, f"--name={name}", f"--scope={scope}")
        return Login(made["username"], remember(made["token"]), made["id"])

    def job(self, user: str = "ann") -> tuple[int, dict[str, str]]:
        """Starts a job; returns its id and its variables."""
        made = self.commands.json("job", "start", PROJECT, f"--user={user}", "--ref=main")
        variables: dict[str, str] = made["variables"]
        for name, value in variables.items():
            if name.endswith("_PASSWORD"):
                remember(value)
        return made["id"], variables

    def every_credential_that_pushes(self) -> dict[str, Login]:
        """One login of each kind that may push to the project, by the name of the kind."""
        _, variables = self.job()
        return {
            "password": self.ann,
            "write_registry": self.personal_token("write_registry"),
            "deploy token": self.deploy_token(f"--project={PROJECT}", name="pushes", scope="write_registry"),
            "job token": Login(variables["CI_REGISTRY_USER"], variables["CI_REGISTRY_PASSWORD"]),
        }

    def every_credential(self) -> dict[str, Login]:
        """One login of each kind, by the name of the kind; all may pull from the group."""
        self.deploy_token(f"--project={PROJECT}", name="gitlab-deploy-token")
        job, variables = self.job()
        return {
            "password": self.ann,
            "read_registry": self.personal_token("read_registry"),
            "write_registry": self.personal_token("write_registry"),
            "deploy token": self.deploy_token(f"--group={GROUP}"),
            "job token": Login(variables["CI_REGISTRY_USER"], variables["CI_REGISTRY_PASSWORD"], job),
            "job's deploy token": Login(variables["CI_DEPLOY_USER"], variables["CI_DEPLOY_PASSWORD"], job),
        }
