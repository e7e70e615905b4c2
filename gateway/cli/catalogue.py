"""Catalogue of the command line: each command with a line for lists and an example.

It imports none of the commands, so that lists, `--help` and completion respond at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

PROGRAM = "registry-gateway"


@dataclass(frozen=True, slots=True)
class Entry:
    """A command, or a group of commands. `example`: words that may follow the program's name; a group has none.

    `module`: where in `gateway.cli` the command stands, if not in the module that its first word names.
    """

    summary: str
    example: str = ""
    module: str = ""
    commands: Mapping[str, "Entry"] = field(default_factory=dict)


CATALOGUE: Mapping[str, Entry] = {
    "serve": Entry("Serve until stopped", "serve --config gateway.toml --data ./registry-data"),
    "doctor": Entry("Find what is wrong, and what to do about it", "doctor --image alpine:3.20"),
    "help": Entry("Print a page of the documentation, or the list of topics", "help settings"),
    "config": Entry(
        "Show and check the settings",
        commands={
            "show": Entry("Show every setting with its value and its source", "config show --config gateway.toml"),
            "check": Entry("Check the settings without doing anything", "config check --config gateway.toml"),
        },
    ),
    "example": Entry("Print a file to run this server with", "example systemd"),
    "client-config": Entry(
        "Print the configuration of a client that pulls here", "client-config containerd --upstream docker.io"
    ),
    "group": Entry(
        "Create, show, change and move groups",
        commands={
            "create": Entry("Create a group", "group create ci --default-upstream docker.io --cooldown 3d"),
            "list": Entry("List all groups", "group list"),
            "show": Entry("Show one group", "group show ci"),
            "update": Entry("Change the given properties of a group", "group update ci --allow 'library/*'"),
            "move": Entry("Rename or move a group with everything in it", "group move ci build/ci"),
            "delete": Entry("Delete a group that holds no other group and no project", "group delete ci"),
        },
    ),
    "project": Entry(
        "Create, show, change and move projects",
        commands={
            "create": Entry("Create a project", "project create team/app --quota 10GiB"),
            "list": Entry("List all projects, or those of a group or user", "project list team"),
            "show": Entry("Show one project", "project show team/app"),
            "update": Entry("Change the given properties of a project", "project update team/app --registry private"),
            "protect": Entry(
                "Protect repositories or tags of a project",
                "project protect team/app --tag 'v.*' --push maintainer --delete owner",
                "protection",
            ),
            "protection": Entry("List the protection rules of a project", "project protection team/app", "protection"),
            "unprotect": Entry("Delete a protection rule of a project", "project unprotect team/app 1", "protection"),
            "move": Entry("Rename or move a project with its repositories", "project move team/app team/shop"),
            "delete": Entry("Delete a project with its repositories", "project delete team/app"),
        },
    ),
    "user": Entry(
        "Create, show and change users",
        commands={
            "create": Entry("Create a user", "user create alice --password-file alice.txt"),
            "list": Entry("List all users", "user list"),
            "show": Entry("Show one user", "user show alice"),
            "update": Entry("Change the given properties of a user", "user update alice --block"),
            "delete": Entry("Delete a user with the user's memberships and tokens", "user delete alice"),
        },
    ),
    "member": Entry(
        "Add, list and remove members",
        commands={
            "add": Entry(
                "Give a user a role in a group or project, and in all below it", "member add team alice developer"
            ),
            "list": Entry("List the members of a group or project", "member list team"),
            "remove": Entry("Remove a member", "member remove team alice"),
        },
    ),
    "token": Entry(
        "Create, list and revoke personal access tokens",
        commands={
            "create": Entry(
                "Create a token, which is shown this once",
                "token create --user alice --scope read_registry --name laptop --expires 30d",
            ),
            "list": Entry("List tokens, also those that expired or were revoked", "token list --user alice"),
            "revoke": Entry("End a token now, and for ever", "token revoke 1"),
        },
    ),
    "deploy-token": Entry(
        "Create, list and revoke deploy tokens",
        commands={
            "create": Entry(
                "Create a token, which is shown this once",
                "deploy-token create --project team/app --scope read_registry --name cluster",
            ),
            "list": Entry(
                "List tokens, also those that expired or were revoked", "deploy-token list --project team/app"
            ),
            "revoke": Entry("End a token now, and for ever", "deploy-token revoke 1"),
        },
    ),
    "job": Entry(
        "Start, finish and list CI jobs",
        commands={
            "start": Entry("Start a job and print its CI variables", "job start team/app --user alice --ref main"),
            "finish": Entry("End a job now", "job finish 1"),
            "list": Entry("List the jobs that run", "job list --all"),
        },
    ),
    "id-token": Entry(
        "List and revoke logins by ID tokens",
        commands={
            "list": Entry("List the logins that have not ended", "id-token list --all"),
            "revoke": Entry("End a login now", "id-token revoke 1"),
        },
    ),
    "access": Entry(
        "Explain who may do what",
        commands={
            "explain": Entry(
                "Print whether somebody may do something now",
                "access explain pull team/app --user alice",
            ),
        },
    ),
    "repository": Entry(
        "Show, move and delete the repositories of projects",
        commands={
            "list": Entry("List all repositories, or those of a project, group or user", "repository list team"),
            "show": Entry("Show one repository", "repository show team/app"),
            "move": Entry("Rename or move a repository with its images", "repository move team/app team/app/web"),
            "delete": Entry("Delete a repository with its tags and manifests", "repository delete team/app"),
            "restore": Entry("Restore a deleted repository", "repository restore team/app"),
        },
    ),
    "gc": Entry(
        "Show and run the garbage collection of what was pushed",
        commands={
            "status": Entry("Show what waits for its review, and what was freed", "gc status"),
            "run": Entry("Delete now what is due", "gc run --dry-run"),
        },
    ),
    "tag": Entry(
        "Show, delete and restore tags of repositories",
        commands={
            "list": Entry("List the tags of a repository", "tag list team/app"),
            "history": Entry("List every creation, move and deletion of a tag", "tag history team/app:v1"),
            "delete": Entry("Delete a tag", "tag delete team/app:v1"),
            "restore": Entry("Point a deleted or moved tag to what it pointed to", "tag restore team/app:v1"),
        },
    ),
    "cleanup": Entry(
        "Show and run the cleanup policies of projects",
        commands={
            "status": Entry("Show the cleanup policies with their last runs", "cleanup status"),
            "run": Entry("Run the cleanup policy of a project now", "cleanup run team/app --dry-run"),
        },
    ),
    "audit": Entry(
        "Show who pulled, pushed and deleted what",
        commands={"list": Entry("List events of the audit log", "audit list --since 2h --user alice")},
    ),
    "cache": Entry(
        "Show, warm, pin and empty the cache",
        commands={
            "status": Entry("Show how much is cached, and how many pulls were served", "cache status"),
            "list": Entry("List the cached tags, with their age and size", "cache list"),
            "explain": Entry("Explain what is cached of an image", "cache explain alpine"),
            "refresh": Entry("Revalidate a tag at the upstream now", "cache refresh alpine:3.20", "cache_fetching"),
            "warm": Entry("Fetch the images of a list into the cache", "cache warm images.txt --group hub", "warm"),
            "evict": Entry("Evict an image, a tag or everything from the cache", "cache evict alpine:3.20 --dry-run"),
            "pins": Entry("List the pins, and how much each protects now", "cache pins"),
            "pin": Entry("Exempt an image, or the content of a tag or digest, from eviction", "cache pin alpine:3.20"),
            "unpin": Entry("Remove a pin", "cache unpin alpine:3.20"),
            "verify": Entry(
                "Read all cached content, quarantine damaged files", "cache verify --rate 50MiB", "cache_fetching"
            ),
        },
    ),
    "quota": Entry("Show how many pulls upstreams still allow each credential", "quota"),
    "keys": Entry(
        "Show and rotate the keys that sign tokens",
        commands={
            "list": Entry("List the keys that sign or verify tokens", "keys list"),
            "rotate": Entry("Make a new key that signs from now on", "keys rotate"),
        },
    ),
    "verify": Entry("Check that every blob that was pushed is there and whole", "verify --hash"),
    "backup": Entry("Write the database, the keys and all native blobs to a file", "backup /backups/registry.tar"),
    "restore": Entry(
        "Replace database and keys by a backup's, and add its blobs", "restore /backups/registry.tar --data ./new-data"
    ),
    "db": Entry(
        "Check and upgrade the database",
        commands={
            "check": Entry("Check that this version can use the database", "db check"),
            "upgrade": Entry("Bring the database to the revision of this version", "db upgrade"),
        },
    ),
}


def leaves() -> Iterator[tuple[str, Entry]]:
    """Every command that does something, by its full name."""
    for name, entry in CATALOGUE.items():
        if not entry.commands:
            yield name, entry
        for word, command in entry.commands.items():
            yield f"{name} {word}", command
